import csv
import json
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fcos_cli.commands import stats
from fcos_cli.errors import DataError, RecipeError, SetupError, UsageError
from fcos_cli.recipe.load import load_recipe, to_toml

IMAGES = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in (3, 4, 5)]
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
BOXES = [
    (3, 7, [100, 100, 200, 200], 0),
    (3, 9, [150, 150, 100, 100], 0),
    (3, 9, [0, 0, 300, 300], 1),
    # Scaled by 5/3 it lies between the locations 36 and 44 of P3.
    (4, 7, [22.5, 22.5, 1.5, 1.5], 0),
]


@pytest.fixture
def annotations(tmp_path):
    """Function: writes a COCO file with these boxes and returns its path."""

    def write(boxes=BOXES):
        path = tmp_path / "boxes.json"
        rows = [
            {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
            for i, (image, c, b, crowd) in enumerate(boxes, start=1)
        ]
        path.write_text(json.dumps({"images": IMAGES, "categories": CATEGORIES, "annotations": rows}))
        return str(path)

    return write


def run(*arguments):
    result = CliRunner().invoke(stats.app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_bpr_json(annotations):
    result = run("bpr", "--data", annotations(), "--json")
    value = json.loads(result.stdout)
    assert (value["images"], value["boxes"], value["recalled"]) == (3, 3, 2)
    assert value["bpr"] == pytest.approx(200 / 3)
    assert value["convention"] == "exact"
    assert value["dropped"] == {"crowd regions": 1}
    assert [row["name"] for row in value["by_level"]] == ["P3", "P4", "P5", "P6", "P7"]
    assert [row["name"] for row in value["by_class"]] == ["cat", "dog"]
    assert {"by_size", "by_side"} <= value.keys()


def test_ambiguity_json(annotations):
    value = json.loads(run("ambiguity", "--data", annotations(), "--levels", "p4", "--json").stdout)
    # Both boxes are scaled by 5/3: x from 167 to 500 holds 21 locations 16 apart, 250 to 417 holds 10.
    assert (value["positives"], value["ambiguous"], value["cross_class"]) == (21 * 21, 100, 100)
    assert value["ambiguous_percent"] == pytest.approx(100 * 100 / 441)
    assert value["levels"] == [4]


def test_tables_show_both_conventions(annotations):
    for verb, word in (("bpr", "best possible recall, %"), ("ambiguity", "ambiguous, % of positives")):
        result = run(verb, "--data", annotations())
        assert word in result.stdout
        assert "exact" in result.stdout
        assert "paper" in result.stdout
        assert "left out (exact): 1 crowd regions" in result.stderr


def test_the_papers_figures_on_screen(shared_data):
    path = shared_data / "coco_val2017_boxes.json"
    assert {"99.03", "98.40"} <= set(run("bpr", "--data", path).stdout.split())
    assert {"7.43", "7.14", "3.83", "3.75"} <= set(run("ambiguity", "--data", path).stdout.split())


def test_list_and_plot(annotations, tmp_path):
    run(
        "bpr",
        "--data",
        annotations(),
        "--list",
        tmp_path / "out" / "missed.csv",
        "--plot",
        tmp_path / "r.png",
        "--json",
    )
    with open(tmp_path / "out" / "missed.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["box_id"], r["image_id"], r["file_name"], r["class"]) for r in rows] == [("4", "4", "4.jpg", "cat")]
    assert (rows[0]["x"], rows[0]["width"]) == ("22.5", "1.5")
    with Image.open(tmp_path / "r.png") as image:
        assert min(image.size) > 400


def test_recipe_and_options_on_top(annotations, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        "[model.backbone]\nweights = ''\nnorm = 'bn'\nfrozen_stages = 0\n"
        "[model.pyramid]\nlevels = [3, 4, 5]\n[assign]\ncenter_sampling = 1.5\n"
        "[data]\nshort_side = 400\nlong_side = 600\n[test]\nshort_side = 400\nlong_side = 600\n"
    )
    path = annotations()
    value = json.loads(run("bpr", "--data", path, "--recipe", recipe, "--json").stdout)
    keys = ("levels", "short_side", "long_side", "center_sampling")
    assert [value[key] for key in keys] == [[3, 4, 5], 400, 600, 1.5]
    options = ("--levels", "p2,p3", "--short", 300, "--long", 500, "--center-sampling", 0)
    value = json.loads(run("bpr", "--data", path, "--recipe", recipe, *options, "--json").stdout)
    assert [value[key] for key in keys] == [[2, 3], 300, 500, 0]


def test_paper_convention_drops_the_last_pixel(annotations):
    boxes = [(3, 7, [10, 10, 1, 50], 0), (3, 7, [10, 10, 90, 90], 0)]
    value = json.loads(run("bpr", "--data", annotations(boxes), "--convention", "paper", "--json").stdout)
    assert value["boxes"] == 1
    assert list(value["dropped"].values()) == [1]


@pytest.mark.parametrize("levels", ["3,5", "8", "", "x", "3,,4", "p4-p5"])
def test_levels_that_are_none(annotations, levels):
    with pytest.raises(UsageError) as caught:
        run("bpr", "--data", annotations(), "--levels", levels)
    assert "fpn, p4 or 3,4,5" in caught.value.hint


def test_mistakes(annotations, tmp_path):
    with pytest.raises(DataError, match="no boxes"):
        run("bpr", "--data", annotations([BOXES[2]]), "--json")
    with pytest.raises(DataError):
        run("ambiguity", "--data", tmp_path / "nothing.json")
    with pytest.raises(RecipeError):
        run("bpr", "--data", annotations(), "--recipe", "no-such-recipe")
    with pytest.raises(UsageError, match="not a radius"):
        run("bpr", "--data", annotations(), "--center-sampling", "inf")
    with pytest.raises(UsageError, match="the short side, 800 pixels, is above the long side, 400"):
        run("bpr", "--data", annotations(), "--long", 400)
    assert run("bpr", "--data", annotations(), "--short", 0).exit_code == 2
    assert run("bpr").exit_code == 2


@pytest.mark.parametrize("option", ["--list", "--plot"])
def test_what_cannot_be_written_is_said_before_the_work(annotations, tmp_path, option):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot write"):
        run("bpr", "--data", annotations(), option, tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="is a folder"):
        run("bpr", "--data", annotations(), option, tmp_path)


def values(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def test_ambiguity_pairs(annotations):
    path = annotations()
    value = values("ambiguity", "--data", path, "--levels", "p4")
    assert value["pairs"] == [{"winner": "dog", "loser": "cat", "locations": 100, "percent_of_ambiguous": 100.0}]
    assert "cat" in run("ambiguity", "--data", path, "--levels", "p4").stdout.split("collide most")[1]


def test_retinanet(annotations):
    path = annotations()
    found = {
        rule: values("bpr", "--data", path, "--detector", "retinanet", "--low-quality", rule)
        for rule in ("none", "0.4", "all")
    }
    assert all((value["detector"], value["low_quality"]) == ("retinanet", rule) for rule, value in found.items())
    # 2.5 x 2.5 pixels: only as somebody's best anchor.
    assert [found[rule]["recalled"] for rule in ("none", "0.4", "all")] == [2, 2, 3]
    assert values("bpr", "--data", path, "--detector", "retinanet") == found["0.4"]
    assert "RetinaNet" in run("bpr", "--data", path, "--detector", "retinanet").stdout


def test_retinanet_has_no_use_for_a_recipes_centre_sampling(annotations):
    arguments = ("bpr", "--data", annotations(), "--recipe", "r50_improved", "--detector", "retinanet")
    assert values(*arguments)["center_sampling"] == 0
    assert "centre sampling" not in run(*arguments).stdout
    assert values(*arguments[:-2])["center_sampling"] == 1.5


def test_retinanet_mistakes(annotations):
    with pytest.raises(UsageError, match="--low-quality all is a rule for anchors"):
        run("bpr", "--data", annotations(), "--low-quality", "all")
    with pytest.raises(UsageError, match="RetinaNet has anchors"):
        run("bpr", "--data", annotations(), "--detector", "retinanet", "--center-sampling", 1.5)
    assert run("bpr", "--data", annotations(), "--detector", "retinanet", "--low-quality", "0.5").exit_code == 2


def test_tables_of_other_data_have_no_published_figures(annotations):
    path = annotations()
    value = values("tables", "--data", path)
    assert list(value["table1"]) == ["retinanet_none", "retinanet_0.4", "retinanet_all", "fcos_p4", "fcos_fpn"]
    assert list(value["table2"]) == ["p4_all", "p4_cross", "fpn_all", "fpn_cross"]
    assert value["table1"]["fcos_fpn"] == values("bpr", "--data", path)["bpr"]
    assert value["table2"]["p4_all"] == values("ambiguity", "--data", path, "--levels", "p4")["ambiguous_percent"]
    shown = run("tables", "--data", path)
    assert "published" not in shown.stdout
    assert "exact" in shown.stdout


def test_the_papers_tables_from_one_command(shared_data):
    """All nine figures, as published, within 0.01: docs/method.md, Statistics of the assignment."""
    path = shared_data / "coco_val2017_boxes.json"
    found = values("tables", "--data", path, "--convention", "paper")
    assert found["table1"] == pytest.approx(
        {
            "retinanet_none": 86.82,
            "retinanet_0.4": 90.92,
            "retinanet_all": 99.23,
            "fcos_p4": 95.55,
            "fcos_fpn": 98.40,
        },
        abs=0.01,
    )
    assert found["table2"] == pytest.approx(
        {"p4_all": 23.16, "p4_cross": 17.84, "fpn_all": 7.14, "fpn_cross": 3.75}, abs=0.01
    )
    exact = values("tables", "--data", path)
    assert exact["table1"]["fcos_fpn"] == pytest.approx(99.03, abs=0.01)
    assert exact["table1"]["fcos_p4"] == pytest.approx(96.54, abs=0.01)
    assert exact["table2"] == pytest.approx(
        {"p4_all": 23.40, "p4_cross": 18.01, "fpn_all": 7.43, "fpn_cross": 3.83}, abs=0.01
    )
    lines = run("tables", "--data", path).stdout.splitlines()
    row = next(line for line in lines if "FCOS, P3-P7" in line)
    assert row.replace("│", "").split()[-3:] == ["98.40", "99.03", "98.40"]


def test_boxes(annotations):
    value = values("boxes", "--data", annotations())
    assert (value["images"], value["empty_images"], value["boxes"]) == (3, 1, 3)
    assert value["dropped"] == {"crowd regions": 1}
    assert value["by_level"][0]["name"] == "P3"
    shown = run("boxes", "--data", annotations()).stdout
    assert "positives a box" in shown
    assert "empty images" in shown


def test_advise(annotations, tmp_path):
    path = annotations()
    out = tmp_path / "missed.csv"
    value = values("advise", "--data", path, "--list", out)
    assert (value["boxes"], value["missed"]) == (3, 1)
    assert {row["name"]: row["boxes"] for row in value["by_reason"] if row["boxes"]} == {"between": 1}
    assert value["advised"] in value["tried"]
    assert value["advised"]["recovered"] == 1
    with open(out, newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["box_id"], row["reason"]) == ("4", "falls between the locations of its level")
    shown = run("advise", "--data", path)
    assert "falls between the locations" in shown.stdout
    # The advice is a command that holds: its recipe gives what it promises.
    command = shlex.split(shown.stdout.splitlines()[-1].strip())
    assert command[:3] == ["fcos", "train", "r50"]
    recipe = tmp_path / "advised.toml"
    advised = load_recipe("r50", command[4::2]).recipe
    assert advised.data.dataset == path
    recipe.write_text(to_toml(advised))
    assert values("bpr", "--data", path, "--recipe", recipe)["recalled"] == 3


def test_advise_where_nothing_is_missed(annotations):
    shown = run("advise", "--data", annotations(BOXES[:2]))
    assert "keep the recipe as it is" in shown.stdout


def test_workers_give_the_same_figures(shared_data):
    path = shared_data / "coco_val2017_boxes.json"
    verbs = (["bpr"], ["ambiguity"], ["bpr", "--detector", "retinanet"])
    for verb in verbs:
        assert values(*verb, "--data", path, "--workers", 2) == values(*verb, "--data", path, "--workers", 1)


@pytest.mark.parametrize("verb", ["bpr", "ambiguity", "tables", "boxes", "advise"])
def test_every_verb_draws(annotations, tmp_path, verb):
    picture = tmp_path / f"{verb}.png"
    result = run(verb, "--data", annotations(), "--plot", picture)
    assert str(picture) in result.stderr.replace("\n", "")
    with Image.open(picture) as image:
        assert image.format == "PNG"


BROKEN = {
    "a file cut in half": ('{"images": [{"id": 1, "file_na', "ends in the middle"),
    "an unknown image": ("unknown_image", "does not list"),
    "duplicate images": ("duplicate_image", "used more than once"),
    "no boxes": ("no_boxes", "no boxes"),
    "only crowds": ("crowd", "no boxes"),
    "no sizes": ("no_size", "no boxes"),
}


@pytest.mark.parametrize("verb", ["bpr", "ambiguity", "tables", "boxes", "advise"])
@pytest.mark.parametrize("case", BROKEN)
def test_data_that_nothing_can_be_computed_of(tmp_path, verb, case):
    kind, said = BROKEN[case]
    image = {"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}
    box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
    content = {"images": [image], "categories": CATEGORIES, "annotations": [box]}
    if kind == "unknown_image":
        box["image_id"] = 99
    elif kind == "duplicate_image":
        content["images"] = [image, {**image, "file_name": "2.jpg"}]
    elif kind == "no_boxes":
        content["annotations"] = []
    elif kind == "crowd":
        box["iscrowd"] = 1
    elif kind == "no_size":
        image["width"] = 0
    path = tmp_path / "broken.json"
    path.write_text(kind if kind.startswith("{") else json.dumps(content))
    with pytest.raises(DataError, match=said) as caught:
        run(verb, "--data", path)
    assert caught.value.exit_code == 3
    assert caught.value.hint


@pytest.mark.parametrize("verb", ["bpr", "ambiguity", "tables", "boxes", "advise"])
def test_odd_boxes_are_counted_and_the_rest_is_computed(tmp_path, verb):
    """Boxes outside, without a side, of NaN; 2,000 boxes in one image; an image of 1 x 10000."""
    images = [
        {"id": 1, "file_name": "1.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": "2.jpg", "width": 1, "height": 10000},
        {"id": 3, "file_name": "3.jpg", "width": 640, "height": 480},
    ]
    boxes = [[700, 10, 50, 50], [10, 10, 0, 50], [10, 10, -5, 50], [float("nan"), 0, 5, 5], [-20, -20, 60, 60]]
    rows = [(1, box) for box in boxes] + [(2, [0, 0, 1, 9000])]
    rows += [(3, [i % 600, i // 5, 8 + i % 30, 6 + i % 40]) for i in range(2000)]
    content = {
        "images": images,
        "categories": CATEGORIES,
        "annotations": [
            {"id": i, "image_id": image, "category_id": 7, "bbox": box} for i, (image, box) in enumerate(rows, start=1)
        ],
    }
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(content))
    result = run(verb, "--data", path, "--json")
    value = json.loads(result.stdout)
    if verb in ("bpr", "boxes", "advise"):
        assert value["boxes"] == 2002
    if verb != "tables":
        assert value["dropped"] == {
            "boxes with NaN, infinite or missing coordinates": 1,
            "boxes with a side of zero or less": 2,
            "boxes outside of their image": 1,
        }


@pytest.fixture
def located(tmp_path):
    """Function: writes detections (category, bbox, level, location) of image 3 as `fcos predict --locations` does."""

    def write(detections):
        rows = [
            {
                "image_id": 3,
                "category_id": c,
                "bbox": bbox,
                "score": 0.9 - 0.1 * i,
                "level": level,
                "location": location,
            }
            for i, (c, bbox, level, location) in enumerate(detections)
        ]
        path = tmp_path / "preds.json"
        path.write_text(json.dumps(rows))
        return path

    return write


# Scaled by 5/3 the cat covers 167 to 500 and the dog 250 to 417; on P5 (128 to 256) both may have the dog's corner.
DETECTIONS = [
    (9, [150, 150, 100, 100], 5, [272, 272]),
    (7, [100, 100, 200, 200], 5, [272, 304]),
    (7, [100, 100, 200, 200], 6, [224, 224]),
    (7, [300, 300, 50, 50], 3, [540, 540]),
]


def test_detections(annotations, located, tmp_path):
    arguments = ("detections", "--data", annotations(), "--predictions", located(DETECTIONS))
    value = values(*arguments)
    assert (value["detections"], value["positive"], value["ambiguous"], value["cross_class"]) == (4, 3, 2, 2)
    assert (value["ambiguous_percent"], value["cross_class_percent"]) == (50.0, 50.0)
    assert {row["name"]: row["detections"] for row in value["by_level"]} == {
        "P3": 1,
        "P4": 0,
        "P5": 2,
        "P6": 1,
        "P7": 0,
    }
    assert values(*arguments, "--threshold", 0.85)["detections"] == 1
    shown = run(*arguments, "--plot", tmp_path / "d.png")
    assert "50.00" in shown.stdout
    assert "2.3 %" in shown.stderr
    assert (tmp_path / "d.png").stat().st_size > 1000


def test_detections_mistakes(annotations, located, tmp_path):
    path = annotations()
    with pytest.raises(DataError, match="no detections of score 0") as caught:
        run("detections", "--data", path, "--predictions", located(DETECTIONS), "--threshold", 0.95)
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps([{"image_id": 3, "category_id": 7, "bbox": [1, 1, 5, 5], "score": 0.5}]))
    with pytest.raises(DataError) as caught:
        run("detections", "--data", path, "--predictions", plain)
    assert "--locations" in caught.value.hint
    with pytest.raises(DataError, match="come from P3"):
        run("detections", "--data", path, "--predictions", located(DETECTIONS), "--levels", "4,5,6,7")
    with pytest.raises(DataError) as caught:
        run("detections", "--data", path, "--predictions", located(DETECTIONS), "--short", 400)
    assert "--recipe" in caught.value.hint
    assert run("detections", "--data", path).exit_code == 2


def test_repeated_annotation_ids_are_told(annotations, tmp_path):
    content = json.loads(Path(annotations()).read_text())
    for annotation in content["annotations"]:
        annotation["id"] = 5
    path = tmp_path / "repeated.json"
    path.write_text(json.dumps(content))
    result = run("bpr", "--data", path, "--json")
    assert json.loads(result.stdout)["boxes"] == 3
    assert "annotation ids that are used more than once" in result.stderr
    assert "numbered from 1" in result.stderr


def test_boxes_beyond_all_numbers_say_nothing_else(annotations, recwarn):
    path = annotations([*BOXES, (3, 7, [1, 1, 1e300, 1e300], 0)])
    assert values("bpr", "--data", path)["boxes"] == 4
    assert [str(warning.message) for warning in recwarn] == []


def test_a_run_folder_names_its_recipe(annotations, tmp_path):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "recipe.toml").write_text(to_toml(load_recipe("r50", ["data.short_side=400"]).recipe))
    assert values("bpr", "--data", annotations(), "--recipe", run_folder)["short_side"] == 400


def test_published_figures_are_for_the_papers_setting(shared_data):
    path = shared_data / "coco_val2017_boxes.json"
    assert "published" not in run("tables", "--data", path, "--short", 400).stdout
