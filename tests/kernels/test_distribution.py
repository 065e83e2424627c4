"""`fcos-kernels`, built from kernels/pyproject.toml: what is in it, that it works alone; its twin in the toolkit."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from fcos_cli.version import __version__ as toolkit_version
from fcos_kernels import __version__

pytest.importorskip("hatchling")

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kernels/fcos_kernels"


def build(project, folder):
    """The wheel of a project. By the backend itself, so that nothing is fetched."""
    code = "import sys, hatchling.build as build; print(build.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT / "kernels", tmp_path_factory.mktemp("wheel"))


def files(path):
    """The package's files in a wheel."""
    return {name for name in zipfile.ZipFile(path).namelist() if name.startswith("fcos_kernels/")}


def test_what_is_in_it(wheel):
    assert wheel.name == f"fcos_kernels-{__version__}-py3-none-any.whl"
    here = {str(path.relative_to(PACKAGE.parent)) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".typed")}
    assert files(wheel) == here
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        about = Parser().parsestr(archive.read(metadata).decode())
    assert about["Name"] == "fcos-kernels"
    required = about.get_all("Requires-Dist")
    assert {line.split(";")[0].split("<")[0].split(">")[0].strip() for line in required} == {"torch", "numpy", "triton"}
    assert all("extra == 'triton'" in line for line in required if line.startswith("triton"))


def test_it_works_where_it_is_installed_alone(wheel, tmp_path):
    """Unpacked, as pip would, with nothing of the checkout in sight."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys, fcos_kernels, torch\n"
        "from fcos_kernels.functional import nms, focal_loss\n"
        "from importlib.metadata import version\n"
        "assert version('fcos-kernels') == fcos_kernels.__version__\n"
        "assert 'fcos_cli' not in sys.modules\n"
        "boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]])\n"
        "assert nms(boxes, torch.tensor([0.8, 0.9]), torch.tensor([1, 1]), 0.6).tolist() == [1]\n"
        "assert focal_loss(torch.zeros(2, 3), torch.tensor([1, -1])) > 0\n"
        "print(fcos_kernels.__file__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent.parent == tmp_path


def test_the_toolkits_wheel_carries_the_same(wheel, tmp_path):
    toolkit = build(ROOT, tmp_path)
    assert files(toolkit) == files(wheel)
    assert __version__ == toolkit_version
    projects = [
        tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in (ROOT, ROOT / "kernels")
    ]
    ours, own = ({line.split(">")[0]: line for line in project["dependencies"]} for project in projects)
    assert own.items() <= ours.items()
    assert "fcos-kernels" not in ours
    assert projects[0]["optional-dependencies"]["triton"] == projects[1]["optional-dependencies"]["triton"]
