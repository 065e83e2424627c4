"""The whole chain learns: 8 real images by heart, judged by pycocotools from the file that `fcos predict` writes."""

import json
from pathlib import Path

import pytest

RECIPE = """
[model.backbone]
name = "resnet18"
norm = "bn"
frozen_stages = 0
weights = ""
[model.pyramid]
channels = 128
levels = [3, 4, 5, 6, 7]
[model.head]
convs = 2
box_activation = "relu"
normalize_targets = true
quality_tower = "regression"
[assign]
center_sampling = 1.5
[loss]
box = "giou"
iou_smoothing = 0.0
[data]
short_side = 320
long_side = 480
flip = 0.0
[optimizer]
name = "adamw"
lr = 1e-3
reference_batch = 8
weight_decay = 0.0
norm_weight_decay = 0.0
clip_norm = 10.0
[schedule]
iterations = 400
decay = "cosine"
warmup = "linear"
warmup_iterations = 50
warmup_factor = 0.1
[train]
batch_size = 8
[test]
short_side = 320
long_side = 480
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_images_learnt_by_heart(fcos, shared_data: Path, tmp_path: Path) -> None:
    truth = json.loads((shared_data / "coco128/annotations/instances_train2017.json").read_text())
    chosen = truth["images"][:8]
    ids = {image["id"] for image in chosen}
    truth |= {"images": chosen, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}
    folder = tmp_path / "eight"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(truth))
    (folder / "train2017").symlink_to(shared_data / "coco128" / "train2017")
    recipe = tmp_path / "by_heart.toml"
    recipe.write_text(RECIPE)
    data = folder / "annotations" / "instances_train2017.json"

    trained = fcos("train", recipe, "--set", f'data.dataset="{data}"', "--run-dir", tmp_path / "run", "--json")
    assert trained.code == 0, trained.err
    predictions = tmp_path / "preds.json"
    done = fcos("predict", data, "--weights", tmp_path / "run", "--out", predictions)
    assert done.code == 0, done.err
    judged = fcos("eval", "--predictions", predictions, "--data", data, "--json")
    assert judged.code == 0, judged.err
    result = json.loads(judged.out)
    assert result["metrics"]["AP"] >= 0.9
    learnt = [row for row in result["per_class"] if row["boxes"]]
    assert len(learnt) == len({a["category_id"] for a in truth["annotations"] if not a.get("iscrowd")})
    assert sum(row["AP"] for row in learnt) / len(learnt) == pytest.approx(result["metrics"]["AP"], abs=1e-6)

    precise = {}
    for precision in ("float32", "bfloat16"):
        judged = fcos("eval", tmp_path / "run", "--data", data, "--precision", precision, "--json")
        assert judged.code == 0, judged.err
        precise[precision] = json.loads(judged.out)["metrics"]["AP"]
    assert precise["bfloat16"] == pytest.approx(precise["float32"], abs=0.001)
