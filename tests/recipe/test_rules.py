"""Contradictions between keys."""

import pytest

from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.problems import InvalidRecipeError
from fcos_cli.recipe.rules import contradictions
from fcos_cli.recipe.schema import Recipe

R50 = "r50"
SCRATCH = ("model.backbone.weights=", "model.backbone.norm=bn", "model.backbone.frozen_stages=0")


def problems_of(*overrides):
    try:
        load_recipe(R50, overrides)
    except InvalidRecipeError as error:
        return list(error.problems)
    return []


def test_the_defaults_are_sound():
    assert contradictions(Recipe()) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.backbone.weights=", "model.backbone.frozen_stages=0"],
            'model.backbone.norm = "frozen_bn" without weights would freeze BatchNorm at random: set '
            'model.backbone.weights (see `fcos weights list`), or model.backbone.norm = "bn" or "gn"',
        ),
        (
            ["model.backbone.weights=", "model.backbone.norm=gn"],
            "model.backbone.frozen_stages = 2 without weights would freeze random layers: set model.backbone.weights, "
            "or model.backbone.frozen_stages = 0",
        ),
        (
            ["model.pyramid.levels=[3, 5]"],
            "model.pyramid.levels = [3, 5]: levels must be a run of consecutive numbers such as [3, 4, 5, 6, 7], "
            "not [3, 5]",
        ),
        (
            ["model.pyramid.levels=[]"],
            "model.pyramid.levels = []: levels must be a run of consecutive numbers such as [3, 4, 5, 6, 7], not []",
        ),
        (
            ["model.pyramid.levels=[6, 7, 8]"],
            "model.pyramid.levels = [6, 7, 8]: levels must lie within 2..7, not [6, 7, 8]",
        ),
        (
            ["model.pyramid.levels=[3, 4]", "model.pyramid.ranges=[[0, inf]]"],
            "model.pyramid.ranges = [[0.0, inf]]: 2 levels need 2 ranges, not 1 (model.pyramid.levels = [3, 4])",
        ),
        (
            ["model.pyramid.levels=[4]", "model.pyramid.ranges=[[64, 32]]"],
            "model.pyramid.ranges = [[64.0, 32.0]]: a range must be [lower, upper] with 0 <= lower < upper, "
            "not [64.0, 32.0]",
        ),
        (
            ["model.pyramid.channels=100"],
            "model.head.groups = 32 does not divide model.pyramid.channels = 100: set model.head.groups = 25",
        ),
        (["data.short_side=[800, 640]"], "data.short_side = [800, 640] is [smallest, largest]: set [640, 800]"),
        (["data.long_side=640"], "data.short_side = 800 is above data.long_side = 640: set data.long_side >= 800"),
        (["test.short_side=1400"], "test.short_side = 1400 is above test.long_side = 1333: set test.long_side >= 1400"),
        (["schedule.steps=[80, 60]"], "schedule.steps = [80, 60] must ascend"),
        (["schedule.steps=[60, 60]"], "schedule.steps = [60, 60] must ascend"),
        (
            ["schedule.iterations=9000"],
            "schedule.steps = [60000, 80000] reach beyond schedule.iterations = 9000: "
            "set schedule.steps = [6000, 8000]",
        ),
        (
            ["schedule.iterations=100", "schedule.decay=cosine"],
            "schedule.warmup_iterations = 500 is longer than schedule.iterations = 100: "
            "set schedule.warmup_iterations = 10",
        ),
        (["train.accumulate=3"], "train.accumulate = 3 does not divide train.batch_size = 16: passes are equal"),
    ],
)
def test_exact_words(overrides, line):
    assert problems_of(*overrides) == [line]


@pytest.mark.parametrize(
    "overrides",
    [
        SCRATCH,
        ("model.backbone.weights=", "model.weights=runs/a"),
        ("model.pyramid.levels=[4]",),
        ("model.pyramid.levels=[3, 4]", "model.pyramid.ranges=[[0, 64], [64, inf]]"),
        ("model.pyramid.levels=[3, 4]", "model.pyramid.extra_from=c5"),
        ("model.head.norm=none", "model.pyramid.channels=100"),
        ("model.head.convs=0", "model.pyramid.channels=100"),
        ("model.head.quality=none",),
        ("model.head.quality=from_box", "loss.box_weight=centerness"),
        ("schedule.steps=[]", "schedule.iterations=500"),
        ("schedule.decay=cosine", "schedule.iterations=20", "schedule.warmup=none"),
        ("data.short_side=[800, 800]",),
        ("test.candidates=10",),
        ("train.accumulate=4",),
    ],
)
def test_what_is_allowed(overrides):
    assert problems_of(*overrides) == []


def test_a_suggested_schedule_holds_at_every_length():
    for iterations in (1, 2, 3, 4, 5, 10, 17, 500):
        lines = problems_of(f"schedule.iterations={iterations}", "schedule.warmup=none")
        suggestion = lines[0].rpartition("set schedule.steps = ")[2]
        fixed = (f"schedule.iterations={iterations}", "schedule.warmup=none", f"schedule.steps={suggestion}")
        assert problems_of(*fixed) == []


def test_a_suggested_warmup_holds():
    for iterations in (1, 9, 100):
        steps = ("schedule.steps=[]", f"schedule.iterations={iterations}")
        (line,) = problems_of(*steps)
        assert problems_of(*steps, f"schedule.warmup_iterations={line.rpartition(' = ')[2]}") == []


def test_contradictions_come_together():
    assert len(problems_of("model.backbone.weights=", "train.accumulate=5", "data.long_side=10")) == 4
