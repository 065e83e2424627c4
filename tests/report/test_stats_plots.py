import inspect
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from fcos_cli.report.stats_plots import (
    plot_advice,
    plot_boxes,
    plot_collisions,
    plot_detections,
    plot_recall_by_side,
    plot_tables,
)

LONG = "a name without end, which somebody took from a whole sentence of the annotation guide"
STRANGE = ("$x^2$", "50 % $", "a_b & {c}", "  two \n lines ", "猫", LONG)
RANGES = (("P3", 0.0, 64.0), ("P4", 64.0, 128.0), ("P5", 128.0, 256.0), ("P6", 256.0, 512.0), ("P7", 512.0, None))


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    from matplotlib.figure import Figure

    saved, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        saved.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


@pytest.fixture
def draw(tmp_path, figures):
    """Draws a picture, checks that its texts can be read, and returns (pixels, texts)."""

    def drawn(plot, *args, title="a data set: P3-P7", **kwargs):
        path = tmp_path / "new" / "a.png"
        if "title" in inspect.signature(plot).parameters:
            kwargs["title"] = title
        assert plot(*args, path, **kwargs) == path
        with Image.open(path) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("RGB"), dtype=int)
        return pixels, check_texts(figures[-1], pixels.shape)

    return drawn


def check_texts(figure, shape):
    """Holds that texts lie in the picture and not on each other; returns them."""
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()
    ticks = [label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in shown_ticks(axes, axis)]
    hidden = {id(label) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()}
    texts = [text for text in figure.findobj(Text) if id(text) not in hidden and text.get_visible()] + ticks
    boxes = [(text.get_text(), text.get_window_extent(renderer), text) for text in texts if text.get_text()]
    for text, box, _ in boxes:
        assert box.x0 >= -1, f"{text} leaves the picture"
        assert box.y0 >= -1, f"{text} leaves the picture"
        assert box.x1 <= shape[1] + 1, f"{text} leaves the picture"
        assert box.y1 <= shape[0] + 1, f"{text} leaves the picture"
    for (one, first, a), (other, second, b) in combinations(boxes, 2):
        # The extent of slanted texts is much larger than they are.
        if not (a.get_rotation() % 90 or b.get_rotation() % 90):
            across = min(first.x1, second.x1) - max(first.x0, second.x0)
            down = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert min(across, down) < 1.5, f"{one!r} and {other!r} overlap"
    return [text for text, _, _ in boxes]


def shown_ticks(axes, axis):
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks() if axes.axison and axis.get_visible() else []
    return [tick.label1 for tick in ticks if tick.label1.get_visible() and low <= tick.get_loc() <= high]


def different(one, other):
    return one.shape != other.shape or bool((one != other).any())


def level_rows(ranges=RANGES, **counts):
    return [
        {"name": name, "stride": 8, "lower": lower, "upper": upper, **{key: v[i] for key, v in counts.items()}}
        for i, (name, lower, upper) in enumerate(ranges)
    ]


def side_rows(*pairs):
    edges = [*range(0, 32 * len(pairs), 32), None]
    return [
        {"lower": low, "upper": high, "boxes": boxes, "recalled": recalled}
        for low, high, (boxes, recalled) in zip(edges, edges[1:], pairs, strict=False)
    ]


def test_recall_by_side(draw):
    rows = side_rows((1200, 1000), (0, 0), (300, 299), (25_000, 25_000), (40_000, 39_999), (1, 0))
    pixels, texts = draw(plot_recall_by_side, rows)
    assert pixels.shape == (600, 1080, 3)
    # 39,999 of 40,000 is not all of them.
    assert {"83.33", "99.67", "100", "99.99", "0", "1.2k", "25k", "32-64", "160+"} <= set(texts)
    other, _ = draw(plot_recall_by_side, side_rows((1200, 1000), (0, 0), (300, 280)))
    assert different(pixels, other)


@pytest.mark.parametrize(
    "rows", [[], side_rows((0, 0)), side_rows((5, 5)), side_rows((5, 0)), side_rows(*[(9_999_999, 9_999_000)] * 13)]
)
def test_recall_by_side_of_little(draw, rows):
    pixels, _ = draw(plot_recall_by_side, rows)
    assert pixels.shape == (600, 1080, 3)


def ambiguity(pairs, positives=(100, 200, 300, 10, 0), ambiguous=(0, 20, 60, 1, 0), cross_class=(0, 10, 60, 0, 0)):
    return {
        "by_level": level_rows(positives=positives, ambiguous=ambiguous, cross_class=cross_class),
        "pairs": [{"winner": w, "loser": x, "locations": n, "percent_of_ambiguous": 1.0} for w, x, n in pairs],
    }


def test_collisions(draw):
    pairs = [("cat", "dog", 15_943), ("dog", "dog", 900), ("dog", "cat", 7), ("bird", "cat", 1)]
    pixels, texts = draw(plot_collisions, ambiguity(pairs))
    assert {"cat", "dog", "bird", "16k", "900", "7", "10.00", "20.00", "13.28", "-"} <= set(texts)
    assert not any("other" in text for text in texts)
    swapped, _ = draw(plot_collisions, ambiguity([(loser, winner, count) for winner, loser, count in pairs]))
    assert different(pixels, swapped)


@pytest.mark.parametrize(("classes", "cells", "others"), [(1, 1, 0), (21, 21, 0), (80, 21, 60), (1200, 21, 1180)])
def test_collisions_of_many_classes_are_summed_up(draw, figures, classes, cells, others):
    generator = np.random.default_rng(0)
    pairs = [(f"class {i}", f"class {i}", 100_000 - i) for i in range(classes)]
    pairs += [(f"class {i}", f"class {j}", 1 + i % 9) for i, j in generator.integers(classes, size=(2000, 2)).tolist()]
    pixels, texts = draw(plot_collisions, ambiguity(pairs))
    assert max(pixels.shape) < 2000
    assert any(f"{others:,} other classes" in text for text in texts) == bool(others)
    (counts,) = (axes.collections[0].get_array() for axes in figures[-1].axes if axes.get_xlabel().startswith("loses"))
    assert counts.shape == (cells, cells)
    assert counts.sum() == sum(count for *_, count in pairs)


def test_no_collisions(draw):
    _, texts = draw(plot_collisions, ambiguity([], (0,) * 5, (0,) * 5, (0,) * 5))
    assert "no location may have several boxes" in texts
    assert texts.count("-") == 6


def test_names_of_any_kind(draw):
    pairs = [(one, other, 10) for one in STRANGE for other in STRANGE]
    _, texts = draw(plot_collisions, ambiguity(pairs), title=f"$ {LONG}: {LONG}")
    assert r"\$x^2\$" in texts
    assert "two lines" in texts
    assert max(len(text) for text in texts if "\n" not in text) < 50


LABELS = {
    "table1": {"retinanet_none": "RetinaNet, those of IoU 0.4 and above", "fcos_fpn": "FCOS, P3-P7"},
    "table2": {"fpn_all": "P3-P7", "fpn_cross": "P3-P7, of different classes"},
}
TITLES = {"table1": "Table 1: best possible recall, %", "table2": "Table 2: ambiguous locations, % of positives"}


def tables(retinanet, fcos, every, cross):
    return {
        "table1": {"retinanet_none": retinanet, "fcos_fpn": fcos},
        "table2": {"fpn_all": every, "fpn_cross": cross},
    }


def test_tables(draw):
    columns = {
        "published": tables(86.82, 98.4, 7.14, 3.75),
        "exact": tables(87.5, 99.03, 7.43, 3.83),
        "paper": tables(86.824, 98.4, 7.14, None),
    }
    pixels, texts = draw(plot_tables, columns, LABELS, titles=TITLES)
    assert {"87.50", "99.03", "7.43", "3.83", "3.75", "-", "published", *TITLES.values()} <= set(texts)
    assert texts.count("98.40") == 2
    other, _ = draw(plot_tables, {**columns, "exact": tables(80.0, 90.0, 5.0, 1.0)}, LABELS, titles=TITLES)
    assert different(pixels, other)


@pytest.mark.parametrize("columns", [{}, {"exact": tables(None, None, None, None)}, {"new": tables(0.0, 100.0, 0, 0)}])
def test_tables_of_little(draw, columns):
    pixels, texts = draw(plot_tables, columns, LABELS, titles=TITLES)
    assert pixels.shape[1] == 1080
    assert texts.count("-") == (4 if "exact" in columns else 0)


def box_levels(ranges=RANGES):
    counts = [1000 // (i + 1) if i < 4 else 0 for i in range(len(ranges))]
    ratios = [19.5 if count else None for count in counts]
    return level_rows(ranges, boxes=counts, positives=[20 * c for c in counts], positives_per_box=ratios)


def random_boxes(count, smallest=2.0, largest=1300.0):
    generator = np.random.default_rng(0)
    sides = np.exp(generator.uniform(np.log(smallest), np.log(largest), (count, 2)))
    return np.concatenate([np.zeros((count, 2)), sides], axis=1).astype(np.float32)


def test_boxes(draw):
    pixels, texts = draw(plot_boxes, random_boxes(5000), box_levels())
    assert pixels.shape == (768, 1440, 3)
    assert {"P3", "P3 P4", "P4 P5", "P5 P6", "P6 P7", "1024", "P7: 512+", "10,000\n19.5 a box"} <= set(texts)
    other, _ = draw(plot_boxes, random_boxes(5000, largest=300.0), box_levels())
    assert different(pixels, other)


@pytest.mark.parametrize(
    ("boxes", "ranges", "wanted"),
    [
        (np.zeros((0, 4), np.float32), RANGES, {"no boxes"}),
        (np.array([[5, 5, 5, 9]], np.float32), RANGES, {"no boxes"}),
        (np.array([[0, 0, 50, 50]], np.float32), RANGES, {"P3", "P3 P4"}),
        (random_boxes(100), [("P4", 0.0, None)], {"P4"}),
        (random_boxes(100), [("P3", 16.0, 64.0), ("P4", 200.0, 300.0)], {"none", "P3", "P4"}),
        (random_boxes(100, 0.01, 20_000.0), RANGES, {"P3", "P7"}),
        (random_boxes(100), [(f"P{i}", 7.0 * i, 7.0 * i + 7) for i in range(3, 11)], {"P3"}),
    ],
)
def test_boxes_of_every_kind(draw, boxes, ranges, wanted):
    pixels, texts = draw(plot_boxes, boxes, box_levels(ranges))
    assert pixels.shape == (768, 1440, 3)
    assert wanted <= set(texts)


def advice(boxes=(0, 198, 0, 156), total=36_335):
    reasons = (
        "outside every level's range",
        "falls between the locations of its level",
        "equal to another box of its image",
        "covered by smaller boxes",
    )
    return {
        "boxes": total,
        "missed": sum(boxes),
        "bpr": 100 - 100 * sum(boxes) / total,
        "ambiguous_percent": 7.43,
        "by_reason": [{"name": text[:3], "reason": text, "boxes": n} for text, n in zip(reasons, boxes, strict=True)],
    }


def change(name, recovered, lost, bpr, locations):
    figures = {"recovered": recovered, "lost": lost, "gain": recovered - lost, "bpr": bpr, "locations": locations}
    return {"change": name, "ambiguous_percent": 6.5, **figures}


def test_advice(draw):
    tried = [
        change("short side 1000", 1222, 103, 99.35, 1.5584),
        change("twice the ranges, short side 1000", 0, 0, 99.03, 1),
    ]
    pixels, texts = draw(plot_advice, advice(), tried)
    assert pixels.shape[1] == 1560
    assert {"+1,222", "-103", "99.35", "x 1.56", "x 1.00", "198  (0.54 %)", "354 of 36,335 boxes are missed"} <= set(
        texts
    )
    other, _ = draw(plot_advice, advice(), tried[:1])
    assert different(pixels, other)


@pytest.mark.parametrize(
    "tried",
    [
        [],
        [change("add P2", 0, 0, 100.0, 4.0)],
        [change("add P2", 0, 900, 10.0, 4.0), change("half the ranges", 0, 1, None, 1234.5)],
        [change(LONG, 10**i - 1, 10 ** (6 - i) - 1, 99.0, 4.0) for i in range(7)],
    ],
)
def test_advice_of_little(draw, tried):
    _, texts = draw(plot_advice, advice((0, 0, 0, 0)), tried)
    assert "no change" in texts
    assert "0 of 36,335 boxes are missed" in texts


def detection_levels(detections, positive, ambiguous, cross_class):
    return level_rows(detections=detections, positive=positive, ambiguous=ambiguous, cross_class=cross_class)


def test_detections(draw):
    levels = detection_levels((12_345, 800, 90, 7, 0), (10_000, 700, 90, 0, 0), (300, 20, 9, 0, 0), (100, 20, 0, 0, 0))
    pixels, texts = draw(plot_detections, levels)
    assert pixels.shape[1] == 1320
    assert {"12,345", "2.43", "2.50", "10.00", "2.48", "-", "P7: 512+"} <= set(texts)
    fewer = detection_levels((12_345, 800, 90, 7, 0), (10_000, 700, 90, 0, 0), (30, 20, 9, 0, 0), (10, 20, 0, 0, 0))
    assert different(pixels, draw(plot_detections, fewer)[0])


@pytest.mark.parametrize("levels", [[], detection_levels(*[(0,) * 5] * 4), detection_levels(*[(10**9,) * 5] * 4)])
def test_detections_of_little(draw, levels):
    draw(plot_detections, levels)
