"""Files appear whole or not at all."""

import errno
import os

import pytest

from fcos_cli.errors import SetupError, UsageError
from fcos_cli.files import atomic_file, check_writable, sha256_of


def test_writes_bytes_and_text_and_makes_the_folder(tmp_path):
    with atomic_file(tmp_path / "a" / "b.bin") as file:
        file.write(b"\x00\x01")
    with atomic_file(tmp_path / "a" / "c.txt", "w") as file:
        file.write("Größe")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\x01"
    assert (tmp_path / "a" / "c.txt").read_bytes() == "Größe".encode()


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write():
        with atomic_file(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "file") as file:
        file.write(b"x")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_check_writable(tmp_path):
    check_writable(tmp_path / "new" / "file.json")
    assert os.listdir(tmp_path / "new") == []
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "blocked").write_text("a file where a folder should be")
    with pytest.raises(SetupError, match="cannot write"):
        check_writable(tmp_path / "blocked" / "file.json")


def test_sha256_of(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
