"""The folder of recipes against the paper's tables (arXiv 1904.01355), typed in here a second time."""

import re
import tomllib

import pytest

from fcos_cli.recipe.files import bundled, bundled_folder
from fcos_cli.recipe.load import load_recipe, to_toml

PUBLISHED = {
    "r50": 37.1,
    "r50_improved": 38.6,
    "r101_2x": 41.5,
    "x101_32x8d_2x": 42.7,
    "x101_64x4d_2x": 43.2,
    "x101_64x4d_2x_improved": 44.7,
    "shapes": None,
    "bccd": None,
    "ablations/c5_no_gn_nms50": 36.3,
    "ablations/p5_no_gn_nms50": 36.4,
    "ablations/p5_no_gn": 36.5,
    "ablations/gn": 37.1,
    "ablations/centerness_on_regression": 37.4,
    "ablations/center_sampling": 38.1,
    "ablations/giou": 38.3,
    "ablations/normalized_targets": 38.6,
    "ablations/centerness_branch": 37.1,
    "ablations/centerness_none": 33.5,
    "ablations/centerness_from_box": 33.5,
    "ablations/p4_only": None,
}
NO_GN = {"model.head.norm": "none", "optimizer.clip_norm": 35.0}
TOWER = {"model.head.quality_tower": "regression"}
SAMPLING = TOWER | {"assign.center_sampling": 1.5}
GIOU = SAMPLING | {"loss.box": "giou"}
IMPROVED = GIOU | {"model.head.normalize_targets": True, "model.head.box_activation": "relu"}
LONG = {"schedule.iterations": 180_000, "schedule.steps": [120_000, 160_000], "data.short_side": [640, 800]}
DIFFERENCES = {
    "r50_improved": IMPROVED,
    "ablations/c5_no_gn_nms50": NO_GN | {"model.pyramid.extra_from": "c5", "test.nms_iou": 0.5},
    "ablations/p5_no_gn_nms50": NO_GN | {"test.nms_iou": 0.5},
    "ablations/p5_no_gn": NO_GN,
    "ablations/gn": {},
    "ablations/centerness_on_regression": TOWER,
    "ablations/center_sampling": SAMPLING,
    "ablations/giou": GIOU,
    "ablations/normalized_targets": IMPROVED,
    "ablations/centerness_branch": {},
    "ablations/centerness_none": {"model.head.quality": "none"},
    "ablations/centerness_from_box": {"model.head.quality": "from_box"},
    "ablations/p4_only": {"model.pyramid.levels": [4]},
}
OWN = {"description", "published_ap"}


def flat(values, prefix=""):
    pairs = {}
    for key, value in values.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return pairs


def resolved(name):
    return flat(tomllib.loads(to_toml(load_recipe(name).recipe)))


def difference(name):
    ours, base = resolved(name), resolved("r50")
    return {key: ours[key] for key in ours if key not in OWN and ours[key] != base.get(key)}


def test_the_folder_holds_what_the_table_says():
    assert set(bundled()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_ap_and_description(name):
    recipe = load_recipe(name).recipe
    assert recipe.published_ap == PUBLISHED[name]
    assert 10 < len(recipe.description) < 90


@pytest.mark.parametrize("name", PUBLISHED)
def test_opens_with_the_command_that_runs_it(name):
    first = bundled()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# fcos train recipes/{name}.toml"


@pytest.mark.parametrize("name", [name for name in PUBLISHED if PUBLISHED[name] is not None])
def test_the_comment_names_the_published_ap(name):
    text = bundled()[name].read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines() if line.startswith("#"))
    assert str(PUBLISHED[name]) in comment


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differs_from_r50_only_in_what_it_is_about(name):
    assert difference(name) == DIFFERENCES[name]


@pytest.mark.parametrize("name", DIFFERENCES)
def test_writes_only_keys_that_differ_or_that_it_is_named_for(name):
    written = set(flat(tomllib.loads(bundled()[name].read_text(encoding="utf-8")))) - OWN - {"extends"}
    named_for = {"model.head.quality"} if name == "ablations/centerness_branch" else set()
    assert written == set(DIFFERENCES[name]) | named_for


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("r101_2x", "resnet101"),
        ("x101_32x8d_2x", "resnext101_32x8d"),
        ("x101_64x4d_2x", "resnext101_64x4d"),
        ("x101_64x4d_2x_improved", "resnext101_64x4d"),
    ],
)
def test_the_long_recipes(name, architecture):
    found = difference(name)
    assert found.pop("model.backbone.weights") != "msra/R-50"
    assert found.pop("model.backbone.name") == architecture
    assert found == (LONG | IMPROVED if name.endswith("improved") else LONG)


def test_r50_is_the_paper():
    values = resolved("r50")
    paper = {
        "model.backbone.name": "resnet50",
        "model.backbone.norm": "frozen_bn",
        "model.backbone.frozen_stages": 2,
        "model.backbone.weights": "msra/R-50",
        "model.pyramid.levels": [3, 4, 5, 6, 7],
        "model.pyramid.extra_from": "p5",
        "model.pyramid.channels": 256,
        "model.head.convs": 4,
        "model.head.norm": "gn",
        "model.head.groups": 32,
        "model.head.box_activation": "exp",
        "model.head.normalize_targets": False,
        "model.head.quality": "centerness",
        "model.head.quality_tower": "classification",
        "model.head.prior": 0.01,
        "assign.center_sampling": 0,
        "assign.range_ends": "inclusive",
        "assign.ignore_crowd": False,
        "loss.focal_alpha": 0.25,
        "loss.focal_gamma": 2,
        "loss.box": "iou",
        "loss.box_weight": "centerness",
        "loss.iou_smoothing": 1,
        "data.short_side": 800,
        "data.long_side": 1333,
        "data.flip": 0.5,
        "data.vertical_flip": 0,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.01,
        "optimizer.reference_batch": 16,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4,
        "optimizer.bias_lr_factor": 2,
        "optimizer.bias_weight_decay": 0,
        "optimizer.clip_norm": 0,
        "schedule.iterations": 90_000,
        "schedule.steps": [60_000, 80_000],
        "schedule.gamma": 0.1,
        "schedule.warmup": "constant",
        "schedule.warmup_iterations": 500,
        "schedule.warmup_factor": 1 / 3,
        "train.batch_size": 16,
        "train.ema": 0,
        "test.short_side": 800,
        "test.long_side": 1333,
        "test.score_threshold": 0.05,
        "test.threshold_on": "class",
        "test.candidates": 1000,
        "test.nms_iou": 0.6,
        "test.max_detections": 100,
        "test.score": "sqrt",
    }
    assert {key: values[key] for key in paper} == paper
    ranges = load_recipe("r50").recipe.model.pyramid.geometry().ranges
    assert ranges == ((0, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")))


@pytest.mark.parametrize("name", ["shapes", "bccd"])
def test_the_recipes_from_scratch_need_no_download(name):
    model = load_recipe(name).recipe.model
    assert (model.backbone.weights, model.weights) == ("", "")
    assert model.backbone.norm in ("bn", "gn")
    assert model.backbone.frozen_stages == 0


def test_the_ablation_table_of_the_folder_is_the_recipes():
    text = (bundled_folder() / "ablations" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", text, re.MULTILINE))
    expected = {name: ap for name, ap in PUBLISHED.items() if name.startswith("ablations/") and ap is not None}
    assert {f"ablations/{name}": float(ap) for name, ap in rows.items()} == expected
