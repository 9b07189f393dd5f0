"""How much free GPU is out of reach: the fragmentation measure of FGD, as sums of table look-ups.

"Beware of Fragmentation" (Weng et al., USENIX ATC 2023), section 4: on a node, what a task cannot
use is all its free GPU where the task does not fit, else what lies on devices with less than the
task's share; the measure is the mean over typical tasks. For every node,

    F = free - Σ_devices shares[level, g] - wholes[level, number of whole free devices]

where `level` ranks the node's free CPU among the CPUs that typical tasks ask for. That makes it a
sum over devices, so that "what if this share went to that device" is two look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import CPU, Ints
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem

MOST_TYPICAL = 200
"""Kinds of typical tasks; where there are more, the most frequent ones stand for all."""


@dataclass(frozen=True, eq=False)
class Typical:
    """The tasks that may come: kinds (CPU milli, GPUs, milli of each) and how often each came."""

    kinds: Ints
    """k × 3."""
    counts: Ints
    """k: at least 1."""

    @classmethod
    def of(cls, problem: Problem, most: int = MOST_TYPICAL) -> Typical:
        """Return the problem's own tasks as the typical ones."""
        tasks = problem.tasks
        asked = np.column_stack([tasks.demand[:, CPU], tasks.gpus, tasks.milli])
        # One number for each kind, in the order of its columns: rows sort ten times slower.
        most_gpus = int(tasks.gpus.max(initial=0)) + 1
        keys = (asked[:, 0] * most_gpus + asked[:, 1]) * (MILLI + 1) + asked[:, 2]
        _, first, counts = np.unique(keys, return_index=True, return_counts=True)
        kinds = asked[first]
        if len(kinds) > most:
            # Spread over the sorted kinds where all are equally rare, so that sizes stay as mixed.
            order = np.argsort(-counts, kind="stable")
            often = order[: int((counts > 1).sum())][:most]
            rare = np.setdiff1d(order, often, assume_unique=True)
            step = np.linspace(0, len(rare) - 1, most - len(often)).astype(np.int64)
            chosen = np.concatenate([often, rare[step]])
            kinds, counts = kinds[chosen], counts[chosen]
        return cls(kinds.astype(np.int64), counts.astype(np.int64))


@dataclass(frozen=True, eq=False)
class Tables:
    """Usable GPU by CPU level: what the typical tasks could use, times how many they are."""

    levels: Ints
    """The CPUs that typical tasks ask for, ascending; a node's level counts those it can give."""
    shares: Ints
    """levels+1 × 1001: Σ over typical shares that fit, by a device's free milli, of that milli."""
    wholes: Ints
    """levels+1 × D+1: the same for whole GPUs, by the number of devices that are free."""
    total: int
    """How many typical tasks there are."""

    @classmethod
    def of(cls, typical: Typical, most_devices: int) -> Tables:
        """Return the tables for nodes with at most so many devices."""
        cpu, gpus, milli = typical.kinds.reshape(-1, 3).T
        levels = np.unique(cpu)
        at = np.searchsorted(levels, cpu) + 1
        is_share = (gpus == 1) & (milli < MILLI)
        is_whole = (gpus > 0) & ~is_share & (gpus <= most_devices)
        shares = np.zeros((len(levels) + 1, MILLI + 1), np.int64)
        wholes = np.zeros((len(levels) + 1, most_devices + 1), np.int64)
        np.add.at(shares, (at[is_share], milli[is_share]), typical.counts[is_share])
        np.add.at(wholes, (at[is_whole], gpus[is_whole]), typical.counts[is_whole])
        shares = shares.cumsum(axis=0).cumsum(axis=1) * np.arange(MILLI + 1)
        wholes = wholes.cumsum(axis=0).cumsum(axis=1) * (MILLI * np.arange(most_devices + 1))
        return cls(levels, shares, wholes, int(typical.counts.sum()))

    def level(self, cpu: Ints) -> Ints:
        """Return how many levels each amount of free CPU reaches."""
        return np.searchsorted(self.levels, cpu, side="right")

    def measure(self, cpu: Ints, devices: Ints) -> Ints:
        """Return each node's fragmentation (m), in milli-GPU times `total`.

        `cpu` (m) is the free CPU and `devices` (m × D) the free milli of each device, negative or 0
        where there is none.
        """
        if not devices.shape[1]:
            return np.zeros(len(cpu), np.int64)
        free = np.maximum(devices, 0)
        level = self.level(cpu)
        usable = self.shares[level[:, None], free].sum(axis=1)
        usable += self.wholes[level, (free == MILLI).sum(axis=1)]
        measured: Ints = free.sum(axis=1) * self.total - usable
        return measured


def fragmentation(
    problem: Problem, assignment: Ints, devices: Ints, typical: Typical | None = None
) -> int:
    """Return the milli-GPU that a task drawn from the typical ones could not use, on all nodes.

    `assignment` (n) and `devices` (n, bits) say what is placed. Typical are the problem's own
    tasks, those without GPU too, if nothing else is said. 0 without tasks.
    """
    nodes, tasks = problem.nodes, problem.tasks
    typical = Typical.of(problem) if typical is None else typical
    if not len(typical.counts) or not nodes.devices.size:
        return 0
    placed = np.flatnonzero(assignment >= 0)
    cpu = nodes.free[:, CPU].copy()
    np.subtract.at(cpu, assignment[placed], tasks.demand[placed, CPU])
    free = nodes.devices.copy()
    for device in range(free.shape[1]):
        on = placed[(devices[placed] >> device & 1).astype(bool)]
        np.subtract.at(free[:, device], assignment[on], tasks.milli[on])
    tables = Tables.of(typical, free.shape[1])
    total = int(tables.measure(cpu, free).sum())
    return round(total / tables.total)
