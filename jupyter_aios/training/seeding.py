"""The global random number generators of a rank, at its start."""

from __future__ import annotations

import random
import secrets
import sys

_NUMPY_SEEDS = 2**32


def seed_generators(seed: int | None, rank: int) -> int:
    """Begin the generators of python, numpy and torch with `seed + rank`, and return that number.

    Without a seed one is drawn: a fork would otherwise go on with the warm process's generators,
    which are the same in every rank of every job.
    """
    import torch

    own = secrets.randbits(31) if seed is None else seed + rank
    random.seed(own)
    # Also the GPU's, as soon as there is one; asks no driver.
    torch.manual_seed(own)
    if "numpy" in sys.modules:
        # Where it is installed, torch has imported it.
        sys.modules["numpy"].random.seed(own % _NUMPY_SEEDS)
    return own
