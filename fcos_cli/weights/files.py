"""Reads weight files of every kind as {name: tensor}, without running code that a file may hold."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fcos_cli.errors import WeightsError
from fcos_cli.weights.inert import read_inert

TORCH_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
WRAPPERS = ("model", "state_dict", "model_state_dict", "blobs")


class FileContent(NamedTuple):
    """What a weights file holds: tensors by name, and what a checkpoint says beside them under "meta"."""

    tensors: dict[str, Tensor]
    meta: Mapping[str, Any]


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, as `read_file` reads it."""
    return read_file(path).tensors


def read_file(path: str | Path) -> FileContent:
    """A PyTorch (.pth), safetensors or Caffe2 / Detectron2 (.pkl) file, on the CPU.

    The kind is told by the contents, not by the name. Checkpoints that wrap their weights ("model", "state_dict",
    "blobs") are unwrapped, and the "module." of a parallel wrapper is dropped. Objects of other packages beside the
    tensors become placeholders.

    Raises:
        WeightsError: no such file, a damaged one, or one that holds more than tensors.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(16)
        if zipfile.is_zipfile(path) or start.startswith(TORCH_LEGACY_MAGIC):
            content = _read_torch(path)
        elif start[8:9] == b"{":
            content = load_file(path)
        else:
            content = _read_pickle(path)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}",
            "check the path in model.backbone.weights or model.weights",
        ) from error
    except SafetensorError as error:
        raise _damaged(path, error) from error
    meta = content.get("meta") if isinstance(content, Mapping) else None
    return FileContent(_tensors(content, path), meta if isinstance(meta, Mapping) else {})


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            return _read_inert(path)
        raise WeightsError(
            f"{path} holds more than tensors, and reading it could run code: {str(error).splitlines()[0]}",
            "where you trust it, save its weights alone: torch.save({'model': model.state_dict()}, 'weights.pth')",
        ) from error
    # A damaged pickle can raise nearly anything while it is put together.
    except Exception as error:
        raise _damaged(path, error) from error


def _read_inert(path: Path) -> Any:
    try:
        return read_inert(path)
    except Exception as error:
        raise _damaged(path, error) from error


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; every other class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 moved `core` to `_core`; files of either age name their own.
        allowed = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return allowed


def _latin1(text: str, encoding: str) -> bytes:
    """What Python 2 protocols of pickle call to rebuild bytes."""
    return text.encode("latin1" if encoding in ("latin1", "latin-1") else "ascii")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy.core.multiarray", "scalar"): multiarray.scalar,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}


def _read_pickle(path: Path) -> Any:
    data = path.read_bytes()
    if data.lstrip().startswith(b"<"):
        raise WeightsError(f"{path} is a web page, not weights", f"delete it (rm '{path}'), and fetch the file again")
    if data.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the weights", "fetch the file itself: git lfs pull")
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        if "is not an array" in str(error):
            raise WeightsError(
                f"{path} holds more than arrays, and reading it could run code: {error}", "fetch weights you trust"
            ) from error
        raise _damaged(path, error) from error
    # A damaged pickle can raise nearly anything while it is put together.
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return WeightsError(
        f"{path} is not a whole .pth, .safetensors or .pkl file: {reason}",
        f"it may have been cut off: delete it (rm '{path}') and fetch it again",
    )


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    state: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
                value = torch.from_numpy(np.ascontiguousarray(value))
            if isinstance(name, str) and isinstance(value, Tensor):
                state[name] = value
    if not state:
        raise WeightsError(
            f"{path} holds no tensors by name",
            f"a checkpoint is {{name: tensor}}, or has that under one of {', '.join(WRAPPERS)}",
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state
