"""Image files that are odd and can be read: said with their name, once or for whoever listens."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data import remarks
from fcos_cli.data.check import check_data
from fcos_cli.data.datasets import open_data
from fcos_cli.data.findings import Finding, Findings
from fcos_cli.data.images import NARROW, NO_END, read_image, upright_pixels
from fcos_cli.data.remarks import PILLOW, listening, reading
from fcos_cli.errors import DataError


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remarks, "_told", set())


def photo(path: Path, mode: str = "RGB", **options: object) -> bytes:
    noise = np.random.default_rng(3).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path, "JPEG", quality=90, **options)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {"optimize": True})],
)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_is_decoded_and_said(
    tmp_path: Path, mode: str, options: dict[str, object], missing: int
) -> None:
    content = photo(tmp_path / "a.jpg", mode, **options)
    wanted = read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(content[:-missing])
    found = Findings()
    with listening(found):
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), wanted)
    assert tuple(found) == (Finding(NO_END, 1, (str(tmp_path / "a.jpg"),)),)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
def test_a_jpeg_that_lacks_more_is_broken(tmp_path: Path, share: float) -> None:
    content = photo(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"a\.jpg: broken image"):
        read_image(tmp_path / "a.jpg")


def test_16_bit_images_of_a_sliver(tmp_path: Path) -> None:
    values = np.array([[7188, 7282, 7376]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "t.png")
    found = Findings()
    with listening(found):
        assert read_image(tmp_path / "t.png")[0, :, 0].tolist() == [28, 28, 29]
        assert read_image(tmp_path / "t.png", stretch=True)[0, :, 0].tolist() == [0, 128, 255]
    assert tuple(found) == (Finding(NARROW, 1, (f"{tmp_path / 't.png'}: from 7188 to 7376",)),)
    with Image.open(tmp_path / "t.png") as image:
        assert upright_pixels(image, stretch=True)[0, :, 0].tolist() == [0, 128, 255]
    assert open_data(str(tmp_path), stretch=True).read(0)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("values", [[0, 65535], [100, 4000], [7, 7]])
def test_16_bit_images_of_a_wide_range_or_none_are_not_odd(tmp_path: Path, values: list[int]) -> None:
    Image.fromarray(np.array([values], dtype=np.uint16)).save(tmp_path / "t.png")
    found = Findings()
    with listening(found):
        read_image(tmp_path / "t.png")
    assert tuple(found) == ()


def test_warnings_of_others_are_left_alone(tmp_path: Path) -> None:
    def read_and_warn() -> None:
        with reading(tmp_path / "a.jpg"):
            pass
        warnings.warn("mine", stacklevel=1)

    with pytest.warns(UserWarning, match="mine"):
        read_and_warn()


def test_every_warning_of_pillow_is_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    found = Findings()
    with listening(found):
        for name in ("a.png", "b.png"):
            with reading(tmp_path / name):
                warnings.warn_explicit(
                    "Corrupt EXIF data", UserWarning, "PIL/TiffImagePlugin.py", 935, "PIL.TiffImagePlugin"
                )
    places = tuple(f"{tmp_path / name}: Corrupt EXIF data" for name in ("a.png", "b.png"))
    assert tuple(found) == (Finding(PILLOW, 2, places),)


def test_without_a_listener_each_kind_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = photo(tmp_path / "a.jpg")
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(content[:-2])
    with caplog.at_level(logging.WARNING, "fcos_cli"):
        read_image(tmp_path / "a.jpg")
        read_image(tmp_path / "b.jpg")
    (record,) = caplog.records
    assert "a.jpg: JPEG files without their end marker" in record.getMessage()


def test_check_counts_them(tmp_path: Path) -> None:
    content = photo(tmp_path / "a.jpg")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(content[: -2 if name != "c.jpg" else None])
    report = check_data(open_data(str(tmp_path)), decode=True)
    assert [(finding.kind, finding.count) for finding in report.findings] == [(NO_END, 2)]
    assert report.broken == []
    assert any("JPEG files without their end marker" in line for line in report.warnings)
