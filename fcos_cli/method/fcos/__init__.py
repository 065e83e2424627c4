"""FCOS (arXiv 1904.01355): every location within a box learns it. docs/method.md gives each constant and its source.

Read `tables.py` for the variants, `assigner.py` for who learns what (section 3.1), `head.py` for what is predicted
(section 3.2), and `losses.py` for equations 2 and 3. Imports no torch before a part is built.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.fcos.claims import FCOSClaims
from fcos_cli.method.fcos.tables import FCOSAssignConfig, FCOSHeadConfig, FCOSLossConfig
from fcos_cli.method.interface import AssignerPart, Clash, HeadPart, LossPart, Method, Tables

if TYPE_CHECKING:
    from fcos_cli.method.dense_head import DenseHead
    from fcos_cli.method.fcos.assigner import FCOSAssigner
    from fcos_cli.method.fcos.head import FCOSHead
    from fcos_cli.method.fcos.losses import FCOSLosses


def _assigner(config: FCOSAssignConfig, pyramid: Pyramid, head: "DenseHead") -> "FCOSAssigner":
    from fcos_cli.method.fcos.assigner import FCOSAssigner

    return FCOSAssigner(config)


def _head(config: FCOSHeadConfig, channels: int, num_classes: int, pyramid: Pyramid) -> "FCOSHead":
    from fcos_cli.method.fcos.head import FCOSHead

    return FCOSHead(config, channels, num_classes, pyramid)


def _losses(config: FCOSLossConfig, pyramid: Pyramid, head: "DenseHead") -> "FCOSLosses":
    from fcos_cli.method.fcos.losses import FCOSLosses

    return FCOSLosses(config, pyramid, head)


def _outputs(config: FCOSHeadConfig, num_classes: int) -> dict[str, int]:
    return {"classification": num_classes, "box": 4, **({"quality": 1} if config.has_branch else {})}


def _groups_divide(tables: Tables) -> Iterator[Clash]:
    head, channels = tables.head, tables.channels
    assert isinstance(head, FCOSHeadConfig)
    if head.norm == "gn" and head.convs > 0 and channels % head.groups:
        divisors = [count for count in range(1, min(channels, 32) + 1) if channels % count == 0]
        yield Clash(
            ("model.head.groups", "model.head.norm", "model.head.convs", "model.pyramid.channels"),
            f"model.head.groups = {head.groups} does not divide model.pyramid.channels = {channels}: "
            f"set model.head.groups = {divisors[-1]}",
        )


def _losses_fit_the_head(tables: Tables) -> Iterator[Clash]:
    if not isinstance(tables.head, FCOSHeadConfig):
        yield Clash(
            ("loss.name", "model.head.name"),
            f'loss.name = "fcos" reads the outputs of model.head.name = "fcos", not of "{tables.head.name}": '
            'set loss.name to losses that read these, or model.head.name = "fcos"',
        )


FCOS = Method(
    name="fcos",
    summary="every location within a box and its level's range learns the smallest such box (arXiv 1904.01355)",
    assigner=AssignerPart(FCOSAssignConfig, _assigner, claims=FCOSClaims()),
    head=HeadPart(FCOSHeadConfig, _head, _outputs, rule=_groups_divide),
    losses=LossPart(FCOSLossConfig, _losses, rule=_losses_fit_the_head),
)
