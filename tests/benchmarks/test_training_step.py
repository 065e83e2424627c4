"""The training benchmark: its batch is of the sizes it claims, its clock times steps that train."""

import pytest
import torch

from fcos_cli.benchmarks import training_step as bench
from fcos_cli.recipe.load import load_recipe
from fcos_cli.runtime.precision import choose_precision

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small():
    """A trainer of the recipe `shapes`, and a batch for it."""
    recipe = load_recipe("shapes", ["train.seed=3"]).recipe
    batch = bench.made_up_batch(2, 96, 128, classes=3)
    return bench.our_trainer(recipe, 3, CPU, choose_precision("float32", CPU)), batch


def test_made_up_boxes_are_many_like_cocos_and_inside():
    batch = bench.made_up_batch(200, 800, 1333, classes=80)
    boxes, offsets = batch.targets.boxes, batch.targets.offsets
    assert len(boxes) / 200 == pytest.approx(bench.BOXES_PER_IMAGE, rel=0.1)
    assert offsets[0] == 0
    assert offsets[-1] == len(boxes)
    assert (offsets.diff() > 0).all()
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 3.99
    assert boxes.min() >= 0
    assert (boxes.amax(0) <= torch.tensor([1333, 800, 1333, 800])).all()
    assert float(sides.log().mean()) == pytest.approx(bench.SIDE_LOG_MEAN, abs=0.1)
    assert int(batch.targets.labels.max()) == 79


def test_a_timed_step_trains(small):
    trainer, batch = small
    before = trainer.model.head.scales.detach().clone()
    timed = bench.time_step("ours", lambda: trainer.step(batch), 2, CPU, runs=3)
    assert trainer.iteration == bench.WARM_UPS + 3
    assert not torch.equal(trainer.model.head.scales, before)
    median, fastest, slowest = timed.milliseconds
    assert 0 < fastest <= median <= slowest
    assert timed.images_per_second == pytest.approx(2000 / median)
    assert timed.peak_memory > 50e6


def test_parts_of_a_step_train_as_a_whole_one_does(small):
    trainer, batch = small
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    parts = bench.time_parts(trainer, batch, runs=2)
    assert list(parts) == list(bench.PARTS)
    assert all(value > 0 for value in parts.values())
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_torchvision_trains_on_the_same_batch(torchvision):
    batch = bench.made_up_batch(1, 64, 96, classes=3)
    timed = bench.time_torchvision(batch, 3, CPU, choose_precision("float32", CPU), runs=1)
    assert timed.name == "torchvision"
    assert timed.milliseconds[0] > 0
