"""Where torchvision is missing or broken, one line says which of the two and names the extra."""

import subprocess
import sys
from pathlib import Path

import pytest

from fcos_cli.benchmarks.peer import torchvision_fcos
from fcos_cli.errors import SetupError

ROOT = Path(__file__).parents[2]
MISSING = """
import importlib.abc, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
"""


def told(before: str) -> str:
    """Message and hint of a fresh interpreter."""
    code = (
        f"{before}\nfrom fcos_cli.benchmarks.peer import torchvision_fcos\nfrom fcos_cli.errors import SetupError\n"
        "try:\n    torchvision_fcos(3, 64, 96)\nexcept SetupError as error:\n    print(error, '|', error.hint)\n"
    )
    path = [str(ROOT), str(ROOT / "kernels")]
    code = f"import sys\nsys.path[:0] = {path!r}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_missing():
    assert told(MISSING) == "torchvision is not installed | pip install 'fcos-toolkit[torchvision]'"


def test_built_for_another_torch(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    said = told(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert said.startswith("torchvision does not import here: operator torchvision::nms does not exist | ")
    assert "fcos-toolkit[torchvision]" in said


def test_a_part_of_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    with pytest.raises(SetupError, match="torchvision does not import here"):
        torchvision_fcos(3, 64, 96)


def test_its_size_and_classes(torchvision):
    model = torchvision_fcos(7, 96, 128, score_thresh=0.3)
    assert (model.transform.min_size, model.transform.max_size, model.score_thresh) == ((96,), 128, 0.3)
    assert model.head.classification_head.num_classes == 7
