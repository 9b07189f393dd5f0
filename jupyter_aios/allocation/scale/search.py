"""The search at scale: what is in force, what is hard to place, nodes filled, nodes filled anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import NO
from jupyter_aios.allocation.scale.fill import Pool, fill
from jupyter_aios.allocation.scale.improve import Improver

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints
    from jupyter_aios.allocation.scale.room import Room
    from jupyter_aios.allocation.scale.units import Units

_STOP = 0.05
"""A task in force is stopped at first where its place costs so much more than it is worth."""
_HARD = 0.05
"""The part of its weight that a gang may lose by being placed before the others."""
_ROUNDS = (0.02, 0.1, 10.0)
"""How much worse than its best offer a task's place may be, round after round."""
_FIRST = 0.03
"""... and in the first filling, in which every node is filled in several ways."""
_NODE_S, _FIRST_PART = 3e-4, 0.4
"""Seconds for filling a node in several ways, and the part of the time left that all may take."""
_OFFERED = 1500
_AT_LAST = 256
"""Units that are placed at the end even when time is over."""


class Search:
    """The state of one search; `run` leaves the best that was found in the room."""

    def __init__(self, room: Room, units: Units, effort: Effort) -> None:
        self.room, self.units, self.effort = room, units, effort
        self.tasks = room.problem.tasks
        self.rng = np.random.default_rng(effort.seed)
        # What is in force stays where it is unless it is stopped; only the others are shuffled.
        self.is_free: Bools = units.is_plain & ~self.tasks.is_in_force
        self.improver = Improver(units, self.is_free, effort, self.rng)

    def run(self) -> None:
        """Place, then improve until time is over, then place what still fits anywhere."""
        self.keep_in_force()
        self.place_hard()
        if len(self.room.worth) * _NODE_S < _FIRST_PART * self.effort.left_s():
            self.improver.fill_anew(_FIRST)
        for tolerance in _ROUNDS:
            self.fill_round(tolerance)
        self.restore_stopped()
        self.improver.run()
        self.place_rest()

    # ------------------------------------------------------------------------ one after the other

    def keep_in_force(self) -> None:
        """Leave what is in force where it is, but for what costs much more than it is worth."""
        tasks, room = self.tasks, self.room
        for members in self._units_of(np.flatnonzero(tasks.is_in_force)):
            gain = sum(room.surplus[i] for i in members)
            total = sum(int(room.weight[i]) for i in members)
            may_stop = bool(tasks.is_preemptible[members].all())
            if not may_stop or gain >= -_STOP * total:
                for i in members:
                    self.units.place_at(i, int(tasks.current[i]), int(tasks.current_devices[i]))

    def restore_stopped(self) -> None:
        """Put what was stopped back where there is still room for it."""
        tasks, room = self.tasks, self.room
        stopped = np.flatnonzero(tasks.is_in_force & (room.assignment < 0))
        for members in self._units_of(stopped):
            if not self._put_back(members) and bool(tasks.is_movable[members].all()):
                self.units.try_place(members)

    def _put_back(self, members: list[int]) -> bool:
        done: list[int] = []
        for i in members:
            j, bits = int(self.tasks.current[i]), int(self.tasks.current_devices[i])
            if not self._may_return(i, j, bits):
                for placed in reversed(done):
                    self.units.remove(placed)
                return False
            self.units.place_at(i, j, bits)
            done.append(i)
        return True

    def _may_return(self, i: int, j: int, bits: int) -> bool:
        room, tasks = self.room, self.tasks
        fits = bool((room.free[j] >= tasks.demand[i]).all()) and room.has_quota(i)
        row = room.devices[j].tolist()
        fits &= all(free >= tasks.milli[i] for d, free in enumerate(row) if bits >> d & 1)
        return fits and self.units.keeps_apart(i, j)

    def place_hard(self) -> None:
        """Place gangs, groups and tasks of several devices, the best at these prices first."""
        tasks, room = self.tasks, self.room
        open_ = (room.assignment < 0) & ~tasks.is_in_force & (room.weight > 0)
        hard = open_ & (~self.units.is_plain | (tasks.gpus > 1))
        ranked = []
        for members in self._units_of(np.flatnonzero(hard)):
            total = max(sum(int(room.weight[i]) for i in members), 1)
            gain = sum(room.surplus[i] for i in members) / total
            if gain >= -_HARD:
                ranked.append((-round(gain / _HARD), -total, members))
        ranked.sort(key=lambda entry: entry[:2])
        for _, total, members in ranked:
            if self.effort.is_over():
                return
            self.units.try_place(members, _HARD * total)

    def _units_of(self, tasks: Ints) -> list[list[int]]:
        """Return the units that some tasks belong to, each once."""
        gangs = self.tasks.gang[tasks]
        alone = [[i] for i in tasks[gangs < 0].tolist()]
        return alone + [self.units.members_of[g] for g in np.unique(gangs[gangs >= 0]).tolist()]

    # ------------------------------------------------------------------------------- many at once

    def fill_round(self, tolerance: float) -> None:
        """Fill nodes vector after vector, first those for which fewest tasks are good enough."""
        room = self.room
        left = self.room.unplaced(self.is_free)
        least, worth = room.worth.argmin(axis=1), room.worth.min(axis=1)
        if not len(left):
            return
        short = tolerance * room.weight[left]
        is_good = (room.net[left] + short)[:, None] >= room.pay[left]
        supply = (is_good * room.weight[left][:, None]).sum(axis=0)
        demand = np.bincount(least, worth, len(supply))
        for v in np.argsort(supply / np.maximum(demand, 1e-9), kind="stable").tolist():
            nodes = np.flatnonzero(least == v)
            mine = left[is_good[:, v] & (room.assignment[left] < 0)]
            if not len(nodes) or not len(mine):
                continue
            self.rng.shuffle(mine)
            size = max(_OFFERED, min(len(mine) // 3, 2 * _OFFERED))
            ordered = nodes[np.argsort(-worth[nodes], kind="stable")]
            fill(self.units, Pool(room, mine), ordered, self.effort, size=size, tolerance=tolerance)

    def place_rest(self) -> None:
        """Place all that still fits somewhere, of no weight too, the largest weight first."""
        tasks, room = self.tasks, self.room
        self.restore_stopped()
        open_ = np.flatnonzero((room.assignment < 0) & ~tasks.is_in_force)
        fitting = self.may_fit(open_)
        units = [m for m in self._units_of(fitting) if (room.assignment[m] == NO).all()]
        units.sort(key=lambda m: -sum(int(room.weight[i]) for i in m))
        for count, members in enumerate(units):
            if count >= _AT_LAST and self.effort.is_over():
                return
            self.units.try_place(members)

    def may_fit(self, some: Ints) -> Ints:
        """Return those of some tasks that are within the largest free amounts of their zone."""
        room, tasks = self.room, self.tasks
        kept = [some[:0]]
        for zone in np.unique(tasks.zone[some]).tolist():
            those = some[tasks.zone[some] == zone]
            nodes = np.flatnonzero(room.problem.zones[zone])
            slots, at = np.unique(room.slot[nodes], return_inverse=True)
            most = np.full((len(slots) + 1, 3), -1, np.int64)
            np.maximum.at(most, at.reshape(-1), room.free[nodes])
            most[:-1] = np.maximum.accumulate(most[:-1][::-1], axis=0)[::-1]
            reach = most[np.searchsorted(slots, room.task_slot[those])]
            kept.append(those[(reach >= tasks.demand[those]).all(axis=1)])
        found = np.concatenate(kept)
        with_quota: Ints = found[room.have_quota(found)]
        return with_quota
