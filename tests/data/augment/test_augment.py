"""Augmentations: what each does to boxes and pixels, and that no one's random numbers depend on another."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcos_cli.data.augment import known
from fcos_cli.data.augment.augmentation import Augmentation
from fcos_cli.data.augment.horizontal_flip import HorizontalFlip, flip_boxes_horizontal
from fcos_cli.data.augment.known import AUGMENTATIONS, augmentations_of, augmented
from fcos_cli.data.augment.short_side import ShortSide, chosen_short_side
from fcos_cli.data.augment.streams import GEOMETRY_POSITIONS, random_stream
from fcos_cli.data.augment.vertical_flip import VerticalFlip, flip_boxes_vertical
from fcos_cli.data.loading.loader import TrainLoader
from fcos_cli.data.sample import original
from fcos_cli.data.shapes.dataset import shapes_data
from fcos_cli.recipe.schema import DataConfig

CONFIG = DataConfig(short_side=(80, 120), long_side=160, flip=0.5, vertical_flip=0.3)
STEP = {"seed": 3, "iteration": 5, "place": 2}
# What the streams give there, written down: flip, vertical flip, short side; and that named "darken".
FROZEN = [0.27151399281993827, 0.5236653965733453, 0.34514854377775395]
NAMED = 0.3264035946038013


class Darken(Augmentation):
    """Made up: all pixels times a random factor, from twenty draws."""

    name, keys = "darken", ()

    @classmethod
    def from_recipe(cls, config):
        return cls()

    def draw(self, rng, sample):
        return 0.5 + rng.random(20).mean() / 4

    def apply(self, sample, drawn):
        pixels = (sample.image * drawn).astype(np.uint8)
        return type(sample)(pixels, sample.boxes, sample.ratios, sample.original_size)


def box_of(mask):
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@given(
    x0=st.integers(0, 20),
    y0=st.integers(0, 12),
    width=st.integers(1, 10),
    height=st.integers(1, 10),
    both=st.booleans(),
)
def test_flips_move_boxes_as_they_move_pixels(x0, y0, width, height, both):
    mask = np.zeros((22, 30), dtype=bool)
    mask[y0 : y0 + height, x0 : x0 + width] = True
    boxes = np.array([box_of(mask)], dtype=float)
    assert flip_boxes_horizontal(boxes, 30).tolist() == [box_of(mask[:, ::-1])]
    assert flip_boxes_vertical(boxes, 22).tolist() == [box_of(mask[::-1])]
    image = np.repeat(mask[..., None] * np.uint8(200), 3, axis=2)
    done = augmented(original(image, boxes), [HorizontalFlip(1.0), VerticalFlip(float(both))], **STEP)
    assert box_of(done.image[..., 0] > 0) == done.boxes.tolist()[0]
    assert done.image.flags.c_contiguous
    turned = image[::-1, ::-1] if both else image[:, ::-1]
    np.testing.assert_array_equal(done.image, turned)


def test_resize_and_flip_against_a_painted_box():
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[90:210, 40:200] = 255
    sample = original(image, np.array([[40, 90, 200, 210]]))
    done = augmented(sample, [ShortSide(150, 400), HorizontalFlip(1.0)], **STEP)
    assert (done.image.shape, done.ratios, done.original_size) == ((150, 200, 3), (0.5, 0.5), (400, 300))
    assert done.boxes.tolist() == [[100, 45, 180, 105]]
    assert box_of(done.image[..., 0] > 127) == [100, 45, 180, 105]


@pytest.mark.parametrize("uniform", [0.0, 0.5, 0.9999999999999999])
def test_a_fixed_short_side_is_itself(uniform):
    assert chosen_short_side(800, uniform) == 800


def test_a_range_is_drawn_uniformly_with_both_ends():
    drawn = [chosen_short_side((640, 800), (i + 0.5) / 16100) for i in range(16100)]
    assert np.bincount(drawn)[640:].tolist() == [100] * 161
    assert chosen_short_side((640, 800), np.nextafter(1.0, 0.0)) == 800


def test_names_are_unique_and_keys_are_those_of_the_recipe():
    names = [kind.name for kind in AUGMENTATIONS]
    assert len(set(names)) == len(names)
    keys = [key for kind in AUGMENTATIONS for key in kind.keys]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= set(DataConfig.model_fields)


def test_the_shared_stream_of_the_first_three_is_frozen():
    """The numbers that every training until now has drawn: horizontal flip, vertical flip, short side."""
    together = np.random.Generator(np.random.PCG64(np.random.SeedSequence([13, 3, 5, 2]))).random(3)
    assert together.tolist() == FROZEN
    assert sorted(GEOMETRY_POSITIONS, key=GEOMETRY_POSITIONS.get) == ["horizontal_flip", "vertical_flip", "short_side"]
    assert [random_stream(**STEP, name=name).random() for name in GEOMETRY_POSITIONS] == FROZEN
    sample = original(np.zeros((10, 20, 3), dtype=np.uint8), np.zeros((0, 4)))
    drawn = {a.name: a.draw(random_stream(**STEP, name=a.name), sample) for a in augmentations_of(CONFIG)}
    flip, vertical_flip, short_side = FROZEN
    assert drawn == {
        "short_side": 80 + int(short_side * 41),
        "horizontal_flip": flip < 0.5,
        "vertical_flip": vertical_flip < 0.3,
    }


def test_a_named_stream_depends_on_everything_that_it_should():
    def first(name="darken", **changes):
        return random_stream(**{**STEP, **changes}, name=name).random()

    assert first() == NAMED
    others = [first(seed=4), first(iteration=6), first(place=3), first("darker"), first("d"), *FROZEN]
    assert len({first(), *others}) == 1 + len(others)


@pytest.fixture(scope="module")
def data():
    return shapes_data("val", count=50)


def batches(data, count=8, **options):
    return list(islice(TrainLoader(data, CONFIG, **{"batch_size": 6, "seed": 3, "workers": 0, **options}), count))


def pixels_of(batch):
    return [image.numpy().tobytes() for image in batch.images]


def boxes_of(batch, position):
    rows = slice(*batch.targets.offsets[position : position + 2].tolist())
    return batch.targets.boxes[rows].numpy().tobytes()


@pytest.mark.parametrize("position", [0, 1, 3])
def test_another_augmentation_shifts_nobodys_numbers(data, monkeypatch, position):
    before = batches(data)
    monkeypatch.setattr(known, "AUGMENTATIONS", (*AUGMENTATIONS[:position], Darken, *AUGMENTATIONS[position:]))
    after = batches(data)
    for old, new in zip(before, after, strict=True):
        assert old.indices == new.indices
        assert [image.shape for image in old.images] == [image.shape for image in new.images]
        for a, b in zip(vars(old.targets).values(), vars(new.targets).values(), strict=True):
            assert a.equal(b)
        for i, j in zip(old.images, new.images, strict=True):
            # Flipped the same way: as dark as one factor makes it, everywhere.
            factor = j.double().sum() / i.double().sum()
            assert 0.5 <= factor <= 0.75
            assert (j - i.double() * factor).abs().max() < 3


def test_batches_with_another_augmentation_depend_on_seed_and_number_alone(data, monkeypatch):
    monkeypatch.setattr(known, "AUGMENTATIONS", (*AUGMENTATIONS, Darken))
    whole = batches(data)
    assert [pixels_of(batch) for batch in batches(data, workers=2)] == [pixels_of(batch) for batch in whole]
    assert [pixels_of(batch) for batch in batches(data, 3, start=5)] == [pixels_of(batch) for batch in whole[5:]]
    for rank in range(3):
        for share, batch in zip(batches(data, rank=rank, world=3), whole, strict=True):
            assert pixels_of(share) == pixels_of(batch)[rank::3]
            assert [boxes_of(share, i) for i in range(2)] == [boxes_of(batch, i) for i in range(rank, 6, 3)]
    assert pixels_of(batches(data, 1, seed=4)[0]) != pixels_of(whole[0])
