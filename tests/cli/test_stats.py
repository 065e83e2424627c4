import csv
import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from fcos_cli.commands import stats
from fcos_cli.errors import DataError, RecipeError, SetupError, UsageError

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
        assert image.size == (960, 540)


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
