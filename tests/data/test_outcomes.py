"""Small data sets as people have them, and what `fcos data check` says of each; and the page that shows it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fcos_cli.commands.data import app
from fcos_cli.errors import DataError
from tests.data.outcomes import OUTCOMES, Outcome, table

IMAGES_TOO = ("gray16_narrow", "jpeg_without_end")


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.folder)
def test_outcome(shared_data: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome) -> None:
    folder = shared_data.parent / "repro"
    if not folder.is_dir():
        pytest.skip(f"no small inputs at {folder}")
    monkeypatch.chdir(folder)
    arguments = ["check", outcome.folder, *(["--images"] if outcome.folder in IMAGES_TOO else [])]
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, DataError):
        assert (outcome.code, outcome.read) == (result.exception.exit_code, "")
        assert outcome.said in result.exception.message
        return
    assert result.exit_code == outcome.code
    assert outcome.said in result.stderr + result.stdout
    assert ("nothing stands in the way" in result.stderr) == (outcome.code == 0)
    if not outcome.said:
        assert "warning" not in result.stderr
    splits = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["splits"]
    own = Path(outcome.folder).name
    read = [(part["name"].removeprefix(own).strip() or "all", part["images"], part["boxes"]) for part in splits]
    assert "; ".join(f"{name} {images}, {boxes}" for name, images, boxes in read) == outcome.read


def test_the_page_shows_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "data.md"
    assert table() in page.read_text(encoding="utf-8")
