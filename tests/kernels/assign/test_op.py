import pytest
import torch

from fcos_kernels.assign import assign, reference
from fcos_kernels.common.reference import centerness, locations

INF = float("inf")
PYRAMID = {
    "grids": [(20, 24), (10, 12), (5, 6)],
    "strides": [8, 16, 32],
    "starts": [4, 8, 16],
    "ranges": [(0, 64), (64, 128), (128, INF)],
}
BOXES = torch.tensor([(10.0, 10, 60, 90), (0, 0, 180, 150), (100, 20, 130, 44)])


def test_normalizers_are_those_of_the_dense_rule():
    offsets = torch.tensor([0, 2, 2, 3])
    result = assign(BOXES, offsets, **PYRAMID)
    index, _ = reference.assign(BOXES, offsets, **PYRAMID)
    where = locations(PYRAMID["grids"], PYRAMID["strides"], PYRAMID["starts"])
    image, location = (index >= 0).nonzero(as_tuple=True)
    box, place = BOXES[index[image, location]].double(), where[location, :2]
    center = centerness(torch.cat([place - box[:, :2], box[:, 2:] - place], dim=1))
    assert result.index.shape == (3, 20 * 24 + 10 * 12 + 5 * 6)
    assert (result.index[1] == -1).all()
    assert set(result.index[2].tolist()) == {-1, 2}
    assert result.candidates is None
    assert result.positives.dtype == result.centerness_sum.dtype == torch.float32
    assert result.positives.item() == len(image) > 0
    torch.testing.assert_close(result.centerness_sum.double(), center.sum(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("images", [0, 1, 3])
def test_no_boxes(images):
    result = assign(torch.zeros(0, 4), torch.zeros(images + 1, dtype=torch.int64), **PYRAMID, count_candidates=True)
    assert result.index.shape == result.candidates.shape == (images, 630)
    assert (result.index == -1).all()
    assert result.positives.item() == result.centerness_sum.item() == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"boxes": BOXES.double()}, TypeError, "boxes must be float32, not float64"),
        ({"boxes": BOXES[:, :3]}, ValueError, r"boxes must have shape \[any, 4\]"),
        ({"boxes": BOXES.tolist()}, TypeError, "boxes must be a tensor, not list"),
        ({"offsets": torch.tensor([0, 3], dtype=torch.int32)}, TypeError, "offsets must be int64"),
        ({"offsets": torch.tensor([0, 2, 1, 3])}, ValueError, "offsets must ascend"),
        ({"offsets": torch.tensor([0, 2])}, ValueError, "offsets must ascend from 0 to the 3 boxes"),
        ({"offsets": torch.zeros(0, dtype=torch.int64)}, ValueError, "offsets"),
        ({"strides": [8, 0, 32]}, ValueError, "strides must be above 0, not 0"),
        ({"strides": [8, 16]}, ValueError, "strides must have 3 entries"),
        ({"strides": 8}, TypeError, "strides must be a list with an entry per level, not 8"),
        ({"grids": None}, TypeError, "grids must be a list with an entry per level, not None"),
        ({"ranges": [(0, 64), (64, 32), (0, INF)]}, ValueError, "ranges"),
        ({"grids": [(20, 24), (10, -1), (5, 6)]}, ValueError, "grids"),
        ({"ignore": torch.zeros(2, dtype=torch.bool)}, ValueError, "ignore must have shape"),
        ({"ignore": torch.zeros(3)}, TypeError, "ignore must be bool"),
        ({"radius": -1.0}, ValueError, "radius"),
        ({"radius": INF}, ValueError, "radius must be 0 or above and finite"),
        ({"radius": "1.5"}, TypeError, "radius must be a number, not str"),
        ({"strides": [8, 16.0, 32]}, TypeError, r"strides must be whole numbers \(int\), not float 16.0"),
        ({"starts": [4, 8, 16.5]}, TypeError, "starts must be whole numbers"),
        ({"strides": [8, 16, 2**24]}, ValueError, r"within 2\^24 pixels, not 5 x 6 of 16777216"),
        ({"starts": [4, 2**24, 16]}, ValueError, r"within 2\^24 pixels"),
        ({"grids": [(2, 17_000_000), (10, 12), (5, 6)]}, ValueError, r"within 2\^24 pixels, not 2 x 17000000 of 8"),
        ({"grids": [(20, 24.0), (10, 12), (5, 6)]}, TypeError, "grids must be whole numbers"),
        ({"grids": [20, 10, 5]}, TypeError, r"grids must be \(rows, columns\), not 20"),
        ({"ranges": [(0, 64), (64, 128, 256), (128, INF)]}, TypeError, r"ranges must be \(lower, upper\), not \(64,"),
        ({"ranges": [(0, 64), ("64", 128), (128, INF)]}, TypeError, "ranges must be"),
        ({"offsets": torch.zeros(4, dtype=torch.int64, device="meta")}, ValueError, "offsets must be on cpu, not meta"),
        ({"boxes": BOXES.to("meta"), "offsets": torch.tensor([0, 2, 1, 3])}, ValueError, "offsets must ascend"),
    ],
)
def test_bad_input_is_named(change, error, words):
    arguments = {"boxes": BOXES, "offsets": torch.tensor([0, 3]), **PYRAMID, **change}
    with pytest.raises(error, match=words):
        assign(**arguments)
