"""Small data sets for the tests of formats: images of 160x120 and text files."""

import json
from pathlib import Path

import pytest
from PIL import Image


class Made:
    """Files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, *names: str, size: tuple[int, int] = (160, 120)) -> None:
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (90, 120, 150)).save(self.root / name)

    def text(self, name: str, content: str) -> Path:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(content, encoding="utf-8")
        return self.root / name

    def json(self, name: str, content: object) -> Path:
        return self.text(name, json.dumps(content))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.fixture
def listed():
    """A data set as {file name: [(class, x0, y0, x1, y1)]}."""

    def listed(data):
        rows = zip(data.labels.tolist(), data.boxes.round(6).tolist(), strict=True)
        items = [(data.categories.names[label], *box) for label, box in rows]
        return {name: items[data.rows(i)] for i, name in enumerate(data.file_names)}

    return listed
