"""Detectors on disk: what is written comes back; what cannot be read says why."""

import errno
import json
import math
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from fcos_cli.data.records import Categories
from fcos_cli.errors import WeightsError
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.pixels import MSRA, PixelFormat
from fcos_cli.recipe.schema import Recipe
from fcos_cli.weights.saved import load_detector, save_detector

CLASSES = Categories((1, 7, 90), ("a cat", "ünïcode", "teddy"))


def make_recipe(**head):
    return Recipe.model_validate(
        {
            "description": "tiny",
            "model": {
                "backbone": {"name": "resnet18", "width": 8, "norm": "bn", "frozen_stages": 0, "weights": ""},
                "pyramid": {"channels": 32, "levels": [3, 4], "ranges": [[0, 50.5], [50.5, math.inf]]},
                "head": {"convs": 1, "groups": 8, **head},
            },
        }
    )


@pytest.fixture
def model():
    torch.manual_seed(3)
    return FCOS(make_recipe().model, 3, "caffe").eval()


def header(path):
    """The metadata, read by the format's definition: 8 bytes of length, then JSON."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length])["__metadata__"]


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def test_round_trip(tmp_path, model):
    path = tmp_path / "new" / "detector.safetensors"
    save_detector(path, model, make_recipe(), CLASSES, {"iteration": "40", "metrics": '{"AP": 0.5}'})
    loaded = load_detector(path)
    assert loaded.categories == CLASSES
    assert loaded.recipe == make_recipe()
    assert loaded.recipe.model.pyramid.ranges[-1][1] == math.inf
    assert loaded.model.style == "caffe"
    assert loaded.path == path
    assert loaded.metadata["iteration"] == "40"
    assert not loaded.model.training
    wanted, got = model.state_dict(), loaded.model.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_metadata_is_plain_json_text(tmp_path, model):
    path = tmp_path / "detector.safetensors"
    save_detector(path, model, make_recipe(), CLASSES)
    metadata = header(path)
    assert metadata["format"] == "fcos-detector 1"
    assert json.loads(metadata["class_ids"]) == [1, 7, 90]
    assert json.loads(metadata["class_names"]) == list(CLASSES.names)
    recipe = json.loads(metadata["recipe"], parse_constant=refuse_constant)
    assert recipe["model"]["pyramid"]["ranges"] == [[0.0, 50.5], [50.5, "inf"]]
    assert metadata["weight_style"] == "caffe"
    assert json.loads(metadata["pixels"]) == {
        "order": "bgr",
        "mean": [102.9801, 115.9465, 122.7717],
        "std": [1.0, 1.0, 1.0],
    }


def test_pixels_are_stored_and_files_without_them_still_load(tmp_path, rewritten):
    theirs = PixelFormat("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
    path = tmp_path / "other.safetensors"
    save_detector(path, FCOS(make_recipe().model, 3, "caffe", theirs), make_recipe(), CLASSES)
    assert load_detector(path).model.pixels == theirs
    assert load_detector(rewritten(lambda t, m: m.pop("pixels"))).model.pixels == MSRA


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layouts_and_shared_tensors(tmp_path, model, layout):
    model.to(memory_format=layout)
    model.head.box_tower[0].weight = model.head.class_tower[0].weight
    path = tmp_path / "detector.safetensors"
    save_detector(path, model, make_recipe(), CLASSES)
    loaded = load_detector(path).model
    assert torch.equal(loaded.head.box_tower[0].weight, model.head.class_tower[0].weight)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, theirs in zip(model(pixels)["classification"], loaded(pixels)["classification"], strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_view_does_not_drag_its_storage_along(tmp_path, model):
    big = torch.randn(1_000_000)
    model.head.scales = torch.nn.Parameter(big[:2])
    path = tmp_path / "detector.safetensors"
    save_detector(path, model, make_recipe(), CLASSES)
    assert path.stat().st_size < 4_000_000
    assert torch.equal(load_file(path)["head.scales"], big[:2])


def test_a_full_disk_keeps_the_old_weights(tmp_path, model, monkeypatch):
    path = tmp_path / "detector.safetensors"
    save_detector(path, model, make_recipe(), CLASSES)
    before = path.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with torch.no_grad():
        model.head.scales.add_(1)
    with pytest.raises(OSError, match="No space left"):
        save_detector(path, model, make_recipe(), CLASSES)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_loading_leaves_the_random_state_alone(tmp_path, model):
    save_detector(tmp_path / "d.safetensors", model, make_recipe(), CLASSES)
    before = torch.get_rng_state()
    load_detector(tmp_path / "d.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_programming_errors(tmp_path, model):
    with pytest.raises(ValueError, match="3 classes"):
        save_detector(tmp_path / "d", model, make_recipe(), Categories((1,), ("one",)))
    with pytest.raises(ValueError, match="recipe"):
        save_detector(tmp_path / "d", model, make_recipe(), CLASSES, {"recipe": "mine"})


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"PK\x03\x04rest of a zip", r"PyTorch", "model.weights"),
        (b"\x80\x02}q\x00", r"PyTorch", "model.weights"),
        (b"", r"is empty", "again"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html>", r"web page", "address"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{nonsense", r"not a whole safetensors", "cut off"),
    ],
    ids=["zip", "pickle", "empty", "lfs", "html", "nonsense"],
)
def test_files_that_are_something_else(tmp_path, content, message, hint):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        load_detector(path)
    assert hint in caught.value.hint
    assert str(path) in caught.value.message


def test_a_file_cut_short(tmp_path, model):
    path = tmp_path / "d.safetensors"
    save_detector(path, model, make_recipe(), CLASSES)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_detector(path)


@pytest.fixture
def rewritten(tmp_path, model):
    """Function: the saved detector with its metadata or tensors changed."""
    path = tmp_path / "d.safetensors"
    save_detector(path, model, make_recipe(), CLASSES)

    def rewrite(change):
        tensors, metadata = load_file(path), header(path)
        change(tensors, metadata)
        save_file(tensors, path, metadata or None)
        return path

    return rewrite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.clear(), "not a detector of this toolkit"),
        (lambda t, m: m.update(format="pt"), "not a detector of this toolkit"),
        (lambda t, m: m.update(format="fcos-detector 2", toolkit_version="9.1"), r"format 2, written by toolkit 9\.1"),
        (lambda t, m: m.pop("class_names"), "lacks 'class_names'"),
        (lambda t, m: m.update(class_ids="[1, 2"), "damaged"),
        (lambda t, m: m.update(class_ids="[1, 2]"), "damaged"),
        (lambda t, m: m.update(weight_style="tensorflow"), "tensorflow"),
        (lambda t, m: m.update(pixels='{"order": "rgb", "mean": [1, 2], "std": [1, 1, 1]}'), "three numbers"),
        (lambda t, m: m.update(pixels='{"order": "grb", "mean": [1, 2, 3], "std": [1, 1, 1]}'), "grb"),
        (lambda t, m: m.update(pixels='{"order": "rgb", "mean": [1, 2, 3], "std": [1, 0, 1]}'), "deviation"),
        (lambda t, m: m.update(recipe='{"model": {"wings": 2}}'), r"model\.wings"),
        (lambda t, m: t.pop("head.scales"), r"head\.scales is missing"),
        (lambda t, m: t.update(extra=torch.zeros(1)), "extra is unknown"),
        (
            lambda t, m: t.update({"head.scales": torch.zeros(9)}),
            r"head\.scales is \[9\], the recipe's model has \[2\]",
        ),
    ],
)
def test_detectors_that_do_not_fit(rewritten, change, message):
    with pytest.raises(WeightsError, match=message):
        load_detector(rewritten(change))


@pytest.fixture
def make_run(tmp_path, model):
    """Function: a run folder below tmp_path/runs with these weights, written at this time."""

    def make(name, *weights, time=1_000):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        for which in weights:
            path = folder / "checkpoints" / f"{which}.safetensors"
            save_detector(path, model, make_recipe(), CLASSES, {"which": which})
            os.utime(path, (time, time))
        return folder

    return make


def test_a_run_gives_its_best_else_its_last(make_run):
    assert load_detector(make_run("both", "best", "last")).metadata["which"] == "best"
    assert load_detector(make_run("one", "last")).metadata["which"] == "last"
    with pytest.raises(WeightsError, match="holds no weights") as caught:
        load_detector(make_run("none"))
    assert "--resume" in caught.value.hint


def test_a_run_by_its_name_and_near_misses(make_run, tmp_path, monkeypatch):
    make_run("shapes-0102", "best")
    make_run("bccd-0304", "best")
    monkeypatch.chdir(tmp_path)
    assert load_detector("shapes-0102").metadata["which"] == "best"
    assert load_detector("runs/shapes-0102/checkpoints/best.safetensors").metadata["which"] == "best"
    for wrong in ("runs/shapes-0103", "shapes-01"):
        with pytest.raises(WeightsError, match="no weights at") as caught:
            load_detector(wrong)
        assert "runs/shapes-0102" in caught.value.hint
        assert "bccd" not in caught.value.hint
