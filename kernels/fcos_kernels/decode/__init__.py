"""From the head"s outputs to scored boxes. Names load on first use."""

from typing import TYPE_CHECKING

from fcos_kernels.common import lazy

if TYPE_CHECKING:
    from fcos_kernels.decode.op import decode, decode_padded
    from fcos_kernels.decode.types import Candidates, PaddedCandidates, Rule
else:
    __getattr__ = lazy.names(__name__, op="decode decode_padded", types="Candidates PaddedCandidates Rule")

__all__ = ["Candidates", "PaddedCandidates", "Rule", "decode", "decode_padded"]
