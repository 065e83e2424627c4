"""Shared fixtures. Real data lies beside the checkout (or where $FCOS_SHARED_DATA says); tests that need it skip without it."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets."""
    folder = Path(os.environ.get("FCOS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder
