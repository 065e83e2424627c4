"""A detector from whatever names one: a run, a file of this toolkit or of another project, a name, an address."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fcos_cli.errors import WeightsError
from fcos_cli.runs import RUNS, find_weights, newest_run
from fcos_cli.weights.download import cache_folder
from fcos_cli.weights.hub import SCHEME
from fcos_cli.weights.importing import Imported, import_detector
from fcos_cli.weights.loading import locate
from fcos_cli.weights.published import is_url, published
from fcos_cli.weights.saved import FORMAT, Detector, load_detector, metadata_of

KEY = "--weights"
DEFAULT = "torchvision/fcos_resnet50_fpn"
FOREIGN = (".pth", ".pt", ".bin", ".pkl")


def open_detector(
    spec: str | Path, device: str | torch.device = "cpu", *, say: Callable[[str], None] = lambda line: None
) -> Detector:
    """The detector that `spec` names.

    Args:
        spec: a run folder or the name of a run, a .safetensors file, a published name (`fcos weights list`), another
            project's .pth, .pkl or .safetensors file, an http(s) address, or hf://owner/repository[/file].
        device: where its model is put.
        say: gets lines on what was assumed of another project's file.

    Raises:
        WeightsError: there is none, it is damaged, or it leaves open what it computes.
        SetupError: a download failed.
    """
    path = find_file(spec)
    if not is_foreign(path):
        return load_detector(path, device)
    imported = imported_from(path, str(spec), to_run=True)
    for note in imported.notes:
        say(note)
    imported.detector.model.to(device)
    return imported.detector


def any_detector(spec: str | Path | None, *, say: Callable[[str], None] = lambda line: None) -> Detector:
    """`open_detector` of what is given, else of the newest run, else of torchvision's published FCOS.

    Args:
        say: also gets a line on which detector it is.
    """
    if spec is not None:
        detector = open_detector(spec, say=say)
        say(f"weights: {detector.path}")
        return detector
    try:
        newest = newest_run()
    except WeightsError:
        entry = published()[DEFAULT]
        say(
            f"no run here: {DEFAULT}, {entry.megabytes} MB, 80 classes of COCO, {entry.licence}; kept in "
            f"{cache_folder()} (choose with --weights)"
        )
        return any_detector(DEFAULT, say=say)
    detector = open_detector(newest, say=say)
    say(f"weights: {detector.path} (the newest run's; choose with --weights)")
    return detector


def find_file(spec: str | Path) -> Path:
    """The local file that a detector's name means; published ones and addresses are downloaded once."""
    text = str(spec)
    local = Path(text).expanduser()
    if not local.exists() and not (RUNS / local).exists() and (text in published() or is_remote(text)):
        return locate(text, KEY)
    return find_weights(spec)


def is_remote(spec: str) -> bool:
    """Whether a detector is named by an address."""
    return is_url(spec) or spec.startswith(SCHEME)


def is_foreign(path: Path) -> bool:
    """Whether a file is another project's: a PyTorch file, a pickle, or safetensors that do not say they are ours."""
    if path.suffix.lower() in FOREIGN:
        return True
    metadata = metadata_of(path)
    return metadata is not None and not metadata.get("format", "").startswith(FORMAT)


def imported_from(
    path: Path,
    spec: str,
    *,
    origin: str = "",
    classes: Sequence[str] = (),
    overrides: Sequence[str] = (),
    to_run: bool = False,
) -> Imported:
    """`import_detector` with what is known of a published file."""
    entry = published().get(spec) or next((e for e in published().values() if e.file_name == path.name), None)
    given = dict(entry.answers) if entry else {}
    return import_detector(
        path, name=spec, origin=origin, classes=classes, overrides=overrides, given=given, to_run=to_run
    )
