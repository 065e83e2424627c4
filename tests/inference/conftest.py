"""Images on disk for the inference tests."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_images(tmp_path):
    """Function: {name: (width, height)} -> a folder of PNG files of noise."""

    def make(sizes, folder="images"):
        place = tmp_path / folder
        rng = np.random.default_rng(5)
        for name, (width, height) in sizes.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        return place

    return make
