"""The loaders: the same batches whatever start, workers and ranks; what is broken is named; nothing is left running."""

import itertools
import subprocess
import sys
import weakref
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch

from fcos_cli.data.loading import eval_loader
from fcos_cli.data.loading.eval_loader import eval_batches, shape_groups
from fcos_cli.data.loading.loader import TrainLoader
from fcos_cli.data.loading.tensors import Batch
from fcos_cli.data.records import DetectionData
from fcos_cli.data.shapes.dataset import shapes_data
from fcos_cli.data.sources.files import image_files
from fcos_cli.data.sources.source import ImageSource
from fcos_cli.errors import DataError, UsageError
from fcos_cli.recipe.schema import DataConfig

CONFIG = DataConfig(short_side=(80, 120), long_side=160, flip=0.5, vertical_flip=0.3)
KNOWN_SIZES = np.array([(640, 480), (480, 640), (333, 500), (1000, 200), (500, 500)])


class CountedSource(ImageSource):
    """Blank images of network size, which therefore live as long as their batch does, and how many are alive."""

    def __init__(self):
        self.made, self.gone = itertools.count(), itertools.count()

    def read(self, data, index):
        image = np.zeros((100, 133, 3), dtype=np.uint8)
        next(self.made)
        weakref.finalize(image, next, self.gone)
        return image

    def alive(self):
        return self.made.__reduce__()[1][0] - self.gone.__reduce__()[1][0]


@dataclass(frozen=True)
class Broken(ImageSource):
    """A source that cannot read the images with these ids."""

    source: ImageSource
    ids: frozenset[int]

    def read(self, data: DetectionData, index: int) -> np.ndarray:
        if int(data.image_ids[index]) in self.ids:
            raise DataError(f"{data.file_names[index]}: truncated")
        return self.source.read(data, index)


@pytest.fixture(scope="module")
def data() -> DetectionData:
    return shapes_data("val", count=50)


def broken(data: DetectionData, ids) -> DetectionData:
    return replace(data, source=Broken(data.source, frozenset(ids)))


def take(data: DetectionData, count: int, **options) -> list[Batch]:
    settings = {"batch_size": 6, "seed": 3, "workers": 0, **options}
    return list(islice(TrainLoader(data, settings.pop("config", CONFIG), **settings), count))


def same(a: Batch, b: Batch) -> bool:
    return (
        a.indices == b.indices
        and a.image_ids == b.image_ids
        and all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
        and all(torch.equal(x, y) for x, y in zip(vars(a.targets).values(), vars(b.targets).values(), strict=True))
        and np.array_equal(a.ratios, b.ratios)
        and np.array_equal(a.original_sizes, b.original_sizes)
    )


def boxes_of(batch: Batch, position: int) -> np.ndarray:
    return batch.targets.boxes[batch.targets.offsets[position] : batch.targets.offsets[position + 1]].numpy()


def test_batches_do_not_depend_on_workers(data):
    alone = take(data, 12)
    for workers in (1, 2):
        assert all(same(a, b) for a, b in zip(alone, take(data, 12, workers=workers), strict=True))


def test_a_resumed_loader_goes_on_bit_for_bit(data):
    whole = take(data, 20)
    assert all(same(a, b) for a, b in zip(whole[10:], take(data, 10, start=10), strict=True))
    assert all(same(a, b) for a, b in zip(whole[13:], take(data, 7, start=13, workers=2), strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_global_batch(data, world):
    whole = take(data, 9)
    ranks = [take(data, 9, rank=rank, world=world) for rank in range(world)]
    for iteration, batch in enumerate(whole):
        for place in range(6):
            mine, position = ranks[place % world][iteration], place // world
            assert mine.indices[position] == batch.indices[place]
            assert torch.equal(mine.images[position], batch.images[place])
            assert np.array_equal(boxes_of(mine, position), boxes_of(batch, place))
        assert sum(len(rank[iteration].images) for rank in ranks) == 6


def test_another_seed_is_another_order(data):
    assert take(data, 1)[0].indices != take(data, 1, seed=4)[0].indices
    assert take(data, 1, seed=-1)[0].indices != take(data, 1)[0].indices


def test_every_image_once_an_epoch(data):
    config = CONFIG.model_copy(update={"group_by_aspect": False})
    drawn = [index for batch in take(data, 25, config=config) for index in batch.indices]
    for start in range(0, 150, 50):
        assert sorted(drawn[start : start + 50]) == list(range(50))


def test_batches_are_wide_or_tall(data):
    for batch in take(data, 16):
        wide = {bool(width >= height) for width, height in batch.original_sizes}
        assert len(wide) == 1


def test_unknown_sizes_are_not_grouped(data):
    unknown = replace(data, sizes=np.zeros_like(data.sizes))
    drawn = [index for batch in take(unknown, 25) for index in batch.indices]
    assert sorted(drawn[:50]) == list(range(50))


def test_fewer_images_than_a_batch(data):
    small = data.subset([4, 7])
    indices = [index for batch in take(small, 4, batch_size=5) for index in batch.indices]
    assert np.bincount(indices).tolist() == [10, 10]


def test_images_boxes_and_ratios_belong_together(data):
    """Undoes flip and scale by hand: the boxes must be the data set's, up to which flips were drawn."""
    flips = set()
    for batch in take(data, 10):
        for position, index in enumerate(batch.indices):
            height, width, channels = batch.images[position].shape
            original = data.sizes[index]
            assert channels == 3
            assert batch.images[position].dtype == torch.uint8
            assert batch.original_sizes[position].tolist() == original.tolist()
            assert 80 <= min(height, width) <= 120
            assert np.allclose(batch.ratios[position], [width / original[0], height / original[1]])
            rows = data.rows(index)
            found, wanted = boxes_of(batch, position), data.boxes[rows] * np.tile(batch.ratios[position], 2)
            assert len(found) == len(wanted)
            matches = [
                (across, down)
                for across in (False, True)
                for down in (False, True)
                if np.allclose(found, mirrored(wanted, across and width, down and height), atol=1e-3)
            ]
            assert matches
            if len(wanted):
                flips.update(matches)
            labels = batch.targets.labels[batch.targets.offsets[position] : batch.targets.offsets[position + 1]]
            assert labels.tolist() == data.labels[rows].tolist()
    assert len(flips) == 4


def mirrored(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    x0, y0, x1, y1 = boxes.T
    if width:
        x0, x1 = width - x1, width - x0
    if height:
        y0, y1 = height - y1, height - y0
    return np.stack([x0, y0, x1, y1], axis=1)


def annotated(data: DetectionData, boxes: list[list[float]], crowd: list[bool]) -> DetectionData:
    """The first two images; the first has these boxes, the second has none."""
    count = len(boxes)
    return replace(
        data.subset([0, 1]),
        boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        labels=np.arange(count, dtype=np.int32),
        crowd=np.array(crowd, dtype=bool),
        areas=np.ones(count),
        box_ids=np.arange(count),
        offsets=np.array([0, count, count]),
    )


PLAIN = DataConfig(short_side=144, long_side=400, flip=0.0)


def test_crowds_are_ignored_and_degenerate_boxes_dropped(data):
    boxes = [[5, 5, 50, 40], [10, 10, 10, 30], [0, 0, 90, 90], [-40, 10, -3, 50], [100, 100, 900, 900]]
    special = annotated(data, boxes, [False, False, True, False, False])
    (batch,) = take(special, 1, batch_size=2, config=PLAIN)
    first = batch.indices.index(0)
    start, end = batch.targets.offsets[first : first + 2].tolist()
    assert batch.targets.labels[start:end].tolist() == [0, 2, 4]
    assert batch.targets.ignore[start:end].tolist() == [False, True, False]
    height, width = batch.images[first].shape[:2]
    assert boxes_of(batch, first)[2, 2:].tolist() == [width, height]
    assert len(boxes_of(batch, batch.indices.index(1))) == 0
    assert batch.targets.boxes.dtype == torch.float32
    assert batch.targets.labels.dtype == torch.int32
    assert batch.targets.offsets.dtype == torch.int64
    moved = batch.targets.to("meta")
    assert moved.boxes.device.type == "meta"
    assert moved.offsets.shape == (3,)


def test_images_without_objects_train_unless_skipped(data):
    empty = set(np.flatnonzero(np.diff(data.offsets) == 0))
    assert empty
    drawn = {index for batch in take(data, 10) for index in batch.indices}
    assert empty <= drawn
    skipping = CONFIG.model_copy(update={"skip_empty": True})
    drawn = {index for batch in take(data, 10, config=skipping) for index in batch.indices}
    assert drawn == set(range(50)) - empty
    only_crowd = annotated(data, [[0, 0, 9, 9], [0, 0, 9, 9]], [True, False])
    only_crowd = replace(only_crowd, offsets=np.array([0, 1, 2]))
    (batch,) = take(only_crowd, 1, batch_size=3, config=skipping)
    assert batch.indices == [1, 1, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.subset([]), "no images"),
        (lambda d: replace(d, annotated=False), "without annotations"),
        (lambda d: replace(d, crowd=np.ones(len(d.boxes), dtype=bool)), "no boxes"),
    ],
)
def test_nothing_to_train_on(data, change, words):
    with pytest.raises(DataError, match=words) as caught:
        take(change(data), 1)
    assert caught.value.hint


def test_more_devices_than_images_in_a_batch(data):
    with pytest.raises(UsageError, match="batch_size = 2"):
        TrainLoader(data, CONFIG, batch_size=2, seed=0, world=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_replaced_and_named_once(data, caplog, workers):
    one = broken(data, [8])
    batches = take(one, 30, workers=workers)
    assert all(len(batch.images) == 6 for batch in batches)
    assert all(8 not in batch.image_ids for batch in batches)
    (warning,) = caplog.records
    assert (warning.levelname, warning.name) == ("WARNING", "fcos_cli.data.loading.loader")
    assert "val/000008.png" in warning.getMessage()
    healthy = take(data, 30)
    changed = sum(
        a != b for x, y in zip(batches, healthy, strict=True) for a, b in zip(x.indices, y.indices, strict=True)
    )
    assert changed == sum(batch.image_ids.count(8) for batch in healthy) >= 3
    assert all(same(a, b) for a, b in zip(batches[17:], take(one, 13, start=17), strict=True))


def test_many_broken_images_end_the_training(data):
    with pytest.raises(DataError, match="cannot be read") as caught:
        take(broken(data, range(1, 13)), 30)
    assert "fcos data check DATA --images" in caught.value.hint


@pytest.mark.parametrize("workers", [0, 1])
def test_no_image_at_all_is_a_clear_error(data, workers):
    with pytest.raises(DataError, match=r"21 images in a row.*truncated") as caught:
        take(broken(data, range(1, 51)), 1, workers=workers)
    assert "fcos data check" in caught.value.hint
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_has_every_image_once(data, workers):
    batches = list(eval_batches(data, 100, 160, 8, workers=workers))
    assert sorted(index for batch in batches for index in batch.indices) == list(range(50))
    assert max(len(batch.images) for batch in batches) == 8
    for batch in batches:
        assert batch.image_ids == [int(data.image_ids[index]) for index in batch.indices]
        for position, index in enumerate(batch.indices):
            assert min(batch.images[position].shape[:2]) == 100
            wanted = data.boxes[data.rows(index)] * np.tile(batch.ratios[position], 2)
            assert np.allclose(boxes_of(batch, position), wanted, atol=1e-4)


def test_evaluation_of_some_images_and_of_none(data):
    batches = list(eval_batches(data, 100, 160, 4, indices=[9, 2, 30, 31, 5]))
    assert sorted(index for batch in batches for index in batch.indices) == [2, 5, 9, 30, 31]
    assert list(eval_batches(data.subset([]), 100, 160, 4)) == []


def test_evaluation_of_files_groups_them_by_their_headers(make_images, monkeypatch):
    sizes = {f"{i}.png": ((80, 60), (60, 90), (120, 40))[i % 3] for i in range(11)}
    folder = make_images(sizes)
    (folder / "5.png").write_bytes(b"broken")
    files = image_files([str(folder)])
    batches = list(eval_batches(files, 100, 160, 2, workers=2))
    assert sorted(index for batch in batches for index in batch.indices) == [0, 1, 2, 3, 4, *range(6, 11)]
    assert [name for batch in batches for name, _ in batch.failed] == ["5.png"]
    mixed = [batch for batch in batches if len({image.shape for image in batch.images}) > 1]
    assert len(mixed) <= 2
    monkeypatch.setattr(eval_loader, "HEADERS_AT_ONCE", 3)
    stretches = [batch.indices for batch in eval_batches(files, 100, 160, 2, workers=1)]
    assert sorted(stretches[0] + stretches[1]) == [0, 1, 2]


def test_evaluation_leaves_out_batches_that_are_done(data):
    every = [batch.indices for batch in eval_batches(data, 100, 160, 8, workers=0)]
    done = np.zeros(len(data), dtype=bool)
    done[every[0] + every[3] + every[1][:1]] = True
    left = [batch.indices for batch in eval_batches(data, 100, 160, 8, workers=0, done=done)]
    assert left == [indices for place, indices in enumerate(every) if place not in (0, 3)]


def test_evaluation_holds_few_images_at_once(data):
    """Images that are alive, counted: two batches ahead, the caller's, and what the threads have in hand."""
    most, counted = 0, CountedSource()
    data = replace(data, sizes=np.full_like(data.sizes, 100))
    for batch in eval_batches(replace(data, source=counted), 100, 160, 2, workers=2):
        most = max(most, counted.alive())
        del batch
    assert 2 <= most <= 2 * 4 + 2


def test_evaluation_shares_are_whole_batches_of_the_evaluation_alone(data):
    alone = [batch.indices for batch in eval_batches(data, 100, 160, 8, workers=0)]
    for world in (2, 3, 60):
        shares = [eval_batches(data, 100, 160, 8, workers=0, rank=rank, world=world) for rank in range(world)]
        found = [batch.indices for share in shares for batch in share]
        assert sorted(found) == sorted(alone)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_names_what_cannot_be_read(data, workers):
    some = broken(data.subset(range(8)), [1, 2, 3, 4, 8])
    some = replace(some, sizes=np.zeros_like(some.sizes))
    batches = list(eval_batches(some, 100, 160, 4, workers=workers))
    assert sorted(index for batch in batches for index in batch.indices) == [4, 5, 6]
    assert batches[0].images == []
    assert batches[0].targets.offsets.tolist() == [0]
    failed = sorted(name for batch in batches for name, _ in batch.failed)
    assert failed == [f"val/{number:06d}.png" for number in (1, 2, 3, 4, 8)]
    assert "truncated" in batches[0].failed[0][1]


def test_similar_shapes_share_a_batch():
    sizes = np.random.default_rng(0).permutation(np.repeat(KNOWN_SIZES, 8, axis=0))
    groups = shape_groups(sizes, 800, 1333, 8)
    assert sorted(np.concatenate(groups).tolist()) == list(range(40))
    assert all(len({tuple(size) for size in sizes[group]}) == 1 for group in groups)
    # 333x500, 640x480 and 480x640 become 800x1201 and 1066x800; the panorama 1333x267 is the smallest canvas.
    assert tuple(sizes[groups[0][0]]) == (333, 500)
    assert tuple(sizes[groups[-1][0]]) == (1000, 200)


def test_a_program_that_never_closes_its_loader_still_ends() -> None:
    code = """
from fcos_cli.data.loading.loader import TrainLoader
from fcos_cli.data.shapes.dataset import shapes_data
from fcos_cli.recipe.schema import DataConfig
batches = iter(TrainLoader(shapes_data("train", count=8), DataConfig(short_side=64), batch_size=2, seed=0, workers=1))
print(len(next(batches).images))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "2"
