"""What a training needs before its first step: data, model, trainer, loader. Says what was chosen and why."""

import logging

import torch

from fcos_cli.data.datasets import find_splits, findings_around, open_data
from fcos_cli.data.findings import Weight, lines
from fcos_cli.data.loading.loader import TrainLoader
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError
from fcos_cli.model.pixels import PixelFormat
from fcos_cli.recipe.schema import DataConfig, Recipe
from fcos_cli.runtime.precision import choose_precision
from fcos_cli.training.checkpoint import TrainingState
from fcos_cli.training.distributed import World
from fcos_cli.training.log import TrainingLog
from fcos_cli.training.memory import keep_freed_memory
from fcos_cli.training.trainer import Trainer
from fcos_cli.weights.starting import build_model
from fcos_kernels import dispatch

logger = logging.getLogger(__name__)


def prepare(
    recipe: Recipe, here: World, log: TrainingLog, state: TrainingState | None = None
) -> tuple[Trainer, DetectionData, DetectionData]:
    """Data, model and trainer of a recipe; says what was chosen and why. `state` is what the model will go on from."""
    torch.manual_seed(recipe.train.seed)
    if here.device.type == "cpu":
        keep_freed_memory()
    train_data, val_data = (
        open_data(spec, split, image_dir=recipe.data.image_dir, stretch=recipe.data.stretch_16_bit)
        for spec, split in (
            (recipe.data.dataset, recipe.data.train_split),
            (recipe.data.val_dataset or recipe.data.dataset, recipe.data.val_split),
        )
    )
    here.on_main(lambda: _tell_findings(recipe.data, train_data, val_data, log))
    _check_data(train_data, val_data)
    if here.main:
        _warn_of_shared_images(train_data, val_data)
    for data in (train_data, val_data):
        counts = f"{len(data)} images, {len(data.boxes)} boxes, {len(data.categories)} classes"
        log.say(f"{data.name}: {counts}")
    precision = choose_precision(recipe.train.precision, here.device)
    log.say(f"{here.device}, {precision.reason}" + (f"; {here.size} processes" if here.size > 1 else ""))
    dispatch.choose(recipe.train.kernels)
    log.say(f"assignment, losses, GroupNorm: {dispatch.reason(here.device)}")
    pixels = PixelFormat.from_json(state.pixels) if state and state.pixels else None
    model, notes = build_model(
        recipe, train_data.categories, resumed=state.style if state else None, resumed_pixels=pixels
    )
    for note in notes:
        log.say(note)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    count = sum(p.numel() for p in model.parameters())
    log.say(f"{recipe.model.backbone.name}: {count:,} parameters, {trainable:,} of them trained")
    layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model.to(here.device, memory_format=layout)  # type: ignore[call-overload]
    return Trainer(model, recipe, here, precision, log), train_data, val_data


def make_loader(data: DetectionData, recipe: Recipe, here: World, start: int) -> TrainLoader:
    """This process's share of the batches, from iteration `start` on."""
    batch, seed = recipe.train.batch_size, recipe.train.seed
    return TrainLoader(data, recipe.data, batch_size=batch, seed=seed, start=start, rank=here.rank, world=here.size)


def _check_data(train_data: DetectionData, val_data: DetectionData) -> None:
    for data in (train_data, val_data):
        if not data.annotated:
            raise DataError(
                f"{data.name} has images but no annotations",
                "COCO, Pascal VOC and YOLO layouts are read: fcos data check DATA",
            )
    if train_data.categories != val_data.categories:
        raise DataError(
            f"{train_data.name} and {val_data.name} do not have the same classes",
            "both annotation files must list the same categories, also those without boxes",
        )


def _tell_findings(config: DataConfig, train_data: DetectionData, val_data: DetectionData, log: TrainingLog) -> None:
    """Says what was not read, left out or changed.

    Raises:
        DataError: the data cannot be used so, or `data.strict` forbids it.
    """
    opened = {config.dataset: {config.train_split: train_data}}
    opened.setdefault(config.val_dataset or config.dataset, {})[config.val_split] = val_data
    refused = []
    for spec, parts in opened.items():
        layout, splits = find_splits(spec)
        around = findings_around(spec, layout, splits, parts)
        for name, found in [(data.name, data.findings) for data in parts.values()] + [(spec, around)]:
            for line in lines(found, Weight.NOTE):
                log.say(f"{name}: {line}")
            for line in [] if config.strict else lines(found, Weight.WARNING):
                logger.warning("%s: %s", name, line)
                log.note(f"warning: {name}: {line}")
            refused += [f"{name}: {line}" for line in lines(found, Weight.ERROR, strict=config.strict)]
    if refused:
        for line in refused[1:]:
            logger.error("%s", line)
        raise DataError(refused[0], "fcos data check DATA says more")


def _warn_of_shared_images(train_data: DetectionData, val_data: DetectionData) -> None:
    shared = set(train_data.file_names) & set(val_data.file_names) if train_data.root == val_data.root else set()
    if shared:
        logger.warning("%d of %d validation images are trained on: their AP says little", len(shared), len(val_data))
