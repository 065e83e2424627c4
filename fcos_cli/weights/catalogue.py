"""The FCOS detectors that others have published: names, addresses, figures. Imports no torch.

AP is that of COCO val2017 as each project states it: mmdetection's configs/fcos/metafile.yml, the READMEs of
tianzhi0549/FCOS and of AdelaiDet's configs/FCOS-Detection. Sizes without a suffix are those of the tensors.
"""

from collections.abc import Iterator
from typing import Any

from fcos_cli.recipe.schema import WeightStyle
from fcos_cli.weights.entry import Published

MMDETECTION = "https://download.openmmlab.com/mmdetection/v2.0/fcos/"
OFFICIAL = "https://huggingface.co/tianzhi/FCOS/resolve/main/"
ADELAIDET = "https://huggingface.co/tianzhi/AdelaiDet-FCOS/resolve/main/"
ACADEMIC = "2-clause BSD for academic use"

IMPROVED = {"model.head.box_activation": "relu"}
BASE = {"model.head.box_activation": "exp"}
DCN, DLA, MOBILENET = "deformable convolutions (DCN)", "a DLA backbone", "a MobileNet backbone"
SHARED, BN_HEAD = "towers that classes and boxes share", "BatchNorm in the head's towers"

# name, network, digits of the hash, AP, answers, what it needs
_MMDETECTION = (
    ("fcos_r50_caffe_fpn_gn-head_1x_coco", "resnet50", "821213aa", 36.6, BASE, ""),
    (
        "fcos_center-normbbox-centeronreg-giou_r50_caffe_fpn_gn-head_1x_coco",
        "resnet50",
        "0a0d75a8",
        38.7,
        IMPROVED,
        "",
    ),
    (
        "fcos_center-normbbox-centeronreg-giou_r50_caffe_fpn_gn-head_dcn_1x_coco",
        "resnet50",
        "ae4d8b3d",
        42.3,
        IMPROVED,
        DCN,
    ),
    ("fcos_r101_caffe_fpn_gn-head_1x_coco", "resnet101", "0e37b982", 39.1, BASE, ""),
    ("fcos_r50_caffe_fpn_gn-head_mstrain_640-800_2x_coco", "resnet50", "d92ceeea", 38.5, BASE, ""),
    ("fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco", "resnet101", "511424d6", 40.8, BASE, ""),
    ("fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco", "resnext101_64x4d", "ede514a8", 42.6, BASE, ""),
)
_OFFICIAL: tuple[tuple[str, str, float, dict[str, str], str], ...] = (
    ("FCOS_R_50_FPN_1x", "resnet50", 37.1, BASE, ""),
    ("FCOS_imprv_R_50_FPN_1x", "resnet50", 38.7, IMPROVED, ""),
    ("FCOS_imprv_dcnv2_R_50_FPN_1x", "resnet50", 42.3, IMPROVED, DCN),
    ("FCOS_R_101_FPN_2x", "resnet101", 41.4, BASE, ""),
    ("FCOS_imprv_R_101_FPN_2x", "resnet101", 42.9, IMPROVED, ""),
    ("FCOS_imprv_dcnv2_R_101_FPN_2x", "resnet101", 45.6, IMPROVED, DCN),
    ("FCOS_X_101_32x8d_FPN_2x", "resnext101_32x8d", 42.5, BASE, ""),
    ("FCOS_imprv_X_101_32x8d_FPN_2x", "resnext101_32x8d", 44.0, IMPROVED, ""),
    ("FCOS_imprv_dcnv2_X_101_32x8d_FPN_2x", "resnext101_32x8d", 46.4, IMPROVED, DCN),
    ("FCOS_X_101_64x4d_FPN_2x", "resnext101_64x4d", 43.0, BASE, ""),
    ("FCOS_imprv_X_101_64x4d_FPN_2x", "resnext101_64x4d", 44.7, IMPROVED, ""),
    ("FCOS_imprv_dcnv2_X_101_64x4d_FPN_2x", "resnext101_64x4d", 46.6, IMPROVED, DCN),
    ("FCOS_syncbn_bs32_c128_MNV2_FPN_1x", "mobilenet_v2", 30.9, {}, MOBILENET),
    ("FCOS_syncbn_bs32_MNV2_FPN_1x", "mobilenet_v2", 33.1, {}, MOBILENET),
    ("FCOS_bn_bs16_MNV2_FPN_1x", "mobilenet_v2", 31.0, {}, MOBILENET),
)
_ADELAIDET = (
    ("FCOS_R_50_1x", "resnet50", 38.7, ""),
    ("FCOS_MS_R_50_2x", "resnet50", 41.0, ""),
    ("FCOS_MS_R_101_2x", "resnet101", 43.1, ""),
    ("FCOS_MS_X_101_32x8d_2x", "resnext101_32x8d", 43.9, ""),
    ("FCOS_MS_X_101_64x4d_2x", "resnext101_64x4d", 44.7, ""),
    ("FCOS_MS_X_101_32x8d_dcnv2_2x", "resnext101_32x8d", 46.6, DCN),
    ("FCOS_RT_MS_DLA_34_4x_shtw", "dla34", 39.1, f"{DLA} and {SHARED}"),
    ("FCOS_RT_MS_DLA_34_4x", "dla34", 40.3, DLA),
    ("FCOS_RT_MS_R_50_4x", "resnet50", 40.2, ""),
    ("FCOS_RT_MS_DLA_34_4x_shtw_bn", "dla34", 38.9, f"{DLA}, {SHARED} and {BN_HEAD}"),
    ("FCOS_RT_MS_DLA_34_4x_bn", "dla34", 39.4, f"{DLA} and {BN_HEAD}"),
    ("FCOS_RT_MS_R_50_4x_bn", "resnet50", 39.3, BN_HEAD),
)
_MEGABYTES = {"resnet50": 129, "resnet101": 205, "resnext101_32x8d": 387, "resnext101_64x4d": 355}
"""Of the tensors of a detector with 80 classes, in float32."""


def detectors() -> Iterator[Published]:
    """Every FCOS detector known beside torchvision's."""
    for name, network, digest, ap, answers, lacks in _MMDETECTION:
        style: WeightStyle = "caffe" if "caffe" in name else "pytorch"
        yield Published(
            f"mmdetection/{name}",
            "detector",
            network,
            style,
            (f"{MMDETECTION}{name}/{name}-{digest}.pth",),
            digest,
            ap=ap,
            licence="Apache-2.0",
            megabytes=_MEGABYTES[network],
            lacks=lacks,
            answers={"model.backbone.weight_style": style, **answers},
        )
    for name, network, ap, answers, lacks in _OFFICIAL:
        yield _of_the_authors("official", OFFICIAL, name, network, ap, dict(answers), lacks)
    for name, network, ap, lacks in _ADELAIDET:
        told: dict[str, Any] = {"model.head.quality": "centerness"}
        if "_RT_" in name:
            told |= {"test.short_side": 512, "test.long_side": 736}
        yield _of_the_authors("adelaidet", ADELAIDET, name, network, ap, told, lacks)


def _of_the_authors(
    project: str, folder: str, name: str, network: str, ap: float, answers: dict[str, Any], lacks: str
) -> Published:
    return Published(
        f"{project}/{name}",
        "detector",
        network,
        "caffe",
        (f"{folder}{name}.pth",),
        ap=ap,
        licence=ACADEMIC,
        megabytes=_MEGABYTES.get(network, 0),
        lacks=lacks,
        answers=answers,
    )
