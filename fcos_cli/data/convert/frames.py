"""Boxes in the upright image, of images that were annotated as they are stored."""

import numpy as np

from fcos_cli.data.images import exif_orientation, open_image, stored_size, upright_size
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError


def upright_frame(data: DetectionData, index: int, boxes: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Boxes and size of image `index` as it is seen upright.

    Args:
        data: the data set.
        index: position of the image.
        boxes: float64 [B, 4] xyxy of its boxes, as they are annotated.

    Returns:
        float64 [B, 4], and width and height, zeros where they are not known.
    """
    width, height = (int(side) for side in data.sizes[index])
    if not data.source.on_disk:
        return boxes, (width, height)
    try:
        orientation, stored, upright = open_image(
            data.path(index), lambda image: (exif_orientation(image), stored_size(image), upright_size(image))
        )
    except DataError:
        return boxes, (width, height)
    # As `ImageFiles` tells the frames apart.
    if (width, height) in ((0, 0), upright) or (width, height) != stored:
        return boxes, upright if (width, height) == (0, 0) else (width, height)
    return turned(boxes, orientation, stored), upright


def turned(boxes: np.ndarray, orientation: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes of a stored image of this size, after the turn that an EXIF orientation of 5 to 8 asks for."""
    width, height = size
    x0, y0, x1, y1 = boxes.T
    across = (height - y1, height - y0) if orientation in (6, 7) else (y0, y1)
    down = (width - x1, width - x0) if orientation in (7, 8) else (x0, x1)
    return np.stack([across[0], down[0], across[1], down[1]], axis=1)
