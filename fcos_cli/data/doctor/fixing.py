"""A sound copy of a data set: without what is broken, outside, or there twice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fcos_cli.data.check import DataReport
from fcos_cli.data.doctor.copies import Copies
from fcos_cli.data.findings import Finding, Findings, Kind
from fcos_cli.data.formats.splits import meaning
from fcos_cli.data.records import DetectionData

ABSENT = Kind("images that are missing or cannot be read")
TWICE = Kind("images that their split holds twice, by their bytes: the one with most boxes stays")
LEAKED = Kind("images that a split to evaluate on holds as well, by their bytes")
OUTSIDE = Kind("boxes outside of their image", boxes=True)
REPEATED = Kind("boxes that repeat another one of the same class and image exactly", boxes=True)
CUT = Kind("boxes that are cut at their image's border")
_EVALUATED_LAST = ("train", "val", "test")


def sound_copy(
    splits: Mapping[str, DetectionData], reports: Mapping[str, DataReport], copies: Sequence[Copies]
) -> tuple[dict[str, DetectionData], tuple[Finding, ...]]:
    """The splits without what stands in the way.

    Args:
        splits: by name.
        reports: what `check_data` says of them after decoding their images.
        copies: what `find_copies` says; images that only look the same stay.

    Returns:
        The splits; and what was left out of them or changed.
    """
    found = Findings()
    left_out = {name: _absent(splits[name], report, found) for name, report in reports.items()}
    for copy in copies:
        if copy.kind == "same":
            _leave_out_copies(splits, copy, left_out, found)
    fixed = {}
    for name, data in splits.items():
        kept = [index for index in range(len(data)) if index not in left_out[name]]
        fixed[name] = _sound_boxes(data.subset(kept), name, found)
    return fixed, tuple(found)


def _absent(data: DetectionData, report: DataReport, found: Findings) -> set[int]:
    names = {*report.missing, *(image.name for image in report.broken)}
    indices = {index for index, name in enumerate(data.file_names) if name in names}
    found.add(ABSENT, *(f"{data.name}: {data.file_names[index]}" for index in sorted(indices)))
    return indices


def _leave_out_copies(
    splits: Mapping[str, DetectionData], copy: Copies, left_out: dict[str, set[int]], found: Findings
) -> None:
    """Of an image's copies one stays in a split, and only those of the split that is evaluated on last."""
    there = [(split, index) for split, index in copy.members if index not in left_out[split]]
    of_split: dict[str, list[int]] = {}
    for split, index in there:
        of_split.setdefault(split, []).append(index)
    for split, indices in of_split.items():
        data = splits[split]
        best = max(indices, key=lambda index: data.offsets[index + 1] - data.offsets[index])
        others = [index for index in indices if index != best]
        left_out[split].update(others)
        found.add(TWICE, *(f"{split}: {data.file_names[index]}" for index in others))
        of_split[split] = [best]
    ranks = {split: _EVALUATED_LAST.index(known) for split in of_split if (known := meaning(split))}
    for split, rank in ranks.items():
        if rank < max(ranks.values()):
            left_out[split].update(of_split[split])
            found.add(LEAKED, *(f"{split}: {splits[split].file_names[index]}" for index in of_split[split]))


def _sound_boxes(data: DetectionData, name: str, found: Findings) -> DetectionData:
    """Boxes within their images, each once."""
    image_of = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    sizes = np.tile(data.sizes[image_of].astype(np.float64), 2)
    known = np.asarray((sizes > 0).all(axis=1))
    boxes = np.where(known[:, None], np.clip(data.boxes, 0, np.where(known[:, None], sizes, np.inf)), data.boxes)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    keys = np.column_stack([image_of, data.labels, data.crowd, boxes])
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, axis=0, return_index=True)[1]] = True
    kept = inside & first
    for kind, rows in (
        (OUTSIDE, ~inside),
        (REPEATED, inside & ~first),
        (CUT, kept & (np.abs(boxes - data.boxes) > 0).any(axis=1)),
    ):
        found.add(kind, *(f"{name}: {data.file_names[image_of[row]]}" for row in np.flatnonzero(rows)))
    counts = np.bincount(image_of[kept], minlength=len(data))
    return replace(
        data,
        boxes=boxes[kept],
        labels=data.labels[kept],
        crowd=data.crowd[kept],
        areas=np.minimum(data.areas, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))[kept],
        box_ids=data.box_ids[kept],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
