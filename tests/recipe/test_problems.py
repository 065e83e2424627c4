"""What a person reads about a recipe that cannot hold."""

import re

import pytest

from fcos_cli.recipe.keys import all_keys
from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.problems import InvalidRecipeError, validate


def problems_of(values):
    with pytest.raises(InvalidRecipeError) as caught:
        validate(values, name="mine")
    return caught.value.problems


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"train": {"batchsize": 8}}, "unknown key train.batchsize; did you mean train.batch_size?"),
        ({"train": {"batch-size": 8}}, "unknown key train.batch-size; did you mean train.batch_size?"),
        ({"train": {"BatchSize": 8}}, "unknown key train.BatchSize; did you mean train.batch_size?"),
        ({"train": {"lr": 0.1}}, "unknown key train.lr; did you mean optimizer.lr?"),
        ({"lr": 0.1}, "unknown key lr; did you mean optimizer.lr?"),
        (
            {"model": {"norm": "gn"}},
            "unknown key model.norm; did you mean model.backbone.norm or model.head.norm?",
        ),
        (
            {"assign": {"centre_sampling": 1}},
            "unknown key assign.centre_sampling; did you mean assign.center_sampling?",
        ),
        ({"trian": {"seed": 1}}, "unknown table trian; did you mean train?"),
        ({"backbone": {"name": "resnet18"}}, "unknown table backbone; did you mean model.backbone?"),
        ({"train.seed": 1}, 'unknown key "train.seed"; did you mean train.seed?'),
        (
            {"assign": {"qqq": 1}},
            "unknown key assign.qqq; [assign] has name, center_sampling, range_ends, ignore_crowd",
        ),
        (
            {"a b": 1},
            'unknown key "a b"; a recipe has description, published_ap, model, assign, loss, data, optimizer, '
            "schedule, train, test",
        ),
        ({"train": 3}, "train is a table of keys ([train]), not 3"),
        ({"train": [{"seed": 1}]}, "train is a table of keys ([train]), not [{seed = 1}]"),
        ({"train": {"batch_size": "many"}}, 'train.batch_size = "many" must be a whole number >= 1'),
        ({"train": {"batch_size": "8"}}, 'train.batch_size = "8" must be a whole number >= 1; did you mean 8?'),
        ({"train": {"batch_size": 8.0}}, "train.batch_size = 8.0 must be a whole number >= 1; did you mean 8?"),
        ({"train": {"batch_size": 0}}, "train.batch_size = 0 must be a whole number >= 1"),
        ({"train": {"batch_size": "0"}}, 'train.batch_size = "0" must be a whole number >= 1'),
        ({"train": {"batch_size": True}}, "train.batch_size = true must be a whole number >= 1"),
        ({"train": {"ema": 1}}, "train.ema = 1 must be a number >= 0 and < 1"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr = 0 must be a number > 0"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr = nan must be a number > 0"),
        ({"optimizer": {"lr": float("inf")}}, "optimizer.lr = inf must be a number > 0"),
        ({"optimizer": {"lr": "1e-3"}}, 'optimizer.lr = "1e-3" must be a number > 0; did you mean 0.001?'),
        ({"train": {"channels_last": "yes"}}, 'train.channels_last = "yes" must be true or false; did you mean true?'),
        ({"train": {"channels_last": 0}}, "train.channels_last = 0 must be true or false; did you mean false?"),
        ({"data": {"train_split": 2017}}, 'data.train_split = 2017 must be a text in quotes; did you mean "2017"?'),
        (
            {"model": {"backbone": {"norm": "gm"}}},
            'model.backbone.norm = "gm" must be one of "frozen_bn", "bn", "gn"; did you mean "gn"?',
        ),
        (
            {"model": {"backbone": {"name": "ResNet-50"}}},
            'model.backbone.name = "ResNet-50" must be one of "resnet18", "resnet34", "resnet50", "resnet101", '
            '"resnext101_32x8d", "resnext101_64x4d"; did you mean "resnet50"?',
        ),
        ({"loss": {"box": 3}}, 'loss.box = 3 must be one of "iou", "linear_iou", "giou", "diou", "ciou"'),
        (
            {"schedule": {"steps": 60000}},
            "schedule.steps = 60000 must be an array of items, each a whole number >= 1; did you mean [60000]?",
        ),
        (
            {"data": {"short_side": [640, 720, 800]}},
            "data.short_side = [640, 720, 800] must be a whole number >= 1 or an array of 2 items, "
            "each a whole number >= 1",
        ),
        (
            {"model": {"pyramid": {"ranges": [[0, 64], [64]]}}},
            "model.pyramid.ranges = [[0, 64], [64]] must be an array of items, each an array of 2 items, "
            "each a number >= 0",
        ),
    ],
)
def test_exact_words(values, line):
    assert problems_of(values) == (line,)


def test_all_at_once_fields_and_contradictions():
    found = problems_of(
        {
            "train": {"batchsize": 8, "accumulate": 3, "ema": "high"},
            "model": {"backbone": {"weights": ""}},
            "test": {"nms_iou": 1.5},
        }
    )
    assert len(found) == 6
    text = "\n".join(found)
    for part in ("train.batchsize", "train.accumulate = 3", "train.ema", "frozen_bn", "frozen_stages", "test.nms_iou"):
        assert part in text


def test_no_rule_judges_a_key_that_is_wrong_itself():
    found = problems_of({"train": {"batch_size": "12", "accumulate": 5}})
    assert found == ('train.batch_size = "12" must be a whole number >= 1; did you mean 12?',)


def test_a_wrong_table_silences_rules_about_its_keys():
    assert problems_of({"train": 3, "model": {"pyramid": {"levels": [9]}}})[0].startswith("train is a table")


def test_the_error_as_a_whole():
    with pytest.raises(InvalidRecipeError) as caught:
        load_recipe("r50", ["train.batchsize=8", "train.precision=half"])
    assert caught.value.exit_code == 2
    assert caught.value.message == (
        "recipe r50: 2 problems\n"
        '  - train.precision = "half" must be one of "auto", "float32", "bfloat16", "float16" (--set)\n'
        "  - unknown key train.batchsize; did you mean train.batch_size? (--set)"
    )
    assert caught.value.hint == "`fcos recipe keys` lists every key, what it allows and its default"


def test_one_problem_is_one_line():
    with pytest.raises(InvalidRecipeError) as caught:
        load_recipe("r50", ["train.lr=1"])
    assert caught.value.message == "recipe r50: unknown key train.lr; did you mean optimizer.lr? (--set)"


def test_no_message_speaks_pydantic():
    """Every key, given values of every wrong kind, is told in our words and names itself."""
    values = ["no such word", 3.5, -7, True, [], [[]], {"x": 1}, float("nan")]
    for key in all_keys().values():
        for value in values:
            if key.accepts(value):
                continue
            nested = value
            for part in reversed(key.name.split(".")):
                nested = {part: nested}
            lines = problems_of(nested)
            assert any(line.startswith(key.name) for line in lines)
            assert not re.search(r"Input should|pydantic|valid (integer|number|string)|type=", "\n".join(lines))


def test_a_long_value_is_shortened():
    (line,) = problems_of({"train": {"batch_size": "x" * 500}})
    assert len(line) < 160
