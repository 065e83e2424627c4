import errno
import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fcos_cli.errors import SetupError
from fcos_cli.weights import download
from fcos_cli.weights.download import cache_folder, fetch, mirrored

DATA = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """A file server with ranges; `cuts` is after how many bytes each coming answer breaks off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/models/file.pth": DATA}
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.tag: str | None = '"one"'
        self.content_type = "application/octet-stream"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.base}/models/file.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = 0
        if wanted and self.headers.get("If-Range", self.server.tag) == self.server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[start : start + cut])


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "FCOS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def leftovers(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {target.name, target.name + ".lock"}


def test_a_whole_file_is_fetched_once(server, tmp_path):
    target = tmp_path / "deep" / "file.pth"
    for _ in range(2):
        assert fetch([server.url], target, sha256=DIGEST[:8]) == target
    assert target.read_bytes() == DATA
    assert server.ranges == [None]
    assert leftovers(target) == set()


def test_a_cut_connection_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = [1_000_000, 2_500_000]
    target = fetch([server.url], tmp_path / "file.pth", sha256=DIGEST[:8])
    assert target.read_bytes() == DATA
    assert server.ranges == [None, "bytes=1000000-", "bytes=3500000-"]


def test_an_older_part_is_continued_in_a_new_run(server, tmp_path):
    target = tmp_path / "file.pth"
    (tmp_path / "file.pth.part").write_bytes(DATA[:123_457])
    fetch([server.url], target, sha256=DIGEST[:8])
    assert target.read_bytes() == DATA
    assert server.ranges == ["bytes=123457-"]


def test_a_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "file.pth.part").write_bytes(DATA)
    assert fetch([server.url], tmp_path / "file.pth", sha256=DIGEST[:8]).read_bytes() == DATA


def test_a_part_longer_than_the_file_starts_anew(server, tmp_path):
    (tmp_path / "file.pth.part").write_bytes(DATA + b"more")
    assert fetch([server.url], tmp_path / "file.pth", sha256=DIGEST[:8]).read_bytes() == DATA


def test_without_a_hash_a_part_is_continued_only_by_the_servers_tag(server, tmp_path):
    target = tmp_path / "file.pth"
    server.cuts = [1_000_000] * download.ATTEMPTS
    with pytest.raises(SetupError, match="connection ended at 4,000,000 of 5,120,000 bytes"):
        fetch([server.url], target)
    server.tag = '"two"'
    server.files["/models/file.pth"] = DATA[::-1]
    assert fetch([server.url], target).read_bytes() == DATA[::-1]
    server.ranges.clear()
    (tmp_path / "other.pth.part").write_bytes(b"from nobody knows where")
    assert fetch([server.url], tmp_path / "other.pth").read_bytes() == DATA[::-1]
    assert server.ranges == [None]


def test_a_cut_download_says_how_to_go_on(server, tmp_path):
    server.cuts = [1000] * download.ATTEMPTS
    with pytest.raises(SetupError) as caught:
        fetch([server.url], tmp_path / "file.pth", sha256=DIGEST[:8])
    assert "go on where it stopped" in caught.value.hint
    assert fetch([server.url], tmp_path / "file.pth", sha256=DIGEST[:8]).read_bytes() == DATA
    assert server.ranges[-1] == f"bytes={1000 * download.ATTEMPTS}-"


def test_wrong_contents_are_refused_and_removed(server, tmp_path):
    target = tmp_path / "file.pth"
    with pytest.raises(SetupError, match=f"damaged: its SHA-256 starts with {DIGEST[:8]}, not 00000000"):
        fetch([server.url], target, sha256="00000000")
    assert not target.exists()
    assert leftovers(target) == set()


def test_a_file_put_there_by_hand_is_checked(server, tmp_path):
    target = tmp_path / "file.pth"
    target.write_bytes(b"something else")
    with pytest.raises(SetupError) as caught:
        fetch([server.url], target, sha256=DIGEST[:8], label="msra/R-50")
    assert f"rm '{target}'" in caught.value.hint
    target.write_bytes(DATA)
    fetch([server.url], target, sha256=DIGEST[:8])
    assert server.ranges == []


def test_the_next_address_is_tried_where_one_has_not_got_it(server, tmp_path):
    target = fetch([f"{server.base}/missing.pth", server.url], tmp_path / "file.pth", sha256=DIGEST[:8])
    assert target.read_bytes() == DATA


def test_not_found_names_the_address_and_the_place_for_the_file(server, tmp_path):
    target = tmp_path / "file.pth"
    with pytest.raises(SetupError, match="HTTP 404") as caught:
        fetch([f"{server.base}/missing.pth"], target, way_out="or --set a.b=FILE")
    assert f"{server.base}/missing.pth" in caught.value.message
    assert str(target) in caught.value.hint
    assert caught.value.hint.endswith("or --set a.b=FILE")


def test_a_login_page_is_not_the_file(server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(SetupError, match="web page"):
        fetch([server.url], tmp_path / "file.pth")


def test_no_network_is_a_setup_error(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(SetupError, match="refused") as caught:
        fetch([server.url], tmp_path / "file.pth")
    assert "FCOS_MIRROR" in caught.value.hint


def test_a_full_disk_is_said_before_the_download(server, tmp_path, monkeypatch):
    full = shutil._ntuple_diskusage(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(SetupError, match="does not fit on the disk") as caught:
        fetch([server.url], tmp_path / "file.pth")
    assert "FCOS_HOME" in caught.value.hint


def test_a_disk_that_fills_up_is_a_setup_error(server, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(SetupError, match="does not fit on the disk"):
        fetch([server.url], tmp_path / "file.pth")


def test_a_folder_that_cannot_be_made_is_a_setup_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be stored") as caught:
        fetch(["http://127.0.0.1:1/x"], tmp_path / "file" / "x")
    assert "FCOS_HOME" in caught.value.hint


def test_processes_that_want_the_same_file_fetch_it_once(server, tmp_path):
    target = tmp_path / "file.pth"
    threads = [threading.Thread(target=fetch, args=([server.url], target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == DATA
    assert len(server.ranges) == 1


def test_the_mirror_replaces_scheme_and_host(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FCOS_MIRROR", server.base + "/")
    assert mirrored("https://download.pytorch.org/models/file.pth") == server.url
    fetch(["https://download.pytorch.org/models/file.pth"], tmp_path / "file.pth", sha256=DIGEST[:8])
    monkeypatch.setenv("FCOS_MIRROR", "http://mirror/x")
    assert mirrored("https://host/a/b.pth") == "http://mirror/x/a/b.pth"


def test_where_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("FCOS_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "fcos" / "weights"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fcos" / "weights"
    monkeypatch.setenv("FCOS_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / "weights"
