"""Tensors of PyTorch files that hold objects of other packages as well, such as mmdetection's checkpoints.

Nothing of these packages is imported or run: every class and function that the pickle names is a placeholder that takes
whatever is done to it and does nothing. Tensors are rebuilt from the file's bytes by the code here.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES: dict[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_inert(path: Path) -> Any:
    """The content of a zip-format PyTorch file with placeholders in the place of foreign objects.

    Raises:
        OSError, RuntimeError, pickle.UnpicklingError: the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        [pickled] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if archive.testzip():
            raise RuntimeError("its checksums do not fit")
        return _Unpickler(archive, pickled).load()


class _Placeholder:
    """Stands for an object of a class that is not known here; whatever a pickle does to it is ignored."""

    def __new__(cls, *_: object, **__: object) -> "_Placeholder":
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass


class _Rebuild:
    """What pickles of tensors call; an object without attributes, so that a pickle cannot change it."""

    __slots__ = ()

    def __call__(self, storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Any:
        if not isinstance(storage, Tensor):
            raise pickle.UnpicklingError("a tensor has no storage")
        return torch.as_strided(storage, size, stride, offset).clone()


class _Parameter:
    __slots__ = ()

    def __call__(self, data: object, *_: object) -> object:
        return data


class _Ordered:
    __slots__ = ()

    def __call__(self, items: Any = ()) -> "OrderedDict[Any, Any]":
        return OrderedDict(items)


class _Storage:
    """A type of storage by its name."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, pickled: str) -> None:
        super().__init__(io.BytesIO(archive.read(pickled)), encoding="utf-8")
        self._archive, self._folder = archive, pickled.removesuffix("data.pkl")
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _Rebuild()
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _Parameter()
        if (module, name) == ("collections", "OrderedDict"):
            return _Ordered()
        if module == "torch" and name in DTYPES:
            return _Storage(DTYPES[name])
        return type("Placeholder", (_Placeholder,), {})

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("an unknown kind of storage")
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            tensor = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)
            if len(tensor) < count:
                raise pickle.UnpicklingError("a storage is cut off")
            self._storages[key] = tensor
        return self._storages[key]
