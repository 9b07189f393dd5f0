"""The best fillings of one device with shares: an unbounded knapsack over thousandths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.prices.kinds import Floats
    from jupyter_aios.allocation.problem import Ints


class Fillings:
    """The best fillings of a device with shares, for all types of nodes at once."""

    def __init__(self, levels: Ints, prices: Floats) -> None:
        self.levels = levels
        step = int(np.gcd.reduce(levels)) if len(levels) else MILLI
        self.step = step
        slots = MILLI // step
        sizes = levels // step
        self.best: Floats = np.zeros((len(prices), MILLI + 1))
        best = np.zeros((len(prices), slots + 1))
        self.chosen: NDArray[np.int64] = np.full((len(prices), slots + 1), -1)
        for f in range(1, slots + 1):
            fits = int(np.searchsorted(sizes, f, side="right"))
            best[:, f] = best[:, f - 1]
            if fits:
                paid = prices[:, :fits] + best[:, f - sizes[:fits]]
                at = paid.argmax(axis=1)
                value = paid[np.arange(len(paid)), at]
                better = value > best[:, f] + 1e-12
                best[better, f] = value[better]
                self.chosen[better, f] = at[better]
        self.best = best[:, np.arange(MILLI + 1) // step]

    def content(self, t: int, free: int) -> dict[int, int]:
        """Return how many shares of each level are in the best filling of one device."""
        content: dict[int, int] = {}
        left = free // self.step
        while left > 0:
            level = int(self.chosen[t, left])
            if level < 0:
                left -= 1
            else:
                content[level] = content.get(level, 0) + 1
                left -= int(self.levels[level]) // self.step
        return content
