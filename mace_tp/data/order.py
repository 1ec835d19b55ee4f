"""Random orders that are the same on every machine and with every version of numpy."""

import numpy as np


def random_order(count: int, *seed: int) -> np.ndarray:
    """A random permutation of 0 .. count - 1 that depends only on the seed, a sequence of non-negative numbers."""
    # numpy guarantees the raw bits of a bit generator; the methods of its Generator may change with a version.
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count)
    return np.argsort(bits, kind="stable")


def epoch_order(num_graphs: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """The order of the graphs in an epoch [graphs]: random with `shuffle`, else that of the file."""
    return random_order(num_graphs, seed, epoch) if shuffle else np.arange(num_graphs)
