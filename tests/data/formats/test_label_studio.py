"""Exports of Label Studio made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.findings import Finding
from fcos_cli.data.formats.label_studio import NO_IMAGE, NOT_DONE, SEVERAL
from fcos_cli.data.formats.named import BAD_SHAPE


def rectangle(label, x, y, width, height, rotation=0):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": [label]}
    return {"original_width": 160, "original_height": 120, "type": "rectanglelabels", "value": value}


def task(number, image, *results, **more):
    return {"id": number, "annotations": [{"id": 1, "result": list(results), **more}], "data": {"image": image}}


CAT = rectangle("cat", 10, 20, 50, 25)
POLYGON = {
    "original_width": 160,
    "original_height": 120,
    "value": {"points": [[10, 10], [20, 10], [15, 50]], "polygonlabels": ["dog"]},
}
CHOICE = {"type": "choices", "value": {"choices": ["good"]}}


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0123abcd-a.jpg",
        "/data/local-files/?d=my/images/a.jpg",
        "https://host/x/a.jpg?v=1",
        "C:\\x\\a.jpg",
    ],
)
def test_percents_become_pixels_and_addresses_names(made, listed, image):
    made.image("images/a.jpg")
    file = made.json("export.json", [task(1, image, CAT, POLYGON, CHOICE)])
    for spec in (made.root, file):
        data = open_data(str(spec))
        assert find_splits(str(spec))[0] == "Label Studio"
        assert listed(data) == {"images/a.jpg": [("cat", 16, 24, 96, 54), ("dog", 16, 12, 32, 60)]}
        assert list(data.dropped.values()) == [1]


def test_a_rectangle_turns_about_its_upper_left_corner(made, listed):
    made.image("a.jpg")
    # 40 by 12 pixels at (80, 60): turned by 90 degrees it lies left of and below its corner.
    made.json("export.json", [task(1, "a.jpg", rectangle("cat", 50, 50, 25, 10, rotation=90))])
    assert listed(open_data(str(made.root))) == {"a.jpg": [("cat", 68, 60, 80, 100)]}


def test_json_min_and_tasks_that_were_cancelled(made, listed):
    made.image("a.jpg", "b.jpg", "c.jpg")
    flat = {**{key: value for key, value in CAT.items() if key != "value"}, **CAT["value"]}
    made.json("min.json", [{"image": "/data/upload/2/a.jpg", "id": 3, "label": [flat], "annotation_id": 5}])
    assert listed(open_data(str(made.root))) == {"a.jpg": [("cat", 16, 24, 96, 54)]}
    (made.root / "min.json").unlink()
    twice = task(2, "b.jpg", CAT)
    twice["annotations"].append({"id": 2, "result": [CAT, CAT]})
    made.json("all.json", [task(1, "a.jpg", CAT, was_cancelled=True), twice, task(3, "c.jpg")])
    data = open_data(str(made.root))
    assert listed(data) == {"b.jpg": [("cat", 16, 24, 96, 54)], "c.jpg": []}
    assert {found.kind: found.count for found in data.findings} == {NOT_DONE: 1, SEVERAL: 1}


@pytest.mark.parametrize(
    ("tasks", "kind", "images"),
    [
        ([{"id": 7, "annotations": [{"result": []}], "data": {}}], NO_IMAGE, 0),
        ([task(7, "a.jpg", rectangle("cat", "x", 1, 2, 3))], BAD_SHAPE, 1),
    ],
)
def test_what_cannot_be_used_is_left_out_and_names_the_task(made, tasks, kind, images):
    made.image("a.jpg")
    made.json("export.json", tasks)
    data = open_data(str(made.root))
    assert len(data) == images
    assert data.findings == (Finding(kind, 1, ("task 7",)),)


def test_two_tasks_of_one_image_are_one_image(made, listed):
    made.image("a.jpg")
    made.json("export.json", [task(1, "a.jpg", CAT), task(2, "/data/upload/1/0123abcd-a.jpg", POLYGON)])
    data = open_data(str(made.root))
    assert listed(data) == {"a.jpg": [("cat", 16, 24, 96, 54), ("dog", 16, 12, 32, 60)]}
    assert [finding.line for finding in data.findings] == [
        "images that are listed more than once, whose boxes are joined (1): a.jpg"
    ]


@pytest.mark.parametrize(
    ("change", "boxes"),
    [
        ({"value": "none"}, 0),
        ({"value": {**CAT["value"], "y": "1e999"}}, 0),
        ({"value": {**CAT["value"], "rectanglelabels": [None]}}, 0),
        ({"value": {**CAT["value"], "rectanglelabels": "cat"}}, 1),
        ({"original_width": 10**30}, 1),
    ],
)
def test_one_odd_shape_refuses_nothing(made, change, boxes):
    made.image("a.jpg")
    made.json("export.json", [task(1, "a.jpg", {**CAT, **change}), {"id": 2, "annotations": True, "data": ""}])
    data = open_data(str(made.root))
    assert (len(data), len(data.boxes)) == (1, boxes)
    assert len(data.findings) == 2 - boxes
