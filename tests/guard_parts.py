"""The parts of guard.py: what is recorded. A part takes the recorder; it returns why it was skipped, or None."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

TINY = """
[model.backbone]
name = "resnet18"
width = 8
norm = "bn"
frozen_stages = 0
weights = ""
[model.pyramid]
channels = 16
levels = [3, 4, 5]
[model.head]
convs = 1
groups = 4
box_activation = "relu"
normalize_targets = true
quality_tower = "regression"
prior = 0.1
[assign]
center_sampling = 1.5
[loss]
box = "giou"
iou_smoothing = 0.0
[data]
dataset = "shapes"
short_side = 64
long_side = 96
workers = 0
[optimizer]
lr = 0.02
clip_norm = 10.0
[schedule]
iterations = 20
steps = [8]
warmup = "linear"
warmup_iterations = 4
[train]
batch_size = 4
precision = "float32"
checkpoint_every = 10
log_every = 5
[test]
short_side = 64
long_side = 96
score_threshold = 0.02
"""

PAPER = [
    "model.head.box_activation=exp",
    "model.head.normalize_targets=false",
    "model.head.quality_tower=classification",
]
VARIANTS: dict[str, list[str]] = {
    "paper": [*PAPER, "assign.center_sampling=0.0", "loss.box=iou", "loss.iou_smoothing=1.0"],
    "quality_iou": ["model.head.quality=iou", "loss.box=diou", "loss.box_weight=none"],
    "quality_none": ["model.head.quality=none", "loss.box=ciou", "loss.scale_class=2.0", "loss.scale_box=0.5"],
    "from_box": ["model.head.quality=from_box", "loss.box=linear_iou", "assign.range_ends=exclusive"],
    "torchvision": [
        *PAPER,
        "model.pyramid.locations=corner",
        "model.pyramid.levels=[3,4,5,6,7]",
        "loss.focal_gamma=1.5",
    ],
    "passes": ["train.accumulate=2", "train.ema=0.9", "assign.ignore_crowd=true", "data.vertical_flip=0.5"],
    "sizes": ["data.short_side=[48,80]", "optimizer.name=adamw", "schedule.decay=cosine", "train.kernels=reference"],
}
SOMETHING_LEARNT = [
    *("--set", "optimizer.name=adamw", "--set", "optimizer.lr=0.008", "--set", "optimizer.weight_decay=0.05"),
    *("--set", "schedule.iterations=300", "--set", "schedule.decay=cosine", "--set", "train.batch_size=8"),
    *("--set", "model.backbone.width=16", "--set", "model.pyramid.channels=32", "--set", "train.log_every=50"),
]
PREDICT_IN_PYTHON = """
from fcos_cli import load
model = load({weights!r}, precision="float32")
for found in model.predict([{folder!r} + "/a.png", {folder!r} + "/c.png"], threshold=0.0):
    print(found, found.boxes.tolist(), found.scores.tolist(), found.labels.tolist())
"""


def recipes(r: Any) -> None:
    """Every bundled recipe, resolved."""
    for entry in r.run("recipes/list", "recipe", "list", "--json")["recipes"]:
        r.run(f"recipes/{entry['name']}", "recipe", "show", entry["name"], "--resolved")


def stats(r: Any) -> str | None:
    """The statistics of val2017 in both conventions, and as the improved recipe assigns."""
    if r.shared is None:
        return "skipped, no shared data"
    boxes = r.shared / "coco_val2017_boxes.json"
    settings = {
        "exact": [],
        "paper": ["--convention", "paper"],
        "improved": ["--recipe", "r50_improved"],
        "p4": ["--levels", "p4", "--center-sampling", "1.5"],
    }
    for verb in ("tables", "bpr", "ambiguity", "advise", "boxes"):
        for name, options in settings.items():
            r.run(f"stats/{verb}_{name}", "stats", verb, "--data", boxes, *options, "--json")
        picture = r.work / f"{verb}.png"
        r.run(f"stats/{verb}_text", "stats", verb, "--data", boxes, "--plot", picture)
        _write_pictures(r, f"stats/{verb}_picture", picture)
    r.run("stats/bpr_retinanet", "stats", "bpr", "--data", boxes, "--detector", "retinanet", "--json")
    for verb in ("bpr", "advise"):
        missed = r.work / f"{verb}.csv"
        r.run(f"stats/{verb}_list", "stats", verb, "--data", boxes, "--list", missed)
        r.write(f"stats/{verb}_missed.csv", missed.read_text(encoding="utf-8"))
    return None


def resume(r: Any) -> str | None:
    """Twenty iterations, and ten and ten; the run of ten is kept for `old-run`."""
    recipe = _tiny(r)
    straight, twice = r.work / "straight", r.work / "twice"
    r.run("resume/straight.json", "train", recipe, "--run-dir", straight, "--json")
    r.run("resume/ten.json", "train", recipe, "--run-dir", twice, "--set", "schedule.iterations=10", "--json")
    shutil.rmtree(r.kept, ignore_errors=True)
    shutil.copytree(twice, r.kept / "ten")
    r.run("resume/twice.json", "train", "--resume", twice, "--set", "schedule.iterations=20", "--json")
    first, second = r.write_run("resume/straight", straight), r.write_run("resume/twice", twice)
    r.write("resume/equal", f"{first['last'] == second['last']}\n")
    return None if first["last"] == second["last"] else "RECORDED, BUT TEN AND TEN ARE NOT TWENTY"


def old_run(r: Any) -> str | None:
    """A run folder and its weights, written by another checkout where one is named: predicted with, gone on with."""
    if not (r.old_run / "ten").is_dir():
        return "skipped, no run is kept: record the part resume first, or name a record with --old-run"
    run = r.work / "ten"
    shutil.copytree(r.old_run / "ten", run)
    images = _images(r.work / "images")
    best = run / "checkpoints" / "best.safetensors"
    _predict(r, "old-run/predictions", images, best)
    r.run("old-run/eval", "eval", run, "--json")
    r.run("old-run/resumed", "train", "--resume", run, "--set", "schedule.iterations=20", "--json")
    r.write_run("old-run/run", run)
    r.run(
        "old-run/started",
        *("train", _tiny(r), "--run-dir", r.work / "started", "--set", f"model.weights={best}"),
        *("--set", "schedule.iterations=9", "--json"),
    )
    r.write_run("old-run/started_run", r.work / "started")
    return None


def variants(r: Any) -> None:
    """Twenty iterations of every branch of the method."""
    recipe = _tiny(r)
    for name, overrides in VARIANTS.items():
        run = r.work / name
        sets = [part for override in overrides for part in ("--set", override)]
        r.run(f"variants/{name}.json", "train", recipe, "--run-dir", run, *sets, "--json")
        r.write_run(f"variants/{name}", run)
        _predict(r, f"variants/{name}/predictions", _images(r.work / "images"), run)


def commands(r: Any) -> None:
    """The JSON of every command; of the benchmarks the keys alone."""
    recipe, run, images = _tiny(r), r.work / "run", _images(r.work / "data" / "small" / "images" / "val")
    truth = _annotate(r.work / "data" / "small")
    r.run("commands/train", "train", recipe, "--run-dir", run, *SOMETHING_LEARNT, "--json")
    r.run("commands/train_dry", "train", recipe, "--dry-run", "--json")
    for verb in ("list", "keys", "weights"):
        r.run(f"commands/recipe_{verb}", "recipe", verb, "--json")
    r.run("commands/recipe_keys_text", "recipe", "keys")
    r.run("commands/recipe_check", "recipe", "check", "r50", "shapes", recipe, "--json")
    wrong = ["--set", "model.pyramid.levels=[3,5]", "--set", "train.batch=8", "--set", "loss.box=gio"]
    r.run("commands/recipe_wrong", "recipe", "check", "r50", *wrong, "--json")
    r.run("commands/data_list", "data", "list", "--json")
    r.run("commands/data_check_shapes", "data", "check", "shapes", "--json")
    r.run("commands/data_check", "data", "check", "small", "--images", "--json")
    r.run("commands/data_missing", "data", "check", "nowhere", "--json")
    found = r.work / "coco.json"
    for form, out in {"coco": found, "csv": r.work / "p.csv", "yolo": r.work / "yolo", "voc": r.work / "voc"}.items():
        _predict(r, f"commands/predict_{form}", images, run, "--format", form, out=out)
    drawn, crops = r.work / "drawn", r.work / "crops"
    _predict(r, "commands/predict_drawn", images, run, "--draw", drawn, "--save-crops", crops, "--threshold", "0.2")
    for folder in (drawn, crops):
        _write_pictures(r, f"commands/{folder.name}", *sorted(folder.rglob("*.*")))
    _predict(r, "commands/predict_tta", images, run, "--tta")
    located = r.work / "located.json"
    _predict(r, "commands/predict_data", "small", run, "--locations", out=located)
    r.run(
        "commands/stats_detections",
        "stats",
        "detections",
        "--data",
        "small",
        "--predictions",
        located,
        "--recipe",
        run,
        "--json",
    )
    r.run("commands/eval", "eval", run, "--json")
    _predict(r, "commands/predict_auto", images, run, "--threshold", "auto")
    r.run("commands/eval_tta", "eval", run, "--tta", "--json")
    r.run("commands/eval_file", "eval", "--predictions", located, "--data", truth, "--json")
    r.run("commands/eval_missing", "eval", "nowhere.safetensors", "--json")
    r.python("commands/python", PREDICT_IN_PYTHON.format(weights=str(run), folder=str(images)))
    r.run("commands/bench_train", "bench", "train", recipe, "--runs", 1, "--json", keys_only=True)
    r.run("commands/bench_predict", "bench", "predict", "--weights", run, "--runs", 1, "--json", keys_only=True)
    r.run("commands/bench_stats", "bench", "stats", "--runs", 1, "--json", keys_only=True)


def shapes(r: Any) -> None:
    """The first training of the README, whole: minutes."""
    run = r.work / "shapes"
    recipe = r.code / "recipes" / "shapes.toml"
    r.run("shapes/result", "train", recipe, "--run-dir", run, "--set", "train.precision=float32", "--json")
    r.write_run("shapes/run", run)


PARTS: dict[str, Callable[[Any], str | None]] = {
    "recipes": recipes,
    "resume": resume,
    "old-run": old_run,
    "variants": variants,
    "commands": commands,
    "stats": stats,
    "shapes": shapes,
}


def _tiny(r: Any) -> Path:
    path = r.work / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


def _predict(r: Any, name: str, source: object, weights: Path, *options: object, out: Path | None = None) -> None:
    """A prediction, and every file that it wrote."""
    out = out or r.work / "predictions.json"
    exact = ("--precision", "float32", "--json")
    r.run(f"{name}.json", "predict", source, "--weights", weights, "--out", out, *options, *exact)
    for path in sorted(out.rglob("*")) if out.is_dir() else sorted(out.parent.glob(f"{out.stem}.*")):
        if path.is_file():
            r.write(f"{name}/{path.relative_to(out.parent)}", path.read_text(encoding="utf-8"))


def _write_pictures(r: Any, name: str, *paths: Path) -> None:
    from guard import pixels

    r.write(name, {str(path.relative_to(r.work)): pixels(path) for path in paths})


def _images(folder: Path) -> Path:
    """Five small pictures of rectangles on a ramp, made without random numbers; one of them gray, one a JPEG file."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("a.png", "b.png", "c.png", "d.png", "e.jpg")):
        height, width = 80 + 9 * number, 100 - 7 * number
        rows, columns = np.mgrid[:height, :width]
        picture = np.stack([rows * 2 + number, columns * 2, (rows + columns) % 251], axis=-1).astype(np.uint8)
        picture[10:40, 20 : 50 + number] = (220, 40 * number, 60)
        picture[50:70, 40:60] = (30, 200, 250 - 50 * number)
        Image.fromarray(picture).convert("L" if name == "b.png" else "RGB").save(folder / name)
    return folder


def _annotate(folder: Path) -> Path:
    """A COCO file of the rectangles of `_images`, of two of the classes of `shapes`."""
    images, boxes = [], []
    for number, name in enumerate(("a.png", "b.png", "c.png", "d.png", "e.jpg")):
        images.append({"id": 10 + number, "file_name": name, "height": 80 + 9 * number, "width": 100 - 7 * number})
        for label, box in ((7, [20, 10, 30 + number, 30]), (9, [40, 50, 20, 20])):
            about = {"id": len(boxes) + 1, "image_id": 10 + number, "category_id": label, "iscrowd": int(number == 3)}
            boxes.append({**about, "bbox": box, "area": box[2] * box[3]})
    classes = [{"id": 7, "name": "square"}, {"id": 9, "name": "circle"}]
    path = folder / "annotations" / "instances_val.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": classes}), encoding="utf-8")
    return path
