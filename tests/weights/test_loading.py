import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fcos_cli.errors import RecipeError, WeightsError
from fcos_cli.method.fcos.tables import FCOSHeadConfig
from fcos_cli.method.table import HeadConfig as HeadTable
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import BackboneConfig, ModelConfig, PyramidConfig
from fcos_cli.weights import loading as weights
from fcos_cli.weights.loading import (
    foreign_model,
    load_backbone,
    load_detector_weights,
    locate,
    read_detector,
    trained_otherwise,
)
from fcos_cli.weights.opening import is_foreign


def detector(source="", style="pytorch", classes=3, head=None, pyramid=None, **backbone) -> FCOS:
    torch.manual_seed(1)
    options = {"name": "resnet50", "width": 4, "frozen_stages": 0, "weights": str(source), **backbone}
    return FCOS(
        ModelConfig(
            backbone=BackboneConfig(**options),
            pyramid=PyramidConfig(channels=8, **(pyramid or {})),
            head=FCOSHeadConfig(groups=4, convs=1, **(head or {})),
        ),
        classes,
        style,
    )


def randomised(model: FCOS) -> dict[str, torch.Tensor]:
    """Values of a model's shapes that no initialisation gives."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.rand(value.shape, generator=generator) + 0.5
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def backbone_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("backbone."): v for name, v in state.items() if name.startswith("backbone.")}


def assert_backbone_is(model: FCOS, expected: dict[str, torch.Tensor]) -> None:
    loaded = model.backbone.state_dict()
    assert len(expected) == sum(not name.endswith("num_batches_tracked") for name in loaded)
    for name, value in expected.items():
        assert torch.equal(loaded[name], value), name


def test_locate(tmp_path, monkeypatch):
    key = "model.backbone.weights"
    monkeypatch.setenv("FCOS_HOME", str(tmp_path))
    by_hand = tmp_path / "weights" / "msra" / "R-50.pkl"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"x")
    assert locate("msra/R-50", key) == by_hand
    assert locate(str(by_hand), key) == by_hand
    with pytest.raises(WeightsError, match="no such file") as caught:
        locate("missing.pth", key)
    assert key in caught.value.hint
    asked = {}
    monkeypatch.setattr(weights, "fetch", lambda urls, target, **options: asked.update(options, urls=urls) or target)
    first, second = locate("https://a/x-0123abcd.pth", key), locate("https://b/x-0123abcd.pth", key)
    assert first.name == second.name == "x-0123abcd.pth"
    assert first != second
    assert asked["sha256"] == "0123abcd"
    assert f'--set {key}=""' in asked["way_out"]


# Backbones


def test_torchvision_backbone_without_its_classifier(tmp_path):
    expected = backbone_of(randomised(detector()))
    extra = {"fc.weight": torch.zeros(10, 8), "fc.bias": torch.zeros(10), "bn1.num_batches_tracked": torch.tensor(7)}
    torch.save({**expected, **extra}, tmp_path / "own.pth")
    model = detector(tmp_path / "own.pth")
    notes = load_backbone(model)
    assert_backbone_is(model, expected)
    assert "pytorch style" in notes[0]
    assert "guess" in notes[1]
    trainable = detector(tmp_path / "own.pth", norm="bn", weight_style="pytorch")
    assert len(load_backbone(trainable)) == 1
    assert_backbone_is(trainable, expected)


def test_random_weights_are_said():
    assert "random" in load_backbone(detector())[0]


def test_a_missing_statistic_is_an_error(tmp_path):
    state = backbone_of(randomised(detector()))
    del state["layer3.1.bn2.running_var"]
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=r"layer3\.1\.bn2\.running_var is missing"):
        load_backbone(detector(tmp_path / "own.pth"))


def test_another_architecture_is_recognised(tmp_path):
    torch.save(backbone_of(randomised(detector(name="resnet101", width=8))), tmp_path / "own.pth")
    with pytest.raises(WeightsError, match="looks like resnet101 of width 8 with BatchNorm") as caught:
        load_backbone(detector(tmp_path / "own.pth"))
    assert re.search(r"conv1\.weight is \[8, 3, 7, 7\], the recipe's has \[4, 3, 7, 7\]|unknown", caught.value.message)
    assert "more" in caught.value.message
    torch.save({"a": torch.zeros(1)}, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match="it holds a"):
        load_backbone(detector(tmp_path / "own.pth"))


BRANCHES = {"2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}


def caffe2_blobs(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """A backbone's state as Detectron's blobs, BatchNorm as scale and shift alone."""
    pairs = [("conv1", "conv1", "res_conv1_bn", "bn1")]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            there, here = f"res{stage + 1}_{block}_branch", f"layer{stage}.{block}."
            pairs += [(f"{there}{b}", here + c, f"{there}{b}_bn", here + n) for b, (c, n) in BRANCHES.items()]
        there, here = f"res{stage + 1}_0_branch1", f"layer{stage}.0.downsample."
        pairs.append((there, here + "0", there + "_bn", here + "1"))
    blobs = {"fc1000_w": np.zeros((10, 8)), "fc1000_b": np.zeros(10), "conv1_w_momentum": np.zeros(3)}
    for blob, conv, blob_norm, norm in pairs:
        blobs[f"{blob}_w"] = state[f"{conv}.weight"].numpy()
        blobs[f"{blob_norm}_s"] = state[f"{norm}.weight"].numpy()
        blobs[f"{blob_norm}_b"] = state[f"{norm}.bias"].numpy()
    return blobs


def test_caffe2_blobs_apply_their_scale_and_shift_exactly(tmp_path):
    state = backbone_of(randomised(detector()))
    blobs = caffe2_blobs(state)
    blobs["res3_1_branch2b_b"] = np.full(8, 0.25, dtype=np.float32)
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    model = detector(tmp_path / "R-50.pkl", style="caffe")
    load_backbone(model)
    loaded = model.backbone.state_dict()
    norms = [name.removesuffix(".running_var") for name in loaded if name.endswith("running_var")]
    assert len(norms) == 53
    for norm in norms:
        scale = loaded[f"{norm}.weight"] / torch.sqrt(loaded[f"{norm}.running_var"] + 1e-5)
        shift = loaded[f"{norm}.bias"] - loaded[f"{norm}.running_mean"] * scale
        bias = 0.25 if norm == "layer2.1.bn2" else 0.0
        assert torch.allclose(scale, state[f"{norm}.weight"], rtol=1e-6)
        assert torch.allclose(shift, state[f"{norm}.bias"] + bias * state[f"{norm}.weight"], rtol=1e-6)
    for name, value in loaded.items():
        if value.ndim == 4:
            assert torch.equal(value, state[name]), name


def test_caffe2_blobs_in_a_pytorch_network_are_a_contradiction(tmp_path):
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(caffe2_blobs(backbone_of(randomised(detector())))))
    with pytest.raises(RecipeError, match=r"model\.backbone\.weight_style = \"pytorch\""):
        load_backbone(detector(path, weight_style="pytorch"))
    with pytest.raises(RecipeError, match=r"model\.backbone\.norm = \"bn\""):
        load_backbone(detector(path, style="caffe", norm="bn"))


def detectron2_name(name: str) -> str:
    """Our backbone name as detectron2 writes it."""
    name = re.sub(r"^conv1\.", "stem.conv1.", name)
    name = re.sub(r"^bn1\.", "stem.conv1.norm.", name)
    name = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
    name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return re.sub(r"(res\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm.", name)


def test_detectron2_backbone(tmp_path):
    expected = backbone_of(randomised(detector()))
    named = {detectron2_name(name): value.numpy() for name, value in expected.items()}
    assert "res2.0.conv1.norm.running_mean" in named
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"model": named, "matching_heuristics": True}))
    model = detector(tmp_path / "R-50.pkl", style="caffe")
    assert "guess" in load_backbone(model)[1]
    assert_backbone_is(model, expected)


def test_the_backbone_of_a_detector(tmp_path):
    state = randomised(detector())
    save_file(state, tmp_path / "run.safetensors")
    model = detector(tmp_path / "run.safetensors")
    load_backbone(model)
    assert_backbone_is(model, backbone_of(state))


# Whole detectors of other projects


def torchvision_name(name: str) -> str:
    name = re.sub(r"^backbone\.", "backbone.body.", name)
    name = re.sub(r"^fpn\.lateral\.c(\d)", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 3}.0", name)
    name = re.sub(r"^fpn\.output\.p(\d)", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 3}.0", name)
    name = name.replace("fpn.extra.", "backbone.fpn.extra_blocks.")
    name = name.replace("head.class_tower.", "head.classification_head.conv.")
    name = name.replace("head.class_logits.", "head.classification_head.cls_logits.")
    name = name.replace("head.box_tower.", "head.regression_head.conv.")
    name = name.replace("head.box_output.", "head.regression_head.bbox_reg.")
    return name.replace("head.quality.", "head.regression_head.bbox_ctrness.")


def tower_name(name: str, quality: str) -> str:
    name = name.replace("head.class_tower.", "cls_tower.").replace("head.box_tower.", "bbox_tower.")
    name = name.replace("head.class_logits.", "cls_logits.").replace("head.box_output.", "bbox_pred.")
    return name.replace("head.quality.", f"{quality}.")


def official_name(name: str) -> str:
    if name.startswith("head."):
        return "module.rpn.head." + tower_name(name, "centerness")
    name = re.sub(r"^backbone\.(conv1|bn1)\.", r"backbone.body.stem.\1.", name)
    name = re.sub(r"^backbone\.layer", "backbone.body.layer", name)
    name = re.sub(r"^fpn\.lateral\.c(\d)", lambda m: f"backbone.fpn.fpn_inner{int(m[1]) - 1}", name)
    name = re.sub(r"^fpn\.output\.p(\d)", lambda m: f"backbone.fpn.fpn_layer{int(m[1]) - 1}", name)
    return "module." + name.replace("fpn.extra.", "backbone.fpn.top_blocks.")


def adelaidet_name(name: str) -> str:
    if name.startswith("head."):
        return "proposal_generator.fcos_head." + tower_name(name, "ctrness")
    if name.startswith("backbone."):
        return "backbone.bottom_up." + detectron2_name(name.removeprefix("backbone."))
    name = re.sub(r"^fpn\.lateral\.c(\d)", r"backbone.fpn_lateral\1", name)
    name = re.sub(r"^fpn\.output\.p(\d)", r"backbone.fpn_output\1", name)
    return name.replace("fpn.extra.", "backbone.top_block.")


def foreign(state: dict[str, torch.Tensor], rename, scale_prefix: str) -> dict[str, torch.Tensor]:
    named = {rename(name): value for name, value in state.items() if name != "head.scales"}
    if scale_prefix:
        named.update({f"{scale_prefix}{i}.scale": s.reshape(1) for i, s in enumerate(state["head.scales"])})
    return named


FOREIGN = {
    "torchvision": (torchvision_name, "", "pytorch"),
    "official": (official_name, "module.rpn.head.scales.", "caffe"),
    "adelaidet": (adelaidet_name, "proposal_generator.fcos_head.scales.", "caffe"),
}
RELU_HEAD = {"box_activation": "relu", "normalize_targets": True, "quality_tower": "regression"}


def write_foreign(folder: Path, origin: str, **options) -> tuple[Path, dict[str, torch.Tensor]]:
    rename, scales, _ = FOREIGN[origin]
    state = randomised(detector(**options))
    named = foreign(state, rename, scales)
    if origin == "adelaidet":
        named |= {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    path = folder / f"{origin}.pth"
    torch.save({"model": named}, path)
    return path, state


@pytest.mark.parametrize("origin", sorted(FOREIGN))
def test_whole_detectors_load(tmp_path, origin):
    path, state = write_foreign(tmp_path, origin)
    found = read_detector(str(path))
    assert (found.peer.name, found.style, found.num_classes) == (origin, FOREIGN[origin][2], 3)
    model = detector(style=found.style, head=RELU_HEAD, pyramid={"locations": "corner"})
    notes = load_detector_weights(model, found)
    assert len(notes) == 1
    for name, value in model.state_dict().items():
        expected = state[name]
        if origin == "torchvision" and name == "head.scales":
            expected = torch.ones(5)
        if origin == "official" and name.endswith("running_var"):
            expected = expected - 1e-5
        assert torch.equal(value, expected), name


def test_names_of_the_published_detectors():
    assert torchvision_name("fpn.lateral.c3.weight") == "backbone.fpn.inner_blocks.0.0.weight"
    assert official_name("fpn.output.p5.bias") == "module.backbone.fpn.fpn_layer4.bias"
    assert official_name("backbone.bn1.weight") == "module.backbone.body.stem.bn1.weight"
    assert adelaidet_name("backbone.layer1.0.bn2.bias") == "backbone.bottom_up.res2.0.conv2.norm.bias"
    assert adelaidet_name("backbone.conv1.weight") == "backbone.bottom_up.stem.conv1.weight"


def test_another_number_of_classes_leaves_the_class_layer_alone(tmp_path):
    path, state = write_foreign(tmp_path, "torchvision")
    model = detector(classes=7, head=RELU_HEAD)
    before = model.head.class_logits.weight.clone()
    notes = load_detector_weights(model, read_detector(str(path)))
    assert notes[1] == "they know 3 classes, none of the data's 7; the rest of the class layer starts at random"
    assert torch.equal(model.head.class_logits.weight, before)
    assert torch.equal(model.head.box_output.weight, state["head.box_output.weight"])


def test_another_meaning_of_the_head_is_said(tmp_path):
    path, _ = write_foreign(tmp_path, "torchvision")
    notes = load_detector_weights(detector(), read_detector(str(path)))
    for key in ("box_activation", "normalize_targets", "quality_tower", "locations"):
        assert any(key in note for note in notes)


def test_a_head_of_another_method_lacks_keys():
    config = ModelConfig().model_copy(update={"head": HeadTable(name="theirs")})
    (line,) = trained_otherwise(config, {"head.box_activation": "relu", "pyramid.locations": "half_stride"})
    assert line == (
        "they were trained with model.head.box_activation = 'relu'; the recipe's head, 'theirs', has no such key"
    )


def test_a_quality_branch_on_one_side_only_is_said(tmp_path):
    path, state = write_foreign(tmp_path, "official")
    without = detector(style="caffe", head={"quality": "none"})
    assert any("quality branch" in note for note in load_detector_weights(without, read_detector(str(path))))
    assert torch.equal(without.head.scales, state["head.scales"])
    path, _ = write_foreign(tmp_path, "official", head={"quality": "none"})
    assert any(
        "quality branch" in note for note in load_detector_weights(detector(style="caffe"), read_detector(str(path)))
    )


def test_a_model_takes_the_style_of_the_detector(tmp_path):
    path, state = write_foreign(tmp_path, "official")
    assert is_foreign(path)
    config = detector().config.model_copy(update={"weights": str(path)})
    model, notes = foreign_model(config, 3)
    assert model.style == "caffe"
    assert "FCOS authors" in notes[0]
    assert torch.equal(model.head.quality.bias, state["head.quality.bias"])
    wrong = config.backbone.model_copy(update={"weight_style": "pytorch"})
    with pytest.raises(RecipeError, match=r"model\.backbone\.weight_style"):
        foreign_model(config.model_copy(update={"backbone": wrong}), 3)


def test_a_detector_of_the_other_style_is_a_contradiction(tmp_path):
    path, _ = write_foreign(tmp_path, "official")
    with pytest.raises(RecipeError, match=r"model\.backbone\.weight_style"):
        load_detector_weights(detector(style="pytorch"), read_detector(str(path)))


def test_a_detector_of_another_shape_does_not_load(tmp_path):
    path, _ = write_foreign(tmp_path, "adelaidet")
    model = detector(style="caffe", pyramid={"levels": [3, 4, 5, 6]})
    with pytest.raises(WeightsError, match=r"fpn\.extra\.p7\.weight is unknown"):
        load_detector_weights(model, read_detector(str(path)))


def test_a_backbone_is_not_a_detector(tmp_path):
    torch.save(backbone_of(randomised(detector())), tmp_path / "own.pth")
    with pytest.raises(WeightsError, match="looks like resnet50") as caught:
        read_detector(str(tmp_path / "own.pth"))
    assert "model.backbone.weights" in caught.value.hint
