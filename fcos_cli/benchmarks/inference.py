"""How long detection takes, stage by stage and as a whole, and beside torchvision's FCOS: images from real JPEG files.

Random weights find nothing, and then there is nothing to post-process: their class bias is set so that an image has
about as many candidates as of a trained detector (`CANDIDATES`). torchvision's gets the same.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fcos_cli.benchmarks.peer import broken_torchvision, torchvision_fcos
from fcos_cli.data.images import image_sizes, resize
from fcos_cli.data.loading.eval_loader import shape_groups
from fcos_cli.data.records import DetectionData
from fcos_cli.geometry.resize import resized_size
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.postprocess import postprocess
from fcos_cli.recipe.schema import TestConfig
from fcos_cli.runtime.predictor import Predictor

STAGES = ("decode", "resize", "network", "nms")
CANDIDATES = 1000
"""Class scores above the threshold in an image."""
MADE_UP_SIZE = (640, 470)
"""Width and height in pixels; at a short side of 800 the network reads 800 x 1088."""
TORCHVISION_THRESHOLD = 0.2

Pass = Callable[[Sequence[int]], dict[str, float]]
"""Detects in these images of the data set: seconds of each stage."""


@dataclass
class Timing:
    """What one batch size took.

    Attributes:
        name: "fcos" or "torchvision".
        batch_size: images a pass.
        passes: seconds of each stage, and "all", an image; one entry a pass.
    """

    name: str
    batch_size: int
    passes: list[dict[str, float]] = field(default_factory=list)

    def median(self, stage: str) -> float:
        """Seconds an image."""
        return statistics.median(one[stage] for one in self.passes)

    def spread(self, stage: str) -> float:
        """(slowest - fastest) / median."""
        taken = [one[stage] for one in self.passes]
        return (max(taken) - min(taken)) / statistics.median(taken) if statistics.median(taken) else 0.0

    @property
    def images_per_second(self) -> float:
        """One image after the other, nothing overlapped."""
        return 1 / self.median("all")


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    """JPEG files of photograph-like contents: coloured shapes over smooth shades, with noise (0.1 MB each)."""
    rng = np.random.default_rng(seed)
    width, height = MADE_UP_SIZE
    for number in range(count):
        coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        for _ in range(12):
            x, y = rng.integers(0, width - 60), rng.integers(0, height - 60)
            w, h = rng.integers(20, 200, 2)
            pixels[y : y + h, x : x + w] += rng.integers(-90, 90, 3, dtype=np.int16)
        pixels += rng.normal(0, 6, pixels.shape).astype(np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)


def compare(
    data: DetectionData, predictor: Predictor, batch_sizes: Sequence[int], runs: int, other: Pass | None
) -> Iterator[list[Timing]]:
    """Timings of each batch size: ours, then torchvision's where `other` is given.

    The two take turns, pass by pass, so that what else the machine does falls on both; a first pass of each warms up.
    """
    ours = our_pass(data, predictor)
    for size in batch_sizes:
        timings = [Timing("fcos", size)] + ([Timing("torchvision", size)] if other else [])
        for run, images in enumerate(like_batches(data, predictor.test, size, runs + 1)):
            for timing, one in zip(timings, (ours, other), strict=False):
                assert one is not None  # narrows the type for mypy
                taken = {stage: seconds / size for stage, seconds in one(images).items()}
                if run:
                    timing.passes.append(taken)
        yield timings


def like_batches(data: DetectionData, test: TestConfig, size: int, count: int) -> list[list[int]]:
    """`count` batches of `size` images of like shape, as `Predictor.run` makes them, from all over the shapes.

    Where there are fewer images or batches, they come again.
    """
    sizes = data.sizes
    if not (sizes > 0).all():
        sizes = image_sizes([data.path(index) for index in range(len(data))])
    groups = shape_groups(sizes, test.short_side, test.long_side, size)
    # An odd one out, at the end of the shapes, would be mostly repetitions.
    whole = [group for group in groups if len(group) == size] or groups
    places = [run * len(whole) // count if len(whole) > count else run % len(whole) for run in range(count)]
    return [np.resize(whole[place], size).tolist() for place in places]


def our_pass(data: DetectionData, predictor: Predictor) -> Pass:
    """The stages of a `Predictor`, one after the other, each waited for; "network" normalises the pixels, too."""
    test, device = predictor.test, predictor.model.device

    @torch.inference_mode()
    def detect(images: Sequence[int]) -> dict[str, float]:
        clock = _Clock(device)
        pixels = [data.read(index) for index in images]
        clock("decode")
        sizes = [resized_size(one.shape[1], one.shape[0], test.short_side, test.long_side) for one in pixels]
        resized = [resize(one, *size) for one, size in zip(pixels, sizes, strict=True)]
        clock("resize")
        batch = predictor.model.preprocess([torch.from_numpy(np.array(one)) for one in resized])
        outputs = predictor.network(batch.pixels)
        clock("network")
        detections = postprocess(outputs, batch.sizes, predictor.model, test)
        detections.boxes.cpu()
        clock("nms")
        return clock.seconds()

    return detect


def torchvision_pass(data: DetectionData, predictor: Predictor, classes: int) -> Pass:
    """torchvision's fcos_resnet50_fpn with random weights, as its documentation runs it, at the same input size.

    Raises:
        SetupError: torchvision is not installed, or does not import or run here.
    """
    test, device = predictor.test, predictor.model.device
    model = torchvision_fcos(classes, test.short_side, test.long_side, score_thresh=TORCHVISION_THRESHOLD)
    model = model.to(device).eval()
    # Its score is the geometric mean of class and centre-ness, which is 0.5 where nothing is learnt.
    with torch.inference_mode():
        pixels, _ = model.transform([_tensor(data.read(0)).to(device)])
        logits = model.head(list(model.backbone(pixels.tensors).values()))["cls_logits"]
        _set_bias(model.head.classification_head.cls_logits, logits, TORCHVISION_THRESHOLD**2 / 0.5)

    @torch.inference_mode()
    def detect(images: Sequence[int]) -> dict[str, float]:
        clock = _Clock(device)
        pixels = [_tensor(data.read(index)) for index in images]
        clock("decode")
        detections = model([one.to(device) for one in pixels])
        detections[0]["boxes"].cpu()
        clock("all but decode")
        return clock.seconds()

    try:
        detect([0])
    except RuntimeError as error:  # its compiled ops may be missing, which it says when they are called
        raise broken_torchvision("does not run here", error) from None
    return detect


def busy_weights(model: FCOS, data: DetectionData, test: TestConfig) -> None:
    """Sets the class bias of random weights so that `CANDIDATES` scores of the first image reach the threshold."""
    pixels = data.read(0)
    size = resized_size(pixels.shape[1], pixels.shape[0], test.short_side, test.long_side)
    with torch.no_grad():
        batch = model.eval().preprocess([torch.from_numpy(np.array(resize(pixels, *size)))])
        logits = torch.cat([level.flatten() for level in model(batch.pixels)["classification"]])
    for layer in model.head.class_layers:
        _set_bias(model.head.get_submodule(layer), logits, test.score_threshold)


def whole_run(data: DetectionData, predictor: Predictor) -> tuple[float, int | None]:
    """`Predictor.run` as `fcos predict` has it, reading while the network works: images a second, peak memory in bytes.

    A first batch, which the time leaves out, warms up. The memory is the most that the process has held so far (on
    CUDA: its tensors); None where that is unknown.
    """
    next(predictor.run(data, draft=True), None)
    started = time.perf_counter()
    count = sum(1 for _ in predictor.run(data, draft=True))
    return count / (time.perf_counter() - started), _peak_memory(predictor.model.device)


def _set_bias(layer: torch.nn.Module, logits: Tensor, threshold: float) -> None:
    values = logits.float().flatten()
    reached = values.topk(min(CANDIDATES, values.numel())).values[-1].item()
    assert isinstance(layer.bias, Tensor)  # narrows the type for mypy
    layer.bias.data += math.log(threshold / (1 - threshold)) - reached


def _tensor(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> float32 [3, H, W] in 0..1, as torchvision's to_tensor."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).contiguous().float().div_(255)


class _Clock:
    """Seconds between calls, by name; waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.laps[stage] = now - self.last
        self.last = now

    def seconds(self) -> dict[str, float]:
        """Each lap, and their sum as "all"."""
        return {**self.laps, "all": sum(self.laps.values())}


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
