"""Recorded behaviour of other detectors: small seeded networks, run with their own code. Tests skip without it.

They lie beside the real data, in `parity`: a folder a case, with `case.json` (settings, figures), `io.safetensors`
(inputs, outputs, targets, losses) and for a whole network its weights. An `X64` beside an `X` is the same code run in
float64. A case's recipe is what its settings mean here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fcos_cli.method.interface import Assignment, Geometry
from fcos_cli.method.objective import Objective
from fcos_cli.method.targets import Targets
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import Recipe
from fcos_cli.weights.files import read_state
from fcos_cli.weights.loading import foreign_model
from fcos_cli.weights.names import detector_peer

CLASSES = 5
RUNS = {"train": (True, True), "train_empty": (True, False), "train_none": (False, False)}
"""Training runs, and which of the two images keep their boxes."""

IMPROVED = {"box_activation": "relu", "normalize_targets": True, "quality_tower": "regression"}
SMALL = {"backbone": {"name": "resnet50", "width": 2, "weights": ""}, "pyramid": {"channels": 32}}
OFFICIAL = {
    "model": {**SMALL, "head": IMPROVED},
    "assign": {"center_sampling": 1.5},
    "loss": {"box": "giou"},
    "test": {"box_pixels": "inclusive"},
}
ADELAIDET = {**OFFICIAL, "test": {"clip": "after"}}
MMDETECTION = {
    "model": {**SMALL, "head": {**IMPROVED, "groups": 8}},
    "assign": {"center_sampling": 1.5},
    "loss": {"box": "giou", "iou_smoothing": 0.0},
    "test": {"rank_by": "class", "score": "product"},
}
RECIPES: dict[str, dict[str, Any]] = {
    "fcos-orig-base": {"model": SMALL, "test": {"box_pixels": "inclusive"}},
    "fcos-orig-imprv": OFFICIAL,
    "adet-fcos": ADELAIDET,
    "adet-fcos/thresh_with_ctr": {
        **ADELAIDET,
        "test": {"clip": "after", "threshold_on": "score", "score_threshold": 0.05**0.5},
    },
    "adet-fcos/quality_iou": {
        **ADELAIDET,
        "model": {**SMALL, "head": {**IMPROVED, "quality": "iou"}},
        "loss": {"box": "giou", "box_weight": "none"},
    },
    "adet-fcos/moving_fg_iouloss_nocenter": {**ADELAIDET, "assign": {}, "loss": {"box": "iou"}},
    "d2-fcos": {
        "model": {**SMALL, "head": IMPROVED},
        "assign": {"center_sampling": 1.5, "range_ends": "exclusive"},
        "loss": {"box": "giou", "box_weight": "none", "iou_smoothing": 0.0},
        "test": {"threshold_on": "score", "score_threshold": 0.2, "clip": "after"},
    },
    "mmdet-fcos-base-caffe": {
        "model": SMALL,
        "loss": {"iou_smoothing": 0.0},
        "test": {"rank_by": "class", "score": "product", "nms_iou": 0.5},
    },
    "mmdet-fcos-improved-caffe": MMDETECTION,
    "mmdet-fcos-improved-torch": MMDETECTION,
    "mmdet-fcos-improved-r18-nmspre": {
        **MMDETECTION,
        "test": {"rank_by": "class", "score": "product", "candidates": 60, "max_detections": 40},
    },
    "mmdet-fcos-dcn-caffe": MMDETECTION,
}
LOSSES = {
    "classification": ("loss_cls", "loss_fcos_cls"),
    "box": ("loss_reg", "loss_bbox", "loss_fcos_loc"),
    "quality": ("loss_centerness", "loss_fcos_ctr", "loss_fcos_iou"),
}
OUTPUTS = {"classification": "cls", "box": "reg", "quality": "ctr"}
"""Our names of outputs, and those of the records."""


@dataclass(frozen=True)
class Case:
    """One recorded network.

    Attributes:
        name: its folder; behind a slash a variant of its settings, with losses and detections of its own.
        folder: where it lies.
        shared: images of all cases.
        recipe: what its settings mean here.
    """

    name: str
    folder: Path
    shared: Mapping[str, torch.Tensor]
    recipe: Recipe

    @cached_property
    def about(self) -> dict[str, Any]:
        return json.loads((self.folder / "case.json").read_text(encoding="utf-8"))

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "io.safetensors")

    @property
    def variant(self) -> str:
        """What stands before the names of this variant's losses and detections."""
        return "".join(f"{part}/" for part in self.name.split("/")[1:])

    @property
    def images(self) -> list[torch.Tensor]:
        """uint8 [H, W, 3] RGB, two of different sizes."""
        return [self.shared["image0"], self.shared["image1"]]

    def model(self, dtype: torch.dtype) -> FCOS:
        """Our network with its weights in eval mode, loaded as `model.weights` is; float64 ones are cast before they
        are converted, so that nothing is rounded twice."""
        model, _ = foreign_model(self.recipe.model, CLASSES)
        model.to(dtype).eval()
        if dtype == torch.float64:
            read = read_state(Path(self.recipe.model.weights))
            state = {name: value.double() for name, value in read.items() if value.is_floating_point()}
            found = detector_peer(state)
            assert found is not None
            exact = found[1].to_ours(state)
            model.load_state_dict({name: exact[name] for name in model.state_dict()})
        return model

    def pixels(self, images: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        """[N, 3, H, W] as this program normalises and pads them; the authors' are float32 also in a float64 run."""
        exact = torch.float32 if self.name.startswith("fcos-orig") else dtype
        height, width = (32 * -(-max(image.shape[side] for image in images) // 32) for side in (0, 1))
        mean, std = (torch.tensor(self.about[key], dtype=exact) for key in ("mean", "std"))
        batch = torch.zeros(len(images), 3, height, width, dtype=dtype)
        for slot, image in zip(batch, images, strict=True):
            channels = image.flip(2) if self.about["channel_order"] == "BGR" else image
            slot[:, : image.shape[0], : image.shape[1]] = ((channels.to(exact) - mean) / std).permute(2, 0, 1)
        return batch

    def targets(self, run: str) -> Targets:
        """The boxes of a training run."""
        kept = [self.tensors[f"gt/{i}/boxes"][: None if keep else 0] for i, keep in enumerate(RUNS[run])]
        labels = [self.tensors[f"gt/{i}/labels"][: None if keep else 0] for i, keep in enumerate(RUNS[run])]
        return targets_of(kept, labels)

    def recorded_outputs(self, prefix: str) -> dict[str, list[torch.Tensor]]:
        """What the head gave, level by level; distances as they are, in the units of the recorded run."""
        levels = range(len(self.about["strides"]))
        return {ours: [self.tensors[f"{prefix}/{theirs}/{i}"] for i in levels] for ours, theirs in OUTPUTS.items()}

    def recorded_losses(self, run: str, kind: str) -> dict[str, torch.Tensor]:
        """The losses of a run under our names; `kind` is "loss" or "loss64"."""
        prefix = f"{self.variant}{run}/{kind}/"
        return {
            ours: next(self.tensors[prefix + name] for name in names if prefix + name in self.tensors)
            for ours, names in LOSSES.items()
        }

    def recorded_gradient_norms(self, run: str) -> dict[str, torch.Tensor]:
        """L2 norm of the gradient of each parameter that trains, under our names; of the scales a norm a level."""
        norms = self.about["results"][f"{self.variant}{run}_grad_norm64"]
        state = {name: torch.tensor(norm or 0.0, dtype=torch.float64) for name, norm in norms.items()}
        found = detector_peer(state)
        assert found is not None
        return found[1].to_ours(state)

    def recorded_index(self, run: str, image: int) -> torch.Tensor:
        """int64 [L], the box of each location, -1 background. Where a run has no record, the image has the boxes that
        it has in the run `train`, or none."""
        name = f"{run if f'{run}/assign/{image}/gt_index' in self.tensors else 'train'}/assign/{image}/gt_index"
        index = self.tensors[name].long()
        return index if RUNS[run][image] else torch.full_like(index, -1)


def targets_of(boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> Targets:
    """The boxes of a batch, a tensor an image, none of them crowd."""
    offsets = torch.tensor([0, *(len(rows) for rows in boxes)]).cumsum(0)
    return Targets(torch.cat(boxes), torch.cat(labels).int(), torch.zeros(int(offsets[-1]), dtype=torch.bool), offsets)


def assign_and_losses(
    recipe: Recipe, model: FCOS, outputs: dict[str, list[torch.Tensor]], targets: Targets, sizes: torch.Tensor
) -> tuple[Assignment, dict[str, torch.Tensor]]:
    """One pass of a training step through the public seam: which location learns what, and the loss terms."""
    strides = model.pyramid.strides
    height, width = (side * strides[0] for side in outputs["classification"][0].shape[2:])
    objective = Objective(recipe.assign, recipe.loss, model.head, model.pyramid)
    goal = objective.goal(targets, Geometry(model.pyramid, height, width, sizes))
    return goal.assignment, objective.losses(outputs, goal, goal.normalizers)


@pytest.fixture(scope="session")
def parity(shared_data: Path) -> Path:
    """Folder of the records."""
    folder = shared_data.parent / "parity"
    if not folder.is_dir():
        pytest.skip(f"no records at {folder}")
    return folder


@pytest.fixture(scope="session")
def case(parity: Path):
    """Function: name -> its `Case`."""
    shared = load_file(parity / "_shared" / "io.safetensors")

    def open_case(name: str) -> Case:
        folder = parity / name.split("/")[0]
        recipe = Recipe.model_validate(RECIPES[name])
        model = recipe.model.model_copy(update={"weights": str(folder / "weights.pth")})
        return Case(name, folder, shared, recipe.model_copy(update={"model": model}))

    return open_case


@pytest.fixture(scope="session")
def step():
    """`assign_and_losses`."""
    return assign_and_losses


@pytest.fixture(scope="session")
def make_targets():
    """`targets_of`."""
    return targets_of
