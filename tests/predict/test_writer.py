"""What is written: whole and valid whatever happens, in every format, and --resume goes on to the same file."""

import csv
import errno
import json
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from fcos_cli.data.datasets import open_data
from fcos_cli.data.records import Categories
from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import DataError, UsageError
from fcos_cli.evaluation.detections import ImageResult, concatenate, to_columns
from fcos_cli.evaluation.results import load_located_results, load_results
from fcos_cli.predict import journal as journal_module
from fcos_cli.predict.formats import OutputNames
from fcos_cli.predict.journal import Journal, partial_path
from fcos_cli.predict.writer import companion_path, names_of, result_writer

IDS = np.array([2, 5, 90])
CLASSES = Categories((2, 5, 90), ("cat", "big dog", "owl"))


@pytest.fixture
def data(make_images):
    return image_files([str(make_images({"b/two.png": (20, 10), "a.png": (30, 40), 'c,"d.png': (8, 8)}))])


def make_result(data, index, count, seed=0, size=(640, 480)):
    rng = np.random.default_rng(seed + index)
    corner = rng.uniform(0, 300, (count, 2))
    return ImageResult(
        index=index,
        image_id=int(data.image_ids[index]),
        size=size,
        boxes=np.concatenate([corner, corner + rng.uniform(1, 150, (count, 2))], axis=1),
        scores=np.sort(rng.uniform(0.05, 1, count))[::-1].astype(np.float32).astype(np.float64),
        labels=rng.integers(0, 3, count),
        level=rng.integers(3, 8, count),
        location=rng.integers(0, 1333, (count, 2)),
    )


def write(path, data, counts, **options):
    results = [make_result(data, index, count) for index, count in enumerate(counts)]
    with result_writer(path, IDS, data=data, categories=CLASSES, **options) as writer:
        for result in results:
            if not writer.done[result.index]:
                writer.add(result)
    return results, writer


def interrupt(path, data, counts, **options):
    def run():
        with result_writer(path, IDS, data=data, categories=CLASSES, **options) as writer:
            for index, count in enumerate(counts):
                writer.add(make_result(data, index, count))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_file_holds_what_is_evaluated(tmp_path, data):
    results, writer = write(tmp_path / "o" / "preds.json", data, [40, 0, 25])
    array = concatenate([to_columns(result, IDS) for result in results]).as_array()
    assert (writer.images, writer.detections) == (3, 65)
    assert sum(count for _, count in names_of(writer)) == 65
    np.testing.assert_array_equal(load_results(tmp_path / "o" / "preds.json"), array)
    assert sorted(os.listdir(tmp_path / "o")) == ["preds.images.json", "preds.json"]


def test_entries_are_coco_results_with_the_data_sets_ids(tmp_path, data):
    result = replace(
        make_result(data, 0, 1),
        boxes=np.array([[10.12345, 20.0, 110.5, 80.99999]]),
        scores=np.array([0.1234567]),
        labels=np.array([2]),
    )
    with result_writer(tmp_path / "preds.json", IDS, data=data, categories=CLASSES) as writer:
        writer.add(result)
    assert json.loads((tmp_path / "preds.json").read_text()) == [
        {"image_id": result.image_id, "category_id": 90, "bbox": [10.123, 20.0, 100.377, 61.0], "score": 0.123457}
    ]


def test_entries_say_where_they_came_from_only_if_asked(tmp_path, data):
    results, _ = write(tmp_path / "plain.json", data, [2, 0, 3])
    write(tmp_path / "located.json", data, [2, 0, 3], locations=True)
    plain, located = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "located"))
    assert [list(entry) for entry in located] == [[*plain[0], "level", "location"]] * 5
    assert [{key: entry[key] for key in plain[0]} for entry in located] == plain
    columns, found = concatenate([to_columns(r, IDS) for r in results]), load_located_results(tmp_path / "located.json")
    for given, read in zip((columns.as_array(), columns.level, columns.location), found, strict=True):
        np.testing.assert_array_equal(read, given)


@pytest.mark.parametrize("counts", [[], [0], [0, 0], [0, 3], [3, 0], [1, 1, 1]])
def test_always_valid_json(tmp_path, data, counts):
    write(tmp_path / "preds.json", data, counts)
    assert len(json.loads((tmp_path / "preds.json").read_text())) == sum(counts)


def test_csv(tmp_path, data):
    results, _ = write(tmp_path / "preds.csv", data, [2, 0, 1], format="csv", locations=True)
    with open(tmp_path / "preds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file_name"] for row in rows] == [data.file_names[0]] * 2 + [data.file_names[2]]
    corners = np.array([[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows])
    np.testing.assert_allclose(corners, np.concatenate([results[0].boxes, results[2].boxes]), atol=0.0011)
    assert [row["category"] for row in rows[:2]] == [CLASSES.names[label] for label in results[0].labels]
    assert [int(row["location_y"]) for row in rows[:2]] == results[0].location[:, 1].tolist()
    assert os.listdir(tmp_path / "preds.csv".replace("preds.csv", "")) != []
    assert not (tmp_path / "preds.images.json").exists()


def test_yolo_labels_are_fractions_with_a_confidence(tmp_path, data):
    results, _ = write(tmp_path / "labels", data, [2, 0, 1], format="yolo")
    assert (tmp_path / "labels" / "classes.txt").read_text().split("\n") == ["cat", "big dog", "owl", ""]
    text = (tmp_path / "labels" / data.file_names[0]).with_suffix(".txt").read_text()
    table = np.array([[float(v) for v in line.split()] for line in text.splitlines()])
    assert table[:, 0].astype(int).tolist() == results[0].labels.tolist()
    np.testing.assert_allclose(table[:, 5], results[0].scores, atol=1e-6)
    centre, side = table[:, 1:3] * [640, 480], table[:, 3:5] * [640, 480]
    np.testing.assert_allclose(np.hstack([centre - side / 2, centre + side / 2]), results[0].boxes, atol=0.002)
    assert (tmp_path / "labels" / data.file_names[1]).with_suffix(".txt").read_text() == ""


def test_voc_files_are_read_by_our_own_reader(tmp_path, data):
    results, _ = write(tmp_path / "set" / "Annotations", data, [2, 0, 1], format="voc")
    file = (tmp_path / "set" / "Annotations" / data.file_names[0]).with_suffix(".xml")
    root = ElementTree.parse(file).getroot()
    assert [item.findtext("name") for item in root.iter("object")] == [CLASSES.names[x] for x in results[0].labels]
    assert float(root.find("object/confidence").text) == pytest.approx(results[0].scores[0], abs=1e-6)
    for path in (tmp_path / "set").rglob("*.xml"):
        path.rename(tmp_path / "set" / "Annotations" / path.name)
    (tmp_path / "set" / "Annotations" / "b").rmdir()
    (tmp_path / "set" / "JPEGImages").mkdir()
    for name in data.file_names:
        (data.root / name).rename(tmp_path / "set" / "JPEGImages" / name.split("/")[-1])
    back = open_data(str(tmp_path / "set"))
    assert len(back.boxes) == 3
    assert back.categories.names[back.labels[0]] in CLASSES.names


@pytest.mark.parametrize("format", ["coco", "csv"])
def test_interruption_keeps_what_is_done_and_resuming_ends_alike(tmp_path, data, format):
    out = tmp_path / "o" / "preds"
    write(out, data, [4, 0, 3], format=format)
    whole = content(tmp_path / "o")
    interrupt(out, data, [4, 0], format=format)
    assert (tmp_path / "o" / "preds.partial").exists()
    if format == "coco":
        assert len(json.loads(out.read_text())) == 4
        assert len(json.loads((tmp_path / "o" / "preds.images.json").read_text())["images"]) == 2
    _, writer = write(out, data, [4, 0, 3], format=format, resume=True)
    assert writer.done.tolist() == [True, True, False]
    assert (writer.images, writer.detections) == (3, 7)
    assert content(tmp_path / "o") == whole


@pytest.mark.parametrize("format", ["yolo", "voc"])
def test_folders_resume_alike(tmp_path, data, format):
    write(tmp_path / "whole", data, [4, 0, 3], format=format)
    interrupt(tmp_path / "o", data, [4, 0], format=format)
    assert partial_path(tmp_path / "o", folder=True).exists()
    write(tmp_path / "o", data, [4, 0, 3], format=format, resume=True)
    assert content(tmp_path / "o") == content(tmp_path / "whole")


def test_resuming_after_a_kill_at_any_byte(tmp_path, data):
    """A killed process leaves the journal with a half record at its end, at worst."""
    out = tmp_path / "preds.json"
    write(out, data, [2, 0, 2])
    whole = out.read_bytes()
    interrupt(out, data, [2, 0, 2])
    out.unlink()
    journal = (tmp_path / "preds.json.partial").read_bytes()
    head = journal.index(b"\n") + 1
    for end in [*range(head, len(journal), 17), len(journal)]:
        (tmp_path / "preds.json.partial").write_bytes(journal[:end])
        write(out, data, [2, 0, 2], resume=True)
        assert out.read_bytes() == whole
    (tmp_path / "preds.json.partial").write_bytes(journal[: head - 3])
    with pytest.raises(DataError, match="not the journal"):
        write(out, data, [2, 0, 2], resume=True)


def test_resuming_with_other_settings_is_refused(tmp_path, data):
    out = tmp_path / "preds.json"
    interrupt(out, data, [2], settings={"weights": "aaaa", "threshold": None})
    kept = content(tmp_path)
    for settings in ({"weights": "bbbb", "threshold": None}, {"weights": "aaaa", "threshold": 0.5}, {}):
        with pytest.raises(UsageError, match=r"preds\.json\.partial was made with (weights|threshold)"):
            write(out, data, [2], settings=settings, resume=True)
    with pytest.raises(UsageError, match="was made with format coco, now it is csv"):
        write(out, data, [2], settings={"weights": "aaaa", "threshold": None}, format="csv", resume=True)
    assert content(tmp_path) == kept


def test_resuming_without_a_journal_starts(tmp_path, data):
    _, writer = write(tmp_path / "preds.json", data, [2, 1, 1], resume=True)
    assert writer.images == 3


def test_another_error_keeps_the_older_file_and_the_journal(tmp_path, data):
    path = tmp_path / "preds.json"
    path.write_text("older")

    def fail():
        with result_writer(path, IDS, data=data, categories=CLASSES) as writer:
            writer.add(make_result(data, 0, 4))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "older"
    assert sorted(os.listdir(tmp_path)) == ["images", "preds.json", "preds.json.partial"]


def test_a_full_disk_loses_nothing_that_was_done(tmp_path, data, monkeypatch):
    out, real = tmp_path / "preds.json", os.write
    write(out, data, [3, 3, 3])
    whole = out.read_bytes()

    def full():
        with result_writer(out, IDS, data=data, categories=CLASSES) as writer:
            writer.add(make_result(data, 0, 3))
            # Half of the record still fits.
            answers = iter([lambda handle, record: real(handle, bytes(record)[:40])])

            def write_some(handle, record):
                for answer in answers:
                    return answer(handle, record)
                raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(journal_module.os, "write", write_some)
            writer.add(make_result(data, 1, 3))

    with pytest.raises(OSError, match="No space"):
        full()
    monkeypatch.setattr(journal_module.os, "write", real)
    assert out.read_bytes() == whole
    with Journal.resume(tmp_path / "preds.json.partial", _settings_in(tmp_path / "preds.json.partial")) as journal:
        assert [image["file_name"] for image in journal.images()] == [data.file_names[0]]
    write(out, data, [3, 3, 3], resume=True)
    assert out.read_bytes() == whole


def _settings_in(path):
    return json.loads(path.read_bytes().split(b"\n")[0])["settings"]


def test_two_predictions_into_one_file_are_refused(tmp_path, data):
    with (
        result_writer(tmp_path / "preds.json", IDS, data=data, categories=CLASSES),
        pytest.raises(UsageError, match="another prediction is writing"),
    ):
        write(tmp_path / "preds.json", data, [1])


def test_companion_lists_the_images(tmp_path, data):
    interrupt(tmp_path / "preds.json", data, [4, 4])
    companion = json.loads((tmp_path / "preds.images.json").read_text())
    assert [(row["file_name"], row["id"], row["width"], row["height"]) for row in companion["images"]] == [
        (data.file_names[0], data.image_ids[0], 640, 480),
        (data.file_names[1], data.image_ids[1], 640, 480),
    ]
    assert [row["name"] for row in companion["categories"]] == list(CLASSES.names)
    assert companion_path("x/preds") == companion_path("x/preds.json")
    assert companion_path("preds.v2").name == "preds.v2.images.json"


def test_names_of_files_that_belong_to_images():
    def names(*given):
        made = OutputNames(given, np.arange(len(given)))
        return [str(made.of(index, ".txt")) for index in range(len(given))]

    assert names("a.png", "in/b.tar.jpg", "../up/c.png") == ["a.txt", "in/b.tar.txt", "up/c.txt"]
    assert names("a.png", "a.jpg", "in/a.png") == ["a.png.txt", "a.jpg.txt", "in/a.txt"]
    assert names("A.png", "a.jpg") == ["A.png.txt", "a.jpg.txt"]
    clashing = names("a.png", "a.jpg", "a.png.png")
    assert len(set(clashing)) == 3


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are POSIX")
def test_a_name_that_is_not_utf8_is_written_and_found_again(tmp_path, make_images):
    folder = make_images({"a.png": (20, 10)})
    try:
        os.rename(folder / "a.png", os.fsencode(folder) + b"/b\xff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    data = image_files([str(folder)])
    for form in ("coco", "csv", "yolo", "voc"):
        write(tmp_path / form, data, [2], format=form)
        assert partial_path(tmp_path / form, folder=form in ("yolo", "voc")).exists() is False
    (name,) = [row["file_name"] for row in json.loads((tmp_path / "coco.images.json").read_text())["images"]]
    assert (folder / name).exists()
    assert b"b\xff.png" in (tmp_path / "csv").read_bytes()


def test_ctrl_c_while_the_file_is_put_together_still_writes_it(tmp_path, data, monkeypatch):
    out = tmp_path / "preds.json"
    write(out, data, [2, 1, 1])
    whole = out.read_bytes()
    out.unlink()
    real, calls = Journal.outputs, []

    def outputs(self):
        for number, part in enumerate(real(self)):
            if number == 1 and not calls:
                calls.append(number)
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(Journal, "outputs", outputs)
    with pytest.raises(KeyboardInterrupt):
        write(out, data, [2, 1, 1])
    assert out.read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["images", "preds.images.json", "preds.json", "preds.json.partial"]
