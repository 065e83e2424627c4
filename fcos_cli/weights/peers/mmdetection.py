"""mmdetection 1, 2 and 3. Its checkpoints usually hold the configuration, Python source that is parsed and not run."""

import ast
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fcos_cli.model.pixels import DETECTRON2, IMAGENET, MSRA, PixelFormat
from fcos_cli.weights.peers.peer import (
    BASE,
    IMPROVED,
    FileKind,
    Keys,
    Meta,
    Peer,
    Question,
    Reading,
    State,
    pixel_keys,
    variant,
)
from fcos_cli.weights.peers.renaming import Rules, rename, stack_scales

# A tower's layers are convolution, norm and rectifier here.
DETECTOR: Rules = (
    (r"(backbone\..+)", r"\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(\w+)", r"fpn.lateral.c{\1+3}.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(\w+)", r"fpn.output.p{\1+3}.\2"),
    (r"neck\.fpn_convs\.([34])\.conv\.(\w+)", r"fpn.extra.p{\1+3}.\2"),
    (r"bbox_head\.cls_convs\.(\d)\.conv\.(\w+)", r"head.class_tower.{\1*3+0}.\2"),
    (r"bbox_head\.cls_convs\.(\d)\.gn\.(\w+)", r"head.class_tower.{\1*3+1}.\2"),
    (r"bbox_head\.reg_convs\.(\d)\.conv\.(\w+)", r"head.box_tower.{\1*3+0}.\2"),
    (r"bbox_head\.reg_convs\.(\d)\.gn\.(\w+)", r"head.box_tower.{\1*3+1}.\2"),
    (r"bbox_head\.(?:conv|fcos)_cls\.(\w+)", r"head.class_logits.\1"),
    (r"bbox_head\.(?:conv|fcos)_reg\.(\w+)", r"head.box_output.\1"),
    (r"bbox_head\.(?:conv|fcos)_centerness\.(\w+)", r"head.quality.\1"),
    (r"bbox_head\.scales\.(\d+)\.scale", r"head.scales.\1"),
)
STYLE = Question(
    "model.backbone.weight_style",
    (
        ("caffe", "BGR pixels, stride in the 1x1: configurations named r50-caffe"),
        ("pytorch", "RGB pixels, divided by their deviation, stride in the 3x3"),
    ),
)
LOSSES = {"IoULoss": "iou", "GIoULoss": "giou", "DIoULoss": "diou", "CIoULoss": "ciou"}


def _recognised(state: State) -> bool:
    return any(f"bbox_head.{name}_centerness.weight" in state for name in ("conv", "fcos"))


def _reading(state: State, meta: Meta, given: Keys) -> Reading:
    reading = Reading({"test.rank_by": "class", "test.score": "product", "loss.iou_smoothing": 0.0})
    reading.classes = _classes(meta)
    source = next((meta[name] for name in ("cfg", "config") if isinstance(meta.get(name), str)), "")
    config = parse_config(source)
    model = config.get("model")
    if isinstance(model, dict) and isinstance(model.get("bbox_head"), dict):
        _from_config(model, config, reading)
        return reading
    style = given.get("model.backbone.weight_style")
    if style not in ("caffe", "pytorch"):
        reading.questions.append(STYLE)
    variant(given, reading)
    improved = given.get("model.head.box_activation") == "relu"
    pixels = (DETECTRON2 if improved else MSRA) if style == "caffe" else IMAGENET
    reading.keys |= pixel_keys(pixels)
    if not improved:
        reading.keys["test.nms_iou"] = 0.5
    mean = ", ".join(f"{value:g}" for value in pixels.mean)
    reading.assumed.append(f"the mean of the pixels is {mean}, NMS at {'0.6' if improved else '0.5'}: the usual ones")
    return reading


def _from_config(model: dict[str, Any], config: dict[str, Any], reading: Reading) -> None:
    """Fills a reading by the configuration in the file; defaults are those of mmdetection's classes."""
    head, backbone = model["bbox_head"], _table(model.get("backbone"))
    normalized, sampled = bool(head.get("norm_on_bbox")), bool(head.get("center_sampling"))
    keys = reading.keys
    keys |= IMPROVED if normalized else BASE
    keys["model.head.quality_tower"] = "regression" if head.get("centerness_on_reg") else "classification"
    keys["assign.center_sampling"] = float(head.get("center_sample_radius", 1.5)) if sampled else 0.0
    keys["loss.box"] = LOSSES.get(_table(head.get("loss_bbox")).get("type", ""), "iou")
    norm = _table(head.get("norm_cfg") or {"type": "GN", "num_groups": 32})
    if "num_groups" in norm:
        keys["model.head.groups"] = norm["num_groups"]
    keys["model.backbone.weight_style"] = "caffe" if backbone.get("style", "pytorch") == "caffe" else "pytorch"
    neck = _table(model.get("neck"))
    if neck and not neck.get("relu_before_extra_convs") and neck.get("num_outs", 5) > 4:
        reading.lacks.append("a P7 without a rectifier before it (relu_before_extra_convs = False)")
    if head.get("type", "FCOSHead") != "FCOSHead":
        reading.lacks.append(f"the head {head['type']}")
    pixels = _pixels(model, config)
    if pixels is None:
        caffe = keys["model.backbone.weight_style"] == "caffe"
        pixels = (DETECTRON2 if normalized else MSRA) if caffe else IMAGENET
        reading.assumed.append(f"the mean of the pixels is {', '.join(f'{value:g}' for value in pixels.mean)}")
    keys |= pixel_keys(pixels)
    test = _table(model.get("test_cfg") or config.get("test_cfg"))
    for theirs, ours in (
        ("nms_pre", "candidates"),
        ("score_thr", "score_threshold"),
        ("max_per_img", "max_detections"),
    ):
        if theirs in test:
            keys[f"test.{ours}"] = test[theirs]
    nms = _table(test.get("nms"))
    for name in ("iou_threshold", "iou_thr"):
        if name in nms:
            keys["test.nms_iou"] = nms[name]


def _pixels(model: dict[str, Any], config: dict[str, Any]) -> PixelFormat | None:
    """Statistics of mmdetection 3 (`data_preprocessor`) or 2 (`img_norm_cfg`)."""
    for table, flag in ((_table(model.get("data_preprocessor")), "bgr_to_rgb"), (_norms(config), "to_rgb")):
        if "mean" in table and "std" in table:
            mean, std = (tuple(float(value) for value in table[name]) for name in ("mean", "std"))
            return PixelFormat("rgb" if table.get(flag, flag == "to_rgb") else "bgr", mean, std)
    return None


def _norms(config: dict[str, Any]) -> dict[str, Any]:
    return _table(config.get("img_norm_cfg"))


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _classes(meta: Meta) -> tuple[str, ...]:
    about = _table(meta.get("dataset_meta"))
    for names in (about.get("classes"), about.get("CLASSES"), meta.get("CLASSES")):
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def parse_config(source: str) -> dict[str, Any]:
    """Assignments of plain values in a Python configuration, by name; `dict(a=1)` is a table. Nothing is run."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    return dict(_assignments(body))


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                yield statement.targets[0].id, _value(statement.value)
            except (ValueError, TypeError, RecursionError):
                continue  # not a plain value


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {str(word.arg): _value(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): _value(value) for key, value in pairs if key is not None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)


def _to_ours(state: State) -> dict[str, Tensor]:
    return stack_scales(rename(state, DETECTOR))


MMDETECTION = Peer(
    name="mmdetection",
    title="mmdetection",
    detector=FileKind(recognised=_recognised, to_ours=_to_ours, reading=_reading),
)
