"""Writes COCO files: all that a data set has but segments and key points, which are not read."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from fcos_cli.data.convert.target import Part, Target, Written


class Coco(Target):
    """`annotations/instances_<split>.json` and `images/<split>/`. Ids, areas, crowd and classes stay as they are."""

    name = "coco"
    first_class = None
    nested = True
    can_refer = True

    def image_folder(self, split: str) -> str:
        return f"images/{split}"

    def write(self, folder: Path, parts: Sequence[Part], written: Written) -> None:
        (folder / "annotations").mkdir()
        for part in parts:
            with (folder / "annotations" / f"instances_{part.name}.json").open("w", encoding="utf-8") as file:
                categories = zip(part.data.categories.ids, part.data.categories.names, strict=True)
                file.write('{"info": {}, "licenses": [],\n"categories": ')
                json.dump([{"id": number, "name": name} for number, name in categories], file, ensure_ascii=False)
                _write_list(file, "images", self._images(part))
                if part.data.annotated:
                    _write_list(file, "annotations", self._annotations(part))
                file.write("}\n")
            written.images[part.name] = len(part.data)
            written.boxes[part.name] = len(part.data.boxes)

    def _images(self, part: Part) -> Iterator[dict[str, Any]]:
        prefix = f"{self.image_folder(part.name)}/"
        columns = zip(part.data.image_ids.tolist(), part.images, part.data.sizes.tolist(), strict=True)
        for number, name, (width, height) in columns:
            size = {"width": width, "height": height} if width and height else {}
            yield {"id": number, "file_name": name.removeprefix(prefix), **size}

    @staticmethod
    def _annotations(part: Part) -> Iterator[dict[str, Any]]:
        data = part.data
        for index, image_id in enumerate(data.image_ids.tolist()):
            rows = data.rows(index)
            columns = (data.box_ids, data.labels, data.boxes, data.areas, data.crowd)
            for number, label, (x0, y0, x1, y1), area, crowd in zip(*(c[rows].tolist() for c in columns), strict=True):
                yield {
                    "id": number,
                    "image_id": image_id,
                    "category_id": data.categories.ids[label],
                    "bbox": [_short(value) for value in (x0, y0, x1 - x0, y1 - y0)],
                    "area": _short(area),
                    "iscrowd": int(crowd),
                }


def _write_list(file: IO[str], key: str, items: Iterator[dict[str, Any]]) -> None:
    """One item a line, so that a large list is never in memory."""
    file.write(f',\n"{key}": [')
    for position, item in enumerate(items):
        file.write((",\n" if position else "\n") + json.dumps(item, ensure_ascii=False))
    file.write("]")


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() else value
