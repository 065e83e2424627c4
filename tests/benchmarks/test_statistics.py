"""The benchmark of the statistics: its laws, and whole commands on copies of a data set."""

import pytest

from fcos_cli.benchmarks import statistics
from fcos_cli.data.formats.coco import read_coco
from fcos_cli.errors import FcosError


def test_exponent_of_a_square():
    points = [statistics.Point(x, 3, 3.0 * x**2, 0, 1, 1, 1) for x in (1, 2, 5)]
    assert statistics.exponent("images", points) == pytest.approx(2)
    # Half as many images with twice the boxes in the same time: linear an image.
    points = [statistics.Point(x, 8 // x, 3.0, 0, 1, 1, 1) for x in (1, 2, 4)]
    assert statistics.exponent("boxes", points) == pytest.approx(1)


def test_whole_commands_on_copies_of_a_data_set(tmp_path):
    data = statistics.made_up(4, 3)
    file = tmp_path / "copies.json"
    statistics.write_copies(data, 3, file)
    copies = read_coco(file)
    assert (len(copies), len(copies.boxes)) == (12, 36)
    assert copies.boxes[12:24] == pytest.approx(data.boxes, abs=1e-3)
    assert copies.labels[24:].tolist() == data.labels.tolist()
    (run,) = statistics.whole_commands(data, [["bpr", "--json"]], 2)
    assert (run.command, run.images, run.boxes) == ("fcos stats bpr --json", 8, 24)
    assert run.seconds > 0
    with pytest.raises(FcosError, match="failed"):
        list(statistics.whole_commands(data, [["bpr", "--levels", "9"]]))
