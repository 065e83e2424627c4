"""Compiles every kernel, in every dtype it supports, for GPUs that need not be there: `python -m fcos_kernels.aot`.

Prints registers, spilled bytes, shared memory, the warps of an SM that the kernel can have there, and for NVIDIA the
bytes of a load of each argument whose loads should be wide. `--json` prints a list of objects with kernel, variant,
dtype, target, registers, spills, shared, warps, occupancy, loads. Exit code 5 where a kernel spills, lacks the wide
loads it should have, or has less than half of an SM's warps and its variant does not say why.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fcos_kernels.aot.loads import widest_loads
from fcos_kernels.aot.targets import BUDGET, TARGETS, warps_held
from fcos_kernels.common.variants import Variant
from fcos_kernels.ops import OPS

GATE_FAILED = 5
WIDE = 16
"""Bytes of the widest load that a thread of every GPU here has."""


@dataclass(frozen=True)
class Compiled:
    """One variant compiled for one GPU.

    Attributes:
        registers: of a thread.
        spills: bytes a thread spills (on AMD: registers).
        shared: bytes of shared memory a program uses.
        warps: of an SM (waves of a compute unit) that the kernel can have there at once.
        occupancy: the same, in percent of all it can hold.
        loads: bytes of the widest load from each argument that should have wide ones; empty on AMD.
        problems: what is not as it should be.
    """

    kernel: str
    variant: str
    dtype: str
    target: str
    registers: int
    spills: int
    shared: int
    warps: int
    occupancy: int
    loads: dict[str, int]
    problems: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fcos_kernels.aot", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this GPU (may be repeated)")
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    options = parser.parse_args(arguments)
    # Under the interpreter nothing is compiled; it must be off before the kernels are defined.
    os.environ.pop("TRITON_INTERPRET", None)

    results = []
    for result in compile_all(options.target or list(TARGETS), options.kernel):
        results.append(result)
        if not options.json:
            print(_line(result), flush=True)
    if not results:
        parser.error(f"no kernel's name contains {options.kernel!r}")
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    wrong = [result for result in results if result.problems]
    for result in wrong:
        place = f"{result.kernel} {result.variant} {result.dtype} {result.target}"
        print(f"error: {place}: {', '.join(result.problems)}", file=sys.stderr)
    return GATE_FAILED if wrong else 0


def compile_all(targets: Sequence[str], kernel: str = "") -> Iterator[Compiled]:
    """Every variant of every kernel whose name contains `kernel`, for each target."""
    for variant in all_variants():
        if kernel in kernel_name(variant):
            for target in targets:
                yield compile_variant(variant, target)


def all_variants() -> list[Variant]:
    """The variants of all ops. Imports triton."""
    modules = (importlib.import_module(f"fcos_kernels.{op.folder}.launch") for op in OPS)
    return [variant for module in modules for variant in module.variants()]


def kernel_name(variant: Variant) -> str:
    """Name of the function under `triton.jit`."""
    return str(variant.kernel.__name__)


def compile_variant(variant: Variant, target: str) -> Compiled:
    """Compiles one variant for one of `TARGETS`. Raises triton's CompilationError."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(variant.signature)
    source = ASTSource(
        fn=variant.kernel,
        signature=variant.signature,
        constexprs={(names.index(name),): value for name, value in variant.constants.items()},
        attrs={place: [["tt.divisibility", 16]] for place in _places(variant, names)},
    )
    options = {"num_warps": variant.num_warps, "enable_fp_fusion": variant.fused}
    gpu = TARGETS[target]
    built = triton.compile(source, target=GPUTarget(gpu.backend, gpu.arch, gpu.warp_size), options=options)
    cuda = gpu.backend == "cuda"
    registers, spills = _cuda_usage(built.asm["cubin"]) if cuda else _amd_usage(built.asm["amdgcn"])
    loads = widest_loads(built.asm["ptx"], variant.signature, variant.constants) if cuda else {}
    loads = {name: loads[name] for name in variant.wide_loads} if cuda else {}
    warps = warps_held(gpu, registers, built.metadata.shared, variant.num_warps)
    occupancy = 100 * warps // gpu.warps
    problems = [f"spills {spills}"] if spills else []
    problems += [f"loads {size} bytes at once from {name}, not {WIDE}" for name, size in loads.items() if size < WIDE]
    if occupancy < BUDGET and not variant.few_warps:
        problems.append(f"{warps} warps an SM of {gpu.warps}, below {BUDGET} %, and `few_warps` does not say why")
    return Compiled(
        kernel_name(variant),
        variant.name,
        variant.dtype,
        target,
        registers,
        spills,
        built.metadata.shared,
        warps,
        occupancy,
        loads,
        tuple(problems),
    )


def _places(variant: Variant, names: list[str]) -> Iterator[tuple[int, ...]]:
    """Where the aligned arguments stand; of a tuple, each of its entries."""
    for name in variant.aligned:
        kind = variant.signature[name]
        place = names.index(name)
        if isinstance(kind, tuple):
            yield from ((place, entry) for entry in range(len(kind)))
        else:
            yield (place,)


def _cuda_usage(cubin: bytes) -> tuple[int, int]:
    """Registers, bytes of a thread's stack (that is where spills go)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        said = subprocess.run(
            [str(_cuobjdump()), "-res-usage", str(file)], capture_output=True, text=True, check=True
        ).stdout
    numbers = dict(re.findall(r"\b(REG|STACK|LOCAL):(\d+)", said))
    return int(numbers["REG"]), int(numbers["STACK"]) + int(numbers["LOCAL"])


def _cuobjdump() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def _amd_usage(code: str) -> tuple[int, int]:
    """Registers, and how many of them a thread spills."""

    def number(key: str) -> int:
        match = re.search(rf"\.{key}:\s*(\d+)", code)
        return int(match[1]) if match else 0

    spills = number("vgpr_spill_count") + number("sgpr_spill_count")
    return number("vgpr_count"), spills


def _line(result: Compiled) -> str:
    wide = ", ".join(f"{size}-byte loads of {argument}" for argument, size in result.loads.items())
    name = f"{result.kernel} {result.variant}".strip()
    return (
        f"{name:<60} {result.dtype:<9} {result.target:<7} {result.registers:>4} registers "
        f"{result.spills:>3} spilled {result.shared:>6} shared {result.warps:>2} warps {result.occupancy:>3} %  {wide}"
    ).rstrip()


if __name__ == "__main__":
    sys.exit(main())
