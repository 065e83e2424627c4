"""Names of image files: their extensions, their order, and the ids made from them."""

import numpy as np
import pytest

from fcos_cli.data.image_names import is_image_name, natural_key, stable_ids
from fcos_cli.data.sources.files import ImageFiles
from fcos_cli.errors import DataError

FILES = ImageFiles()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)


def test_image_names() -> None:
    assert is_image_name("a.JPG")
    assert is_image_name("dir.d/b.tiff")
    assert not is_image_name("._a.jpg")
    assert not is_image_name("a.txt")
    assert not is_image_name("jpg")


def test_natural_order() -> None:
    names = ["b/10.jpg", "b/9.jpg", "a10.jpg", "a9.jpg", "a.jpg", "7.jpg"]
    assert sorted(names, key=natural_key) == ["7.jpg", "a9.jpg", "a10.jpg", "a.jpg", "b/9.jpg", "b/10.jpg"]


def test_ids_follow_the_number_of_the_name() -> None:
    assert stable_ids(["000000000139.jpg", "cells_00007.jpg", "x/frame12.png"]).tolist() == [139, 7, 12]


def test_ids_do_not_depend_on_the_other_files() -> None:
    names = ["a.jpg", "b.jpg", "x1y2.jpg", "99999999999999999.jpg", "5.jpg"]
    together = dict(zip(names, stable_ids(names).tolist(), strict=True))
    for name in names:
        assert stable_ids([name]).tolist() == [together[name]]
    assert len(set(together.values())) == len(names)
    assert together["5.jpg"] == 5
    assert stable_ids(["not utf-8 \udcff.jpg"])[0] >= 1 << 40
    assert all((1 << 40) <= together[name] < (1 << 52) for name in names[:-1])


def test_names_that_share_a_number_are_hashed() -> None:
    ids = stable_ids(["a/1.jpg", "b/1.jpg", "2.jpg"])
    assert len(set(ids.tolist())) == 3
    assert ids[2] == 2
    assert (ids[:2] >= 1 << 40).all()
    with pytest.raises(DataError, match=r"same name: a\.jpg"):
        stable_ids(["a.jpg", "a.jpg"])
