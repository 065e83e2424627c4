"""Files on the Hugging Face hub, hf://owner/repository[/file]; `$HF_ENDPOINT` is another server. Imports no torch."""

import json
import os
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from fcos_cli.errors import SetupError, UsageError, WeightsError
from fcos_cli.weights.download import TIMEOUT, mirrored

SCHEME = "hf://"
ENDPOINT = "https://huggingface.co"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl")


def hub_url(spec: str) -> str:
    """The address of the file that hf://owner/repository[/file] means; without a file, of the only one with weights.

    Raises:
        UsageError: not such an address.
        WeightsError: the repository has no weights, or several files of them.
        SetupError: the hub does not answer, or has no such repository.
    """
    owner, _, rest = spec.removeprefix(SCHEME).partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository:
        raise UsageError(f"{spec} is no file on the hub", "write hf://owner/repository or hf://owner/repository/file")
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    file = file or _only_weights(f"{endpoint}/api/models/{owner}/{repository}", spec)
    return f"{endpoint}/{owner}/{repository}/resolve/main/{file}"


def _only_weights(address: str, spec: str) -> str:
    try:
        with urlopen(Request(mirrored(address), headers={"User-Agent": "fcos-toolkit"}), timeout=TIMEOUT) as answer:
            content = json.load(answer)
        files = [str(entry["rfilename"]) for entry in content["siblings"]]
    except (HTTPError, URLError, OSError, ValueError, KeyError, TypeError) as error:
        raise SetupError(
            f"{spec}: the hub does not list its files: {error}",
            "name the file (hf://owner/repository/file), or fetch it by hand and give its path",
        ) from error
    for suffix in SUFFIXES:
        fitting = [name for name in files if name.lower().endswith(suffix)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            shown = ", ".join(fitting[:6]) + (", ..." if len(fitting) > 6 else "")
            raise WeightsError(f"{spec} has several files of weights: {shown}", f"name one: {spec}/{fitting[0]}")
    raise WeightsError(f"{spec} has no file of weights", f"its files: {', '.join(files[:8]) or 'none'}")
