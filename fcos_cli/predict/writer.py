"""Detections on their way to the disk: image by image into a journal, at the end from there into their file."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import UsageError
from fcos_cli.evaluation.categories import UNKNOWN_CATEGORY
from fcos_cli.evaluation.detections import ImageResult, to_columns
from fcos_cli.files import atomic_file
from fcos_cli.predict.formats import FORMATS, Encoder, FormatName, OutputNames, Seen, replace_file
from fcos_cli.predict.journal import Journal, partial_path

CLASSES_FILE = "classes.txt"


@dataclass
class ResultWriter:
    """Writes detections image by image. Made by `result_writer`.

    Attributes:
        path: the result: a file, or a folder with a file an image.
        journal: what is done; the file is made from it.
        data: names and ids of the images.
        done: bool [N], the images of `data` that were done before this process (--resume).
        images: images written so far, those of before included; so are the following counts.
        detections: detections written so far.
        invalid: detections left out because a number in them was not finite.
        per_class: detections per category id.
    """

    path: Path
    journal: Journal
    form: Encoder
    category_ids: np.ndarray
    data: DetectionData
    names: OutputNames
    done: np.ndarray
    images: int = 0
    detections: int = 0
    invalid: int = 0
    per_class: dict[int, int] = field(default_factory=dict)

    def add(self, result: ImageResult) -> None:
        """Write the detections of one image; when this returns, they survive the end of the process.

        Raises:
            OSError: they cannot be written; those of the images before are kept.
        """
        columns = to_columns(result, self.category_ids)
        seen = Seen(self.data.file_names[result.index], result.image_id, result.size)
        output = self.form.encode(seen, columns)
        if self.form.folder:
            replace_file(self.path / self.names.of(result.index, self.form.suffix), output)
            output = b""
        width, height = seen.size
        classes = zip(*(values.tolist() for values in np.unique(columns.category_id, return_counts=True)), strict=True)
        image = {"id": seen.image_id, "file_name": seen.name, "width": width, "height": height}
        counts = {"invalid": result.invalid, "classes": [list(entry) for entry in classes]}
        self.journal.add({**image, **counts}, output)
        self.count({**image, **counts})

    def count(self, image: Mapping[str, Any]) -> None:
        """Count an image of the journal."""
        self.images += 1
        self.invalid += image["invalid"]
        for category, number in image["classes"]:
            self.detections += number
            self.per_class[category] = self.per_class.get(category, 0) + number

    def assemble(self, categories: Categories) -> None:
        """Put the result in its place, from what the journal holds."""
        if self.form.folder:
            return
        with atomic_file(self.path) as file:
            self.form.assemble(file, (output for _, output in self.journal.outputs()))
        if lists_images(self.form, self.data):
            text = json.dumps(self._companion(categories), ensure_ascii=False, indent=1)
            with atomic_file(companion_path(self.path)) as file:
                # A name that is not UTF-8 holds surrogates, which Python and JSON escape in the same way.
                file.write(text.encode(errors="backslashreplace"))

    def _companion(self, categories: Categories) -> dict[str, object]:
        rows = [{key: i[key] for key in ("id", "file_name", "width", "height")} for i in self.journal.images()]
        classes = zip(categories.ids, categories.names, strict=True)
        return {
            "info": {
                "description": "images of the result list beside this file",
                "root": str(self.data.root),
                **self.data.source.about,
            },
            "images": sorted(rows, key=lambda row: str(row["file_name"])),
            "categories": [{"id": category, "name": name} for category, name in classes],
        }


@contextmanager
def result_writer(
    path: str | Path,
    category_ids: np.ndarray,
    *,
    data: DetectionData,
    categories: Categories,
    format: FormatName = "coco",
    locations: bool = False,
    settings: Mapping[str, object] | None = None,
    resume: bool = False,
) -> Iterator[ResultWriter]:
    """A result at `path`, streamed to a journal beside it (`journal.partial_path`) and put in place at the end.

    Ctrl-C keeps what is done: the images so far take their place at `path` as a whole, valid file, the journal stays
    for --resume, and the interruption goes on. Any other exception leaves an older file at `path` as it was, and keeps
    the journal, too.

    Args:
        path: the file; for formats of a file an image their folder.
        category_ids: int64 [C], id of each of the model's labels.
        data: the images. Where they have no annotations of their own, a companion file beside a COCO result list
            (`companion_path`) lists them, with the classes, in COCO's layout.
        categories: the model's classes, in label order.
        format: one of `formats.FORMATS`.
        locations: write where each detection came from, in the formats that can: `level`, the number of the pyramid
            level, and `location`, [x, y] in pixels of the network input.
        settings: what the detections depend on; a journal of other settings is not gone on with.
        resume: go on with the journal that is there; where there is none, start.

    Raises:
        UsageError: `resume` with other settings than before; another process is writing there.
        DataError: what is there is no journal.
        OSError: something cannot be written.
    """
    path = Path(path)
    known = Categories(data.categories.ids, data.categories.names) if len(data.categories) else categories
    names = dict(zip(known.ids, known.names, strict=True))
    form = FORMATS[format](names, locations)
    place = partial_path(path, folder=form.folder)
    described = {"format": format, **(settings or {}), "classes": list(names.values()), "locations": locations}
    none = np.zeros(len(data), dtype=bool)
    files = OutputNames(data.file_names, data.image_ids)
    opened = Journal.resume(place, described) if resume and place.exists() else Journal.start(place, described)
    with opened as journal:
        writer = ResultWriter(path, journal, form, category_ids, data, files, none)
        _mark_done(writer)
        if form.folder:
            replace_file(path / CLASSES_FILE, "".join(f"{name}\n" for name in names.values()).encode())
        try:
            yield writer
            writer.assemble(categories)
        except KeyboardInterrupt:
            writer.assemble(categories)
            raise
        journal.remove()


def _mark_done(writer: ResultWriter) -> None:
    position: dict[str, int] = {}
    for image in writer.journal.images():
        position = position or {name: index for index, name in enumerate(writer.data.file_names)}
        writer.count(image)
        index = position.get(image["file_name"])
        if index is None:
            continue
        if int(writer.data.image_ids[index]) != image["id"]:
            raise UsageError(
                f"--resume: {image['file_name']} now has another image id, because other images came or went",
                "leave --resume out to start again",
            )
        writer.done[index] = True


def lists_images(form: Encoder, data: DetectionData) -> bool:
    """Whether a companion file lists the images: a COCO result list has ids alone, which bare images do not explain."""
    return isinstance(form, FORMATS["coco"]) and not len(data.categories)


def companion_path(path: str | Path) -> Path:
    """Where the images of a result list are listed: `preds.json` -> `preds.images.json`."""
    path = Path(path)
    stem = path.stem if path.suffix.lower() == ".json" else path.name
    return path.with_name(f"{stem}.images.json")


def names_of(writer: ResultWriter) -> list[tuple[str, int]]:
    """Detections per class name, most first."""
    counts = [(writer.form.names[i], count) for i, count in writer.per_class.items() if i != UNKNOWN_CATEGORY]
    return sorted(counts, key=lambda entry: (-entry[1], entry[0]))
