"""Which of a kernel's arguments its loads read, and how wide they are: found in the PTX.

An address is followed back through sums, choices and copies to the parameters it may come from, also where the choice
is among parameters' own addresses, which Triton 3.9 holds in 32 bits. What was itself loaded leads nowhere; an offset
may lead to a number among the parameters.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

_LOAD = re.compile(r"ld\.global[\w.:]*?(?:\.v(\d))?\.[bfus](\d+)\s+[^;]*\[\s*(%rd\d+)[^;]*\]")
_COPY = re.compile(r"cp\.async\.\w+\.shared\.global[\w.:]*\s+\[[^]]*\],\s*\[\s*(%rd\d+)[^]]*\],\s*(0x[0-9a-fA-F]+|\d+)")
_PARAMETER = re.compile(r"(?:ld\.param|mov)\.[bu](?:32|64)\s+(%rd?\d+),\s*\[?\w*?_param_(\d+)\]?;")
_VECTOR_OF_PARAMETERS = re.compile(r"ld\.param\.v(\d)\.[bu]64\s+\{([^}]*)\},\s*\[\w*?_param_(\d+)(?:\+\d+)?\]")
_MOVE = re.compile(r"(?:ld\.param|add|sub|mad|selp|mov|cvta|max|min|or|and)\.[\w.]+\s+(%rd?\d+),([^;]*);")
_REGISTER = re.compile(r"%rd?\d+")


def widest_loads(ptx: str, signature: dict[str, Any], constants: dict[str, Any]) -> dict[str, int]:
    """Argument -> bytes of the widest load of a thread that may read it; 0 where none does.

    Args:
        signature, constants: of the `Variant` that was compiled: parameters are the entries of the former, tuples entry
            by entry, without the latter.
    """
    owners = list(_owners(signature, constants))
    sources, parameters = _moves(ptx)
    widest = dict.fromkeys(owners, 0)
    for address, size in _loads(ptx):
        for place in _reached(address, sources, parameters):
            if place < len(owners):
                widest[owners[place]] = max(widest[owners[place]], size)
    return widest


def _owners(signature: dict[str, Any], constants: dict[str, Any]) -> Iterator[str]:
    """The argument of each parameter."""

    def entries(kind: Any) -> int:
        return sum(map(entries, kind)) if isinstance(kind, tuple) else 1

    for name, kind in signature.items():
        if name not in constants and kind != "constexpr":
            yield from [name] * entries(kind)


def _loads(ptx: str) -> Iterator[tuple[str, int]]:
    """Address register and bytes of each load from global memory."""
    for number, bits, address in _LOAD.findall(ptx):
        yield address, int(number or 1) * int(bits) // 8
    for address, size in _COPY.findall(ptx):
        yield address, int(size, 0)


def _moves(ptx: str) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Register -> registers its value may come from; register -> parameter it was loaded from."""
    sources: dict[str, set[str]] = defaultdict(set)
    for target, operands in _MOVE.findall(ptx):
        sources[target].update(_REGISTER.findall(operands))
    parameters = {register: int(place) for register, place in _PARAMETER.findall(ptx)}
    for _, registers, place in _VECTOR_OF_PARAMETERS.findall(ptx):
        parameters |= {register: int(place) + own for own, register in enumerate(_REGISTER.findall(registers))}
    return sources, parameters


def _reached(address: str, sources: dict[str, set[str]], parameters: dict[str, int]) -> set[int]:
    seen, waiting, found = {address}, [address], set()
    while waiting:
        register = waiting.pop()
        if register in parameters:
            found.add(parameters[register])
        new: Sequence[str] = [own for own in sources.get(register, ()) if own not in seen]
        seen.update(new)
        waiting.extend(new)
    return found
