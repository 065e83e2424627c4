"""Names of images as other machines wrote them."""

import unicodedata

import pytest

from fcos_cli.data.formats.finding import ImageFinder


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("x/a.jpg", "x/a.jpg"),
        ("/content/data/x/a.jpg", "x/a.jpg"),
        ("C:\\photos\\y\\a.jpg", "y/a.jpg"),
        ("http://host/some%20where/b%20c.jpg?size=3", "b c.jpg"),
        ("/data/local-files/?d=all/y/a.jpg", "y/a.jpg"),
        ("/data/upload/3/0f1e2d3c-only.png", "y/only.png"),
        ("ONLY.PNG", "y/only.png"),
        ("a.jpg", "a.jpg"),
        ("caf\u00e9.jpg", unicodedata.normalize("NFD", "caf\u00e9.jpg")),
        ("x" * 300 + ".jpg", "x" * 300 + ".jpg"),
        ("none.jpg", "none.jpg"),
    ],
)
def test_the_longest_end_that_is_there(made, written, found):
    made.image("x/a.jpg", "y/a.jpg", "b c.jpg", "y/only.png", unicodedata.normalize("NFD", "caf\u00e9.jpg"))
    assert ImageFinder(made.root).find(written) == found


def test_near_folders_come_first(made):
    made.image("x/a.jpg", "y/a.png")
    finder = ImageFinder(made.root)
    assert finder.find("a.jpg", [made.root / "x"]) == "x/a.jpg"
    assert finder.by_stem("a", [made.root / "y"]) == "y/a.png"
    assert finder.by_stem("a") is None
