"""From the images and boxes of a format's files to a `DetectionData`: unusable boxes left out, the rest by image."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fcos_cli.data.findings import EXAMPLES, Findings, Kind
from fcos_cli.data.records import Categories, DetectionData, group_by_image
from fcos_cli.data.sources.files import ImageFiles

UNREADABLE = Kind("images left out, whose annotation file cannot be read")
LIKE_CORNERS = Kind(
    "boxes that pass their image's border, more than half of all: these look like x1 y1 x2 y2 where a width and height "
    "belong, or the images were resized"
)
_BORDER = 1.0
NO_SIZE = Kind("image sizes that are no sizes; taken from the image files")
NO_AREA = Kind("boxes with a side of zero or less", boxes=True)
NOT_FINITE = Kind("boxes with NaN, infinite or missing coordinates", boxes=True)


def assemble(
    *,
    name: str,
    categories: Categories,
    root: Path,
    image_ids: np.ndarray,
    file_names: Sequence[str],
    sizes: np.ndarray,
    image_index: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    crowd: np.ndarray | None = None,
    areas: np.ndarray | None = None,
    box_ids: np.ndarray | None = None,
    annotated: bool = True,
    findings: Findings | None = None,
    where: Callable[[int], str] | None = None,
) -> DetectionData:
    """A data set of image files from its N images and B boxes in any order.

    Boxes with a side of zero or less and boxes that are not finite are left out and found.

    Args:
        image_index: int [B], position of each box's image.
        boxes: float64 [B, 4], xyxy in pixels.
        labels: int [B], contiguous.
        crowd: bool [B]; None: none is.
        areas: float64 [B], NaN where unknown: then width * height.
        box_ids: int64 [B]; None: the boxes that are kept are numbered from 1.
        findings: what was found before.
        where: the place of box i in the files, such as "labels/a.txt:3", for the examples.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
    finite = np.isfinite(boxes).all(axis=1)
    solid = (sides > 0).all(axis=1)
    kept = np.flatnonzero(finite & solid)
    order, offsets = group_by_image(image_index[kept], len(image_ids))
    rows = kept[order]
    found = Findings(findings or ())
    _suspect(boxes[finite & solid], sizes[image_index[finite & solid]], found)
    for kind, lost in ((NOT_FINITE, ~finite), (NO_AREA, finite & ~solid)):
        examples = [where(int(row)) for row in np.flatnonzero(lost)[:EXAMPLES]] if where is not None else []
        found.add(kind, *examples, count=int(lost.sum()))
    with np.errstate(over="ignore"):
        box_areas = sides.prod(axis=1)
    return DetectionData(
        name=name,
        categories=categories,
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        boxes=boxes[rows],
        labels=labels[rows].astype(np.int32),
        crowd=np.zeros(rows.size, dtype=bool) if crowd is None else crowd[rows],
        areas=(box_areas if areas is None else np.where(np.isfinite(areas), areas, box_areas))[rows],
        box_ids=np.arange(1, rows.size + 1, dtype=np.int64) if box_ids is None else box_ids[rows],
        offsets=offsets,
        root=root,
        source=ImageFiles(),
        annotated=annotated,
        findings=tuple(found),
    )


def _suspect(boxes: np.ndarray, sizes: np.ndarray, findings: Findings) -> None:
    """Finds where most boxes [B, 4] xyxy reach beyond images of width and height `sizes` [B, 2]."""
    beyond = (boxes[:, 2:] > sizes + _BORDER).any(axis=1) | (boxes[:, :2] < -_BORDER).any(axis=1)
    beyond &= (sizes > 0).all(axis=1)
    if beyond.sum() > len(boxes) / 2:
        findings.add(LIKE_CORNERS, count=int(beyond.sum()))
