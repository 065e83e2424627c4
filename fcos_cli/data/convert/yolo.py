"""Writes YOLO label files. They know no crowd, and nothing beyond the image's border."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from fcos_cli.data.convert.frames import upright_frame
from fcos_cli.data.convert.target import Part, Target, Written
from fcos_cli.data.formats.splits import meaning

DECIMALS = 8
CROWD = "crowd or difficult boxes: YOLO has no word for them, and the objects would count as background"
OUTSIDE = "boxes that lie outside of their image"
NO_SIZE = "boxes of images whose size cannot be read"


class Yolo(Target):
    """`images/<split>/`, `labels/<split>/`, `classes.txt`, and `data.yaml` where the splits are train, val and test.

    Boxes are cut at the image's border. An image that is annotated as it is stored, though its EXIF orientation says
    that it is to be turned, gets its boxes in the turned image: readers of YOLO files turn it.
    """

    name = "yolo"
    first_class = 0

    def image_folder(self, split: str) -> str:
        return f"images/{split}"

    def write(self, folder: Path, parts: Sequence[Part], written: Written) -> None:
        names = list(parts[0].data.categories.names)
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        cut = 0
        for part in parts:
            written.images[part.name] = len(part.data)
            written.boxes[part.name] = 0
            for index, image in enumerate(part.images):
                lines, clipped = _lines(part, index, written)
                cut += clipped
                written.boxes[part.name] += len(lines)
                inner = PurePosixPath(image).relative_to(self.image_folder(part.name)).with_suffix(".txt")
                path = folder / "labels" / part.name / inner
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(lines), encoding="utf-8")
        if cut:
            written.changed.append(f"{cut:,} boxes are cut at their image's border")
        self._write_index(folder, parts, names, written)

    def _write_index(self, folder: Path, parts: Sequence[Part], names: list[str], written: Written) -> None:
        meanings = [meaning(part.name) for part in parts]
        keys = ["train"] if meanings == [None] else [word for word in meanings if word is not None]
        if len(set(keys)) < len(parts):
            written.changed.append(
                "no data.yaml: it knows train, val and test only, and the splits are "
                + ", ".join(part.name for part in parts)
            )
            return
        places = {key: self.image_folder(part.name) for key, part in zip(keys, parts, strict=True)}
        index = {"path": ".", **places, "nc": len(names), "names": dict(enumerate(names))}
        text = yaml.safe_dump(index, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")


def _lines(part: Part, index: int, written: Written) -> tuple[list[str], int]:
    """The lines of one image, and how many boxes were cut at its border."""
    data = part.data
    rows = data.rows(index)
    learnable = ~data.crowd[rows]
    written.left_out[CROWD] += int((~learnable).sum())
    boxes, labels = data.boxes[rows][learnable], data.labels[rows][learnable]
    boxes, (width, height) = upright_frame(data, index, boxes)
    if len(boxes) and not (width and height):
        written.left_out[NO_SIZE] += len(boxes)
        return [], 0
    inside = np.clip(boxes, 0, [width, height, width, height])
    solid = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    written.left_out[OUTSIDE] += int((~solid).sum())
    clipped = int((inside[solid] != boxes[solid]).any(axis=1).sum())
    lines = []
    for label, (x0, y0, x1, y1) in zip(labels[solid].tolist(), inside[solid].tolist(), strict=True):
        fractions = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
        lines.append(f"{label} " + " ".join(f"{value:.{DECIMALS}f}" for value in fractions) + "\n")
    return lines, clipped
