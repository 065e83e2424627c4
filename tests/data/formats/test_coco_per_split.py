"""COCO files in a folder for each split, made by hand."""

from fcos_cli.data.datasets import find_splits, open_data

FILE = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 160, "height": 120}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40]}],
}


def test_a_file_beside_the_images_of_each_split(made, listed):
    for place in ("train/annotations.json", "valid/annotations/instances.json"):
        made.json(place, FILE)
    made.json("train/readme.json", {"about": "nothing"})
    made.image("train/a.jpg", "valid/images/a.jpg")
    layout, splits = find_splits(str(made.root))
    assert (layout, list(splits)) == ("COCO", ["train", "valid"])
    for split, folder in (("train", "train"), ("val", "valid/images")):
        data = open_data(str(made.root), split)
        assert listed(data) == {"a.jpg": [("cat", 1, 2, 31, 42)]}
        assert data.path(0) == made.root / folder / "a.jpg"


def test_folders_whose_names_mean_no_split(made):
    for place in ("first", "second"):
        made.json(f"{place}/labels.json", FILE)
        made.image(f"{place}/a.jpg")
    assert list(find_splits(str(made.root))[1]) == ["first", "second"]
