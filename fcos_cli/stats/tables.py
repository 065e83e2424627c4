"""The paper's Table 1 and Table 2 (arXiv 1904.01355, section 4.1) for a data set."""

from dataclasses import replace

from fcos_cli.data.records import DetectionData
from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.stats.boxes import Setting
from fcos_cli.stats.coverage import cover, cover_by_anchors
from fcos_cli.stats.parallel import Step
from fcos_cli.stats.retinanet import LOW_QUALITY

Tables = dict[str, dict[str, float | None]]

PASSES = 3
"""How often `compute_tables` goes over the images: the pyramid, P4 alone, the anchors."""

PUBLISHED: Tables = {
    "table1": {
        "retinanet_none": 86.82,
        "retinanet_0.4": 90.92,
        "retinanet_all": 99.23,
        "fcos_p4": 95.55,
        "fcos_fpn": 98.40,
    },
    "table2": {"p4_all": 23.16, "p4_cross": 17.84, "fpn_all": 7.14, "fpn_cross": 3.75},
}
"""The paper's own figures, percent, on COCO val2017."""

_VAL2017_IMAGES, _VAL2017_CLASSES, _VAL2017_ID_SUM, _VAL2017_BOXES = 5000, 80, 1_447_811_683, 36_335


def compute_tables(
    data: DetectionData, setting: Setting, *, workers: int | None = None, step: Step | None = None
) -> Tables:
    """Both tables in percent, with the keys of `PUBLISHED`.

    Args:
        setting: its pyramid stands for the paper's FPN, and carries the anchors; the other columns are of P4 alone.
        workers, step: as `cover` takes them; every image is told `PASSES` times.

    Raises:
        DataError: the data set has no boxes that could be learnt.
    """
    single = replace(setting, pyramid=build_pyramid([4], origin=setting.pyramid.origin))
    fpn = cover(data, setting, workers=workers, step=step)
    p4 = cover(data, single, workers=workers, step=step)
    anchors = cover_by_anchors(data, setting, workers=workers, step=step)
    return {
        "table1": {
            **{f"retinanet_{rule}": anchors[rule].recall["bpr"] for rule in LOW_QUALITY},
            "fcos_p4": p4.recall["bpr"],
            "fcos_fpn": fpn.recall["bpr"],
        },
        "table2": {
            "p4_all": p4.ambiguity["ambiguous_percent"],
            "p4_cross": p4.ambiguity["cross_class_percent"],
            "fpn_all": fpn.ambiguity["ambiguous_percent"],
            "fpn_cross": fpn.ambiguity["cross_class_percent"],
        },
    }


def is_the_papers(data: DetectionData, setting: Setting) -> bool:
    """Whether the paper's figures are of this data, COCO val2017 (it calls the set minival), and this setting."""
    usual = replace(Setting(), convention=setting.convention)
    return setting == usual and (
        len(data) == _VAL2017_IMAGES
        and len(data.categories) == _VAL2017_CLASSES
        and int(data.image_ids.sum()) == _VAL2017_ID_SUM
        and int((~data.crowd).sum()) == _VAL2017_BOXES
    )
