"""What `fcos predict` refuses before anything is written: to overwrite its own images, to resume something else."""

import json

import pytest

from fcos_cli.runtime.predictor import Predictor


@pytest.fixture
def images(make_images):
    return make_images({"a.png": (80, 60), "in/b.jpg": (200, 120), "in/c.png": (50, 120)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--draw", "images"), "pictures would overwrite"),
        (("--draw", "link"), "pictures would overwrite"),
        (("--save-crops", "."), "pictures would overwrite"),
        (("--out", "images/in/b.jpg"), "--out images/in/b.jpg would overwrite"),
    ],
)
def test_what_is_predicted_on_is_never_overwritten(
    fcos, images, tiny_detector, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(images)
    if "--save-crops" in options:
        images = images.rename(tmp_path / "cat")
    before = {path: path.read_bytes() for path in images.rglob("*.*")}
    options = options if "--out" in options else ("--out", "p.json", *options)
    result = fcos("predict", images.name, *options, "--weights", tiny_detector, "--threshold", "0.1")
    assert result.code == 2
    assert message in result.err
    assert {path: path.read_bytes() for path in images.rglob("*.*")} == before
    assert not (tmp_path / "p.json").exists()


def test_an_annotation_file_is_kept(fcos, images, tiny_detector, tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
    }
    annotations = images / "annotations.json"
    annotations.write_text(json.dumps(content))
    result = fcos("predict", annotations, "--out", annotations, "--weights", tiny_detector)
    assert result.code == 2
    assert json.loads(annotations.read_text()) == content


def test_pictures_among_the_images_are_no_images_of_the_next_prediction(fcos, images, tiny_detector, monkeypatch):
    monkeypatch.chdir(images)
    arguments = ("--out", "p.json", "--weights", tiny_detector, "--draw", "drawn", "--save-crops", "in/crops", "--json")
    told = [json.loads(fcos("predict", source, *arguments).out)["images"] for source in (".", ".", "**/*.*")]
    assert told == [3, 3, 3]
    assert len(list((images / "drawn").rglob("*.jpg"))) == 3


def test_lists_and_a_file_for_a_folder_are_refused(fcos, images, tiny_detector, tmp_path):
    (tmp_path / "list.txt").write_text("a.png\n")
    out = tmp_path / "p.json"
    for source in (tmp_path / "list.txt", "-"):
        result = fcos("predict", source, "--out", out, "--weights", tiny_detector)
        assert (result.code, "lists of files are not read" in result.err) == (2, True)
    out.write_text("older")
    result = fcos("predict", images, "--out", out, "--weights", tiny_detector, "--format", "yolo")
    assert (result.code, "--format yolo writes a folder" in result.err) == (2, True)
    assert out.read_text() == "older"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tta",), "made with test-time augmentation False, now it is True"),
        (("--draw", "pictures"), "made with draw none, now it is"),
        (("--save-crops", "pictures"), "made with save-crops none, now it is"),
    ],
)
def test_resume_with_other_options_is_refused_in_the_users_words(
    fcos, images, tiny_detector, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    arguments = ("predict", images, "--out", "p.json", "--weights", tiny_detector)
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "run", _interrupted_at_once)
        assert fcos(*arguments).code == 130
    assert '"device": "cpu"' in (tmp_path / "p.json.partial").read_text()
    result = fcos(*arguments, "--resume", *options)
    assert result.code == 2
    assert message in result.err


def _interrupted_at_once(self, *arguments, **options):
    raise KeyboardInterrupt


def test_an_empty_folder_has_no_images_whatever_else_a_data_set_might_be(fcos, tiny_detector, tmp_path):
    (tmp_path / "empty").mkdir()
    result = fcos("predict", tmp_path / "empty", "--out", tmp_path / "p.json", "--weights", tiny_detector)
    assert result.code == 3
    assert "no images in this folder" in result.err
    assert not (tmp_path / "p.json").exists()
