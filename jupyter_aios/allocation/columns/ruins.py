"""Ruin and recreate: a few nodes or a group emptied, and filled again in another order.

Columns know nothing of groups that are to be together and little of quotas that whole numbers just
miss; here every rule counts, as all places are given by the room. For problems of some hundred
tasks, and for what is left where columns end. (Schrimpf et al. 2000; Christiaens and Vanden Berghe
2020 for the blinks.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.units import units_of
from jupyter_aios.allocation.objectives import CPU_PER_GPU

if TYPE_CHECKING:
    from jupyter_aios.allocation.columns.room import Room
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints

_FAILURES = 1500
"""So many attempts in a row that gain nothing end the search."""
_SLACK = 0.04
"""By which share of the best an allocation may fall behind it on the way, at first.

Dueck's record-to-record travel (1993).
"""
_BLINK = 0.15
"""How often a task goes to any node that holds it rather than to the tightest."""


class Ruins:
    """The search around one allocation, of all its tasks."""

    def __init__(self, room: Room, weights: Ints, seed: int) -> None:
        tasks = room.problem.tasks
        self.room, self.weights = room, weights
        self.draw = np.random.default_rng(seed)
        self.units = units_of(room.problem, weights, np.ones(len(tasks), bool))
        self.first = np.array([unit[0] for unit in self.units], np.int64)
        self.unit_of = np.zeros(len(tasks), np.int64)
        self.unit_of[[task for unit in self.units for task in unit]] = np.repeat(
            np.arange(len(self.units)), [len(unit) for unit in self.units]
        )
        count = len(self.units)
        self.weight = np.bincount(self.unit_of, weights, count)
        self.must = np.bincount(self.unit_of, tasks.must_be_placed, count) > 0
        size = tasks.gpu_milli + tasks.demand[:, 0] / CPU_PER_GPU
        self.density = self.weight / np.maximum(np.bincount(self.unit_of, size, count), 1)
        self.groups = [
            np.unique(self.unit_of[(column == one).any(axis=1)])
            for column in (tasks.quotas, tasks.together[:, None])
            for one in np.unique(column[column >= 0]).tolist()
        ]

    def key(self) -> tuple[int, int, int]:
        """Return what is better the larger it is: what must be, the weight, what stays."""
        tasks, room = self.room.problem.tasks, self.room
        here = room.node >= 0
        stays = (room.node == tasks.current) & (room.bits == tasks.current_devices) & here
        return (
            int((here & tasks.must_be_placed).sum()),
            int(self.weights[here].sum()),
            int(stays.sum()),
        )

    def improve(self, effort: Effort) -> None:
        """Ruin and recreate until time is over or nothing gains any more."""
        best, failures = self.key(), 0
        now, kept = best, self.room.copy()
        in_force = int(self.room.problem.tasks.is_in_force.sum())
        while failures < _FAILURES and not effort.is_over():
            if (self.room.node >= 0).all() and now[2] == in_force:
                break
            before = self.room.copy()
            self._attempt(effort)
            key = self.key()
            failures = 0 if key > best else failures + 1
            slack = best[1] * _SLACK * (1 - failures / _FAILURES)
            if key > best:
                best, kept = key, self.room.copy()
            if key >= now or (key[0] >= best[0] and key[1] >= best[1] - slack):
                now = key
            else:
                self.room.become(before)
        if self.key() < best:
            self.room.become(kept)

    def _attempt(self, effort: Effort) -> None:
        room, draw = self.room, self.draw
        out = np.flatnonzero((room.node[self.first] < 0) & (self.weight > 0))
        wanted = int(draw.choice(out)) if len(out) and draw.random() < 0.7 else None  # noqa: PLR2004
        removed = self._ruined(wanted)
        for unit in removed:
            for task in self.units[unit]:
                room.take(task)
        waiting = np.flatnonzero(room.node[self.first] < 0)
        noise = np.exp(draw.normal(0.0, draw.choice((0.1, 0.5, 1.5)), len(waiting)))
        order = waiting[np.lexsort((-self.density[waiting] * noise, ~self.must[waiting]))].tolist()
        if wanted is not None:
            order.remove(wanted)
            order.insert(0, wanted)
        failed: set[tuple[int, ...]] = set()
        alike = room.likeness
        for number, unit in enumerate(order):
            key = tuple(alike[self.units[unit]].tolist())
            if key in failed:
                continue
            if number % 16 == 15 and effort.is_over():  # noqa: PLR2004 - now and then
                return
            if not self._put(self.units[unit]):
                failed.add(key)

    def _ruined(self, wanted: int | None) -> list[int]:
        """Return placed units to take out: those of a few nodes, or of a group."""
        room, draw = self.room, self.draw
        if self.groups and draw.random() < 0.4:  # noqa: PLR2004
            mine = [g for g in self.groups if wanted is None or wanted in g] or self.groups
            group = mine[int(draw.integers(len(mine)))]
            group = group[room.node[self.first[group]] >= 0]
            part = group[draw.random(len(group)) < draw.choice((0.3, 0.6, 1.0))]
            if len(part):
                return [int(unit) for unit in part]
        allowed: Bools = np.ones(len(room.free), bool)
        if wanted is not None:
            allowed = room.zones[room.zone[self.first[wanted]]]
        at = np.flatnonzero(allowed)
        if not len(at):
            return []
        nodes = draw.choice(at, min(len(at), int(draw.integers(1, 4))), replace=False)
        inside = np.zeros(len(room.free), bool)
        inside[nodes] = True
        placed = np.flatnonzero(room.node >= 0)
        return [int(unit) for unit in np.unique(self.unit_of[placed[inside[room.node[placed]]]])]

    def _put(self, unit: list[int]) -> bool:
        """Place a unit, now and then on any node rather than the tightest."""
        done: list[int] = []
        room = self.room
        for task in unit:
            node = -1
            if room.may_enter(task):
                if self.draw.random() < _BLINK:
                    nodes = np.flatnonzero(room.holders(task))
                    node = int(self.draw.choice(nodes)) if len(nodes) else -1
                else:
                    node = room.best_node(task)
            if node < 0:
                for other in done:
                    room.take(other)
                return False
            room.put(task, node, room.devices_for(task, node))
            done.append(task)
        return True
