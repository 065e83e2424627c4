"""A data set small enough to train in a test; the recipe is `tiny` in tests/conftest.py."""

from pathlib import Path

import pytest

from fcos_cli.data.records import DetectionData
from fcos_cli.data.shapes import dataset as shapes
from fcos_cli.training import setup


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """`shapes` with few images, so that an evaluation takes no time."""

    def small(spec: str, split: str | None = None, **how: object) -> DetectionData:
        return shapes.shapes_data(split or "train", count=24 if split == "train" else 6)

    monkeypatch.setattr(setup, "open_data", small)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that `runs/` is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
