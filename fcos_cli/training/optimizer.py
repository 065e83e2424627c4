"""The optimiser's parameter groups, the learning rate over the iterations, the average of the weights."""

import copy
import math
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch
from torch import nn

from fcos_cli.recipe.schema import OptimizerConfig, Recipe, ScheduleConfig

Model = TypeVar("Model", bound=nn.Module)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


def learning_rate_factor(schedule: ScheduleConfig, iteration: int) -> float:
    """Factor of the base learning rate at an iteration counted from 0 (warm-up times decay)."""
    return _warmup(schedule, iteration) * _decay(schedule, iteration)


def _warmup(schedule: ScheduleConfig, iteration: int) -> float:
    if schedule.warmup == "none" or iteration >= schedule.warmup_iterations:
        return 1.0
    if schedule.warmup == "constant":
        return schedule.warmup_factor
    return schedule.warmup_factor + (1 - schedule.warmup_factor) * iteration / schedule.warmup_iterations


def _decay(schedule: ScheduleConfig, iteration: int) -> float:
    if schedule.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * iteration / schedule.iterations))
    return schedule.gamma ** sum(iteration >= step for step in schedule.steps)


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters in three groups: weights, normalisation weights, biases.

    Each group's `lr_factor` is relative to the recipe's learning rate; `set_learning_rate` applies both.
    """
    settings = recipe.optimizer
    groups = [group for group in _groups(model, settings) if group["params"]]
    # One fused kernel a step instead of several passes over every parameter.
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=settings.momentum, fused=True)


def _groups(model: nn.Module, settings: OptimizerConfig) -> Iterator[dict]:
    weights, norms, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, NORMS):
                norms.append(parameter)
            else:
                weights.append(parameter)
    yield {"params": weights, "weight_decay": settings.weight_decay, "lr_factor": 1.0}
    yield {"params": norms, "weight_decay": settings.norm_weight_decay, "lr_factor": 1.0}
    yield {"params": biases, "weight_decay": settings.bias_weight_decay, "lr_factor": settings.bias_lr_factor}


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets every group to `rate` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


class AveragedWeights(Generic[Model]):
    """Exponential moving average of a model's parameters and statistics, for evaluation.

    The decay grows as (1 + t) / (10 + t) up to its full value, so that early averages do not cling to the random start.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Model, iteration: int) -> None:
        """Takes in the weights after the step of `iteration`."""
        keep = min(self.decay, (1 + iteration) / (10 + iteration))
        old, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in old.items() if value.is_floating_point()]
        torch._foreach_lerp_([old[n] for n in floats], [new[n] for n in floats], 1 - keep)
        for name in old.keys() - set(floats):
            old[name].copy_(new[name])
