"""What a data set's boxes are like, and how many training samples each of them gets. No image is read."""

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.stats.coverage import LARGE, SMALL, LocationCoverage
from fcos_cli.stats.rows import Row, level_rows, percent

QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
COUNTS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
ASPECTS = (0, 0.125, 0.25, 0.5, 0.8, 1.25, 2, 4, 8)
SAMPLES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def summarize(data: DetectionData, coverage: LocationCoverage) -> Row:
    """Counts, sizes, aspect ratios, boxes an image, and positives a box.

    Returns:
        images, empty_images (without a box to learn), boxes; boxes_per_image, side (square root of the area, pixels of
        the original image), network_side (of the network's input), aspect (width / height), positives_per_box:
        mean and quantiles each; images_by_boxes, by_aspect, by_positives: histograms, rows of lower, upper (excluded;
        None: no end) and a count; by_size, by_class; by_level: boxes with a positive there, positives,
        positives_per_box (mean over those boxes).
    """
    boxes, setting, won = coverage.boxes, coverage.setting, coverage.won
    corners, inputs = data.boxes[boxes.rows], boxes.boxes.astype(np.float64)
    width, height = (corners[:, 2:] - corners[:, :2]).T
    network_side = np.sqrt((inputs[:, 2:] - inputs[:, :2]).prod(axis=1))
    per_image, positives = np.diff(boxes.offsets), won.sum(axis=1)
    on_level = zip(level_rows(setting), (won > 0).sum(axis=0).tolist(), won.sum(axis=0).tolist(), strict=True)
    return {
        "images": len(data),
        "empty_images": int((per_image == 0).sum()),
        "boxes": len(boxes.rows),
        "boxes_per_image": _spread(per_image),
        "side": _spread(np.sqrt(width * height)),
        "network_side": _spread(network_side),
        "aspect": _spread(width / height),
        "positives_per_box": _spread(positives),
        "images_by_boxes": _histogram(per_image, COUNTS, "images"),
        "by_aspect": _histogram(width / height, ASPECTS, "boxes"),
        "by_positives": _histogram(positives, SAMPLES, "boxes"),
        "by_size": _by_size(data.areas[boxes.rows], positives),
        "by_class": _by_class(data, coverage, positives),
        "by_level": [
            {**level, "boxes": count, "positives": total, "positives_per_box": _ratio(total, count)}
            for level, count, total in on_level
        ],
    }


def _spread(values: np.ndarray) -> Row:
    """Mean and quantiles; a quantile is one of the values."""
    quantiles = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf").tolist()
    return {"mean": float(values.mean()), **dict(zip(QUANTILES, quantiles, strict=True))}


def _histogram(values: np.ndarray, lowers: tuple[float, ...], what: str) -> list[Row]:
    place = np.searchsorted(lowers, values, side="right") - 1
    counts = np.bincount(place, minlength=len(lowers)).tolist()
    uppers = [*lowers[1:], None]
    return [{"lower": a, "upper": b, what: count} for a, b, count in zip(lowers, uppers, counts, strict=True)]


def _by_size(areas: np.ndarray, positives: np.ndarray) -> list[Row]:
    groups = {"small": areas < SMALL, "medium": (areas >= SMALL) & (areas <= LARGE), "large": areas > LARGE}
    return [{"name": name, **_group(positives[chosen], len(areas))} for name, chosen in groups.items()]


def _by_class(data: DetectionData, coverage: LocationCoverage, positives: np.ndarray) -> list[Row]:
    labels, classes = data.labels[coverage.boxes.rows], len(data.categories)
    image_of = np.repeat(np.arange(len(data)), np.diff(coverage.boxes.offsets))
    # An image counts once for a class, however many of its boxes it holds.
    in_images = np.bincount(np.unique(image_of * classes + labels) % classes, minlength=classes).tolist()
    counts = np.bincount(labels, minlength=classes).tolist()
    totals = np.bincount(labels, positives, minlength=classes).astype(int).tolist()
    return [
        {
            "name": name,
            "images": images,
            "boxes": count,
            "percent": percent(count, len(labels)),
            "positives_per_box": _ratio(total, count),
        }
        for name, images, count, total in zip(data.categories.names, in_images, counts, totals, strict=True)
    ]


def _group(positives: np.ndarray, of: int) -> Row:
    count = len(positives)
    return {
        "boxes": count,
        "percent": percent(count, of),
        "positives_per_box": _ratio(int(positives.sum()), count),
    }


def _ratio(total: int, count: int) -> float | None:
    return total / count if count else None
