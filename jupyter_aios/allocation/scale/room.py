"""What is still free, and what that is worth: the books of one search, kept task by task."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.certificate.evaluation import Columns, node_slots, task_slots
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.prices.kinds import zone_keys
from jupyter_aios.allocation.problem import NO
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

    Floats = NDArray[np.float64]


_ALIKE = 1000
"""Prices that differ by less than such a part of the highest one are alike enough to guide."""
_MAIN = 0.01
"""The part of all nodes' worth that a price vector's own nodes have at least, to value others."""


class Room:
    """A placement in the making, in units of the objective.

    A node's worth is the least over the price vectors: a node that has run out of CPU is valued by
    the vector that gives nothing for GPUs. A task costs by how much a node's worth falls.
    """

    def __init__(self, problem: Problem, weight: Ints, certificate: Certificate) -> None:
        tasks, nodes = problem.tasks, problem.nodes
        n = len(tasks)
        self.problem = problem
        self.weight = weight
        self.assignment: Ints = np.full(n, NO, np.int64)
        self.bits: Ints = np.zeros(n, np.int64)
        self.free = nodes.free.copy()
        self.devices = nodes.devices.copy()
        self.slot = node_slots(problem)
        self.task_slot = task_slots(problem)
        self.quota_left = np.vstack([problem.quota_limits, np.full((1, 5), np.iinfo(np.int64).max)])
        self.consumption = tasks.consumption
        self.quota_of: Ints = tasks.quotas.copy()
        self.quota_of[self.quota_of[:, 1] == self.quota_of[:, 0], 1] = NO
        self.content: list[list[int]] = [[] for _ in range(len(nodes))]
        self._price(certificate)

    def _price(self, certificate: Certificate) -> None:
        certificate = guiding(certificate)
        columns = Columns(certificate, self.problem)
        scale = float(certificate.scale)
        unit = np.array(certificate.units, np.float64)
        vectors = np.array([certificate.vectors[name] for name in self.problem.nodes.names])
        used, merged = _distinct(certificate, vectors)
        self.prices: Floats = certificate.prices[used] / unit / scale
        self.by_milli: Floats = certificate.fillings[used] / scale
        self.by_whole: Floats = certificate.node_fillings[used] / scale
        pays = [columns.pay(v).astype(np.float64) / scale for v in used.tolist()]
        self.pay: Floats = np.stack(pays, axis=1)
        self.gain_before_pay: Floats = self.weight - columns.quota_pay().astype(np.float64) / scale
        least, fits = columns.least_pay(vectors)
        gain = self.weight - least.astype(np.float64) / scale
        self.surplus: Floats = np.where(fits, gain, -1e18)
        self.net: Floats = self.gain_before_pay - np.maximum(self.surplus, 0.0)
        """What a task brings to a node beyond what it could have elsewhere."""
        self.worth: Floats = np.zeros((len(self.problem.nodes), len(used)))
        self.vector_of: Ints = merged
        self.foreign: Floats = np.zeros_like(self.worth)
        self._value_all()
        self._bar_foreign()
        self._value_all()

    def _bar_foreign(self) -> None:
        """Value no node by a vector of other zones, or of nodes that are hardly worth a thing.

        Those are cheap because of what does not fit on their nodes; it may fit on this one.
        """
        key = zone_keys(self.problem)
        nodes = np.arange(len(key))
        worth = self.worth[nodes, self.vector_of]
        of_vector = np.zeros((int(key.max(initial=-1)) + 1, self.worth.shape[1]))
        np.add.at(of_vector, (key, self.vector_of), worth)
        is_main = of_vector >= _MAIN * worth.sum()
        self.foreign = np.where(is_main, 0.0, np.inf)[key]
        self.foreign[nodes, self.vector_of] = 0.0

    def _value_all(self) -> None:
        for start in range(0, len(self.worth), 4096):
            self._value(np.arange(start, min(start + 4096, len(self.worth))))

    def _value(self, nodes: Ints) -> None:
        self.worth[nodes] = (
            self.worth_of(self.free[nodes], self.devices[nodes]) + self.foreign[nodes]
        )

    def worth_of(self, free: Ints, devices: Ints) -> Floats:
        """Return what amounts (B × 3) and devices (B × D) are worth by each vector (B × K)."""
        partial = np.where((devices > 0) & (devices < MILLI), devices, 0)
        whole = (devices >= MILLI).sum(axis=1)
        worth: Floats = np.maximum(free, 0) @ self.prices.T + self.by_whole[:, whole].T
        worth += self.by_milli[:, partial].sum(axis=2).T
        return worth

    # ---------------------------------------------------------------------------- what fits

    def fitting(self, i: int) -> Bools:
        """Return on which nodes a task fits now (m), its groups left aside."""
        fits = self.problem.zones[self.problem.tasks.zone[i]] & (self.slot >= self.task_slot[i])
        demand = self.problem.tasks.demand[i]
        for column in range(3):
            if demand[column]:
                fits &= self.free[:, column] >= demand[column]
        return np.asarray(fits, bool)

    def has_quota(self, i: int) -> bool:
        """True where a task's quotas have room for it."""
        left = self.quota_left[self.quota_of[i]]
        return bool((left >= self.consumption[i]).all())

    def have_quota(self, tasks: Ints) -> Bools:
        """Return which tasks' quotas have room for each of them alone."""
        left = np.minimum(
            self.quota_left[self.quota_of[tasks, 0]], self.quota_left[self.quota_of[tasks, 1]]
        )
        enough: Bools = (left >= self.consumption[tasks]).all(axis=1)
        return enough

    def unplaced(self, among: Bools) -> Ints:
        """Return those of some tasks (n) that count, have no place, and have quota left."""
        found = np.flatnonzero(among & (self.assignment < 0) & (self.weight > 0))
        kept: Ints = found[self.have_quota(found)]
        return kept

    def profits_on(self, i: int, nodes: Ints) -> Floats:
        """Return what a task is worth more than each of some nodes loses by it."""
        worth = self.worth[nodes]
        found: Floats = self.gain_before_pay[i] - (
            worth.min(axis=1) - (worth - self.pay[i]).min(axis=1)
        )
        return found

    # ---------------------------------------------------------------------------- the books

    def place(self, i: int, j: int, bits: int | None = None) -> None:
        """Put task i on node j; without `bits` on the devices that it fills best."""
        if bits is None:
            bits = self.choose_devices(i, j)
        self._book(i, j, bits, -1)
        self.assignment[i], self.bits[i] = j, bits
        self.content[j].append(i)

    def remove(self, i: int) -> tuple[int, int]:
        """Take a task away; return where it was and on which devices."""
        j, bits = int(self.assignment[i]), int(self.bits[i])
        self._book(i, j, bits, 1)
        self.assignment[i], self.bits[i] = NO, 0
        self.content[j].remove(i)
        return j, bits

    def _book(self, i: int, j: int, bits: int, sign: int) -> None:
        tasks = self.problem.tasks
        self.free[j] += sign * tasks.demand[i]
        if bits:
            milli = sign * int(tasks.milli[i])
            row = self.devices[j]
            for device in range(len(row)):
                if bits >> device & 1:
                    row[device] += milli
            self._slot(j)
        for q in self.quota_of[i].tolist():
            if q >= 0:
                left = self.quota_left[q]
                is_limited = left < np.iinfo(np.int64).max
                left[is_limited] += sign * self.consumption[i][is_limited]
        self._revalue(j)

    def _slot(self, j: int) -> None:
        row = self.devices[j].tolist()
        whole = sum(milli >= MILLI for milli in row)
        self.slot[j] = MILLI - 1 + whole if whole else max(*row, 0)

    def _revalue(self, j: int) -> None:
        free = np.maximum(self.free[j], 0)
        worth = self.prices @ free
        whole = 0
        for milli in self.devices[j].tolist():
            if milli >= MILLI:
                whole += 1
            elif milli > 0:
                worth += self.by_milli[:, milli]
        if whole:
            worth += self.by_whole[:, whole]
        self.worth[j] = worth + self.foreign[j]

    def choose_devices(self, i: int, j: int) -> int:
        """Return the devices of node j that task i takes: a share goes where least is left."""
        tasks = self.problem.tasks
        count, milli = int(tasks.gpus[i]), int(tasks.milli[i])
        if not count:
            return 0
        row = self.devices[j].tolist()
        fitting = sorted((free, device) for device, free in enumerate(row) if free >= milli)
        return sum(1 << device for _, device in fitting[:count])

    def placed(self) -> Placed:
        """Return a copy of the placement."""
        return Placed(self.assignment.copy(), self.bits.copy())

    def value(self) -> int:
        """Return the first level's value."""
        return int(self.weight[self.assignment >= 0].sum())


def guiding(certificate: Certificate) -> Certificate:
    """Return prices to place by: small shares at their part of a device again.

    That they may cost nothing proves a lower bound (see `prices.shaping`), but leaves a search
    without a reason to fill what is left of a device.
    """
    milli = np.arange(MILLI)
    part = certificate.wholes[:, 1:2] * milli // MILLI
    upper = slice(MILLI // 2, None)
    is_by_part = np.abs(certificate.shares - part)[:, upper] <= 1 + part[:, upper] // MILLI
    if not is_by_part.all():
        return certificate
    return replace(certificate, shares=np.where(milli > 0, part, 0))


def _distinct(certificate: Certificate, vectors: Ints) -> tuple[Ints, Ints]:
    """Return one of each kind of price vector, and for each node the place of its own there."""
    used, at = np.unique(vectors, return_inverse=True)
    columns = np.column_stack([certificate.prices[used], certificate.node_fillings[used, 1]])
    rounded = np.round(columns / np.maximum(columns.max(axis=0), 1) * _ALIKE)
    _, first, kind = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return used[first], kind.reshape(-1)[at.reshape(-1)]
