"""`fcos new`: a recipe whose choices follow from the data and the machine, and commands that lead to a detector."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from fcos_cli.data.datasets import open_data
from fcos_cli.data.formats.named import NamedBox, NamedImage, named_data
from fcos_cli.drafting.choices import Draft
from fcos_cli.drafting.draft import FEWEST, MOST_ON_CPU, draft_recipe
from fcos_cli.drafting.machine import Machine, this_machine
from fcos_cli.drafting.project import new_project
from fcos_cli.errors import DataError, UsageError
from fcos_cli.recipe.load import load_recipe
from fcos_cli.weights.published import published

LAPTOP = Machine(8, 16)
SERVER = Machine(32, 256, "a GPU", 80)
BCCD = Path(os.environ.get("FCOS_SHARED_DATA", Path(__file__).parents[3] / "shared/data")) / "bccd"


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("FCOS_HOME", str(tmp_path / "home"))


def data_of(side, *, images=200, size=(640, 480), names=("cat", "dog"), boxes=3):
    """Boxes of about this side in images that are nowhere."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(images):
        corners = rng.uniform(0, 100, (boxes, 2))
        sides = side * rng.uniform(0.9, 1.1, (boxes, 2))
        items = [
            NamedBox(names[k % len(names)], (*a, *(a + b))) for k, (a, b) in enumerate(zip(corners, sides, strict=True))
        ]
        made.append(NamedImage(f"{i}.jpg", items, size))
    return named_data("made", Path("nowhere"), made, names)


def drafted(data, machine=LAPTOP, **more):
    return draft_recipe(data, machine, dataset="d", train_split="train", val_split="val", **more)


def test_the_file_is_the_recipe_and_each_choice_has_a_reason(tmp_path):
    draft = drafted(data_of(60))
    (tmp_path / "r.toml").write_text(draft.text("head", "what it is"))
    assert load_recipe(str(tmp_path / "r.toml")).recipe == draft.recipe().model_copy(
        update={"description": "what it is"}
    )
    lines = (tmp_path / "r.toml").read_text().splitlines()
    keys = [line.split(" = ")[0] for line in lines if " = " in line and not line.startswith("#")]
    assert len(keys) == 1 + sum(len(choice.keys) for choice in draft.choices)
    assert all(choice.reason.strip().endswith(".") for choice in draft.choices)
    assert max(map(len, lines)) <= 110


def test_small_boxes_need_a_larger_input_within_what_the_machine_can():
    sizes = {
        (side, machine): drafted(data_of(side), machine).recipe().test.short_side
        for side in (30, 60, 200)
        for machine in (LAPTOP, SERVER)
    }
    # A twentieth of the boxes has less than 0.91 of the side or so: 32 pixels of it in the input.
    assert abs(sizes[30, SERVER] - 32 / (30 * 0.94) * 480) < 32
    assert sizes[30, LAPTOP] == 320
    assert abs(sizes[60, SERVER] - 256) <= 32
    assert sizes[200, LAPTOP] == sizes[200, SERVER] == 256


def test_levels_end_where_no_box_is_long_enough():
    assert drafted(data_of(60)).recipe().model.pyramid.levels == [3, 4, 5]
    large = data_of(400, size=(640, 480))
    assert max(drafted(large, SERVER).recipe().model.pyramid.levels) == 6


def test_mirroring_depends_on_the_names_of_classes():
    for names, flip in (
        (("cat", "dog"), 0.5),
        (("Left arrow", "x"), 0.0),
        (("1", "2"), 0.0),
        (("brightleft", "x"), 0.5),
    ):
        assert drafted(data_of(60, names=names)).recipe().data.flip == flip


def test_length_follows_from_the_number_of_images():
    steps = {
        images: drafted(data_of(60, images=images, boxes=1), machine).recipe().schedule.iterations
        for images, machine in ((4, LAPTOP), (205, LAPTOP), (3000, LAPTOP), (3001, SERVER))
    }
    assert steps == {4: FEWEST, 205: 1250, 3000: MOST_ON_CPU, 3001: 24 * 3001 // 16 + 1}
    assert drafted(data_of(60), epochs=2).recipe().schedule.iterations == 50
    assert drafted(data_of(60, images=4, boxes=1)).recipe().train.batch_size == 2


def test_many_boxes_an_image_raise_the_limit_of_detections():
    assert drafted(data_of(40, images=5, boxes=130)).recipe().test.max_detections == 200


@pytest.mark.parametrize(
    ("machine", "name"), [(LAPTOP, "torchvision/resnet18-v1"), (SERVER, "torchvision/resnet50-v2")]
)
def test_a_pretrained_start_where_one_is_at_hand(tmp_path, machine, name):
    folder = tmp_path / "home/weights"
    folder.mkdir(parents=True)
    (folder / published()[name].file_name).touch()
    recipe = drafted(data_of(60), machine).recipe()
    assert (recipe.model.backbone.weights, recipe.model.backbone.name) == (name, published()[name].architecture)
    assert recipe.optimizer.name == "sgd"


def test_a_later_choice_replaces_an_earlier_one_of_the_same_key():
    draft = Draft()
    draft.choose("data", "First.", flip=0.5, vertical_flip=0.5)
    draft.choose("data", "Second.", flip=0.0)
    assert [(choice.reason, choice.keys) for choice in draft.choices] == [
        ("First.", {"vertical_flip": 0.5}),
        ("Second.", {"flip": 0.0}),
    ]


def picture(seed: int) -> tuple[Image.Image, list[str]]:
    """A blurred scene with one to three bright discs or dark bars, and its YOLO lines."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(60, 190, (4, 5, 3), dtype=np.uint8))
    image = coarse.resize((200, 150), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    lines = []
    for k in range(int(rng.integers(1, 4))):
        label = int(rng.integers(0, 2))
        w, h = ((34, 34), (56, 20))[label]
        x, y = 4 + 64 * k, int(rng.integers(2, 148 - h))
        draw, colour = ((pen.ellipse, (250, 240, 120)), (pen.rectangle, (25, 25, 60)))[label]
        draw((x, y, x + w, y + h), fill=colour)
        lines.append(f"{label} {(x + w / 2) / 200} {(y + h / 2) / 150} {w / 200} {h / 150}\n")
    return image.filter(ImageFilter.GaussianBlur(0.7)), lines


@pytest.fixture
def flat(tmp_path):
    """labelImg's flat folder."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for seed in range(20):
        image, lines = picture(seed)
        image.save(folder / f"p{seed}.jpg", quality=90)
        (folder / f"p{seed}.txt").write_text("".join(lines))
    (folder / "classes.txt").write_text("disc\nbar\n")
    return folder


def follow(project, tmp_path):
    """The commands word for word, in a shell's reading."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    for command in project.commands:
        words = shlex.split(command)
        assert words[0] == "fcos"
        done = subprocess.run(
            [sys.executable, "-m", "fcos_cli", *words[1:]],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == 0, (command, done.stderr[-2000:])
    return done


def test_from_a_flat_folder_to_a_trained_detector(flat, tmp_path):
    project = new_project(tmp_path / "my project", str(flat), this_machine(), epochs=2)
    assert sorted(path.name for path in (tmp_path / "my project").iterdir()) == ["data", "recipe.toml"]
    train, val = (open_data(str(tmp_path / "my project/data"), split) for split in ("train", "val"))
    assert len(train) + len(val) == 20
    assert 3 <= len(val) <= 5
    assert len(train.boxes) + len(val.boxes) == len(open_data(str(flat)).boxes)
    follow(project, tmp_path)
    assert (tmp_path / "my project/run/checkpoints/last.safetensors").is_file()
    assert isinstance(json.loads((tmp_path / "my project/predictions.json").read_text()), list)


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no data set {BCCD}")
def test_from_bccd_to_a_trained_detector(tmp_path):
    project = new_project(tmp_path / "cells", str(BCCD), this_machine(), epochs=0.1)
    recipe = load_recipe(str(project.recipe)).recipe
    assert (recipe.data.train_split, recipe.data.val_split) == ("train", "val")
    assert project.commands[-1].endswith("--split test")
    assert "AP" in follow(project, tmp_path).stdout


def test_nothing_is_left_where_it_fails(flat, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/notes").touch()
    with pytest.raises(UsageError, match="nothing is written over"):
        new_project(tmp_path / "there", str(flat), LAPTOP)
    (flat / "p0.jpg").unlink()
    for path in flat.glob("*.txt"):
        if path.name != "classes.txt":
            path.write_text("0 0.5 0.5 0 0\n")
    with pytest.raises(DataError, match="no boxes"):
        new_project(tmp_path / "new", str(flat), LAPTOP)
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError, match="no split"):
        new_project(tmp_path / "new", "shapes", LAPTOP, val_split="nonsense")


def test_bare_images_and_splits_without_a_meaning(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        picture(0)[0].save(tmp_path / "images" / name / "x.jpg")
    with pytest.raises(DataError, match="no annotations"):
        new_project(tmp_path / "new", str(tmp_path / "images/a"), LAPTOP)
    content = {"images": [], "categories": [], "annotations": []}
    for name in ("first", "second"):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="which one is trained on"):
        new_project(tmp_path / "new", str(tmp_path), LAPTOP)
