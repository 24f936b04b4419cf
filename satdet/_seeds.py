"""Seeds for many purposes from one, independent of each other."""

import numpy as np


def derived_seed(seed: int, *purpose: int) -> int:
    """The seed of one purpose (32 bits), from that of the whole."""
    return int(np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1)[0])
