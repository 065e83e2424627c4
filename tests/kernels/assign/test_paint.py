import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fcos_kernels.assign.paint
from fcos_kernels.assign import assign, reference
from fcos_kernels.assign.paint import paint
from fcos_kernels.assign.plain import assign_in_chunks
from fcos_kernels.assign.types import Rule

INF = float("inf")
# corners where rounding or an inclusive end decides: halves of strides, ends of ranges, neighbours of both
EDGES = [-64.0, -0.1, 0.0, 4.0, 12.0, 20.0, 36.0, 63.99999, 64.0, 64.00001, 68.0, 76.0, 100.3, 128.0, 132.0, 200.7]
coordinate = st.one_of(st.sampled_from(EDGES), st.floats(-300, 400, width=32), st.integers(-20, 260).map(float))
box = st.tuples(coordinate, coordinate, coordinate, coordinate)
wild = st.sampled_from(
    [(0.0, 0.0, INF, 50.0), (float("nan"), 0.0, 9.0, 9.0), (9.0, 9.0, 9.0, 40.0), (-1e9, -1e9, 1e9, 1e9)]
)


@st.composite
def problems(draw):
    levels = draw(st.integers(1, 4))
    strides = draw(st.sampled_from([[8, 16, 32, 64], [4, 8, 16, 32], [8, 15, 61, 122]]))[:levels]
    cuts = [0.0, *draw(st.sampled_from([[64.0, 128.0, 256.0], [16.0, 32.5, 70.1]]))[: levels - 1], INF]
    images = []
    for _ in range(draw(st.integers(1, 3))):
        boxes = draw(st.lists(st.one_of(box, box, box, wild), max_size=6))
        tidy = [
            (min(a, c), min(b, d), max(a, c), max(b, d)) if draw(st.booleans()) else (a, b, c, d)
            for a, b, c, d in boxes
        ]
        images.append(tidy + tidy[: draw(st.integers(0, 2))])  # equal boxes: ties
    rows = [box for image in images for box in image]
    return {
        "boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        "offsets": torch.tensor([0, *np.cumsum([len(image) for image in images])], dtype=torch.int64),
        "ignore": draw(st.none() | st.just(torch.tensor([draw(st.booleans()) for _ in rows], dtype=torch.bool))),
        "grids": [(draw(st.integers(1, 12)), draw(st.integers(0, 12))) for _ in strides],
        "strides": strides,
        "starts": draw(st.sampled_from([[s // 2 for s in strides], [0] * levels])),
        "ranges": [tuple(pair) for pair in np.lib.stride_tricks.sliding_window_view(cuts, 2).tolist()],
        "radius": draw(st.sampled_from([0.0, 0.0, 1.5, 0.7])),
        "inclusive": draw(st.booleans()),
    }


@settings(deadline=None)
@given(problems(), st.sampled_from([fcos_kernels.assign.paint.CELLS_AT_ONCE, 5]))
def test_painter_equals_the_dense_rule_location_by_location(problem, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcos_kernels.assign.paint, "CELLS_AT_ONCE", at_once)
        result = assign(**problem, count_candidates=True)
    index, candidates = reference.assign(**problem)
    assert result.index.dtype == torch.int32
    torch.testing.assert_close(result.index.long(), index)
    torch.testing.assert_close(result.candidates.long(), candidates)


@settings(deadline=None)
@given(problems())
def test_chunked_path_equals_the_painter(problem):
    boxes, offsets = problem.pop("boxes"), problem.pop("offsets")
    index, candidates = in_chunks(boxes, offsets, **problem, count_candidates=True)
    result = assign(boxes, offsets, **problem, count_candidates=True)
    torch.testing.assert_close(index, result.index)
    torch.testing.assert_close(candidates, result.candidates)


def test_wrong_offsets_stay_within_the_boxes_of_the_chunked_path():
    # on a GPU nobody looks at the values beforehand
    boxes = torch.tensor([(10.0, 10, 60, 90), (0, 0, 180, 150), (100, 20, 130, 44)])
    level = {"grids": [(8, 8)], "strides": [8], "starts": [4], "ranges": [(0, INF)], "radius": 0.0, "inclusive": True}
    index, _ = in_chunks(boxes, torch.tensor([0, 99, -5, 3]), **level)
    right, _ = in_chunks(boxes, torch.tensor([0, 3, 3, 3]), **level)
    assert torch.equal(index, right[[0, 1, 0]])


def in_chunks(boxes, offsets, *, ignore=None, **problem):
    return assign_in_chunks(boxes, offsets, ignore, Rule(**problem))


def paint_path(boxes, offsets, **problem):
    return paint(boxes.numpy(), offsets.numpy(), **problem)


def one_level(boxes, **choices):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    index, _ = paint(
        boxes, np.array([0, len(boxes)]), grids=[(8, 8)], strides=[8], starts=[4], ranges=[(0, INF)], **choices
    )
    return index.reshape(8, 8)


def test_inside_is_strict():
    grid = one_level([(4, 4, 20, 20)])  # corners lie on locations 0 and 2
    assert (grid >= 0).sum() == 1
    assert grid[1, 1] == 0


@pytest.mark.parametrize(("inclusive", "levels"), [(True, {0, 1}), (False, set())])
def test_exactly_64_belongs_to_both_levels_or_to_none(inclusive, levels):
    index, _ = paint(
        np.array([(0, 0, 68, 20)], np.float32),  # from location (4, 4) of P3: l 4, r 64; from (8, 8) of P4: r 60
        np.array([0, 1]),
        grids=[(1, 1), (1, 1)],
        strides=[8, 16],
        starts=[4, 4],
        ranges=[(0, 64), (64, 128)],
        inclusive=inclusive,
    )
    assert set(np.flatnonzero(index[0] == 0)) == levels


@pytest.mark.parametrize("path", [paint_path, in_chunks], ids=["painted", "in chunks"])
def test_half_a_centre_square_is_rounded_once(path):
    # 1.1 * 9 in float32 is above 9.9 in float32: the location at 0 lies on the edge, not inside
    half = float(np.float32(1.1 * 9))
    boxes = torch.tensor([(half - 16, -10.0, half + 16, 10.0)])
    problem = {"grids": [(1, 3)], "strides": [9], "starts": [0], "ranges": [(0, INF)], "radius": 1.1, "inclusive": True}
    offsets = torch.tensor([0, 1])
    index, _ = path(boxes, offsets, **problem, ignore=None, count_candidates=False)
    assert index.tolist() == reference.assign(boxes, offsets, **problem)[0].tolist() == [[-1, 0, 0]]


def test_smallest_area_wins_and_neighbours_of_large_areas_are_told_apart():
    # 1e8 - area in float32 cannot tell these two apart
    grid = one_level([(0, 0, 64, 64), (0, 0, 63.99999, 64)])
    assert (grid == 1).all()


def test_equal_areas_go_to_the_lower_row():
    grid = one_level([(0, 0, 32, 64), (0, 0, 64, 32), (0, 0, 32, 64)])
    assert (grid[:, :4] == 0).all()
    assert (grid[:4, 4:] == 1).all()
    assert (grid[4:, 4:] == -1).all()


def test_crowd_only_cover_is_ignored():
    grid = one_level([(0, 0, 64, 64), (0, 0, 16, 64)], ignore=np.array([True, False]))
    assert (grid[:, :2] == 1).all()
    assert (grid[:, 2:] == -2).all()


def test_inside_another_box_of_the_wrong_level_is_background():
    index, _ = paint(
        np.array([(0, 0, 64, 64), (0, 0, 40, 64)], np.float32),
        np.array([0, 2]),
        grids=[(8, 8)],
        strides=[8],
        starts=[4],
        ranges=[(0, 16)],
        ignore=np.array([True, False]),
    )
    grid = index.reshape(8, 8)
    assert (grid[:, :5] == -1).all()
    assert (grid[:, 5:] == -2).all()


def test_two_thousand_boxes_against_the_chunked_path():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2000, 2, generator=generator) * torch.tensor([1300.0, 780.0])
    boxes = torch.cat([corner, corner + torch.rand(2000, 2, generator=generator) ** 3 * 400 + 2], dim=1)
    problem = {
        "grids": [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)],
        "strides": [8, 16, 32, 64, 128],
        "starts": [4, 8, 16, 32, 64],
        "ranges": [(0, 64), (64, 128), (128, 256), (256, 512), (512, INF)],
        "radius": 1.5,
        "inclusive": True,
        "ignore": None,
        "count_candidates": True,
    }
    offsets = torch.tensor([0, 2000])
    result = assign(boxes, offsets, **problem)
    index, candidates = in_chunks(boxes, offsets, **problem)
    torch.testing.assert_close(result.index, index)
    torch.testing.assert_close(result.candidates, candidates)


def test_paint_needs_no_torch():
    code = "import sys, fcos_kernels.paint; assert 'torch' not in sys.modules"
    root = fcos_kernels.assign.paint.__file__.rsplit("fcos_kernels", 1)[0]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": root})


def test_other_precision_is_refused():
    with pytest.raises(TypeError, match="boxes must be float32"):
        paint(np.zeros((1, 4)), np.array([0, 1]), grids=[(1, 1)], strides=[8], starts=[4], ranges=[(0, INF)])
