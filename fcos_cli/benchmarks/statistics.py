"""How long the statistics take: against images, boxes an image and resolution, and the commands as whole processes."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.data.sources.files import ImageFiles
from fcos_cli.errors import FcosError
from fcos_cli.stats.boxes import NetworkBoxes, Setting, network_boxes
from fcos_cli.stats.painting import claims_of, paint_all
from fcos_cli.stats.parallel import part_of, parts

IMAGES = (500, 1000, 2000, 5000, 10_000)
BOXES = (1, 7, 20, 60, 200, 600, 2000)
SHORT_SIDES = (400, 800, 1600, 3200)
TYPICAL_IMAGES, TYPICAL_BOXES, TYPICAL_SHORT = 1000, 7, 800
MOST_BOXES = 100_000
CLASSES = 80
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        x: images, boxes an image, or the short side in pixels.
        images: of the data set.
        seconds: median over the runs, in one process.
        spread: (slowest - fastest) / median.
        boxes: of the data set.
        cells: that are written, by all boxes on all levels.
        floor: seconds of the least that a painter must do: clear every location, write each box's cells once (their
            numbers known, nothing counted).
    """

    x: int
    images: int
    seconds: float
    spread: float
    boxes: int
    cells: int
    floor: float


def law(over: str, runs: int) -> Iterator[Point]:
    """Measurements over `images`, `boxes` (an image) or `resolution`, the other two held at COCO's."""
    if over == "images":
        for images in IMAGES:
            yield _measure(images, made_up(images, TYPICAL_BOXES), TYPICAL_SHORT, runs)
    elif over == "boxes":
        for boxes in BOXES:
            images = max(1, min(TYPICAL_IMAGES, MOST_BOXES // boxes))
            yield _measure(boxes, made_up(images, boxes), TYPICAL_SHORT, runs)
    else:
        data = made_up(TYPICAL_IMAGES, TYPICAL_BOXES)
        for short in SHORT_SIDES:
            yield _measure(short, data, short, runs)


def exponent(over: str, points: list[Point]) -> float:
    """The p of seconds ~ images^p, or of seconds an image ~ x^p, by least squares over the logarithms."""
    seconds = [p.seconds if over == "images" else p.seconds / p.images for p in points]
    slope, _ = np.polyfit(np.log([p.x for p in points]), np.log(seconds), 1)
    return float(slope)


def _measure(x: int, data: DetectionData, short: int, runs: int) -> Point:
    setting = Setting(short_side=short, long_side=round(short * 1333 / 800))
    boxes = network_boxes(data, setting)
    labels = data.labels[boxes.rows]
    cells = int(paint_all(boxes, labels, setting).claimed.sum())
    taken = _timed(lambda: paint_all(boxes, labels, setting), runs)
    middle = statistics.median(taken)
    floor = statistics.median(_timed(_writes(boxes, setting), runs))
    return Point(x, len(data), middle, (max(taken) - min(taken)) / middle, len(boxes.rows), cells, floor)


def _writes(boxes: NetworkBoxes, setting: Setting) -> Callable[[], None]:
    prepared = []
    for begin, end in parts(boxes, setting):
        claims = claims_of(part_of(boxes, begin, end), setting)
        prepared.append((claims.cells, [(cell, claim.astype(np.int32)) for cell, claim in claims.blocks()]))

    canvas = np.empty(max(cells for cells, _ in prepared), np.int32)

    def write() -> None:
        for cells, blocks in prepared:
            owner = canvas[:cells]
            owner.fill(-1)
            for cell, claim in blocks:
                owner[cell] = claim

    return write


def _timed(work: Callable[[], object], runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


def made_up(images: int, boxes: int, seed: int = 0) -> DetectionData:
    """Images of 640 x 480 pixels with boxes of about COCO's sizes and shapes (log-normal), anywhere."""
    rng = np.random.default_rng(seed)
    total, width, height = images * boxes, 640, 480
    side = np.exp(rng.normal(np.log(56), 1.1, total))
    ratio = np.exp(rng.normal(-0.1, 0.6, total) / 2)
    sides = np.clip(np.column_stack([side * ratio, side / ratio]), 1, (width, height))
    corners = rng.random((total, 2)) * ((width, height) - sides)
    return DetectionData(
        name=f"{images} made-up images",
        categories=Categories(tuple(range(1, CLASSES + 1)), tuple(f"class {i}" for i in range(CLASSES))),
        image_ids=np.arange(1, images + 1),
        file_names=[f"{i}.jpg" for i in range(images)],
        sizes=np.tile(np.array([[width, height]], np.int32), (images, 1)),
        boxes=np.concatenate([corners, corners + sides], axis=1),
        labels=rng.integers(0, CLASSES, total).astype(np.int32),
        crowd=np.zeros(total, bool),
        areas=sides.prod(axis=1),
        box_ids=np.arange(1, total + 1),
        offsets=np.arange(images + 1, dtype=np.int64) * boxes,
        root=Path("."),
        source=ImageFiles(),
    )


@dataclass(frozen=True)
class Run:
    """A command as a whole process, from its start to its end: seconds, and bytes of memory of all its processes."""

    command: str
    images: int
    boxes: int
    seconds: float
    memory: int | None


def whole_commands(data: DetectionData, commands: list[list[str]], copies: int = 1) -> Iterator[Run]:
    """Runs `fcos stats ...` on a data set, repeated `copies` times, in processes of their own.

    Raises:
        FcosError: a command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "annotations.json"
        write_copies(data, copies, file)
        for command in commands:
            seconds, memory = _run([sys.executable, "-m", "fcos_cli", "stats", *command, "--data", str(file)])
            yield Run("fcos stats " + " ".join(command), copies * len(data), copies * len(data.boxes), seconds, memory)


class _Category(msgspec.Struct):
    id: int
    name: str


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class _CocoFile(msgspec.Struct):
    categories: list[_Category]
    images: list[_Image]
    annotations: list[_Annotation]


def write_copies(data: DetectionData, copies: int, file: Path) -> None:
    """A COCO annotation file that holds a data set `copies` times, with new ids."""
    image_of = np.repeat(np.arange(len(data)), np.diff(data.offsets)).tolist()
    sides = np.concatenate([data.boxes[:, :2], data.boxes[:, 2:] - data.boxes[:, :2]], axis=1).round(3).tolist()
    category_of = [data.categories.ids[label] for label in data.labels.tolist()]
    crowd, areas, sizes = data.crowd.astype(int).tolist(), data.areas.tolist(), data.sizes.tolist()
    rows = list(zip(image_of, category_of, sides, areas, crowd, strict=True))
    images = [
        _Image(copy * len(data) + index, f"{copy}/{name}", width, height)
        for copy in range(copies)
        for index, (name, (width, height)) in enumerate(zip(data.file_names, sizes, strict=True))
    ]
    annotations = [
        _Annotation(1 + copy * len(rows) + number, copy * len(data) + image, *others)
        for copy in range(copies)
        for number, (image, *others) in enumerate(rows)
    ]
    categories = [_Category(*pair) for pair in zip(data.categories.ids, data.categories.names, strict=True)]
    file.write_bytes(msgspec.json.encode(_CocoFile(categories, images, annotations)))


def _run(command: list[str]) -> tuple[float, int | None]:
    """Seconds, and the most memory that the process and its children held together (None where /proc is missing)."""
    started, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            most = max(most, _resident(process.pid))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            raise FcosError(f"{' '.join(command)} failed", said.read().decode(errors="replace").strip()[-500:])
    return seconds, most or None


def _resident(pid: int) -> int:
    """Bytes of memory of a process and all below it; shared pages count in each."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in children)
