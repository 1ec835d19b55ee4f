"""Random orders that are the same on every machine and with every numpy."""

import numpy as np


def random_order(count: int, *seed: int) -> np.ndarray:
    """A random permutation of 0 .. count - 1 that depends on the numbers of the seed (none negative) alone."""
    # Raw bits are what numpy promises to keep; what its Generator makes of them may change with a version.
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count)
    return np.argsort(bits, kind="stable")


def epoch_order(num_graphs: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """The order of the graphs in an epoch [graphs]: that of the file, or a random one."""
    return random_order(num_graphs, seed, epoch) if shuffle else np.arange(num_graphs)
