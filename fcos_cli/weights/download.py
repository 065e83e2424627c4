"""Downloads that resume, are checked, and appear whole or not at all. Imports no torch.

Files go to `$FCOS_HOME/weights`, else `$XDG_CACHE_HOME/fcos/weights`, else `~/.cache/fcos/weights`. `$FCOS_MIRROR`
replaces the scheme and host of every address: with FCOS_MIRROR=http://mirror/x, https://host/a/b.pth is fetched from
http://mirror/x/a/b.pth. Proxies are taken from the environment (http_proxy, https_proxy, no_proxy), as urllib does.
"""

import errno
import http.client
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from fcos_cli.errors import SetupError
from fcos_cli.files import sha256_of, sync_folder
from fcos_cli.locks import held
from fcos_cli.progress import progress

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
MEGABYTE = 1_000_000
TIMEOUT = 30.0
ATTEMPTS = 4
NETWORK_ERRORS = (URLError, TimeoutError, ConnectionError, http.client.HTTPException)


class _CutError(Exception):
    """The connection ended before the file did; what has arrived is kept."""


class _RefusedError(Exception):
    """This address does not give the file."""


def cache_folder() -> Path:
    """Where downloaded weights are kept (see the module)."""
    if home := os.environ.get("FCOS_HOME"):
        return Path(home).expanduser() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "fcos" / "weights"


def mirrored(url: str) -> str:
    """The address after `$FCOS_MIRROR`."""
    mirror = os.environ.get("FCOS_MIRROR")
    return mirror.rstrip("/") + urlsplit(url).path if mirror else url


def fetch(urls: Sequence[str], target: Path, *, sha256: str = "", label: str = "", way_out: str = "") -> Path:
    """The file at `target`, downloaded from the first of `urls` that has it unless it is there already.

    A download that was cut off goes on where it stopped, from `target` + ".part". Processes that want the same file
    wait for each other.

    Args:
        urls: http(s) addresses of the same file.
        target: where the file shall lie.
        sha256: the first digits (hex) of its SHA-256; "" leaves it unchecked.
        label: name for the progress bar and the errors.
        way_out: what else the user can do, appended to the hint where there is no network.

    Raises:
        SetupError: no network, no such file, wrong contents, disk full, folder not writable.
    """
    label = label or target.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The ranks of a training all want the same file.
        with held(target.with_name(target.name + ".lock")):
            if target.is_file():
                _verify(target, target, sha256, label)
                return target
            part = target.with_name(target.name + ".part")
            _fetch_part(urls, part, target, sha256, label, way_out)
            _verify(part, target, sha256, label)
            os.replace(part, target)
            _tag(part).unlink(missing_ok=True)
            sync_folder(target.parent)
            return target
    except OSError as error:
        raise _storage_error(error, target, label) from error


def _fetch_part(urls: Sequence[str], part: Path, target: Path, sha256: str, label: str, way_out: str) -> None:
    tried: list[str] = []
    for url in map(mirrored, urls):
        for attempt in range(ATTEMPTS):
            try:
                _transfer(url, part, label, resumable=bool(sha256))
                return
            except _CutError as error:
                reason = str(error)
                if attempt + 1 < ATTEMPTS:
                    logger.info("%s: %s; going on from there", label, reason)
            except _RefusedError as error:
                reason = str(error)
                break
            except NETWORK_ERRORS as error:
                reason = str(getattr(error, "reason", None) or error or type(error).__name__)
                break
        tried.append(f"{url} ({reason})")
    hint = f"run it again to go on where it stopped, or fetch the file by hand to {target}"
    if not part.is_file():
        hint = f"fetch the file by hand to {target}"
    hint += ", or set FCOS_MIRROR to a server that you can reach"
    raise SetupError(f"{label} could not be downloaded: tried {', '.join(tried)}", f"{hint}{way_out and '; '}{way_out}")


def _transfer(url: str, part: Path, label: str, resumable: bool) -> None:
    """One request; appends to `part`. Returns when the file is complete.

    A partial file is continued only where a mix of two versions would be noticed: by the server (If-Range) or the hash.
    """
    have = part.stat().st_size if part.is_file() else 0
    tag = _tag(part).read_text() if _tag(part).is_file() else ""
    headers = {"User-Agent": "fcos-toolkit"}
    if have and (tag or resumable):
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    else:
        have = 0
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and have:
                if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                    return
                part.unlink()
                raise _CutError("the partial file does not fit the server's; starting anew") from None
            raise _RefusedError(f"HTTP {error.code} {error.reason}") from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _RefusedError("a web page came instead of the file")
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total is not None and shutil.disk_usage(part.parent).free < total - have:
            raise OSError(errno.ENOSPC, f"{total - have:,} bytes are needed", str(part))
        _remember(_tag(part), response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        _receive(response, part, have, total, label)


def _receive(response: http.client.HTTPResponse, part: Path, have: int, total: int | None, label: str) -> None:
    megabytes = None if total is None else max(1, round(total / MEGABYTE))
    with open(part, "ab" if have else "wb") as file, progress(f"{label}, MB", megabytes) as advance:
        shown = 0
        while chunk := _read(response, have):
            file.write(chunk)
            have += len(chunk)
            if have // MEGABYTE > shown:
                advance(have // MEGABYTE - shown)
                shown = have // MEGABYTE
        file.flush()
        os.fsync(file.fileno())
    if total is not None and have < total:
        raise _CutError(f"the connection ended at {have:,} of {total:,} bytes")


def _read(response: http.client.HTTPResponse, have: int) -> bytes:
    """The next bytes; none at the end. A broken connection is told from a file that cannot be written."""
    try:
        return response.read(CHUNK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(f"the connection broke at {have:,} bytes ({error or type(error).__name__})") from error


def _tag(part: Path) -> Path:
    """Beside a partial file: the server's name for the version it is a part of."""
    return part.with_name(part.name + ".tag")


def _remember(path: Path, tag: str) -> None:
    # A weak tag does not promise equal bytes.
    if tag and not tag.startswith("W/"):
        path.write_text(tag)
    else:
        path.unlink(missing_ok=True)


def _verify(path: Path, target: Path, sha256: str, label: str) -> None:
    if not sha256:
        return
    digest = sha256_of(path)
    if digest.startswith(sha256.lower()):
        return
    if path == target:
        raise SetupError(
            f"{path} is not {label}: its SHA-256 starts with {digest[:8]}, not {sha256}", f"delete it: rm '{path}'"
        )
    path.unlink()
    _tag(path).unlink(missing_ok=True)
    raise SetupError(
        f"{label} arrived damaged: its SHA-256 starts with {digest[:8]}, not {sha256}",
        "run it again; if that repeats, something between you and the server (a proxy, a mirror) changes the file",
    )


def _storage_error(error: OSError, target: Path, label: str) -> SetupError:
    if error.errno == errno.ENOSPC:
        return SetupError(
            f"{label} does not fit on the disk of {target.parent}: {error.strerror}",
            "free some space, or set FCOS_HOME to a folder on another disk",
        )
    return SetupError(
        f"{label} cannot be stored in {target.parent}: {error.strerror or error}",
        "set FCOS_HOME to a folder that you may write to",
    )
