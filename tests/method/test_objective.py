"""What a stranger's parts may give, and what is said of the rest: one line that names the method."""

import pytest
import torch
from torch import nn

from fcos_cli.errors import MethodError
from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.method import objective
from fcos_cli.method.interface import AssignerPart, Assignment, Geometry, LossPart, Moment
from fcos_cli.method.objective import Objective, average
from fcos_cli.method.table import AssignConfig, LossConfig
from fcos_cli.method.targets import Targets

PYRAMID = build_pyramid([3, 4])
GEOMETRY = Geometry(PYRAMID, 32, 32, torch.tensor([[32, 32]]))
LOCATIONS = 16 + 4
TARGETS = Targets(
    torch.tensor([[0.0, 0, 16, 16]]), torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.bool),
    torch.tensor([0, 1]),
)  # fmt: skip
OUTPUTS = {"classification": [torch.ones(1, 2, 4, 4, requires_grad=True), torch.ones(1, 2, 2, 2, requires_grad=True)]}
INDEX = torch.zeros(1, LOCATIONS, dtype=torch.int32)


class Losses(nn.Module):
    terms, normalizer_names = ("first", "second"), ("count", "weight")

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.given, self.norms = None, None

    def normalizers(self, targets, geometry, assignment, outputs=None):
        return self.norms or {"weight": torch.tensor(2.0), "count": assignment.positives}

    def forward(self, outputs, targets, geometry, assignment, normalizers):
        self.seen += 1
        total = outputs["classification"][0].sum()
        return self.given(total) if self.given else {"second": 2 * total, "first": total / normalizers["count"]}


class Assigner:
    given = Assignment(INDEX, torch.tensor(4.0))

    def assign(self, targets, geometry, outputs=None, moment=None):
        return self.given


@pytest.fixture
def make(monkeypatch):
    def build(channels=None, **attributes):
        losses, assigner = Losses(), Assigner()
        for name, value in attributes.items():
            setattr(assigner if name == "assignment" else losses, "given" if name == "assignment" else name, value)
        monkeypatch.setattr(objective, "assigner_of", lambda c: AssignerPart(AssignConfig, lambda *a: assigner))
        monkeypatch.setattr(objective, "losses_of", lambda c: LossPart(LossConfig, lambda *a: losses))
        return Objective(AssignConfig(name="odd"), LossConfig(name="odd"), None, PYRAMID, channels)

    return build


def run(made):
    goal = made.goal(TARGETS, GEOMETRY)
    return made.losses(OUTPUTS, goal, average([goal]))


def test_terms_and_normalisers_go_by_name_not_by_place(make):
    """The dictionaries come in another order than the names."""
    made = make()
    assert made.goal(TARGETS, GEOMETRY).normalizers.tolist() == [4.0, 2.0]
    terms = run(made)
    assert list(terms) == ["first", "second"]
    assert [value.item() for value in terms.values()] == [32 / 4, 64]


def test_state_of_the_losses_is_in_the_state_dict(make):
    made = make()
    run(made)
    assert {name: float(value) for name, value in made.state_dict().items()} == {"losses_of_outputs.seen": 1.0}


ONE = torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"assignment": None}, "gave a NoneType"),
        ({"assignment": Assignment(INDEX.long(), torch.tensor(1.0))}, r"index must be int32 .*not torch.int64"),
        ({"assignment": Assignment(INDEX[:, 1:], torch.tensor(1.0))}, r"index must be .*not torch.int32 \[1, 19\]"),
        ({"assignment": Assignment([0], torch.tensor(1.0))}, "not a list"),
        ({"assignment": Assignment(INDEX, torch.ones(1))}, "positives must be a tensor without dimensions"),
        ({"norms": {"count": torch.tensor(1.0)}}, "normalizers must be a dictionary of count, weight, not count"),
        ({"norms": {"count": torch.tensor(1.0), "weight": 1.0}}, "weight must be a tensor .*not float"),
        ({"norms": {"count": torch.tensor(1.0), "weight": torch.ones(1)}}, r"weight must be .*not \[1\]"),
        ({"given": lambda total: {"first": total}}, "terms must be a dictionary of first, second, not first"),
        ({"given": lambda total: {"first": total, "second": total, "third": total}}, "not first, second, third"),
        ({"given": lambda total: [total]}, "not list"),
        ({"given": lambda total: {"first": total, "second": 1.0}}, "second must be a tensor .*not float"),
        ({"given": lambda total: {"first": total, "second": total.detach()}}, "second is not connected"),
        ({"terms": ("first", "loss")}, "have the terms first, loss"),
        ({"terms": ("first", "AP")}, "have the terms first, AP"),
        ({"terms": ("first", "first")}, "have the terms first, first"),
        ({"channels": {"classification": 3}}, "its method declares"),
        ({"channels": {"classification": 2, "box": 4}}, "its method declares"),
    ],
)
def test_what_is_wrong_is_named(make, wrong, message):
    with pytest.raises(MethodError, match=message) as caught:
        run(make(**wrong))
    assert "odd" in str(caught.value) or "head" in str(caught.value)


def test_an_index_of_several_anchors_a_location_passes(make):
    made = make(assignment=Assignment(INDEX.repeat(1, 9), torch.tensor(1.0)), channels={"classification": 2})
    assert run(made)


def test_progress():
    assert Moment().progress == 0
    assert Moment(30, 120, 7).progress == 0.25
