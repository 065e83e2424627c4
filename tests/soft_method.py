"""A method as a stranger would write it: it uses what FCOS does not of the seam. The fixture `soft_method` installs it.

Its head predicts a distribution for each side (generalized focal loss, arXiv 2006.04388), its assigner looks at the
outputs, gives weights and soft labels, its losses have a normaliser that depends on the outputs, and other names.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.interface import AssignerPart, Clash, HeadPart, LossPart, Method, Tables
from fcos_cli.method.table import AssignConfig, Fraction, HeadConfig, LossConfig, NonNegative, Positive


class SoftAssignConfig(AssignConfig):
    """Locations inside a box learn it as much as their class score says."""

    name: Literal["soft"] = Field("soft", description="Method that assigns locations to boxes.")
    floor: Fraction = Field(0.1, description="Least soft label.")


class SoftHeadConfig(HeadConfig):
    """One convolution for each output."""

    name: Literal["soft"] = Field("soft", description="Method that the head is of.")
    reg_max: Positive = Field(7, description="A side is a distribution over 0 .. reg_max strides.")


class SoftLossConfig(LossConfig):
    """Cross-entropies on soft targets."""

    name: Literal["soft"] = Field("soft", description="Method that the losses are of.")
    scale_sides: NonNegative = Field(0.25, description="Factor of the distributions' loss.")


def build_assigner(config: SoftAssignConfig, pyramid: Pyramid, head: Any) -> Any:
    import torch

    from fcos_cli.method.interface import Assignment
    from fcos_kernels.assign import assign

    class SoftAssigner:
        def assign(self, targets: Any, geometry: Any, outputs: Any = None, moment: Any = None) -> Assignment:
            assert outputs is not None
            assert not any(x.requires_grad for levels in outputs.values() for x in levels)
            assert 0 <= moment.progress < 1
            assert len(geometry.sizes) == len(targets.offsets) - 1
            found = assign(
                targets.boxes,
                targets.offsets,
                grids=geometry.grids,
                strides=pyramid.strides,
                starts=pyramid.starts,
                ranges=pyramid.ranges,
                ignore=targets.ignore,
            )
            index = found.index.clamp(min=-1)
            best = torch.cat([x.float().sigmoid().amax(dim=1).flatten(1) for x in outputs["classification"]], dim=1)
            soft = torch.where(index >= 0, best.clamp(min=config.floor), 0.0)
            return Assignment(index, found.positives, weights=1 - soft, soft_labels=soft)

    return SoftAssigner()


def build_head(config: SoftHeadConfig, channels: int, num_classes: int, pyramid: Pyramid) -> Any:
    import torch
    from torch import Tensor, nn

    from fcos_cli.method.dense_head import DenseHead
    from fcos_cli.method.interface import Outputs, Selection
    from fcos_cli.method.towers import initialize, tower
    from fcos_kernels.decode import Candidates, PaddedCandidates, Rule, decode, decode_padded

    class SoftHead(DenseHead):
        class_layers: ClassVar[tuple[str, ...]] = ("classes",)

        def __init__(self) -> None:
            super().__init__()
            self.tower = tower(channels, 1, None)
            self.classes = nn.Conv2d(channels, num_classes, 3, padding=1)
            self.sides = nn.Conv2d(channels, 4 * (config.reg_max + 1), 3, padding=1)
            initialize(self, self.classes, 0.05)

        def forward(self, levels: Sequence[Tensor]) -> Outputs:
            maps = self.tower(levels)
            return {"classification": [self.classes(x) for x in maps], "box": [self.sides(x) for x in maps]}

        def _arguments(self, outputs: Outputs, selection: Selection) -> tuple[Any, ...]:
            bins = torch.arange(config.reg_max + 1, device=self.classes.weight.device)
            distances = [
                (x.float().unflatten(1, (4, config.reg_max + 1)).softmax(dim=2) * bins[:, None, None]).sum(dim=2)
                for x in outputs["box"]
            ]
            units = [float(stride) for stride in pyramid.strides]
            given = selection._asdict() | {"activation": "relu", "quality": "none", "units": units}
            rule = Rule(strides=pyramid.strides, starts=pyramid.starts, **given)
            return outputs["classification"], distances, None, torch.ones(len(units)), rule

        def decode(self, outputs: Outputs, sizes: Tensor, selection: Selection) -> Candidates:
            *given, rule = self._arguments(outputs, selection)
            return decode(*given, sizes, rule)

        def decode_padded(self, outputs: Outputs, sizes: Tensor, selection: Selection) -> PaddedCandidates:
            *given, rule = self._arguments(outputs, selection)
            return decode_padded(*given, sizes, rule)

    return SoftHead()


def build_losses(config: SoftLossConfig, pyramid: Pyramid, head: Any) -> Any:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    class SoftLosses:
        terms = ("classification", "sides")
        normalizer_names = ("soft",)

        def normalizers(self, targets: Any, geometry: Any, assignment: Any, outputs: Any = None) -> dict[str, Any]:
            assert outputs is not None
            return {"soft": assignment.soft_labels.sum()}

        def __call__(
            self, outputs: Any, targets: Any, geometry: Any, assignment: Any, normalizers: Mapping[str, Any]
        ) -> Any:
            logits, sides = (
                torch.cat([x.float().flatten(2).transpose(1, 2) for x in outputs[name]], dim=1)
                for name in ("classification", "box")
            )
            image, location = (assignment.index >= 0).nonzero(as_tuple=True)
            label = targets.labels[assignment.index[image, location].long()].long()
            wanted = torch.zeros_like(logits)
            wanted[image, location, label] = assignment.soft_labels[image, location]
            weight = assignment.weights[:, :, None]
            norm = normalizers["soft"].clamp(min=1.0)
            classes = binary_cross_entropy_with_logits(logits, wanted, weight, reduction="sum") / norm
            bins = sides[image, location].unflatten(1, (4, -1)).flatten(0, 1)
            chosen = torch.ones(len(bins), dtype=torch.long, device=bins.device)
            distribution = cross_entropy(bins, chosen, reduction="sum") / norm
            return {"classification": classes, "sides": config.scale_sides * distribution}

    return SoftLosses()


def _outputs(config: SoftHeadConfig, num_classes: int) -> dict[str, int]:
    return {"classification": num_classes, "box": 4 * (config.reg_max + 1)}


def _fits(tables: Tables) -> Iterator[Clash]:
    if tables.head.name != "soft":
        yield Clash(("loss.name", "model.head.name"), 'loss.name = "soft" needs model.head.name = "soft"')


USED = frozenset({"weights", "soft_labels"})
METHOD = Method(
    "soft",
    "a made-up method that uses all of the seam",
    assigner=AssignerPart(SoftAssignConfig, build_assigner, needs_outputs=True, gives=USED),
    head=HeadPart(SoftHeadConfig, build_head, _outputs),
    losses=LossPart(SoftLossConfig, build_losses, needs_outputs=True, takes=USED, needs=USED, rule=_fits),
)
