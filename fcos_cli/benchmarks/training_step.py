"""How long a training step takes, by part, and beside torchvision's FCOS: images and boxes of COCO's sizes, made up."""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fcos_cli.benchmarks.peer import torchvision_fcos
from fcos_cli.data.loading.tensors import Batch
from fcos_cli.method.objective import average
from fcos_cli.method.targets import Targets
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import Recipe
from fcos_cli.runtime.precision import Precision
from fcos_cli.training.distributed import World
from fcos_cli.training.log import TrainingLog
from fcos_cli.training.trainer import Trainer

BOXES_PER_IMAGE = 7.3
"""Of COCO train2017."""
SIDE_LOG_MEAN, SIDE_LOG_STD = 4.4, 0.8
"""Of the sides of the boxes in pixels of an 800-pixel input: about COCO's."""
WARM_UPS = 3
PARTS = ("pixels", "assignment", "network", "losses", "backward", "update")

Step = Callable[[], object]


@dataclass(frozen=True)
class StepTime:
    """Steps of one implementation.

    Attributes:
        milliseconds: median, fastest and slowest step.
        images_per_second: of the median step.
        peak_memory: bytes of the device; of the process on a CPU, where several share the figure.
        parts: median milliseconds of each part of a step, each waited for; empty where nobody looked.
    """

    name: str
    milliseconds: tuple[float, float, float]
    images_per_second: float
    peak_memory: int
    parts: dict[str, float] = field(default_factory=dict)


def made_up_batch(images: int, height: int, width: int, classes: int, seed: int = 0) -> Batch:
    """A batch of noise, uint8, with as many boxes as COCO has, of about its sizes."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, rng.poisson(BOXES_PER_IMAGE, images))
    total = int(counts.sum())
    largest = np.array([width - 1, height - 1])
    sides = np.clip(np.exp(rng.normal(SIDE_LOG_MEAN, SIDE_LOG_STD, (total, 2))), 4, largest)
    corners = rng.random((total, 2)) * (largest - sides)
    return Batch(
        images=[torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(images)],
        targets=Targets(
            boxes=torch.from_numpy(np.concatenate([corners, corners + sides], axis=1)).float(),
            labels=torch.from_numpy(rng.integers(0, classes, total, dtype=np.int32)),
            ignore=torch.zeros(total, dtype=torch.bool),
            offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        ),
        image_ids=list(range(images)),
        indices=list(range(images)),
        ratios=np.ones((images, 2)),
        original_sizes=np.tile(np.array([width, height]), (images, 1)),
    )


def our_trainer(recipe: Recipe, classes: int, device: torch.device, precision: Precision) -> Trainer:
    """A trainer of the recipe's model with random weights."""
    torch.manual_seed(recipe.train.seed)
    layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model = FCOS(recipe.model, classes).to(device, memory_format=layout)  # type: ignore[call-overload]
    trainer = Trainer(model, recipe, World(0, 1, device), precision, TrainingLog(None, main=False))
    model.train()
    return trainer


def torchvision_step(batch: Batch, classes: int, device: torch.device, precision: Precision) -> Step:
    """A step of torchvision's FCOS R-50 with random weights on the same batch, SGD, channels-last.

    Stem, first stage and norms of the backbone are fixed, as with pretrained weights, and as in the recipe `r50`.
    Its normalisation and resizing of images stay as they are; images have their network size already.

    Raises:
        SetupError: torchvision is not installed or does not import here.
    """
    height, width = batch.images[0].shape[:2]
    short, long = min(height, width), max(height, width)
    model = torchvision_fcos(classes, short, long).to(device, memory_format=torch.channels_last).train()
    for name, part in model.backbone.body.named_modules():
        norm = isinstance(part, torch.nn.BatchNorm2d)
        part.train(not norm)
        if norm or name in ("conv1", "layer1"):
            part.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    starts = batch.targets.offsets.tolist()

    def step() -> None:
        images = [image.to(device, non_blocking=True).permute(2, 0, 1).float().div_(255) for image in batch.images]
        targets = [
            {
                "boxes": batch.targets.boxes[begin:end].to(device, non_blocking=True),
                "labels": batch.targets.labels[begin:end].long().to(device, non_blocking=True),
            }
            for begin, end in itertools.pairwise(starts)
        ]
        with precision.autocast():
            loss = sum(model(images, targets).values())
        assert isinstance(loss, Tensor)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def time_ours(
    recipe: Recipe, batch: Batch, classes: int, device: torch.device, precision: Precision, runs: int
) -> StepTime:
    """Whole steps of our trainer, then their parts."""
    trainer, images = our_trainer(recipe, classes, device, precision), len(batch.images)
    whole = time_step("fcos", lambda: trainer.step(batch), images, device, runs)
    return replace(whole, parts=time_parts(trainer, batch, runs))


def time_torchvision(batch: Batch, classes: int, device: torch.device, precision: Precision, runs: int) -> StepTime:
    """Whole steps of torchvision's FCOS; raises SetupError where it does not import."""
    step = torchvision_step(batch, classes, device, precision)
    return time_step("torchvision", step, len(batch.images), device, runs)


def time_step(name: str, step: Step, images: int, device: torch.device, runs: int) -> StepTime:
    """Times whole steps, each waited for, after a few that warm up."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    for _ in range(WARM_UPS):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        step()
        _wait(device)
        taken.append(1e3 * (time.perf_counter() - started))
    median = statistics.median(taken)
    return StepTime(name, (median, min(taken), max(taken)), 1e3 * images / median, _peak_memory(device))


def time_parts(trainer: Trainer, batch: Batch, runs: int) -> dict[str, float]:
    """Median milliseconds of each part of a step. The parts are waited for, so that their sum is above a whole step."""
    taken: dict[str, list[float]] = {part: [] for part in PARTS}
    device, model = trainer.world.device, trainer.model

    @contextmanager
    def clock(part: str) -> Iterator[None]:
        _wait(device)
        started = time.perf_counter()
        yield
        _wait(device)
        taken[part].append(1e3 * (time.perf_counter() - started))

    for _ in range(runs):
        with clock("pixels"):
            pixels = model.preprocess(batch.images, trainer.layout)
        if not trainer.objective.needs_outputs:
            with clock("assignment"):
                goal = trainer.goal(batch, pixels)
        with clock("network"), trainer.precision.autocast():
            outputs = trainer.network(pixels.pixels)
        if trainer.objective.needs_outputs:
            with clock("assignment"):
                goal = trainer.goal(batch, pixels, outputs)
        with clock("losses"):
            terms = trainer.objective.losses(outputs, goal, average([goal]))
        with clock("backward"):
            trainer.scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        with clock("update"):
            trainer.update()
    return {part: statistics.median(values) for part, values in taken.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
