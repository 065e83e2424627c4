"""What a recipe makes of ground truth: which boxes locations learn, and what normalises the losses."""

import pytest
import torch

from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.method.fcos.assigner import FCOSAssigner
from fcos_cli.method.fcos.head import FCOSHead
from fcos_cli.method.fcos.tables import FCOSAssignConfig, FCOSHeadConfig, FCOSLossConfig
from fcos_cli.method.interface import Assignment, Geometry
from fcos_cli.method.objective import Objective, average
from fcos_cli.method.targets import Targets

PYRAMID = build_pyramid([3, 4, 5, 6, 7])
GEOMETRY = Geometry(PYRAMID, 192, 192, torch.tensor([[192, 192]]))
# One image: a crowd over the left half, an object within it and one outside of it.
TARGETS = Targets(
    boxes=torch.tensor([[0.0, 0, 96, 192], [20, 20, 60, 60], [120, 20, 170, 60]]),
    labels=torch.tensor([0, 1, 1], dtype=torch.int32),
    ignore=torch.tensor([True, False, False]),
    offsets=torch.tensor([0, 3]),
)
NOTHING = Targets(*(t[:0] for t in (TARGETS.boxes, TARGETS.labels, TARGETS.ignore)), torch.tensor([0, 0]))


def assigned(ignore_crowd: bool, targets: Targets) -> Assignment:
    return FCOSAssigner(FCOSAssignConfig(ignore_crowd=ignore_crowd)).assign(targets, GEOMETRY)


@pytest.mark.parametrize("ignore_crowd", [False, True])
def test_no_location_ever_learns_a_crowd(ignore_crowd: bool) -> None:
    """The authors' loader drops crowds from the targets; the key only chooses whether they are background."""
    found = assigned(ignore_crowd, TARGETS)
    values = set(found.index.unique().tolist())
    assert values == ({-2, -1, 1, 2} if ignore_crowd else {-1, 1, 2})
    without = Targets(TARGETS.boxes[1:], TARGETS.labels[1:], TARGETS.ignore[1:], torch.tensor([0, 2]))
    alone = assigned(ignore_crowd, without)
    assert torch.equal(found.index.clamp(min=-1) > 0, alone.index >= 0)
    assert found.positives == alone.positives
    torch.testing.assert_close(found.sums["centerness"], alone.sums["centerness"])


def objective() -> Objective:
    head = FCOSHead(FCOSHeadConfig(groups=4, convs=1), 8, 3, PYRAMID)
    return Objective(FCOSAssignConfig(), FCOSLossConfig(), head, PYRAMID)


def test_normalisers_average_over_the_passes_of_a_step() -> None:
    made = objective()
    found, nothing = made.goal(TARGETS, GEOMETRY), made.goal(NOTHING, GEOMETRY)
    assert nothing.assignment.positives == 0
    expected = torch.stack((found.assignment.positives, found.assignment.sums["centerness"])) / 2
    torch.testing.assert_close(average([found, nothing]), expected)


def test_the_losses_sum_centre_ness_targets_up_where_the_assigner_does_not() -> None:
    made = objective()
    found = made.assigner.assign(TARGETS, GEOMETRY)
    bare = Assignment(found.index, found.positives)
    given = made.losses_of_outputs.normalizers(TARGETS, GEOMETRY, found)
    computed = made.losses_of_outputs.normalizers(TARGETS, GEOMETRY, bare)
    assert given.keys() == computed.keys()
    torch.testing.assert_close(given, computed)


def test_without_positives_every_term_is_connected_and_finite() -> None:
    made = objective()
    head = made.losses_of_outputs.head  # type: ignore[attr-defined]
    outputs = head([torch.randn(1, 8, rows, columns) for rows, columns in GEOMETRY.grids])
    goal = made.goal(NOTHING, GEOMETRY)
    terms = made.losses(outputs, goal, average([goal]))
    assert tuple(terms) == made.terms == ("classification", "box", "quality")
    assert terms["box"] == terms["quality"] == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
