"""`fcos data split`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fcos_cli.commands.data import app
from fcos_cli.data.datasets import open_data
from fcos_cli.errors import UsageError

run = CliRunner()


@pytest.fixture
def flat(tmp_path):
    """labelImg's folder of 20 pictures and one copy of each of two."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "flat"
    folder.mkdir()
    for i in range(20):
        coarse = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 50), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
        (folder / f"{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.5 0.5\n")
    for i in (3, 4):
        shutil.copy(folder / f"{i}.jpg", folder / f"copy of {i}.jpg")
        shutil.copy(folder / f"{i}.txt", folder / f"copy of {i}.txt")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def test_divides_by_class_with_copies_on_one_side(flat, tmp_path):
    out = tmp_path / "out"
    result = run.invoke(app, ["split", str(flat), "--out", str(out), "--val", "0.3", "--json"])
    assert result.exit_code == 0, result.output
    splits = json.loads(result.stdout)["splits"]
    assert sum(item["images"] for item in splits.values()) == 22
    assert abs(splits["val"]["images"] - 6.6) <= 2
    train, val = open_data(str(out), "train"), open_data(str(out), "val")
    assert set(val.labels.tolist()) == {0, 1}
    content = [{data.path(i).read_bytes() for i in range(len(data))} for data in (train, val)]
    assert not content[0] & content[1]
    assert (out / "data.yaml").is_file()


def test_other_splits_stay_unless_they_share_images(flat, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    assert run.invoke(app, ["split", str(flat), "--out", str(out), "--test", "0.2", "--val", "0"]).exit_code == 0
    assert isinstance(
        run.invoke(app, ["split", str(out), "--split", "train", "--test", "0.2", "--out", "x"]).exception, UsageError
    )
    result = run.invoke(app, ["split", str(out), "--split", "train", "--to", "voc", "--out", str(again)])
    assert result.exit_code == 0, result.output
    before, after = (sorted(open_data(str(place), "test").boxes.tolist()) for place in (out, again))
    assert before == after
    assert (again / "ImageSets/Main/val.txt").is_file()
    assert (
        run.invoke(app, ["split", str(again), "--split", "val", "--out", str(tmp_path / "third")]).exception is not None
    )


def test_shares_that_divide_nothing(flat, tmp_path):
    for shares in (["--val", "0"], ["--val", "1"], ["--val", "0.6", "--test", "0.6"]):
        result = run.invoke(app, ["split", str(flat), "--out", str(tmp_path / "out"), *shares])
        assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()
