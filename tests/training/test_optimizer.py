"""Parameter groups, learning rate and averaged weights."""

import math

import pytest
import torch
from torch import nn

from fcos_cli.recipe.schema import Recipe, ScheduleConfig
from fcos_cli.training.optimizer import AveragedWeights, build_optimizer, learning_rate_factor, set_learning_rate


def schedule(**values: object) -> ScheduleConfig:
    return ScheduleConfig(**values)


def test_the_paper_s_schedule_at_its_corners() -> None:
    paper = ScheduleConfig()
    expected = {0: 1 / 3, 499: 1 / 3, 500: 1.0, 59_999: 1.0, 60_000: 0.1, 79_999: 0.1, 80_000: 0.01, 89_999: 0.01}
    assert {k: learning_rate_factor(paper, k) for k in expected} == pytest.approx(expected)


def test_linear_warm_up_and_cosine() -> None:
    both = schedule(iterations=1000, decay="cosine", warmup="linear", warmup_iterations=100, warmup_factor=0.1)
    assert learning_rate_factor(both, 0) == pytest.approx(0.1)
    assert learning_rate_factor(both, 50) == pytest.approx(0.55 * 0.5 * (1 + math.cos(math.pi * 0.05)))
    assert learning_rate_factor(both, 500) == pytest.approx(0.5)
    assert learning_rate_factor(both, 1000) == pytest.approx(0.0)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.GroupNorm(2, 4)
        self.frozen = nn.Conv2d(3, 4, 1).requires_grad_(False)
        self.scales = nn.Parameter(torch.ones(5))


def test_groups_hold_every_trainable_parameter_once_with_the_official_rules() -> None:
    model = Small()
    recipe = Recipe.model_validate({"optimizer": {"lr": 0.01, "norm_weight_decay": 0.5}, "train": {"batch_size": 8}})
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, recipe.learning_rate)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found == {
        id(model.conv.weight): (0.005, 1e-4),
        id(model.scales): (0.005, 1e-4),
        id(model.norm.weight): (0.005, 0.5),
        id(model.conv.bias): (0.01, 0.0),
        id(model.norm.bias): (0.01, 0.0),
    }


def test_average_follows_the_weights_and_starts_fast() -> None:
    model = nn.BatchNorm1d(2)
    average = AveragedWeights(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
    model.num_batches_tracked.fill_(7)
    average.update(model, 1)
    keep = min(0.9, 2 / 11)
    torch.testing.assert_close(average.model.weight, torch.full((2,), keep * 1.0 + (1 - keep) * 3.0))
    assert int(average.model.num_batches_tracked) == 7
    before = average.model.weight.clone()
    average.update(model, 10_000)
    torch.testing.assert_close(average.model.weight, 0.9 * before + 0.1 * 3.0)
