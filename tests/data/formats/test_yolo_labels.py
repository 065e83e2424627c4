"""Boxes, polygons, oriented boxes and keypoints are told apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.formats.yolo import yolo_splits
from fcos_cli.errors import DataError

BOXES = np.array([[0.3, 0.4, 0.2, 0.2], [0.6, 0.5, 0.4, 0.3], [0.5, 0.5, 0.1, 0.2]])
XYXY = np.column_stack([BOXES[:, :2] - BOXES[:, 2:] / 2, BOXES[:, :2] + BOXES[:, 2:] / 2]) * 100


def write(folder: Path, lines: list[str], index: str = "", split: str = "train") -> Path:
    for place in ("images", "labels"):
        (folder / place / split).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 100)).save(folder / "images" / split / "1.png")
    (folder / "labels" / split / "1.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: [a]\n{index}\n")
    return folder


def line(*numbers: float) -> str:
    return " ".join(["0", *(f"{number:g}" for number in numbers)])


def keypoints(box: np.ndarray, count: int, flags: bool) -> list[float]:
    """Points on the box's diagonal; one that is not seen is 0 0."""
    points = [[box[0] + box[2] * t, box[1] + box[3] * t] for t in np.linspace(-0.5, 0.5, count)]
    points[-1] = [0.0, 0.0]
    return [number for point in points for number in ([*point, 2.0 if any(point) else 0.0] if flags else point)]


def polygon(box: np.ndarray, corners: int) -> list[float]:
    """Corners on the box's border, clockwise from the left."""
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    x, y = -np.cos(turns), -np.sin(turns)
    longest = np.maximum(np.abs(x), np.abs(y))
    return np.column_stack([box[0] + box[2] / 2 * x / longest, box[1] + box[3] / 2 * y / longest]).ravel().tolist()


@pytest.mark.parametrize("count", [2, 4, 5, 17])
@pytest.mark.parametrize("flags", [False, True])
def test_keypoints_that_the_index_names(tmp_path: Path, count: int, flags: bool) -> None:
    lines = [line(*box, *keypoints(box, count, flags)) for box in BOXES]
    data = yolo_splits(write(tmp_path, lines, f"kpt_shape: [{count}, {2 + flags}]"))["train"].open()
    np.testing.assert_allclose(data.boxes, XYXY, atol=1e-9)


@pytest.mark.parametrize("count", [3, 4, 5, 17])
@pytest.mark.parametrize("flags", [False, True])
def test_keypoints_that_the_columns_tell(tmp_path: Path, count: int, flags: bool) -> None:
    data = yolo_splits(write(tmp_path, [line(*box, *keypoints(box, count, flags)) for box in BOXES]))["train"].open()
    np.testing.assert_allclose(data.boxes, XYXY, atol=1e-9)


def test_keypoints_of_a_small_split_are_told_by_the_others(tmp_path: Path) -> None:
    write(tmp_path, [line(*box, *keypoints(box, 6, False)) for box in BOXES])
    write(tmp_path, [line(*BOXES[0], *keypoints(BOXES[0], 6, False))], split="val")
    np.testing.assert_allclose(yolo_splits(tmp_path)["val"].open().boxes, XYXY[:1], atol=1e-9)


def test_polygons_have_different_numbers_of_corners(tmp_path: Path) -> None:
    lines = [line(*polygon(box, corners)) for box, corners in zip(BOXES, (8, 12, 16), strict=True)]
    data = yolo_splits(write(tmp_path, [*lines, line(*BOXES[0])]))["train"].open()
    np.testing.assert_allclose(data.boxes, [*XYXY, XYXY[0]], atol=1e-3)


def test_oriented_boxes_have_four_corners(tmp_path: Path) -> None:
    data = yolo_splits(write(tmp_path, [line(*polygon(box, 4)) for box in BOXES]))["train"].open()
    np.testing.assert_allclose(data.boxes, XYXY, atol=1e-3)


def test_what_may_be_either_is_asked_about(tmp_path: Path) -> None:
    lines = [line(*polygon(box, 8)) for box in BOXES]
    with pytest.raises(DataError, match="every label has 17 numbers, which may be keypoints") as caught:
        yolo_splits(write(tmp_path, lines))["train"].open()
    assert "kpt_shape: [6, 2]" in caught.value.hint
    data = yolo_splits(write(tmp_path, lines, "task: segment"))["train"].open()
    np.testing.assert_allclose(data.boxes, XYXY, atol=1e-3)
