"""What every dense head offers: raw outputs by name, and their decoding into scored boxes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from fcos_cli.errors import RecipeError
from fcos_cli.method.types import Outputs, Selection
from fcos_kernels.decode import Candidates, PaddedCandidates


class DenseHead(nn.Module, ABC):
    """A head that all levels share; it predicts at every location.

    Attributes:
        class_layers: names of the layers whose outputs are the classes, which a detector of other classes cannot keep.
        class_groups: how often the classes repeat among these outputs: the anchors of a location, 1 without any.
        plain: whether its convolutions are called as they are, so that a faster one may take their place in inference
            and its parameters may be rounded. Another head runs as it stands, under autocast.
    """

    class_layers: ClassVar[tuple[str, ...]] = ()
    class_groups: ClassVar[int] = 1
    plain: ClassVar[bool] = False

    @abstractmethod
    def forward(self, levels: Sequence[Tensor]) -> Outputs:
        """P-levels, each [N, channels, H_l, W_l] -> the outputs by name, each a list of levels in the same order."""

    @abstractmethod
    def decode(self, outputs: Outputs, sizes: Tensor, selection: Selection) -> Candidates:
        """Scored boxes of a batch. `sizes`: int64 [N, 2], height and width of each image before padding."""

    def whole_boxes(self, outputs: Outputs, image: Tensor, level: Tensor, row: Tensor, location: Tensor) -> Tensor:
        """float32 [..., 4], boxes of candidates before they are cut to the image; for recipes that suppress these.

        Args:
            image, level, row: integers [...], position in the batch, position of the level, row among the image's
                locations.
            location: [..., 2], x and y in pixels.

        Raises:
            RecipeError: the head has no such boxes.
        """
        raise RecipeError(f'test.clip = "after" is not for {type(self).__name__}', 'set test.clip = "before"')

    @abstractmethod
    def decode_padded(self, outputs: Outputs, sizes: Tensor, selection: Selection) -> PaddedCandidates:
        """The same in shapes that do not depend on values, so that nothing waits for a GPU."""
