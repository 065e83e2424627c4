import math
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.stats import parallel, retinanet
from fcos_cli.stats.boxes import NetworkBoxes, Setting, network_boxes
from fcos_cli.stats.retinanet import LOW_QUALITY, base_anchors, match_anchors, match_chunk

FPN = build_pyramid([3, 4, 5, 6, 7])


def canvases(*images):
    """NetworkBoxes of images (width, height, [(x0, y0, x1, y1), ...])."""
    boxes = np.array([box for image in images for box in image[2]], np.float32).reshape(-1, 4)
    offsets = np.cumsum([0, *(len(image[2]) for image in images)]).astype(np.int64)
    padded = np.array([image[:2] for image in images], np.int64).reshape(-1, 2)
    return NetworkBoxes(boxes, offsets, np.arange(len(boxes)), padded, {})


def dense_anchors(stride, width, height, convention):
    """Float32 [A, 4] of one level, written down from the definition."""
    parts = []
    columns, rows = np.meshgrid(np.arange(math.ceil(width / stride)), np.arange(math.ceil(height / stride)))
    shift = (np.stack([columns, rows, columns, rows], axis=-1).reshape(-1, 4) * stride).astype(np.float32)
    for ratio in (0.5, 1, 2):
        w = round(math.sqrt(stride * stride / ratio))
        h = round(w * ratio)
        for k in (0, 1, 2):
            scale = 4 * stride * 2 ** (k / 3) / stride
            x, y, half_w, half_h = (stride - 1) / 2, (stride - 1) / 2, (w * scale - 1) / 2, (h * scale - 1) / 2
            beyond = 0 if convention == "paper" else 1
            shape = np.array([x - half_w, y - half_h, x + half_w + beyond, y + half_h + beyond]).astype(np.float32)
            parts.append(shape + shift)
    return np.concatenate(parts)


def dense(boxes, setting):
    """The definition on the whole float32 matrix of anchors by boxes."""
    won = {rule: np.zeros((len(boxes.boxes), len(setting.pyramid.levels)), int) for rule in LOW_QUALITY}
    one = np.float32(setting.convention == "paper")
    for image, (width, height) in enumerate(boxes.padded.tolist()):
        first, last = boxes.offsets[image : image + 2]
        if first == last:
            continue
        levels = [dense_anchors(stride, width, height, setting.convention) for stride in setting.pyramid.strides]
        level = np.repeat(np.arange(len(levels)), [len(anchors) for anchors in levels])
        a, b = np.concatenate(levels), boxes.boxes[first:last, None]
        w = np.minimum(a[:, 2], b[..., 2]) - np.maximum(a[:, 0], b[..., 0]) + one
        h = np.minimum(a[:, 3], b[..., 3]) - np.maximum(a[:, 1], b[..., 1]) + one
        both = np.maximum(w, 0) * np.maximum(h, 0)
        area_a = (a[:, 2] - a[:, 0] + one) * (a[:, 3] - a[:, 1] + one)
        area_b = (b[..., 2] - b[..., 0] + one) * (b[..., 3] - b[..., 1] + one)
        iou = both / (area_b + area_a - both)
        assert iou.dtype == np.float32
        owner, highest = iou.argmax(axis=0), iou.max(axis=0)
        best = iou.max(axis=1, keepdims=True)
        for rule, least in (("none", 2.0), ("0.4", 0.4), ("all", np.float32(1e-45))):
            positive = (highest >= 0.5) | ((iou == best) & (best >= least)).any(axis=0)
            np.add.at(won[rule], (first + owner[positive], level[positive]), 1)
    return won


def check(boxes, setting):
    found, wanted = match_anchors(boxes, setting), dense(boxes, setting)
    assert tuple(found) == LOW_QUALITY == ("none", "0.4", "all")
    for rule in LOW_QUALITY:
        assert found[rule].dtype == np.int64
        np.testing.assert_array_equal(found[rule], wanted[rule], err_msg=rule)
    return found


@st.composite
def images(draw):
    """A canvas and boxes on it: on cells, pixels and between them, slim, tiny, as large as the canvas, some twice."""
    size = [32 * draw(st.integers(1, 7)) for _ in range(2)]
    boxes = []
    for _ in range(draw(st.integers(0, 9))):
        corners = []
        for side in size:
            unit = draw(st.sampled_from([0.125, 1, 1, 8, 16, 32]))
            low = draw(st.integers(0, int(side / unit) - 1))
            high = draw(st.integers(low + 1, int(side / unit)))
            factor = draw(st.sampled_from([1, 1, 0.7, 0.9999]))
            high = draw(st.sampled_from([high * unit] * 4 + [low * unit + 0.01, low * unit + 2, side / factor]))
            corners.append((low * unit * factor, min(high * factor, side)))
        (x0, x1), (y0, y1) = corners
        boxes.append((x0, y0, x1, y1))
    if boxes:
        boxes += draw(st.lists(st.sampled_from(boxes), max_size=3))
    return (*size, boxes)


@settings(max_examples=120, deadline=None)
@given(
    images=st.lists(images(), min_size=1, max_size=3),
    levels=st.sampled_from([[3, 4, 5, 6, 7], [4], [2, 3], [3], [6, 7], [7]]),
    convention=st.sampled_from(["exact", "paper"]),
)
def test_counts_are_those_of_the_whole_matrix(images, levels, convention):
    check(canvases(*images), Setting(build_pyramid(levels), convention=convention))


@pytest.mark.parametrize("convention", ["exact", "paper"])
@pytest.mark.parametrize(("width", "height"), [(32, 10016), (40000, 32)])
def test_far_from_the_origin_float32_is_coarse(convention, width, height):
    """An ulp is 0.001 or 0.004 pixels there, as wide as some of these boxes. The last begin or end with anchors."""
    rng = np.random.default_rng(0)
    size = np.array([width, height])
    low = rng.uniform(0, 1, (90, 2)) ** 0.1 * (size - 1)
    sides = np.exp(rng.uniform(np.log(0.004), np.log(size), (90, 2)))
    sides[40:60] = rng.uniform(10, 60, (20, 2))
    boxes = np.concatenate([low, low + sides], axis=1)
    along = int(width < height)
    edges = rng.choice(dense_anchors(8, width, height, convention)[-5000:, along::2], 30)
    slim = rng.uniform(0.004, 0.02, 30)
    boxes[60:, along] = np.where(np.arange(30) % 2, edges[:, 0], edges[:, 1] - slim)
    boxes[60:, along + 2] = boxes[60:, along] + slim
    boxes[60:, 1 - along], boxes[60:, 3 - along] = rng.uniform([[0], [20]], [[5], [32]], (2, 30))
    setting = Setting(build_pyramid([3, 4, 5]), convention=convention)
    check(canvases((width, height, np.minimum(boxes, [*size, *size]).tolist())), setting)


@pytest.mark.parametrize(("convention", "beyond"), [("paper", 0), ("exact", 1)])
def test_a_box_that_is_an_anchor(convention, beyond):
    """Stride 8, ratio 1, 4 strides: 32 pixels around 3.5, and 16 further on."""
    base = base_anchors(8)
    assert base.shape == (9, 4)
    assert base[3].tolist() == [-12, -12, 19, 19]
    assert (base[0] * 2).tolist() == [7 - 43, 7 - 23, 7 + 43, 7 + 23]
    box = (4.0, 4.0, 35.0 + beyond, 35.0 + beyond)
    boxes = canvases((64, 64, [box, (0.0, 0.0, 62.0, 62.0), box]))
    found = check(boxes, Setting(build_pyramid([3]), convention=convention))
    assert found["none"][0, 0] > 1
    assert [found[rule][2, 0] for rule in LOW_QUALITY] == [0, 0, 0]


def test_both_thresholds_are_included():
    """66 x 12 pixels share 44 x 12 with anchors of 44 x 24: 528 / 1320; the best of the other box is 0.5."""
    setting = Setting(build_pyramid([3]), convention="paper")
    found = check(canvases((128, 128, [(8, 32, 73, 43)]), (128, 128, [(8, 39, 39, 56)])), setting)
    assert [found[rule][:, 0].tolist() for rule in LOW_QUALITY] == [[0, 4], [6, 4], [6, 4]]


def test_half_a_pixel_rounds_to_even():
    """The heights of ratio 0.5 at strides 32 and 128: 22.5 and 90.5 before they are enlarged by four."""
    for stride, sides in ((8, (11, 6)), (32, (45, 22)), (128, (181, 90))):
        x0, y0, x1, y1 = base_anchors(stride)[0]
        assert (x1 + 1 - x0, y1 + 1 - y0) == (4 * sides[0], 4 * sides[1])


def test_low_quality_anchors_belong_to_the_box_they_overlap_most():
    """The small box's best anchors are worse than 0.4, and all of them overlap the large box more."""
    large, small = (4, 4, 36, 36), (16, 16, 22, 22)
    alone = check(canvases((64, 64, [small])), Setting(build_pyramid([3])))
    assert [int(alone[rule][0, 0] > 0) for rule in LOW_QUALITY] == [0, 0, 1]
    beside = check(canvases((64, 64, [large, small])), Setting(build_pyramid([3])))
    assert beside["all"][0, 0] > beside["0.4"][0, 0]
    assert beside["all"][1, 0] < alone["all"][0, 0]


@pytest.fixture(scope="module")
def val2017(shared_data):
    from fcos_cli.data.formats.coco import read_coco

    return read_coco(shared_data / "coco_val2017_boxes.json")


@pytest.mark.parametrize(
    ("convention", "recall", "boxes"),
    [("paper", (86.82, 90.92, 99.23), 36334), ("exact", (87.67, 91.65, 99.35), 36335)],
)
def test_the_papers_table(val2017, convention, recall, boxes):
    """Paper, Table 1; `exact` holds our own figures still."""
    setting = Setting(FPN, convention=convention)
    done = []
    found = match_anchors(network_boxes(val2017, setting), setting, step=done.append)
    assert sum(done) == 5000
    assert {len(won) for won in found.values()} == {boxes}
    for rule, percent in zip(LOW_QUALITY, recall, strict=True):
        assert 100 * found[rule].any(axis=1).mean() == pytest.approx(percent, abs=0.01), rule


def some_images(seed, count):
    rng = np.random.default_rng(seed)
    made = []
    for boxes in rng.integers(0, 12, count):
        size = 32 * rng.integers(2, 12, 2)
        low = rng.uniform(0, size - 8, (boxes, 2))
        high = np.minimum(low + np.exp(rng.uniform(1, 5, (boxes, 2))), size)
        made.append((*size.tolist(), np.concatenate([low, high], axis=1).tolist()))
    return made


def test_runs_of_images_and_of_pairs_do_not_matter(monkeypatch):
    made = [(64, 96, []), *some_images(3, 25), (32, 32, []), (32, 32, [])]
    setting = Setting(FPN)
    whole = match_anchors(canvases(*made), setting)
    work = pickle.loads(pickle.dumps(match_chunk))
    single = [work(canvases(image), setting) for image in made]
    backwards = [work(canvases(*run[::-1]), setting) for run in (made[20:], made[7:20], made[:7])]
    monkeypatch.setattr(parallel, "BOXES_PER_PART", 5)
    monkeypatch.setattr(retinanet, "PAIRS_AT_ONCE", 40)
    done = []
    cut = match_anchors(canvases(*made), setting, step=done.append)
    assert sum(done) == len(made)
    assert len(done) > 5
    ends = np.cumsum([len(image[2]) for image in made[::-1]])[:-1]
    for rule in LOW_QUALITY:
        np.testing.assert_array_equal(cut[rule], whole[rule])
        np.testing.assert_array_equal(np.concatenate([part[rule] for part in single]), whole[rule])
        turned = np.split(np.concatenate([part[rule] for part in backwards]), ends)[::-1]
        np.testing.assert_array_equal(np.concatenate(turned), whole[rule])


def test_two_thousand_boxes_in_one_image():
    rng = np.random.default_rng(5)
    low = rng.integers(0, 120, (2000, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (2000, 2))], axis=1)
    check(canvases((128, 128, boxes.tolist())), Setting(FPN, convention="paper"))


def test_memory_is_bounded():
    """2,000 boxes by 201,600 anchors would be 1.6 GB. Each of the large boxes has the same IoU with 10,000 anchors."""
    rng = np.random.default_rng(6)
    low = rng.integers(0, 1200, (2000, 2)) / (1, 2)
    tiny = np.concatenate([low, low + rng.uniform(2, 100, (2000, 2))], axis=1)
    large = np.concatenate([rng.uniform(1024, 1100, (2000, 2)), rng.uniform(1900, 2040, (2000, 2))], axis=1)
    tracemalloc.start()
    found = match_anchors(canvases((1344, 800, tiny.tolist())), Setting(FPN))
    assert 0 < found["none"].any(axis=1).sum() < found["all"].any(axis=1).sum() <= 2000
    found = match_anchors(canvases((2048, 2048, large.tolist())), Setting(build_pyramid([3])))
    assert found["all"].sum() > 5000
    assert tracemalloc.get_traced_memory()[1] < 70e6
    tracemalloc.stop()


def test_odd_images(make_data):
    data = make_data([(1, 10000, [(1, 0, 0, 1, 10000), (0, 0, 9998, 1, 9999)]), (0, 0, []), (8, 8, [])])
    setting = Setting(FPN)
    found = check(network_boxes(data, setting), setting)
    assert found["all"].sum() > found["none"].sum()


def test_a_box_without_an_area_has_no_best_anchor():
    setting = Setting(FPN)
    found = check(
        canvases(
            (64, 64, [(9, 9, 9, 30), (3, 3, 3, 3), (0, 0, 1e-40, 1e-40)]), (64, 64, [(5, 5, 5, 9), (0, 0, 50, 40)])
        ),
        setting,
    )
    assert found["all"].any(axis=1).tolist() == [False, False, False, False, True]
    for none in (canvases((64, 64, [])), canvases()):
        assert match_anchors(none, setting)["all"].shape == match_chunk(none, setting)["all"].shape == (0, 5)
