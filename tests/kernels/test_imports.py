"""Public names lead to the same thing whatever was imported before, and packages cost nothing until they are used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
NAMES = {
    "fcos_kernels.assign": "assign Assignment",
    "fcos_kernels.loss": "detection_loss focal_loss box_loss activate DetectionLosses",
    "fcos_kernels.group_norm_relu": "group_norm_relu",
    "fcos_kernels.decode": "decode decode_padded Candidates PaddedCandidates Rule",
    "fcos_kernels.nms": "nms batched_nms",
    "fcos_kernels.paint": "paint claims Claims",
    "fcos_kernels.focal_loss": "focal_loss",
    "fcos_kernels.box_loss": "box_loss",
    "fcos_kernels.dispatch": "choose chosen using use_triton reason has_triton",
    "fcos_kernels.functional": "assign batched_nms box_loss decode decode_padded detection_loss focal_loss "
    "group_norm_relu nms",
    "fcos_kernels.reference": "assign box_loss focal_loss detection_loss nms",
}
WITHOUT_TORCH = ["fcos_kernels", "fcos_kernels.common", "fcos_kernels.paint"]
WITHOUT_TORCH += [f"fcos_kernels.{op}" for op in ("assign", "loss", "group_norm_relu", "decode", "nms")]
FIRST = ("fcos_kernels.focal_loss", "fcos_kernels.loss.focal", "fcos_kernels.loss.op", "fcos_kernels.loss")


def run(code):
    environment = {**os.environ, "PYTHONPATH": str(KERNELS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_alone():
    """One process; each name from a package of which nothing has been imported but what came before."""
    lines = [
        f"from {module} import {name}; assert {name}.__name__ == {name!r}"
        for module, names in NAMES.items()
        for name in names.split()
    ]
    run("\n".join(lines))
    run("\n".join(reversed(lines)))


@pytest.mark.parametrize("first", FIRST)
def test_functions_stay_functions_whatever_was_imported_before(first):
    run(
        "import importlib, types\n"
        f"for name in {(first, *reversed(FIRST))!r}:\n"
        "    importlib.import_module(name)\n"
        "    from fcos_kernels.loss import activate, box_loss, detection_loss, focal_loss\n"
        "    functions = activate, box_loss, detection_loss, focal_loss\n"
        "    assert all(isinstance(x, types.FunctionType) for x in functions), (name, functions)\n"
        "    import fcos_kernels.loss as loss\n"
        "    assert loss.focal_loss is focal_loss\n"
        "    from fcos_kernels.focal_loss import focal_loss as other\n"
        "    assert other is focal_loss\n"
    )


def test_torch_and_triton_wait():
    run(
        "import importlib, sys\n"
        f"for name in {WITHOUT_TORCH!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
        "from fcos_kernels import assign, decode, dispatch, focal_loss, group_norm_relu, loss, nms, reference\n"
        "assign.assign, decode.decode, group_norm_relu.group_norm_relu, loss.detection_loss, nms.nms\n"
        "assert 'torch' in sys.modules and 'triton' not in sys.modules\n"
    )


def test_an_unknown_name_is_said():
    run(
        "import fcos_kernels.loss\n"
        "for package in (fcos_kernels, fcos_kernels.loss):\n"
        "    try:\n"
        "        package.giou\n"
        "    except AttributeError as error:\n"
        "        assert 'giou' in str(error)\n"
        "    else:\n"
        "        raise SystemExit('found')\n"
    )


def test_no_module_of_an_op_has_the_name_of_one_of_its_functions():
    for module, names in NAMES.items():
        folder = KERNELS / module.replace(".", "/")
        assert not {path.stem for path in folder.glob("*.py")} & set(names.split()), folder


def test_all_ops_are_functions_of_one_module():
    run(
        "from types import FunctionType\n"
        "from fcos_kernels import assign, functional, nms\n"
        "assert all(isinstance(getattr(functional, name), FunctionType) for name in functional.__all__)\n"
        "assert assign.assign is functional.assign and nms.nms is functional.nms\n"
    )
