"""All choices of a first recipe for a data set on this machine. Each says its reason."""

import re

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.drafting.choices import Draft
from fcos_cli.drafting.machine import Machine
from fcos_cli.drafting.sizes import choose_levels, choose_sizes
from fcos_cli.weights.download import cache_folder
from fcos_cli.weights.published import published

VIEWS = 10_000
"""Images that a short training sees, each time it sees one counted: BCCD's recipe sees 205 images 50 times."""
FEWEST, MOST_ON_CPU = 400, 4_000
PREFERRED = {
    "gpu": ("msra/R-50", "torchvision/resnet50-v2", "torchvision/resnet50-v1", "torchvision/resnet18-v1"),
    "cpu": ("torchvision/resnet18-v1",),
}
_SIDED = re.compile(r"(^|[^a-z])(left|right|clockwise|counterclockwise)([^a-z]|$)")


def draft_recipe(
    data: DetectionData,
    machine: Machine,
    *,
    dataset: str,
    train_split: str,
    val_split: str,
    epochs: float | None = None,
) -> Draft:
    """A recipe for training on `data`.

    Args:
        data: the split to train on; it has boxes.
        machine: what there is to train with.
        dataset, train_split, val_split: what the recipe calls the data.
        epochs: how often each image is seen; None: by the number of images.
    """
    draft = Draft()
    draft.choose(
        "data",
        "The data set, what it is trained on, and what it is evaluated on.",
        dataset=dataset,
        train_split=train_split,
        val_split=val_split,
    )
    pretrained = _choose_network(draft, machine)
    choose_sizes(draft, data, machine)
    _choose_flips(draft, data)
    choose_levels(draft, data, machine)
    _choose_method(draft)
    batch = _choose_batch(draft, data, machine)
    _choose_optimizer(draft, pretrained)
    _choose_schedule(draft, data, machine, batch, epochs, pretrained)
    _choose_limits(draft, data)
    return draft


def _choose_network(draft: Draft, machine: Machine) -> bool:
    """Backbone and head; whether the backbone starts pretrained."""
    names = PREFERRED["gpu" if machine.gpu else "cpu"]
    name = next((name for name in names if (cache_folder() / published()[name].file_name).is_file()), None)
    if name is not None:
        entry = published()[name]
        draft.choose(
            "model.backbone",
            f"Pretrained on ImageNet: {entry.file_name} is at hand in {cache_folder()}. Its BatchNorm and first stages "
            "stay as they are, since small batches would spoil them.",
            name=entry.architecture,
            weights=name,
            norm="frozen_bn",
            frozen_stages=2,
        )
    else:
        draft.choose(
            "model.backbone",
            f"From random weights, since no pretrained ones are in {cache_folder()}, and with the smallest network, "
            f'which needs least data. With a network connection weights = "{names[0]}", name = '
            f'"{published()[names[0]].architecture}", norm = "frozen_bn", frozen_stages = 2 start from ImageNet, which '
            "is usually worth more than any other choice here (fcos weights list lists them).",
            name="resnet18",
            weights="",
            norm="bn",
            frozen_stages=0,
        )
    if not machine.gpu:
        draft.choose("model.pyramid", "Half of the paper's channels: this machine has no GPU.", channels=128)
        draft.choose("model.head", "Two of the paper's four convolutions, for the same reason.", convs=2, groups=16)
    return name is not None


def _choose_flips(draft: Draft, data: DetectionData) -> None:
    names = [name.strip().casefold() for name in data.categories.names]
    sided = [name for name in names if _SIDED.search(name)]
    signs = [name for name in names if len(name) == 1]
    if sided or len(signs) > 1:
        shown = ", ".join((sided or signs)[:3])
        draft.choose("data", f"No mirroring: a mirrored one of {shown} is another class, or none.", flip=0.0)
    else:
        draft.choose("data", "Half of the images are mirrored: left and right mean nothing to these classes.", flip=0.5)
    draft.choose(
        "data",
        "Up and down do mean something in most pictures; 0.5 where they do not (microscopes, aerial images).",
        vertical_flip=0.0,
    )


def _choose_method(draft: Draft) -> None:
    draft.choose(
        "model.head",
        "The authors' later improvements, with those of [assign] and [loss]: AP 38.6 instead of 37.1 on COCO.",
        box_activation="relu",
        normalize_targets=True,
        quality_tower="regression",
    )
    draft.choose("assign", "Locations near a box's centre learn it, those at its border do not.", center_sampling=1.5)
    draft.choose("loss", "Boxes that do not overlap yet learn, too.", box="giou", iou_smoothing=0.0)


def _choose_batch(draft: Draft, data: DetectionData, machine: Machine) -> int:
    fits = 8 if not machine.gpu else 16 if machine.gpu_memory >= 30 else 8 if machine.gpu_memory >= 14 else 4
    if not machine.gpu and 0 < machine.memory < 6:
        fits = 4
    batch = max(1, min(fits, len(data) // 2))
    place = f"{machine.gpu_memory:.0f} GiB of GPU memory" if machine.gpu else f"{machine.memory:.0f} GiB of memory"
    reason = f"{fits} images a step fit into {place} at this size"
    reason += "." if batch == fits else f"; there are only {len(data)} images."
    draft.choose("train", f"{reason} The learning rate follows the batch size by itself.", batch_size=batch)
    return batch


def _choose_optimizer(draft: Draft, pretrained: bool) -> None:
    if pretrained:
        draft.choose(
            "optimizer",
            "The paper's SGD, for pretrained backbones; gradients are cut where a batch is far off.",
            name="sgd",
            lr=0.01,
            reference_batch=16,
            clip_norm=10.0,
        )
        return
    draft.choose(
        "optimizer",
        "AdamW: from random weights it is far ahead of SGD in so few steps (as in the recipe bccd).",
        name="adamw",
        lr=0.002,
        reference_batch=8,
        weight_decay=0.05,
        norm_weight_decay=0.0,
        bias_lr_factor=1.0,
        clip_norm=10.0,
    )


def _choose_schedule(
    draft: Draft, data: DetectionData, machine: Machine, batch: int, epochs: float | None, pretrained: bool
) -> None:
    images = len(data)
    if epochs is not None:
        iterations = max(1, round(epochs * images / batch))
        reason = "as asked for"
    else:
        least = 12 if pretrained else 24
        iterations = round(min(max(VIEWS / images, least), 100) * images / batch)
        reason = f"{VIEWS:,} images in all, as the recipe bccd takes, but {least} to 100 epochs"
        if iterations < FEWEST:
            iterations, reason = FEWEST, f"fewer than {FEWEST} steps teach nothing, however few the images"
        elif not machine.gpu and iterations > MOST_ON_CPU:
            iterations, reason = MOST_ON_CPU, "more would take a CPU days; more is better on a GPU"
    seen = iterations * batch / images
    draft.choose(
        "schedule",
        f"{seen:.3g} epochs of {images:,} images in batches of {batch}: {reason}. The rate falls along a cosine, so "
        "that a training of another length needs no other key.",
        iterations=iterations,
        decay="cosine",
    )
    draft.choose(
        "schedule",
        "The first tenth, at most 500 steps, starts gently.",
        warmup="linear",
        warmup_iterations=min(500, iterations // 10),
        warmup_factor=0.1,
    )
    often = max(1, iterations // 5)
    draft.choose(
        "train",
        "Five times on the way: `best` is kept, and what is interrupted goes on from there.",
        eval_every=often,
        checkpoint_every=often,
    )


def _choose_limits(draft: Draft, data: DetectionData) -> None:
    most = int(np.diff(data.offsets).max())
    if most > 100:
        draft.choose(
            "test",
            f"An image has up to {most} boxes; COCO's figures count the best 100 only.",
            max_detections=int(np.ceil(most * 1.5 / 50) * 50),
        )
