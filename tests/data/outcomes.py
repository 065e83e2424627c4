"""What `fcos data check` makes of small data sets as people have them: a table, for docs/data.md and for a test.

python tests/data/outcomes.py        prints the table
"""

from typing import NamedTuple


class Outcome(NamedTuple):
    """A folder of small inputs.

    Attributes:
        folder: its name.
        what: what is particular about it.
        code: the exit code.
        read: split, images, boxes.
        said: words of the line that says it; empty where there is nothing to say.
    """

    folder: str
    what: str
    code: int
    read: str
    said: str


OUTCOMES = (
    Outcome(
        "check_table_of_other_classes",
        "the splits number the same classes otherwise",
        3,
        "train 3, 6; val 3, 6",
        "splits that list different classes, which fcos train refuses",
    ),
    Outcome(
        "coco_absolute_path",
        "file names of another machine",
        0,
        "result 3, 6",
        "/home/somebody/data/images/im0.jpg -> images/im0.jpg",
    ),
    Outcome(
        "coco_all_crowd", "every box is crowd", 3, "train 3, 6", "all boxes are crowd or difficult, which are ignored"
    ),
    Outcome(
        "coco_bbox_empty",
        "`bbox: []`",
        0,
        "train 3, 5",
        "left out: boxes with NaN, infinite or missing coordinates (1): annotation 1",
    ),
    Outcome(
        "coco_extra_json",
        "a JSON file that is no COCO file",
        0,
        "train 3, 6",
        "files that look like annotations and were not read (1): annotations/dataset_meta.json",
    ),
    Outcome("coco_fiftyone", "images in `data/`", 0, "labels 3, 6", "im0.jpg -> data/im0.jpg"),
    Outcome(
        "coco_key_annotation",
        "the key `annotation`",
        3,
        "train 3, 0",
        "under another key than `annotations`: rename it (1): train.json: `annotation`",
    ),
    Outcome(
        "coco_label_studio_7294",
        "Label Studio's paths",
        0,
        "result 3, 6",
        "../../label-studio/label-studio/media/upload/4/im0.jpg -> images/im0.jpg",
    ),
    Outcome("coco_name_too_long", "a name of 300 bytes", 3, "train 3, 6", "1 image file is missing"),
    Outcome(
        "coco_nearest_images/export",
        "the same names in a folder above",
        0,
        "annotations 3, 6",
        "images in coco_nearest_images/export/images",
    ),
    Outcome(
        "coco_nested_images", "images in `images/batch_01/`", 0, "train 3, 6", "im0.jpg -> images/batch_01/im0.jpg"
    ),
    Outcome("coco_utf16", "UTF-16", 0, "train 3, 6", ""),
    Outcome(
        "coco_width_nan",
        "a width of NaN",
        0,
        "train 3, 6",
        "image sizes that are no sizes; taken from the image files (1): im0.jpg",
    ),
    Outcome(
        "gray16_narrow",
        "16-bit images of a hundredth of the range",
        0,
        "all 2, 0",
        "16-bit images that use less than a twentieth of their range",
    ),
    Outcome(
        "jpeg_without_end",
        "a JPEG without its end marker",
        0,
        "train 3, 6",
        "JPEG files without their end marker, whole otherwise and decoded (1)",
    ),
    Outcome("layout_coco_json_per_split", "`<split>/annotations.json`", 0, "train 3, 6; val 3, 6", ""),
    Outcome("layout_darknet_cvat_yolo11", "Darknet, CVAT YOLO 1.1", 0, "train 3, 6", ""),
    Outcome("layout_labelimg_yolo_flat", "labels beside the images", 0, "all 3, 6", ""),
    Outcome("layout_labelme_json", "LabelMe", 0, "all 3, 6", ""),
    Outcome("layout_voc_nested_annotations", "`Annotations/<split>/`", 0, "train 3, 6; val 3, 6", ""),
    Outcome("layout_vocdevkit", "`VOCdevkit/VOC2007/`", 0, "all 3, 6", ""),
    Outcome(
        "roboflow_content_path",
        "`/content/...` in data.yaml",
        0,
        "train 3, 6; val 3, 6",
        "train: /content/My-Project-1/train/images -> train/images",
    ),
    Outcome(
        "roboflow_project_prefix",
        "the project's folder in data.yaml",
        0,
        "train 3, 6; val 3, 6",
        "train: My-Project-1/train/images -> train/images",
    ),
    Outcome(
        "roboflow_test_missing",
        "test is named and not there",
        0,
        "train 3, 6; val 3, 6",
        "splits that the data set names and that are not there (1)",
    ),
    Outcome("tiff_orientation", "TIFF files with an orientation", 0, "train 2, 4", ""),
    Outcome("voc_annots_folder", "`annots/` beside `images/`", 0, "all 3, 6", ""),
    Outcome("voc_difficult_unspecified", "`<difficult>Unspecified`", 0, "all 3, 6", ""),
    Outcome(
        "voc_image_without_xml",
        "an image without an XML file",
        0,
        "all 2, 4",
        "images that no split lists and nothing uses (1): images/v1.jpg",
    ),
    Outcome(
        "voc_macos_dot_underscore",
        "`._*.xml`",
        0,
        "all 3, 6",
        "hidden files (._*) that macOS left and nothing reads (3)",
    ),
    Outcome("voc_two_column_lists", "lists with a second column", 0, "train 4, 8; val 2, 4", ""),
    Outcome(
        "yolo_backslash",
        "`..\\train\\images` in data.yaml",
        0,
        "train 3, 6; val 3, 6",
        "train: ..\\train\\images -> train/images",
    ),
    Outcome(
        "yolo_label_missing",
        "three label files in another case",
        0,
        "train 6, 6; val 6, 12",
        "images without a label file, which count as images without objects (3)",
    ),
    Outcome("yolo_names_string_keys", "`names: {'0': red}`", 0, "train 3, 6; val 3, 6", ""),
    Outcome("yolo_nc_mismatch", "nc is not the number of names", 0, "train 3, 6; val 3, 6", "nc: 5, but 2 names"),
    Outcome(
        "yolo_obb_beyond",
        "an oriented box beyond the image",
        0,
        "train 3, 5; val 3, 6",
        "labels that reach a little beyond the image and are cut to it (1): labels/train/train0.txt:1",
    ),
    Outcome(
        "yolo_orphan_labels",
        "labels of images that are gone",
        0,
        "train 3, 6; val 6, 12",
        "label files without an image (3): labels/train/train0.txt",
    ),
    Outcome("yolo_pose_even", "keypoints, an even count of numbers", 0, "train 3, 6; val 3, 6", ""),
    Outcome("yolo_valid_key", "the key `valid`", 0, "train 3, 6; val 3, 6", "valid: val"),
    Outcome("yolo_yaml_broken", "a tab in data.yaml", 3, "", "data.yaml:4: not valid YAML"),
    Outcome("yolo_yaml_nc_only", "nc without names", 0, "train 3, 6; val 3, 6", ""),
)


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| folder | what is particular | exit code | split: images, boxes | what is said |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in OUTCOMES:
        said = one.said.replace("|", "\\|") or "-"
        lines.append(f"| {one.folder} | {one.what} | {one.code} | {one.read or '-'} | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
