import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.report.plots import plot_per_class, plot_training


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return np.asarray(image.convert("RGB"), dtype=int)


def has_color(image, color, tolerance=12):
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(image - wanted).max(axis=-1) <= tolerance).sum()


BLUE, ORANGE, GREEN = "#3465a4", "#e07b28", "#4e9a3a"
TERMS = ("classification", "box", "quality")


def training_rows(quality=0.6):
    rows = [
        {
            "iteration": i,
            "loss": 2 / (1 + i / 50) + quality,
            "classification": 1 / (1 + i / 50),
            "box": 1 / (1 + i / 50),
            "quality": quality,
            "lr": 0.01 if i < 300 else 0.001,
        }
        for i in range(0, 400, 5)
    ]
    return [*rows, {"iteration": 200, "AP": 0.3, "AP50": 0.5}, {"iteration": 400, "AP": 0.45, "AP50": 0.7}]


def test_training_draws_every_curve(tmp_path):
    image = pixels(plot_training(training_rows(), TERMS, tmp_path / "new" / "training.png"))
    assert image.shape == (960, 1080, 3)
    assert has_color(image, BLUE) > 500
    assert has_color(image, ORANGE) > 500
    assert has_color(image, GREEN) > 200
    without = pixels(plot_training(training_rows(quality=0.0), TERMS, tmp_path / "without.png"))
    assert has_color(without, GREEN) == 0


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"iteration": 3, "loss": 1.0}],
        [{"iteration": 0, "loss": float("nan"), "lr": None}, {"iteration": 1, "AP": None, "AP50": 0.2}, {"note": "x"}],
    ],
)
def test_training_copes_with_little(tmp_path, rows):
    assert pixels(plot_training(rows, TERMS, tmp_path / "a.png")).shape == (960, 1080, 3)


def test_per_class_bars_are_as_long_as_the_precision(tmp_path):
    def blue(ap):
        rows = [("a", ap, 1.0, 1200), ("b", ap, 1.0, 3), ("c", None, None, 0), ("d", ap, 1.0, 3)]
        return has_color(pixels(plot_per_class(rows, tmp_path / "c.png")), BLUE)

    assert blue(0.8) / blue(0.4) == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("classes", [0, 1, 80, 500])
def test_per_class_grows_with_the_classes_within_reason(tmp_path, classes):
    rows = [(f"class {i}", i / classes, i / classes, i) for i in range(classes)]
    height, width, _ = pixels(plot_per_class(rows, tmp_path / "c.png")).shape
    assert width == 960
    assert 250 <= height <= 3600


def test_a_failure_leaves_the_older_picture(tmp_path, monkeypatch):
    path = plot_training(training_rows(), TERMS, tmp_path / "a.png")
    before = path.read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        plot_training([], (), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.png"]


def test_no_display_no_cache_no_noise_and_lazy(tmp_path):
    code = (
        "import sys; from fcos_cli.report import plots, stats_plots; assert 'matplotlib' not in sys.modules;"
        f"plots.plot_training([{{'iteration': 1, 'loss': 2.0}}], ['box'], {str(tmp_path / 'a.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    nowhere = "/proc/nowhere"
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")},
        "HOME": nowhere,
        "MPLCONFIGDIR": nowhere,
        "XDG_CACHE_HOME": nowhere,
        "XDG_CONFIG_HOME": nowhere,
    }
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=root, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pixels(tmp_path / "a.png").size
