"""The Triton kernels of the assignment; compiled where there is a GPU, else in Triton's interpreter."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

from fcos_kernels.assign import launch as assign_launch
from fcos_kernels.assign import reference, triton_assign
from fcos_kernels.assign.op import _assign, assign
from fcos_kernels.assign.paint import paint
from fcos_kernels.assign.types import Rule
from fcos_kernels.common import dispatch
from fcos_kernels.common.reference import centerness, locations

INF = float("inf")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SMALL = {
    "grids": [(20, 24), (10, 12), (5, 6)],
    "strides": [8, 16, 32],
    "starts": [4, 8, 16],
    "ranges": [(0, 64), (64, 128), (128, INF)],
}
BOXES = torch.tensor([(10.0, 10, 60, 90), (0, 0, 180, 150), (100, 20, 130, 44)])
# corners and sides where rounding or an inclusive end decides: halves of strides, ends of ranges, neighbours of both
corner = st.one_of(st.sampled_from([-64.0, -60.0, -0.1, 0.0, 4.0, 12.0, 20.0, 33.3]), st.floats(-80, 80, width=32))
side = st.one_of(
    st.sampled_from([8.0, 16.0, 60.0, 63.99999, 64.0, 64.00001, 72.0, 128.0, 128.00002, 132.0, 256.0]),
    st.floats(1, 300, width=32),
)
solid = st.builds(lambda x, y, width, height: (x, y, x + width, y + height), corner, corner, side, side)
NAN = float("nan")
UNREAL = [
    *[(-INF, 0.0, 90.0, 90.0), (0.0, -INF, 90.0, 90.0), (0.0, 0.0, INF, 90.0), (0.0, 0.0, 90.0, INF)],
    *[(NAN, 0.0, 90.0, 90.0), (0.0, NAN, 90.0, 90.0), (0.0, 0.0, NAN, 90.0), (0.0, 0.0, 90.0, NAN)],
    *[(12.0, 0.0, 12.0, 90.0), (0.0, 12.0, 90.0, 12.0), (50.0, 0.0, 9.0, 90.0), (0.0, 50.0, 90.0, 9.0)],
]
HUGE = [(-1e9, -1e9, 1e9, 1e9), (-3e38, -3e38, 3e38, 3e38), (-1e-40, -1e-40, 1e-40, 1e-40)]
wild = st.sampled_from(UNREAL + HUGE)


@st.composite
def problems(draw):
    levels = draw(st.integers(1, 3))
    strides = draw(st.sampled_from([[8, 16, 32], [4, 8, 16], [9, 61, 114]]))[:levels]
    cuts = [
        0.0,
        *draw(st.sampled_from([[64.0, 128.0], [16.0, 32.5]]))[: levels - 1],
        draw(st.sampled_from([INF, 250.0])),
    ]
    images = []
    for _ in range(draw(st.integers(1, 3))):
        boxes = draw(st.lists(st.one_of(solid, solid, solid, wild), max_size=6))
        images.append(boxes + boxes[: draw(st.integers(0, 2))])  # equal boxes: ties
    rows = [box for image in images for box in image]
    return {
        "boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        "offsets": torch.tensor([0, *np.cumsum([len(image) for image in images])], dtype=torch.int64),
        "ignore": draw(st.none() | st.just(torch.tensor([draw(st.booleans()) for _ in rows], dtype=torch.bool))),
        "grids": [(draw(st.integers(1, 12)), draw(st.integers(0, 12))) for _ in strides],
        "strides": strides,
        "starts": draw(st.sampled_from([[s // 2 for s in strides], [0] * levels, [-3] * levels])),
        "ranges": [tuple(pair) for pair in np.lib.stride_tricks.sliding_window_view(cuts, 2).tolist()],
        "radius": draw(st.sampled_from([0.0, 0.0, 1.5, 0.7, 1.1])),
        "inclusive": draw(st.booleans()),
    }


def launched(boxes, offsets, *, device=DEVICE, **problem):
    """The launcher on poisoned buffers; what it returns, on the CPU."""
    problem = {"ignore": None, "count_candidates": True, **problem}
    ignore = problem.pop("ignore")
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty then makes NaN or the largest whole number
    try:
        found = assign_launch.launch(
            boxes.to(device), offsets.to(device), None if ignore is None else ignore.to(device), Rule(**problem)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    return [None if tensor is None else tensor.cpu() for tensor in found]


def center_sum(index, boxes, grids, strides, starts):
    where = locations(grids, strides, starts)
    image, location = (index >= 0).nonzero(as_tuple=True)
    box, place = boxes[index[image, location].long()].double(), where[location, :2]
    return centerness(torch.cat([place - box[:, :2], box[:, 2:] - place], dim=1)).sum()


@settings(deadline=None, max_examples=80)
@given(problems(), st.sampled_from([(16, 16, 32), (8, 4, 4), (4, 16, 2)]))
def test_equals_the_dense_rule_location_by_location(problem, tile):
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("TILE_H", "TILE_W", "CHUNK"), tile, strict=True):
            patch.setattr(assign_launch, name, size)
        index, positives, total, candidates = launched(**problem)
    wanted, left = reference.assign(**problem)
    assert index.dtype == candidates.dtype == torch.int32
    torch.testing.assert_close(index.long(), wanted)
    torch.testing.assert_close(candidates.long(), left)
    assert positives.dtype == total.dtype == torch.float32
    assert positives.item() == (wanted >= 0).sum()
    exact = center_sum(index, *(problem[key] for key in ("boxes", "grids", "strides", "starts")))
    torch.testing.assert_close(total.double(), exact, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("inclusive", "levels"), [(True, {0, 1}), (False, set())])
def test_ends_of_ranges_are_met_exactly(inclusive, levels):
    # from the location (4, 4) 64 pixels to the left and to the right: the box is twice the upper end, and fits
    box = torch.tensor([(-60.0, 0, 68, 20)])
    pyramid = {"grids": [(1, 1), (1, 1)], "strides": [8, 8], "starts": [4, 4], "ranges": [(0, 64), (64, 128)]}
    index, *_ = launched(box, torch.tensor([0, 1]), **pyramid, inclusive=inclusive)
    assert set(np.flatnonzero(index[0] == 0)) == levels


def test_half_a_centre_square_is_rounded_once():
    # 1.1 * 9 in float32 is above 9.9 in float32: the location at 0 lies on the edge, not inside
    half = float(np.float32(1.1 * 9))
    box = torch.tensor([(half - 16, -10.0, half + 16, 10.0)])
    level = {"grids": [(1, 3)], "strides": [9], "starts": [0], "ranges": [(0, INF)], "radius": 1.1}
    assert launched(box, torch.tensor([0, 1]), **level)[0].tolist() == [[-1, 0, 0]]


def test_equal_areas_go_to_the_lower_row_and_close_ones_are_told_apart():
    level = {"grids": [(8, 8)], "strides": [8], "starts": [4], "ranges": [(0, INF)]}
    ties = torch.tensor([(0.0, 0, 32, 64), (0, 0, 64, 32), (0, 0, 32, 64)])
    grid = launched(ties, torch.tensor([0, 3]), **level)[0].reshape(8, 8)
    assert (grid[:, :4] == 0).all()
    assert (grid[:4, 4:] == 1).all()
    close = torch.tensor([(0.0, 0, 64, 64), (0, 0, 63.99999, 64)])
    assert (launched(close, torch.tensor([0, 2]), **level)[0] == 1).all()


def test_boxes_that_are_not_real_match_nothing():
    level = {"grids": [(8, 8)], "strides": [8], "starts": [4], "ranges": [(-INF, INF)]}
    boxes = torch.tensor(UNREAL)
    index, positives, total, candidates = launched(boxes, torch.tensor([0, len(boxes)]), **level)
    assert (index == -1).all()
    assert (candidates == 0).all()
    assert positives.item() == total.item() == 0
    index, *_ = launched(boxes, torch.tensor([0, len(boxes)]), **level, ignore=torch.ones(len(boxes), dtype=torch.bool))
    assert (index == -1).all()


@pytest.mark.parametrize(("count", "radius", "ignored"), [(2000, 0.0, 0.0), (400, 1.5, 0.1)])
def test_many_boxes_in_one_image(count, radius, ignored, monkeypatch):
    if DEVICE.type == "cpu":  # the interpreter takes its time for each program
        monkeypatch.setattr(assign_launch, "TILE_H", 64)
        monkeypatch.setattr(assign_launch, "TILE_W", 64)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([660.0, 400.0])
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) ** 3 * 300 + 2], dim=1)
    boxes[200:300] = boxes[100]
    ignore = torch.rand(count, generator=generator) < ignored
    problem = {
        "grids": [(25, 42), (13, 21)],
        "strides": [16, 32],
        "starts": [8, 16],
        "ranges": [(0, 64), (64, INF)],
        "radius": radius,
        "inclusive": True,
    }
    # 31 boxes of nobody come first, so that no chunk starts at a multiple of 32
    boxes, ignore = torch.cat([boxes[:31], boxes]), torch.cat([ignore[:31], ignore])
    offsets = torch.tensor([31, 31 + count])
    index, positives, total, candidates = launched(boxes, offsets, **problem, ignore=ignore if ignored else None)
    painted, counted = paint(
        boxes[31:].numpy(),
        np.array([0, count]),
        **problem,
        ignore=ignore[31:].numpy() if ignored else None,
        count_candidates=True,
    )
    wanted = np.where(painted >= 0, painted + 31, painted)
    np.testing.assert_array_equal(index.numpy(), wanted)
    np.testing.assert_array_equal(candidates.numpy(), counted)
    assert positives.item() == (wanted >= 0).sum() > 50
    exact = center_sum(index, boxes, problem["grids"], problem["strides"], problem["starts"])
    torch.testing.assert_close(total.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("parts", [0, 1, 1023, 1760, 5000])
def test_sums_are_exact_to_the_last_digits(parts):
    generator = torch.Generator().manual_seed(parts)
    values = torch.rand(parts, 2, generator=generator) * 200
    values[:, 0].floor_()
    positives, total = torch.full((), torch.nan, device=DEVICE), torch.full((), torch.nan, device=DEVICE)
    triton_assign._assign_add_kernel[(1,)](values.to(DEVICE), positives, total, parts, BLOCK=assign_launch.ADD_BLOCK)
    assert positives.item() == values[:, 0].sum().item()
    assert total.item() == values[:, 1].double().sum().float().item()


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("grids", [[(3, 4), (2, 2), (0, 1)], [(0, 0), (0, 5), (0, 0)]])
def test_no_boxes_no_images_no_locations(images, grids):
    problem = SMALL | {"grids": grids}
    offsets = torch.zeros(images + 1, dtype=torch.int64)
    index, positives, total, candidates = launched(torch.zeros(0, 4), offsets, **problem)
    assert index.shape == candidates.shape == (images, sum(rows * columns for rows, columns in grids))
    assert (index == -1).all()
    assert (candidates == 0).all()
    assert positives.item() == total.item() == 0


def test_without_candidates_and_twice_bit_for_bit():
    offsets = torch.tensor([0, 2, 2, 3])
    first = launched(BOXES, offsets, **SMALL, count_candidates=False)
    again = launched(BOXES, offsets, **SMALL, count_candidates=False)
    assert first[3] is None
    assert all(torch.equal(a, b) for a, b in zip(first[:3], again[:3], strict=True))


def test_strided_input():
    wide = torch.stack([BOXES, BOXES + 1000], dim=2)
    offsets = torch.stack([torch.tensor([0, 2, 2, 3])] * 2, dim=1)[:, 0]
    ignore = torch.tensor([[False, True], [True, False], [False, False]])[:, 0]
    found = launched(wide[..., 0], offsets, **SMALL, ignore=ignore)
    plain = launched(BOXES, offsets.contiguous(), **SMALL, ignore=ignore.contiguous())
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_wrong_offsets_never_lead_out_of_the_boxes():
    # on a GPU nobody looks at the values beforehand; what lies beside the boxes would match, if it were read
    beside = torch.tensor([(0.0, 0, 40, 40)]).expand(99, 4)
    boxes = torch.cat([beside, BOXES, beside]).to(DEVICE)[99:102]
    index, *_ = launched(boxes, torch.tensor([0, 99, -5, 3]), **SMALL)
    right, *_ = launched(BOXES, torch.tensor([0, 3, 3, 3]), **SMALL)
    assert torch.equal(index, right[[0, 1, 0]])


def test_dispatch(monkeypatch):
    arguments = (BOXES.to(DEVICE), torch.tensor([0, 2, 2, 3], device=DEVICE))
    ignore = torch.tensor([False, True, False], device=DEVICE)
    calls = []
    launch = assign_launch.launch
    monkeypatch.setattr(assign_launch, "launch", lambda *args, **kwargs: calls.append(1) or launch(*args, **kwargs))
    with dispatch.using("triton"):
        ours = assign(*arguments, **SMALL, ignore=ignore, count_candidates=True)
    assert calls == [1]
    with dispatch.using("reference"):
        plain = assign(*arguments, **SMALL, ignore=ignore, count_candidates=True)
    assert calls == [1]
    torch.testing.assert_close(tuple(ours), tuple(plain), rtol=1e-6, atol=0)
    assert all(not tensor.requires_grad for tensor in ours)


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_compiles_whole_for_two_shapes(choice):
    def both(boxes, offsets, fine, coarse):
        grids = [tuple(fine.shape[-2:]), tuple(coarse.shape[-2:])]
        ranges = [(0, 64), (64, INF)]
        found = assign(boxes, offsets, grids=grids, strides=[8, 16], starts=[4, 8], ranges=ranges, radius=1.5)
        return found.index, found.positives, found.centerness_sum

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    with dispatch.using(choice):
        for rows, columns, boxes in ((10, 12, 3), (20, 16, 2), (6, 18, 3)):
            arguments = (
                BOXES[:boxes].to(DEVICE).requires_grad_(),
                torch.tensor([0, 1, boxes], device=DEVICE),
                torch.zeros(1, 1, rows, columns, device=DEVICE),
                torch.zeros(1, 1, rows // 2, columns // 2, device=DEVICE),
            )
            assert all(torch.equal(a, b) for a, b in zip(compiled(*arguments), both(*arguments), strict=True))


def test_exports_for_any_number_of_boxes():
    class Module(torch.nn.Module):
        def forward(self, boxes, offsets, ignore):
            return tuple(assign(boxes, offsets, **SMALL, ignore=ignore, count_candidates=True))

    count = torch.export.Dim("boxes", min=2)
    arguments = (BOXES, torch.tensor([0, 2, 3]), torch.tensor([False, True, False]))
    exported = torch.export.export(Module(), arguments, dynamic_shapes=({0: count}, None, {0: count}))
    more = (BOXES[[0, 1, 2, 0]], torch.tensor([0, 3, 4]), torch.tensor([False, True, False, False]))
    for ours, wanted in zip(exported.module()(*more), Module()(*more), strict=True):
        assert torch.equal(ours, wanted)


def test_fake_tensors_of_a_gpu_that_is_not_there():
    with FakeTensorMode():
        boxes, offsets = torch.empty(7, 4, device="cuda"), torch.empty(3, dtype=torch.int64, device="cuda")
        found = assign(boxes, offsets, **SMALL, count_candidates=True)
        assert assign(boxes, offsets, **SMALL).candidates is None
    assert found.index.shape == found.candidates.shape == (2, 630)
    assert found.index.dtype == found.candidates.dtype == torch.int32
    assert found.positives.shape == found.centerness_sum.shape == ()
    assert all(tensor.device.type == "cuda" for tensor in found)


@pytest.mark.parametrize("choice", ["triton", "reference"])
@pytest.mark.parametrize("extras", [True, False])
def test_opcheck(choice, extras):
    ignore = torch.tensor([False, True, False], device=DEVICE) if extras else None
    levels = ([10, 5], [12, 6], [8, 16], [4, 8], [0.0, 64.0], [64.0, INF])
    offsets = torch.tensor([0, 2, 3], device=DEVICE)
    with dispatch.using(choice):
        torch.library.opcheck(_assign, (BOXES.to(DEVICE), offsets, ignore, *levels, 1.5, True, extras))


def test_variants_describe_the_kernels():
    for variant in assign_launch.variants():
        assert list(variant.signature) == list(inspect.signature(variant.kernel.fn).parameters)
        constants = {name for name, kind in variant.signature.items() if kind == "constexpr"}
        assert constants == set(variant.constants)
