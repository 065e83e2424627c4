"""The random numbers of augmentations: a stream for each, from (seed, iteration, place in the global batch, name).

So batch k is a function of data, recipe, seed and k: not of workers, ranks or where a run was resumed, nor of which
other augmentations there are. The three that were there first draw one double each from a stream that they share, by
their position in it. That is frozen: any other rule would change the batches of every recorded training.
"""

import numpy as np

GEOMETRY_STREAM, NAMED_STREAM = 13, 14
# Not to be added to: a new augmentation has a stream under its own name.
GEOMETRY_POSITIONS = {"horizontal_flip": 0, "vertical_flip": 1, "short_side": 2}


def random_stream(seed: int, iteration: int, place: int, name: str) -> np.random.Generator:
    """The random numbers of one augmentation for one image.

    Args:
        seed: of the training, 0 or more.
        iteration: the batch's number.
        place: of the image in the batch over all ranks.
        name: of the augmentation, not empty.
    """
    if name in GEOMETRY_POSITIONS:
        bits = np.random.PCG64(np.random.SeedSequence([GEOMETRY_STREAM, seed, iteration, place]))
        # A uniform double takes one step.
        bits.advance(GEOMETRY_POSITIONS[name])
    else:
        key = int.from_bytes(name.encode(), "big")
        bits = np.random.PCG64(np.random.SeedSequence([NAMED_STREAM, seed, iteration, place, key]))
    return np.random.Generator(bits)
