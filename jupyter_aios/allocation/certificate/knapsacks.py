"""How much can be paid for a device or a node at most: unbounded knapsacks by recursion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints


def fill_devices(shares: Ints) -> Ints:
    """Return the most that shares can pay for each free amount of a device (K × 1001).

    `shares` (K × 1000) holds the price of a share by its milli and does not fall; so only shares
    at which some price rises can be part of a best filling.
    """
    count = len(shares)
    filled = np.zeros((count, MILLI + 1), np.int64)
    rises = 1 + np.flatnonzero((np.diff(shares, axis=1) > 0).any(axis=0))
    prices = shares[:, rises]
    for free in range(1, MILLI + 1):
        fits = np.searchsorted(rises, free, side="right")
        best = filled[:, free - 1]
        if fits:
            paid = prices[:, :fits] + filled[:, free - rises[:fits]]
            best = np.maximum(best, paid.max(axis=1))
        filled[:, free] = best
    return filled


def fill_nodes(wholes: Ints, device: Ints) -> Ints:
    """Return the most that can be paid for k wholly free devices of a node (K × 63).

    `wholes` (K × 63) is the price of k whole devices for one task, `device` (K) what one device
    that is given to shares brings.
    """
    filled = np.zeros_like(wholes)
    for free in range(1, wholes.shape[1]):
        taken = np.arange(1, free + 1)
        paid = (wholes[:, taken] + filled[:, free - taken]).max(axis=1)
        filled[:, free] = np.maximum(paid, filled[:, free - 1] + device)
    return filled
