"""Pretrained weights into a model: finds the file (a name, a path, an address), names its tensors, checks them, loads.

Nothing is loaded in part without saying so: every backbone tensor, BatchNorm's statistics among them, comes from the
file or the load fails.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from torch import Tensor, nn

from fcos_cli.data.records import Categories
from fcos_cli.errors import WeightsError
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.pixels import PixelFormat
from fcos_cli.model.resnet import ARCHITECTURES
from fcos_cli.recipe.schema import ModelConfig, WeightStyle
from fcos_cli.weights.classes import classes_of, is_unnamed
from fcos_cli.weights.download import cache_folder, fetch
from fcos_cli.weights.files import read_file, read_state
from fcos_cli.weights.hub import SCHEME, hub_url
from fcos_cli.weights.importing import COUNTER, ask, completed, pixels_of, refuse_lacking
from fcos_cli.weights.names import backbone_state, detector_peer
from fcos_cli.weights.peers import PEERS, Peer
from fcos_cli.weights.peers.renaming import BN_EPS
from fcos_cli.weights.published import folded_norm, is_url, published, resolve_style, style_clash

SHOWN = 4
_READS = ("model.head.", "model.pyramid.")


class DetectorWeights(NamedTuple):
    """A whole detector of another project, under our names.

    Attributes:
        peer: the project.
        pixels: what it reads; None: what is usual in its style.
        trained_with: keys below `model` of the recipe that it was trained with.
        source: the file.
        classes: row of its class layer by name of the class; None where nothing names them.
    """

    state: dict[str, Tensor]
    peer: Peer
    style: WeightStyle
    pixels: PixelFormat | None
    trained_with: Mapping[str, object]
    source: str
    classes: Mapping[str, int] | None = None

    @property
    def num_classes(self) -> int:
        """Rows of its class layer; 0 where it has none."""
        bias = self.state.get("head.class_logits.bias")
        return 0 if bias is None else bias.numel()


def locate(spec: str, key: str) -> Path:
    """The local file of weights named by `spec`: a published name or an address is downloaded once.

    Args:
        spec: a published name, an http(s) address, or a path.
        key: the recipe key or the option that says so, for the hints.

    Raises:
        SetupError: the download failed.
        WeightsError: no such file.
    """
    way_out = f'or use weights you have: --set {key}=FILE, or none: --set {key}=""'
    if key.startswith("--"):
        way_out = f"or use weights you have: {key} FILE, or train some: fcos train recipes/shapes.toml"
    entry = published().get(spec)
    if entry is not None:
        if entry.lacks:
            raise WeightsError(
                f"{spec} needs {entry.lacks}, which this toolkit does not have",
                "fcos weights list shows detectors that run here",
            )
        if not entry.urls:
            raise WeightsError(
                f"{spec} is not at a known address any more", f"fetch {entry.file_name} by hand, and give its path"
            )
        target = cache_folder() / PurePosixPath(spec).parts[0] / entry.file_name
        return fetch(entry.urls, target, sha256=entry.sha256, label=spec, way_out=way_out)
    if spec.startswith(SCHEME):
        spec = hub_url(spec)
    if is_url(spec):
        name = PurePosixPath(urlsplit(spec).path).name or "weights"
        # torch.hub's convention, which published files follow: name-<first digits of the SHA-256>.pth
        digest = re.search(r"-([0-9a-f]{8,64})\.", name)
        folder = cache_folder() / "url" / hashlib.sha256(spec.encode()).hexdigest()[:12]
        return fetch([spec], folder / name, sha256=digest[1] if digest else "", label=name, way_out=way_out)
    path = Path(spec).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"{key} = {spec}: there is no such file", f'set {key} to a file, or to "" for random weights'
        )
    return path


def load_backbone(model: FCOS) -> list[str]:
    """Load the recipe's `model.backbone.weights` into a model; returns lines to log.

    Raises:
        RecipeError: a style or norm that the weights do not have.
        WeightsError: a file that cannot be read, or does not fill the backbone exactly.
        SetupError: the download failed.
    """
    config = model.config.backbone
    if not config.weights:
        return [f"backbone: {config.name} from random weights"]
    resolve_style(config)
    path = locate(config.weights, "model.backbone.weights")
    named = backbone_state(read_state(path))
    if named.style is not None and named.style != model.style:
        raise style_clash(str(path), named.style)
    if config.norm == "bn" and _is_folded(named.state):
        raise folded_norm(str(path))
    _load(model.backbone, named.state, str(path), "model.backbone")
    notes = [f"backbone: {config.name} from {config.weights} ({path}), {model.style} style"]
    if config.weight_style == "auto" and config.weights not in published() and named.style is None:
        notes.append(f"{model.style} style is a guess from the file's name; set model.backbone.weight_style to be sure")
    return notes


def read_detector(spec: str, key: str = "model.weights", given: Mapping[str, object] | None = None) -> DetectorWeights:
    """Another project's detector, one of `peers.PEERS`; a name, path or address.

    Args:
        given: keys of the recipe by dotted name, for what files do not tell.

    Raises:
        WeightsError: a file that cannot be read, or holds no such detector.
        SetupError: the download failed.
    """
    path = locate(spec, key)
    content = read_file(path)
    state = content.tensors
    recognised = detector_peer(state)
    if recognised is None:
        *others, last = (peer.title for peer in PEERS if peer.detector is not None)
        raise WeightsError(
            f"{path} is not a detector of {', '.join(others)} or {last}; {_looks_like(state)}",
            "a backbone's weights go to model.backbone.weights",
        )
    peer, kind = recognised
    reading = kind.reading(state, content.meta, given or {})
    refuse_lacking(state, reading, str(path))
    ask([question for question in reading.questions if question.key == "model.backbone.weight_style"], str(path))
    keys = reading.keys
    style = kind.style(state) or keys.get("model.backbone.weight_style", "pytorch")
    told = {key.removeprefix("model."): value for key, value in keys.items() if key.startswith(_READS)}
    ours = completed(kind.to_ours(state))
    weights = DetectorWeights(ours, peer, style, pixels_of(keys), told, str(path))
    categories, rows, _ = classes_of(weights.num_classes, reading.classes, torchvision=peer.name == "torchvision")
    if is_unnamed(categories):
        return weights
    return weights._replace(classes=dict(zip(categories.names, rows or range(len(categories)), strict=True)))


def foreign_model(
    config: ModelConfig, num_classes: int, categories: Categories | None = None
) -> tuple[FCOS, list[str]]:
    """A model with another project's detector, `config.weights`, in it, in the style of those weights; lines to log.

    With `categories`, those of the data, classes are matched by name where the weights name theirs.

    Raises:
        RecipeError, WeightsError, SetupError: as `read_detector` and `load_detector_weights`.
    """
    head = {f"model.head.{name}": value for name, value in config.head.model_dump().items()}
    entry = published().get(config.weights)
    given = {**(entry.answers if entry else {}), **head}
    if config.backbone.weight_style != "auto":
        given["model.backbone.weight_style"] = config.backbone.weight_style
    weights = read_detector(config.weights, given=given)
    if config.backbone.weight_style not in ("auto", weights.style):
        raise style_clash(weights.source, weights.style)
    model = FCOS(config, num_classes, weights.style, weights.pixels)
    return model, load_detector_weights(model, weights, categories)


def load_detector_weights(model: FCOS, weights: DetectorWeights, categories: Categories | None = None) -> list[str]:
    """Load another project's detector into a model; returns lines to log.

    With other classes those that it knows by name keep theirs, the rest of the class layer its initial values; a
    quality branch that only one side has is left out; both are said, as is a head whose outputs the recipe reads
    otherwise.

    Raises:
        RecipeError: a style or norm that the weights do not have.
        WeightsError: weights of another architecture.
    """
    config = model.config
    if weights.style != model.style:
        raise style_clash(weights.source, weights.style)
    if config.backbone.norm == "bn" and _is_folded(weights.state):
        raise folded_norm(weights.source)
    notes = [f"weights from {weights.source}, a detector of {weights.peer.title}"]
    state, own = dict(weights.state), model.state_dict()
    names = categories.names if categories else ()
    same_names = not names or weights.classes is None or tuple(weights.classes) == names
    if weights.num_classes != model.num_classes or not same_names:
        _keep_initial(state, own, class_layers(model))
        known = _rows_of(weights.classes or {}, names)
        for name in [name for name in own if known and name.startswith(class_layers(model))]:
            state[name] = own[name].clone()
            state[name][list(known)] = weights.state[name][list(known.values())].to(state[name])
        notes.append(
            f"they know {len(weights.classes or ()) or weights.num_classes} classes, {_known(known, names)} of the "
            f"data's {model.num_classes}; the rest of the class layer starts at random"
        )
    if ("head.quality.weight" in state) != ("head.quality.weight" in own):
        _keep_initial(state, own, ("head.quality.",))
        notes.append("only one of weights and recipe has a quality branch: it is left out or starts at random")
    _load(model, state, weights.source, "model")
    return [*notes, *trained_otherwise(config, weights.trained_with)]


def _rows_of(theirs: Mapping[str, int], names: Sequence[str]) -> dict[int, int]:
    """Row of our class layer -> row of theirs, of the classes that both have."""
    return {label: theirs[name] for label, name in enumerate(names) if name in theirs}


def _known(rows: Mapping[int, int], names: Sequence[str]) -> str:
    """ "2 (person, car)", or "none"."""
    shown = [names[label] for label in list(rows)[:SHOWN]]
    more = ", ..." if len(rows) > SHOWN else ""
    return f"{len(rows)} ({', '.join(shown)}{more})" if rows else "none"


def trained_otherwise(config: ModelConfig, trained_with: Mapping[str, object]) -> Iterator[str]:
    """A line for each key of `model` in which a recipe reads outputs otherwise than the weights were trained."""
    for key, value in trained_with.items():
        told = f"they were trained with model.{key} = {value!r}"
        try:
            given = attrgetter(key)(config)
        except AttributeError:
            yield f"{told}; the recipe's head, {config.head.name!r}, has no such key"
        else:
            if given != value:
                yield f"{told}; the recipe says {given!r}"


def class_layers(model: FCOS) -> tuple[str, ...]:
    """What the names of the tensors begin with whose rows are the classes."""
    return tuple(f"head.{layer}." for layer in model.head.class_layers)


def _keep_initial(state: dict[str, Tensor], own: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> None:
    for name in [name for name in state if name.startswith(prefixes)]:
        del state[name]
    state.update({name: value for name, value in own.items() if name.startswith(prefixes)})


def _load(module: nn.Module, state: Mapping[str, Tensor], source: str, key: str) -> None:
    """Fill every tensor of a module from a file, or say which are missing, unknown or of another shape."""
    own = {name: value for name, value in module.state_dict().items() if not name.endswith(COUNTER)}
    wrong = [f"{name} is missing" for name in own if name not in state]
    wrong += [f"{name} is unknown" for name in state if name not in own]
    wrong += [
        f"{name} is {list(state[name].shape)}, the recipe's has {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise WeightsError(
            f"{source} does not fit the recipe's model: {'; '.join(wrong[:SHOWN])}{more}; {_looks_like(state)}",
            f"set {key}.* (name, width, norm, levels) to what the weights are, or choose other weights",
        )
    module.load_state_dict({name: state[name] for name in own}, strict=False)


def _is_folded(state: Mapping[str, Tensor]) -> bool:
    """Whether BatchNorm's statistics are the neutral ones that folded weights are read with."""
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    spreads = [value for name, value in state.items() if name.endswith("running_var")]
    neutral = all(bool((value == 0).all()) for value in means)
    return bool(means) and neutral and all(bool(((value - 1).abs() <= 2 * BN_EPS).all()) for value in spreads)


def _looks_like(state: Mapping[str, Tensor]) -> str:
    """What a file seems to hold, in words, from the shapes of its tensors under our names."""
    body = backbone_state(state).state
    blocks = tuple(len({name.split(".")[1] for name in body if name.startswith(f"layer{n}.")}) for n in (1, 2, 3, 4))
    stem, middle = body.get("conv1.weight"), body.get("layer1.0.conv2.weight")
    if stem is None or middle is None or stem.ndim != 4 or middle.ndim != 4:
        return f"it holds {', '.join(list(state)[:SHOWN])}, ..."
    groups = middle.shape[0] // middle.shape[1]
    bottleneck = "layer1.0.conv3.weight" in body
    width = stem.shape[0]
    for name, kind in ARCHITECTURES.items():
        if kind.blocks == blocks and kind.bottleneck == bottleneck and kind.groups == groups:
            norm = "BatchNorm" if "bn1.running_mean" in body else "no BatchNorm statistics"
            return f"the file looks like {name} of width {width} with {norm}"
    return f"the file looks like a residual network with {blocks} blocks and {groups} groups"
