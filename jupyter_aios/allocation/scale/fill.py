"""Filling node after node with the tasks that are worth most more than the node loses by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints
    from jupyter_aios.allocation.scale.room import Room
    from jupyter_aios.allocation.scale.units import Units

    Floats = NDArray[np.float64]

_BONUS = 0.02
"""How much of its weight counts for a task besides its profit: large ones first."""

_BALANCE = 0.5
"""How much of what unbalances a node counts against a task."""
_COMPACT = 0.6
"""A pool with a smaller part left is copied."""


class Pool:
    """Tasks without a place, with copies of their columns so that a node looks at slices."""

    def __init__(self, room: Room, tasks: Ints) -> None:
        self.room = room
        self.tasks = tasks
        self.demand = np.ascontiguousarray(room.problem.tasks.demand[tasks].T)
        self.slot = room.task_slot[tasks]
        self.zone = room.problem.tasks.zone[tasks]
        self.pay = np.ascontiguousarray(room.pay[tasks].T)
        # What a task could gain elsewhere counts as a cost here.
        self.gain = room.gain_before_pay[tasks] - np.maximum(room.surplus[tasks], 0.0)
        self.weight = room.weight[tasks].astype(np.float64)
        self.is_left: Bools = np.ones(len(tasks), bool)

    def __len__(self) -> int:
        return len(self.tasks)

    def fitting(self, j: int, part: slice) -> Ints:
        """Return the places in the pool of the tasks that fit on node j now, out of a part."""
        room = self.room
        fits = self.is_left[part] & (self.slot[part] <= room.slot[j])
        fits &= room.problem.zones[:, j][self.zone[part]]
        free = room.free[j]
        for column in range(3):
            fits &= self.demand[column, part] <= free[column]
        found: Ints = np.flatnonzero(fits) + part.start
        return found

    def still(self, places: Ints, j: int) -> Ints:
        """Return those of some places whose tasks fit on node j now."""
        room = self.room
        fits = self.is_left[places] & (self.slot[places] <= room.slot[j])
        free = room.free[j]
        for column in range(3):
            fits &= self.demand[column, places] <= free[column]
        kept: Ints = places[fits]
        return kept

    def profits(self, places: Ints, j: int) -> tuple[Floats, Floats]:
        """Return what each task is worth more than it pays node j, and how it unbalances the node.

        Paid is by the vector by which the node is worth least now. By how much more another vector
        would have the node lose says that the task takes the wrong mixture of resources.
        """
        worth = self.room.worth[j]
        least = int(worth.argmin())
        own = self.pay[least, places]
        left = worth[least] - own
        for v in np.flatnonzero(np.isfinite(worth)).tolist():
            if v != least:
                np.minimum(left, worth[v] - self.pay[v, places], out=left)
        return self.gain[places] - own, worth[least] - left - own


def fill(
    units: Units, pool: Pool, nodes: Ints, effort: Effort, *, size: int, tolerance: float
) -> None:
    """Fill nodes, each with the best of the next `size` tasks of the pool."""
    at = 0
    for j in nodes.tolist():
        if effort.is_over() or not len(pool):
            return
        if at >= len(pool):
            at = 0
            if pool.is_left.mean() < _COMPACT:
                pool = Pool(units.room, pool.tasks[pool.is_left])
                if not len(pool):
                    return
        fill_node(units, pool, j, slice(at, min(at + size, len(pool))), tolerance)
        at += size


def fill_node(units: Units, pool: Pool, j: int, part: slice, tolerance: float) -> int:
    """Put tasks of a part of the pool on node j as long as one is worth it; return how many."""
    room = units.room
    places = pool.fitting(j, part)
    count = 0
    while len(places):
        profit, imbalance = pool.profits(places, j)
        best = int((profit + _BONUS * pool.weight[places] - _BALANCE * imbalance).argmax())
        if profit[best] < -tolerance * pool.weight[places[best]]:
            break
        place = int(places[best])
        i = int(pool.tasks[place])
        if room.has_quota(i):
            units.place_at(i, j)
            pool.is_left[place] = False
            count += 1
            places = pool.still(places, j)
        else:
            pool.is_left[place] = False
            places = np.delete(places, best)
    return count
