"""3x3 convolutions in fewer multiplications, for float32 on CPUs: Winograd's F(4x4, 3x3).

A tile of 4 x 4 outputs is a polynomial product of 6 x 6 inputs and 3 x 3 weights; evaluated at 0, +-1, +-2 and infinity
it takes 36 multiplications a channel pair instead of 144 (Lavin and Gray, arXiv 1509.09308, section 4.3):

    Y = A' [sum over input channels (G g G') * (B' d B)] A          * elementwise

The sum is 36 matrix products over (tiles, channels), which is where the time goes; B' . B and A' . A are one 36 x 36
and one 16 x 36 matrix on the flattened tiles. The numbers are those of the plain convolution to float32's rounding,
about five times its error (5e-6 of the largest output for 256 channels). oneDNN 3 has no Winograd on x86, and its plain
convolution runs at the processor's peak, so only fewer multiplications are faster. Half precision does not bear the
transforms' range.
"""

import torch
from torch import Tensor

TILE, SEEN = 4, 6
"""Outputs of a tile along a side, and the inputs that they see."""
CHUNK = 1 << 21
"""Elements of the transformed inputs at once (8 MB): they stay in the last-level cache."""

_POINTS = {
    "inputs": [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    "weights": [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    "outputs": [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
}
_BIAS_AT = SEEN + 1
"""The second point in both directions: a constant there is that constant in all 16 outputs."""


def transform_weight(weight: Tensor) -> Tensor:
    """[O, C, 3, 3] -> float32 [36, C, O], computed in float64."""
    at = torch.tensor(_POINTS["weights"], dtype=torch.float64, device=weight.device) / 24
    points = torch.einsum("ia,ocab,jb->ijco", at, weight.double(), at)
    return points.reshape(SEEN * SEEN, weight.shape[1], weight.shape[0]).float().contiguous()


def convolve(x: Tensor, transformed: Tensor, bias: Tensor, *, relu: bool = False) -> Tensor:
    """The 3x3 convolution of stride 1 and padding 1.

    Args:
        x: float32 [N, C, H, W], best channels-last.
        transformed: [36, C, O] of `transform_weight`.
        bias: float32 [O].
        relu: rectify the result.

    Returns:
        float32 [N, O, H, W], channels-last strides.
    """
    images, channels, height, width = x.shape
    outputs = transformed.shape[2]
    down, across = -(-height // TILE), -(-width // TILE)
    padded = x.new_zeros(images, down * TILE + 2, across * TILE + 2, channels)
    padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
    result = x.new_empty(images, down * TILE, across * TILE, outputs)
    rows = min(down, max(1, CHUNK // (SEEN * SEEN * across * channels)))
    scratch = _Scratch(x, rows * across, channels, outputs)
    _, of_row, of_column, _ = padded.stride()
    strides = (of_row, of_column, TILE * of_row, TILE * of_column, 1)
    for image in range(images):
        for first in range(0, down, rows):
            here = min(rows, down - first)
            offset = padded[image, first * TILE].storage_offset()
            tiles = padded.as_strided((SEEN, SEEN, here, across, channels), strides, offset)
            blocks = scratch.convolve(tiles, transformed, bias).permute(2, 0, 3, 1, 4)
            target = result[image, first * TILE : (first + here) * TILE].view(here, TILE, across, TILE, outputs)
            if relu:
                torch.clamp_min(blocks, 0, out=target)
            else:
                target.copy_(blocks)
    return result[:, :height, :width].contiguous().permute(0, 3, 1, 2)


class _Scratch:
    """Memory for the steps of at most `tiles` tiles: taken once, because fresh pages cost more than the arithmetic."""

    def __init__(self, like: Tensor, tiles: int, channels: int, outputs: int) -> None:
        points = SEEN * SEEN
        self.tiles, self.inputs = like.new_empty(2, points * tiles * channels).unbind()
        self.products = like.new_empty(points * tiles * outputs)
        self.outputs = like.new_empty(TILE * TILE * tiles * outputs)
        self.to_points, self.to_outputs = _matrix("inputs"), _matrix("outputs")

    def convolve(self, tiles: Tensor, transformed: Tensor, bias: Tensor) -> Tensor:
        """[6, 6, rows, columns, C] -> [4, 4, rows, columns, O]."""
        _, _, rows, columns, channels = tiles.shape
        points, _, outputs = transformed.shape
        count = rows * columns

        def part(memory: Tensor, *shape: int) -> Tensor:
            return memory[: shape[0] * shape[1]].view(shape)

        flat = part(self.tiles, points, count * channels)
        flat.view(tiles.shape).copy_(tiles)
        inputs = torch.mm(self.to_points, flat, out=part(self.inputs, points, count * channels))
        products = part(self.products, points, count * outputs)
        by_point = torch.bmm(inputs.view(points, count, channels), transformed, out=products.view(points, count, -1))
        by_point[_BIAS_AT] += bias
        blocks = torch.mm(self.to_outputs, products, out=part(self.outputs, TILE * TILE, count * outputs))
        return blocks.view(TILE, TILE, rows, columns, outputs)


def _matrix(which: str) -> Tensor:
    one = torch.tensor(_POINTS[which], dtype=torch.float32)
    return torch.kron(one, one)
