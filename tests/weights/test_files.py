"""Weight files of every kind: read without running code, and named where they are broken."""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fcos_cli.errors import WeightsError
from fcos_cli.weights.files import read_file, read_state


def python2_pickle(blobs: dict[str, np.ndarray]) -> bytes:
    """What Python 2's cPickle.dump({"blobs": blobs}, protocol=2) writes: arrays whose bytes are `str`."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def array(value: np.ndarray) -> bytes:
        sides = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in value.shape) + b"t"
        dtype = (
            b"cnumpy\ndtype\n(" + text(b"f4") + b"K\x00K\x01tR(K\x03" + text(b"<") + b"NNN" + b"J\xff\xff\xff\xff" * 2
        )
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
            + text(b"b")
            + b"tR(K\x01"
            + sides
            + dtype
            + b"K\x00tb\x89"
            + text(value.astype("<f4").tobytes())
            + b"tb"
        )

    items = b"".join(text(name.encode()) + array(value) for name, value in blobs.items())
    return b"\x80\x02}(" + text(b"blobs") + b"}(" + items + b"uu."


def test_reads_every_kind_of_file(tmp_path):
    state = {"conv1.weight": torch.arange(24.0).reshape(2, 3, 4), "bn1.bias": torch.tensor([200.0, -1.5])}
    arrays = {name: value.numpy() for name, value in state.items()}
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "wrapped.pth")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "parallel.pth")
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "file.safetensors")
    (tmp_path / "python3.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}))
    (tmp_path / "protocol2.pkl").write_bytes(pickle.dumps({"blobs": arrays}, protocol=2))
    (tmp_path / "python2.pkl").write_bytes(python2_pickle(arrays))
    for path in sorted(tmp_path.iterdir()):
        found = read_state(path)
        assert found.keys() == state.keys(), path.name
        assert all(torch.equal(found[name], state[name]) for name in state), path.name


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_does_not_run(tmp_path):
    trap = tmp_path / "trap"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"conv1_w": Evil(trap)}))
    torch.save({"conv1.weight": Evil(trap)}, tmp_path / "evil.pth")
    torch.save({"conv1.weight": Evil(trap)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name, reason in (("evil.pkl", "could run code"), ("old.pth", "could run code"), ("evil.pth", "no tensors")):
        with pytest.raises(WeightsError, match=reason):
            read_state(tmp_path / name)
    assert not trap.exists()


class History:
    """An object of a package that is not there when the file is read."""

    def __init__(self):
        self.values, self.named = [np.arange(3.0)], {"lr": {1, 2}}

    def __reduce_ex__(self, protocol):
        return History, (), self.__dict__, iter([1, 2]), iter([("a", 1)])


def test_tensors_among_foreign_objects(tmp_path):
    """As mmdetection's runner writes them; nothing of the objects is run, not even where they ask for it."""
    trap = tmp_path / "trap"
    weight = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "conv1.weight": weight[:, 1:],
        "half": weight.half().permute(2, 0, 1),
        "parameter": torch.nn.Parameter(weight),
    }
    about = {"meta": {"cfg": "model = dict()", "evil": Evil(trap)}, "message_hub": History(), "state_dict": state}
    torch.save(about, tmp_path / "full.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "full.pth", weights_only=True)
    content = read_file(tmp_path / "full.pth")
    assert content.tensors.keys() == state.keys()
    assert all(torch.equal(content.tensors[name], value) for name, value in state.items())
    assert content.meta["cfg"] == "model = dict()"
    assert not trap.exists()


def pickled_zip(path, program):
    """A PyTorch file with this pickle in it."""
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, program if name.endswith("data.pkl") else content)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch TRAP'\ntR.",
        b'cbuiltins\neval\n(S\'__import__("os").mkdir("TRAP")\'\ntR.',
        b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch TRAP'\ntR.",
        # changes what rebuilds tensors
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__call__'\ncos\nsystem\nstb.",
        b"ccollections\nOrderedDict\n(N}S'__init__'\ncos\nsystem\nstb.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00(K\x02t(K\x01ttR.",
        b"\x80\x02(S'storage'\ncos\nsystem\nS'0'\nS'cpu'\nK\x02tQ.",
        b"\x80\x02(S'storage'\nctorch\nFloatStorage\nS'../../etc/passwd'\nS'cpu'\nK\x02tQ.",
        b"\x80\x02",
    ],
)
def test_malicious_pickles_of_pytorch_files(tmp_path, monkeypatch, program):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    pickled_zip(path, program)
    with pytest.raises(WeightsError) as caught:
        read_state(path)
    assert "\n" not in caught.value.message
    assert [item.name for item in tmp_path.iterdir()] == ["evil.pth"]
    assert OrderedDict(a=1) == {"a": 1}


def test_a_cut_file_of_foreign_objects(tmp_path):
    path = tmp_path / "full.pth"
    torch.save({"state_dict": {"a": torch.zeros(1000)}, "hub": History()}, path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(WeightsError, match="not a whole"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "not a whole", "fetch it again"),
        (b"<!doctype html><html>", "web page", "fetch"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (pickle.dumps({"a": np.zeros(1000)})[:500], "not a whole", "fetch it again"),
        (b"\x00" * 100, "not a whole", "fetch it again"),
        (pickle.dumps({"epoch": 3}), "no tensors", "state_dict"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message, hint):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_state(path)
    assert hint in caught.value.hint


def test_truncated_torch_and_safetensors_files_are_named(tmp_path):
    state = {"conv1.weight": torch.zeros(500)}
    torch.save(state, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "c.safetensors")
    for path in list(tmp_path.iterdir()):
        path.write_bytes(path.read_bytes()[:-600])
        with pytest.raises(WeightsError, match="not a whole"):
            read_state(path)
