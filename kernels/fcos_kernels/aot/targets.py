"""The GPUs that kernels are compiled for, and how many warps of a kernel an SM (a compute unit) of each can hold."""

from typing import NamedTuple

BUDGET = 50
"""Percent of an SM's warps that a kernel should be able to have there; with fewer, its variant says why."""


class Target(NamedTuple):
    """One GPU as Triton names it, and its limits, those of an SM.

    Sources: CUDA C++ Programming Guide, Technical Specifications per Compute Capability (registers are given out to a
    warp 256 at a time, shared memory 128 bytes at a time, 1 KB a program is the driver's); AMD Instinct MI300
    Instruction Set Architecture, and the LLVM AMDGPU guide (512 registers a lane of each of four SIMDs, 8 at a time).
    """

    backend: str
    arch: int | str
    warp_size: int
    warps: int
    programs: int
    shared: int
    reserved: int
    registers: int
    granule: int
    schedulers: int = 4


# registers and granule: 32-bit registers of a scheduler, and how many of them are given to a warp at once
TARGETS: dict[str, Target] = {
    "sm_80": Target("cuda", 80, 32, 64, 32, 164 << 10, 1024, 16384, 256),
    "sm_90": Target("cuda", 90, 32, 64, 32, 228 << 10, 1024, 16384, 256),
    "sm_100": Target("cuda", 100, 32, 64, 32, 228 << 10, 1024, 16384, 256),
    "gfx942": Target("hip", "gfx942", 64, 32, 16, 64 << 10, 0, 512 * 64, 8 * 64),
}


def warps_held(target: Target, registers: int, shared: int, warps: int) -> int:
    """Warps that an SM holds of programs of so many `warps`, registers a thread and bytes of shared memory.

    Registers are counted scheduler by scheduler, of which each has a fourth of the warps.
    """
    own = -(-max(registers, 1) * target.warp_size // target.granule) * target.granule
    by_registers = target.registers // own * target.schedulers // warps
    by_shared = target.shared // (-(-(shared + target.reserved) // 128) * 128) if shared + target.reserved else 10**6
    # a program of one wave needs no barrier, and only barriers bound the programs of an AMD compute unit
    by_programs = target.warps if target.backend == "hip" and warps == 1 else target.programs
    return warps * min(by_registers, by_shared, by_programs, target.warps // warps)
