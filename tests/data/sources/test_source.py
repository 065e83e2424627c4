"""The interface of sources: one that has only `read`, and one whose images come one after another."""

from pathlib import Path

import numpy as np
import pytest

from fcos_cli.data.check import check_data
from fcos_cli.data.loading.eval_loader import eval_batches
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.source import ImageSource, StreamedSource
from fcos_cli.errors import DataError

COUNT = 7


def pixels_of(index):
    return np.full((30, 40 + index, 3), 10 * index + 5, dtype=np.uint8)


class Painted(ImageSource):
    """Made up: images of one colour; number 3 cannot be read."""

    def read(self, data, index):
        if index == 3:
            raise DataError(f"{data.file_names[index]}: out of paint")
        return pixels_of(index)


class Passing(StreamedSource):
    """Made up: the same images one after another; the stream breaks after the sixth."""

    def stream(self, data, done, failed):
        for index in range(COUNT - 1):
            if done is None or not done[index]:
                yield index, pixels_of(index)
        failed.append((data.name, "the belt stopped"))


def data_of(source):
    names, sizes = [f"{i}.png" for i in range(COUNT)], np.zeros((COUNT, 2), dtype=np.int32)
    return DetectionData.unannotated("made up", np.arange(COUNT), names, sizes, Path("nowhere"), source)


def shades(batches):
    return {i: int(x.float().mean()) for batch in batches for i, x in zip(batch.indices, batch.images, strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_needs_only_read(workers):
    batches = list(eval_batches(data_of(Painted()), 15, 40, 2, workers=workers))
    assert shades(batches) == {i: 10 * i + 5 for i in range(COUNT) if i != 3}
    assert [batch.failed for batch in batches if batch.failed] == [[("3.png", "3.png: out of paint")]]
    sizes = {i: size for batch in batches for i, size in zip(batch.indices, batch.original_sizes.tolist(), strict=True)}
    assert sizes == {i: [40 + i, 30] for i in range(COUNT) if i != 3}
    report = check_data(data_of(Painted()), decode=True)
    assert (report.missing, [image.name for image in report.broken]) == ([], ["3.png"])


def test_a_stream_comes_in_its_order_and_is_kept_on_request():
    data, done = data_of(Passing()), np.arange(COUNT) == 1
    data.source.keep_originals()
    *batches, last = eval_batches(data, 15, 40, 2, workers=2, done=done)
    assert [batch.indices for batch in batches] == [[0, 2], [3, 4], [5]]
    assert shades(batches) == {i: 10 * i + 5 for i in (0, 2, 3, 4, 5)}
    assert (last.images, last.failed) == ([], [("made up", "the belt stopped")])
    np.testing.assert_array_equal(data.read(4), pixels_of(4))
    data.source.release(4)
    with pytest.raises(DataError, match=r"4\.png: frames can be read only in their order"):
        data.read(4)
