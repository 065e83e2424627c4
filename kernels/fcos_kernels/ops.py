"""All ops, for what goes through them: `aot`, `bench`, `kernels/on_gpu.py`, the tests. Imports none of them.

Another op is a folder here, its tests, a file of cases in `bench`, and a line in OPS.
"""

from typing import NamedTuple


class Op(NamedTuple):
    """One op.

    name: of the benchmark's rows.
    folder: of its code (`fcos_kernels.<folder>`), of its tests (`tests/kernels/<folder>`) and of its cases
        (`fcos_kernels.bench.<folder>`).
    registered: what it is in torch.library, `fcos_kernels::<name>`.
    sanitized: tests of `test_triton.py` that together launch each of its kernels, with sizes that fill no block, for
        `kernels/on_gpu.py`: a sanitizer slows them down tenfold, so they are few.
    """

    name: str
    folder: str
    registered: tuple[str, ...]
    sanitized: tuple[str, ...]


OPS = (
    Op(
        "assign",
        "assign",
        ("assign",),
        ("test_ends_of_ranges_are_met_exactly", "test_without_candidates_and_twice_bit_for_bit"),
    ),
    Op("detection_loss", "loss", ("detection_loss", "focal_loss"), ("test_every_size", "test_scaling_in_place")),
    Op(
        "group_norm_relu",
        "group_norm_relu",
        ("group_norm_relu", "group_norm_relu_backward"),
        ("test_values_and_gradients",),
    ),
    Op("decode", "decode", ("decode_padded",), ("test_every_size",)),
    Op(
        "nms", "nms", ("nms", "batched_nms", "batched_nms_packed"), ("test_values_around_the_edges_of_words_and_tiles",)
    ),
)
