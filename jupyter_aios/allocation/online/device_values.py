"""What the free part of a device may still earn, and the CPU that filling it takes.

A cutting-stock linear programme over the tasks that are typical, solved by column generation
(Gilmore and Gomory, 1961): its prices say what a place for a task of each size is worth on a
device, and the best filling of a free part at these prices what that part is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.greedy.fragmentation import Typical
    from jupyter_aios.allocation.problem import Ints

Floats = NDArray[np.float64]

DEMAND = 1.3
"""GPU that is expected to be asked for, as a share of what there is."""
STEP = 10
"""Milli by which free parts of devices are told apart."""
_MOST_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class DeviceValues:
    """What the free part of a device will earn and need, by its milli (each 1001)."""

    worth: Floats
    """Milli-GPU; a whole device is worth 1000."""
    cpu_need: Floats
    """CPU milli."""
    ceiling: float
    """The share of all GPU that can be allocated on average, when these tasks come at random and
    no size is accepted more often than a smaller one, which is so for whoever places what fits.
    Proven by the prices; CPU and memory, of which a smaller one may want more, are left aside."""

    @classmethod
    def of(cls, typical: Typical, demand: float = DEMAND) -> DeviceValues:
        """Return the values under these typical tasks and so much demand for each device."""
        cpu, gpus, milli = typical.kinds.reshape(-1, 3).T
        # A task on k whole devices is k tasks on one, with their share of its CPU.
        weight = np.where(gpus > 0, typical.counts * gpus, 0).astype(np.float64)
        size = -(-np.where(gpus > 0, milli, 0) // STEP)
        sizes = np.unique(size[gpus > 0])
        if not len(sizes):
            return cls(np.zeros(MILLI + 1), np.zeros(MILLI + 1), 0.0)
        often = np.array([weight[size == one].sum() for one in sizes])
        per_device = np.divide(cpu, gpus, out=np.zeros(len(cpu)), where=gpus > 0)
        needs = np.array(
            [np.average(per_device[size == one], weights=weight[size == one]) for one in sizes]
        )
        arrivals = often * demand * (MILLI // STEP) / (often @ sizes)
        prices = slot_prices(sizes, arrivals)
        worth, _ = best_fillings(sizes, prices)
        need = _mean_need(sizes, often * (prices > 1e-9 * prices.max(initial=1.0)), needs)
        grid = np.arange(MILLI + 1) // STEP
        whole = worth[-1] if worth[-1] > 0 else 1.0
        # Weak duality: devices at their best filling, and sizes accepted up to any one of them.
        margins = np.cumsum(arrivals * (sizes - prices))
        ceiling = (worth[-1] + margins.max(initial=0.0)) * STEP / MILLI
        return cls((worth * (MILLI / whole))[grid], need[grid], float(ceiling))


def best_fillings(sizes: Ints, prices: Floats) -> tuple[Floats, Ints]:
    """Return the best filling of every free part, in steps: its value, and its last item or -1."""
    best = np.zeros(MILLI // STEP + 1)
    last = np.full(len(best), -1)
    for free in range(1, len(best)):
        best[free] = best[free - 1]
        fits = np.flatnonzero(sizes <= free)
        if len(fits):
            values = best[free - sizes[fits]] + prices[fits]
            at = int(values.argmax())
            if values[at] > best[free] + 1e-12:
                best[free], last[free] = values[at], fits[at]
    return best, last


def pattern_of(sizes: Ints, last: Ints) -> Ints:
    """Return how many tasks of each size the best filling of a whole device has."""
    counts, free = np.zeros(len(sizes), np.int64), len(last) - 1
    while free > 0:
        item = int(last[free])
        if item < 0:
            free -= 1
        else:
            counts[item] += 1
            free -= int(sizes[item])
    return counts


def slot_prices(sizes: Ints, arrivals: Floats) -> Floats:
    """Return what a place for a task of each size is worth on a device, by column generation.

    One device, `arrivals` (per device) of each size, `sizes` ascending, in steps. Variables are the
    accepted share of each size, never larger for a larger size, and how often each pattern is used.
    """
    model = _Master(sizes, arrivals)
    prices, device = np.zeros(len(sizes)), 0.0
    for _ in range(_MOST_ROUNDS):
        prices, device = model.solve()
        best, last = best_fillings(sizes, prices)
        if best[-1] <= device + 1e-7:
            break
        model.add(pattern_of(sizes, last))
    return prices


class _Master:
    """max Σ size·arrivals·accepted  where  accepted ones have places, and devices are few."""

    def __init__(self, sizes: Ints, arrivals: Floats) -> None:
        import highspy

        from jupyter_aios.allocation.highs import quiet_highs

        self.highs: Any = quiet_highs()
        self.highs.changeObjectiveSense(highspy.ObjSense.kMaximize)
        self.count = n = len(sizes)
        endless = highspy.kHighsInf
        for _ in range(n):  # accepted · arrivals - places ≤ 0
            self.highs.addRow(-endless, 0.0, 0, np.zeros(0, np.int32), np.zeros(0))
        for _ in range(n - 1):  # accepted of the larger - accepted of the smaller ≤ 0
            self.highs.addRow(-endless, 0.0, 0, np.zeros(0, np.int32), np.zeros(0))
        self.highs.addRow(-endless, 1.0, 0, np.zeros(0, np.int32), np.zeros(0))
        for at in range(n):
            rows, values = [at], [float(arrivals[at])]
            if at:
                rows, values = [*rows, n + at - 1], [*values, 1.0]
            if at < n - 1:
                rows, values = [*rows, n + at], [*values, -1.0]
            gain = float(arrivals[at] * sizes[at])
            self.highs.addCol(gain, 0.0, 1.0, len(rows), np.array(rows, np.int32), np.array(values))
            self.add((np.arange(n) == at).astype(np.int64) * (MILLI // STEP // int(sizes[at])))

    def add(self, counts: Ints) -> None:
        """Add a pattern: how many tasks of each size share one device."""
        import highspy

        rows = np.flatnonzero(counts)
        index = np.append(rows, 2 * self.count - 1).astype(np.int32)
        values = np.append(-counts[rows], 1).astype(np.float64)
        self.highs.addCol(0.0, 0.0, highspy.kHighsInf, len(index), index, values)

    def solve(self) -> tuple[Floats, float]:
        """Return the price of a place of each size, and of a device."""
        self.highs.run()
        duals = np.array(self.highs.getSolution().row_dual)
        if len(duals) != 2 * self.count:
            return np.zeros(self.count), 0.0
        return np.maximum(duals[: self.count], 0.0), float(duals[-1])


def _mean_need(sizes: Ints, often: Floats, needs: Floats) -> Floats:
    """Return the CPU that a free part takes when tasks that fit come at random until none does."""
    need = np.zeros(MILLI // STEP + 1)
    for free in range(1, len(need)):
        fits = np.flatnonzero((sizes <= free) & (often > 0))
        if len(fits):
            after = needs[fits] + need[free - sizes[fits]]
            need[free] = np.average(after, weights=often[fits])
    return need
