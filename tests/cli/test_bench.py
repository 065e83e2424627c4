import json

import pytest
from typer.testing import CliRunner

from fcos_cli.commands import bench
from fcos_cli.stats import bench as measured


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measured, "IMAGES", (2, 4))
    monkeypatch.setattr(measured, "BOXES", (1, 30))
    monkeypatch.setattr(measured, "SHORT_SIDES", (64, 128))
    monkeypatch.setattr(measured, "TYPICAL_IMAGES", 3)
    monkeypatch.setattr(measured, "TYPICAL_SHORT", 64)
    monkeypatch.setattr(bench, "TRAIN2017_IMAGES", 700)


def run(*arguments):
    result = CliRunner().invoke(bench.app, ["stats", "--runs", "1", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_laws():
    # A Typer app of one command is that command itself.
    result = CliRunner().invoke(bench.app, ["--runs", "1", "--json"])
    found = json.loads(result.stdout)
    assert [point["x"] for point in found["laws"]["images"]["points"]] == [2, 4]
    assert [point["boxes"] for point in found["laws"]["boxes"]["points"]] == [3, 90]
    for law in found["laws"].values():
        assert all(point["seconds"] > 0 and point["floor"] > 0 and point["cells"] > 0 for point in law["points"])
    assert found["laws"]["boxes"]["points"][1]["cells"] > found["laws"]["boxes"]["points"][0]["cells"]
    assert found["commands"] == []
    assert found["machine"]["cores"] >= 1


def test_exponent_of_a_square():
    points = [measured.Point(x, 3.0 * x**2, 0, 1, 1, 1) for x in (1, 2, 5)]
    assert measured.exponent(points, lambda p: p.seconds) == pytest.approx(2)
