"""The training loop: one optimiser step, and the bookkeeping around it. What to train comes from `session.py`."""

import contextlib
import functools
import math
import operator
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcos_cli.data.loading.tensors import Batch
from fcos_cli.errors import FcosError
from fcos_cli.method.interface import Geometry, Moment, Outputs
from fcos_cli.method.objective import Goal, Objective, average
from fcos_cli.model.fcos import FCOS, PixelBatch
from fcos_cli.recipe.schema import Recipe
from fcos_cli.runtime.precision import Precision
from fcos_cli.training.checkpoint import TrainingState
from fcos_cli.training.distributed import World
from fcos_cli.training.log import TrainingLog, duration
from fcos_cli.training.optimizer import AveragedWeights, build_optimizer, learning_rate_factor, set_learning_rate
from fcos_cli.training.passes import split_batch

SHORT = {"classification": "class"}
"""Terms whose names are shortened on the screen."""
WAITING_WORTH_SAYING = 0.2


class TrainingDivergedError(FcosError):
    """The loss or the weights are no longer finite."""


class _Step(NamedTuple):
    """A step whose loss has not been looked at yet: on a GPU, looking means waiting for it."""

    iteration: int
    image_ids: list[int]
    values: Tensor


class Trainer:
    """Trains a model. `iteration` counts the optimiser steps done.

    Args:
        model: on the device of `world`, weights loaded.
        recipe: resolved.
        world: this process among all.
        precision: what the network computes in.
        log: where lines and rows go.
    """

    def __init__(self, model: FCOS, recipe: Recipe, world: World, precision: Precision, log: TrainingLog) -> None:
        self.model, self.recipe, self.world, self.precision, self.log = model, recipe, world, precision, log
        self.iteration = 0
        self.objective = Objective(recipe.assign, recipe.loss, model.head, model.pyramid, model.outputs)
        self.objective.to(world.device)
        self.columns = ("loss", *self.objective.terms, "positives")
        self.optimizer = build_optimizer(model, recipe)
        self.averaged = AveragedWeights(model, recipe.train.ema) if recipe.train.ema else None
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=precision.dtype == torch.float16)
        self.layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
        self.network: nn.Module = model
        if world.size > 1:
            self.network = DistributedDataParallel(
                model,
                device_ids=[world.device.index] if world.device.type == "cuda" else None,
                # only a trained BatchNorm, and a head that has any, change their buffers
                broadcast_buffers=recipe.model.backbone.norm == "bn" or any(True for _ in model.head.buffers()),
                gradient_as_bucket_view=True,
            )
        self._unseen: list[_Step] = []
        self._window: list[list[float]] = []

    @property
    def evaluated(self) -> FCOS:
        """The weights to evaluate and to keep: the averaged ones where there are any."""
        return self.averaged.model if self.averaged else self.model

    def run(self, batches: Iterator[Batch], until: int, per_epoch: int, stop: Callable[[], bool]) -> bool:
        """Trains up to iteration `until`. Returns False when `stop` ended it before.

        Args:
            per_epoch: images in an epoch, to tell how many are done.

        Raises:
            TrainingDivergedError: a loss is not finite; no checkpoint was written since.
        """
        try:
            return self._run(batches, until, per_epoch, stop)
        finally:
            self.log.hide_progress()

    def _run(self, batches: Iterator[Batch], until: int, per_epoch: int, stop: Callable[[], bool]) -> bool:
        train, total = self.recipe.train, self.recipe.schedule.iterations
        look_every = train.log_every if self.world.device.type == "cuda" else 1
        self.model.train()
        started, waited, images = time.perf_counter(), 0.0, 0
        while self.iteration < until:
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            self.step(batch)
            images += train.batch_size
            rate = images / (time.perf_counter() - started)
            left = duration((total - self.iteration) * train.batch_size / rate)
            self.log.show_progress(self.iteration, total, f"{rate:.1f} images/s  {left} left")
            report = self.iteration % train.log_every == 0 or self.iteration == until
            if report:
                epoch = self.iteration * train.batch_size / per_epoch
                self._report(epoch, rate, waited * rate / images, left)
                started, waited, images = time.perf_counter(), 0.0, 0
            if (report or self.iteration % look_every == 0) and self.world.any(stop()):
                return False
        return True

    def step(self, batch: Batch) -> None:
        """One optimiser step on this process's share of a batch, in `train.accumulate` passes."""
        device, schedule = self.world.device, self.recipe.schedule
        set_learning_rate(self.optimizer, self.recipe.learning_rate * learning_rate_factor(schedule, self.iteration))
        passes = split_batch(batch, self.recipe.train.accumulate)
        inputs = [self.model.preprocess(part.images, self.layout) for part in passes]
        goals: list[Goal] = []
        if not self.objective.needs_outputs:  # all passes are assigned first, so that they share their normalisers
            goals = [self.goal(part, pixels) for part, pixels in zip(passes, inputs, strict=True)]
            norm = self.world.mean(average(goals))
        sums = torch.zeros(1 + len(self.objective.terms), device=device)
        for number, (part, pixels) in enumerate(zip(passes, inputs, strict=True)):
            with self._no_sync(number < len(passes) - 1):
                with self.precision.autocast():
                    outputs = self.network(pixels.pixels)
                if self.objective.needs_outputs:
                    goals.append(self.goal(part, pixels, outputs))
                    norm = self.world.mean(goals[-1].normalizers)
                terms = self.objective.losses(outputs, goals[number], norm)
                total = functools.reduce(operator.add, terms.values())
                self.scaler.scale(total / len(passes)).backward()
            sums += torch.stack([total, *terms.values()]).detach() / len(passes)
        positives = torch.stack([goal.assignment.positives for goal in goals]).sum().reshape(1)
        self._unseen.append(_Step(self.iteration, batch.image_ids, torch.cat((sums, positives))))
        if device.type == "cpu":
            self._look()  # costs nothing here, and keeps a spoilt gradient from the weights
        self.update()
        self.iteration += 1
        if self.averaged:
            self.averaged.update(self.model, self.iteration)

    def goal(self, batch: Batch, pixels: PixelBatch, outputs: Outputs | None = None) -> Goal:
        """What the locations of a pass learn."""
        height, width = pixels.pixels.shape[2:]
        geometry = Geometry(self.model.pyramid, height, width, pixels.sizes)
        moment = Moment(self.iteration, self.recipe.schedule.iterations, self.recipe.train.seed)
        return self.objective.goal(batch.targets.to(self.world.device), geometry, outputs, moment)

    def update(self) -> None:
        """Moves the weights by the gradients, and clears these."""
        clip = self.recipe.optimizer.clip_norm
        if clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> TrainingState:
        """All that a resumed training needs.

        Raises:
            TrainingDivergedError: a loss or a weight is not finite: such a state is never saved.
        """
        self._look()
        weights = [parameter.detach() for parameter in self.model.parameters()]
        largest = torch.stack(torch._foreach_norm(weights, float("inf"))).sum()
        if not math.isfinite(float(largest)):
            raise TrainingDivergedError(f"the weights are not finite after iteration {self.iteration}")
        return TrainingState(
            iteration=self.iteration,
            style=self.model.style,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            averaged=self.averaged.model.state_dict() if self.averaged else None,
            scaler=self.scaler.state_dict() if self.scaler.is_enabled() else None,
            rng=torch.get_rng_state(),
            objective=self.objective.state_dict(),
            pixels=self.model.pixels.as_json(),
        )

    def restore(self, state: TrainingState) -> None:
        """Goes on from a state. Weight decay, momentum and learning rate are those of the recipe, not of the state."""
        self.model.load_state_dict(state.model)
        fresh = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state.optimizer)
        for group, settings in zip(self.optimizer.param_groups, fresh, strict=True):
            group.update(settings)
        if self.averaged:
            self.averaged.model.load_state_dict(state.averaged or state.model)
        if state.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(state.scaler)
        self.objective.load_state_dict(state.objective or {})
        torch.set_rng_state(state.rng)
        self.iteration = state.iteration

    def _no_sync(self, more: bool) -> contextlib.AbstractContextManager[None]:
        if more and isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return contextlib.nullcontext()

    def _look(self) -> None:
        """Looks at the losses of the steps that nobody has looked at; stops the training where one is not finite."""
        steps, self._unseen = self._unseen, []
        if not steps:
            return
        values = torch.stack([step.values for step in steps]).tolist()
        self._window += values
        bad = next((i for i, row in enumerate(values) if not math.isfinite(row[0])), None)
        if not self.world.any(bad is not None):
            return
        own = None if bad is None else steps[bad]._replace(values=steps[bad].values.cpu())
        met = [step for step in self.world.gather(own) if step is not None]
        raise self._diverged(min(met, key=lambda step: step.iteration))

    def _report(self, epoch: float, rate: float, waiting: float, left: str) -> None:
        """A line and a row: the losses averaged over the steps since the last report and over the devices."""
        self._look()
        means = torch.tensor(self._window, device=self.world.device).mean(dim=0)
        self._window = []
        row = dict(zip(self.columns, self.world.mean(means).tolist(), strict=True))
        row["positives"] *= self.world.size
        lr = self.optimizer.param_groups[0]["lr"]
        self.log.say(
            f"{self.iteration:>6}/{self.recipe.schedule.iterations}  epoch {epoch:.1f}  loss {row['loss']:.4f}  "
            + "".join(f"{SHORT.get(name, name)} {row[name]:.4f}  " for name in self.objective.terms)
            + f"positives {row['positives']:.0f}  lr {lr:.2e}  {rate:.1f} images/s  {left} left"
            + (f"  ({waiting:.0%} of it waiting for data)" if waiting > WAITING_WORTH_SAYING else "")
        )
        speed = {"images_per_second": rate, "waiting": waiting}
        self.log.row({"iteration": self.iteration, "epoch": epoch, **row, "lr": lr, **speed})

    def _diverged(self, step: _Step) -> TrainingDivergedError:
        values = dict(zip(self.columns, step.values.tolist(), strict=True))
        losses = ", ".join(f"{name} {values[name]:.4g}" for name in self.objective.terms)
        images = ", ".join(map(str, step.image_ids[:8])) + (", ..." if len(step.image_ids) > 8 else "")
        return TrainingDivergedError(f"the loss is not finite at iteration {step.iteration}: {losses}; images {images}")
