"""Units: a task, or a gang. Placed as a whole or not at all, apart and together as asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import NO

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Bools
    from jupyter_aios.allocation.scale.room import Room

_MOST_DOMAINS = 8
"""Domains that are tried for a unit whose tasks have to be together."""
_MOST_NODES = 1000
"""Of more nodes that a task fits on, so many are looked at."""


class Units:
    """Places and removes units in a room, with a roll back where a member finds no place."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.tasks = tasks = room.problem.tasks
        self.members_of: dict[int, list[int]] = {}
        for i in np.flatnonzero(tasks.gang >= 0).tolist():
            self.members_of.setdefault(int(tasks.gang[i]), []).append(i)
        self.apart: dict[int, list[int]] = {}
        """By number: the placed tasks."""
        self.together: dict[int, list[int]] = {}
        self._groups = ((self.apart, tasks.apart), (self.together, tasks.together))
        self.is_plain: Bools = (tasks.gang < 0) & (tasks.apart < 0) & (tasks.together < 0)
        """n: tasks that no other task's place is bound to."""

    def members(self, i: int) -> list[int]:
        """Return the tasks that are placed with task i or not at all."""
        gang = int(self.tasks.gang[i])
        return self.members_of[gang] if gang >= 0 else [i]

    def note(self, i: int) -> None:
        """Note that a task was placed."""
        for groups, column in self._groups:
            if column[i] >= 0:
                groups.setdefault(int(column[i]), []).append(i)

    def forget(self, i: int) -> None:
        """Note that a task was removed."""
        for groups, column in self._groups:
            if column[i] >= 0:
                groups[int(column[i])].remove(i)

    def place_at(self, i: int, j: int, bits: int | None = None) -> None:
        """Place one task."""
        self.room.place(i, j, bits)
        if not self.is_plain[i]:
            self.note(i)

    def remove(self, i: int) -> tuple[int, int]:
        """Remove one task."""
        if not self.is_plain[i]:
            self.forget(i)
        return self.room.remove(i)

    def try_place(self, members: list[int], least: float = -np.inf) -> bool:
        """Place all members where each costs least, or none.

        `least` is the least profit that all of them together have to bring.
        """
        tasks = self.tasks
        order = sorted(members, key=lambda i: (-int(tasks.gpus[i]), -int(tasks.demand[i, 0])))
        number = {int(tasks.together[i]) for i in members} - {NO}
        if len(number) == 1 and not self.together.get(next(iter(number))):
            return self._try_domains(order, next(iter(number)), least)
        return self._try(order, None, least)

    def _try_domains(self, order: list[int], number: int, least: float) -> bool:
        """Try the domains with most GPU left, then those with most CPU, one after the other."""
        room = self.room
        domain = room.problem.domains[room.problem.together_domain[number]]
        known = domain >= 0
        if not known.any():
            return False
        milli = np.where(room.devices > 0, room.devices, 0).sum(axis=1)
        asks_gpu = any(self.tasks.gpus[i] for i in order)
        amount = milli if asks_gpu else room.free[:, 0]
        totals = np.bincount(domain[known], amount[known])
        best = np.argsort(-totals, kind="stable")[: _MOST_DOMAINS * 4]
        tried = 0
        for d in best.tolist():
            inside = domain == d
            if any(self._blocked(i, inside) for i in order):
                continue
            if self._try(order, inside, least):
                return True
            tried += 1
            if tried >= _MOST_DOMAINS:
                break
        return False

    def _blocked(self, i: int, inside: Bools) -> bool:
        return not (self.room.fitting(i) & inside).any()

    def _try(self, order: list[int], inside: Bools | None, least: float) -> bool:
        done: list[int] = []
        profit = 0.0
        for i in order:
            j, more = self._best_node(i, inside)
            if j < 0:
                break
            profit += more
            self.place_at(i, j)
            done.append(i)
        if len(done) == len(order) and profit >= least:
            return True
        for i in reversed(done):
            self.remove(i)
        return False

    def _best_node(self, i: int, inside: Bools | None) -> tuple[int, float]:
        room = self.room
        if not room.has_quota(i):
            return NO, 0.0
        nodes = np.flatnonzero(self.allowed(i, inside))
        if not len(nodes):
            return NO, 0.0
        step = -(-len(nodes) // _MOST_NODES)
        nodes = nodes[i % step :: step]
        profits = room.profits_on(i, nodes)
        best = profits.max()
        # Of nodes that lose the same, the one with the least left: large tasks need large holes.
        equal = nodes[profits >= best - 1e-9 * (1.0 + abs(best))]
        worth = room.worth[equal].min(axis=1)
        return int(equal[worth.argmin()]), float(best)

    def allowed(self, i: int, inside: Bools | None = None) -> Bools:
        """Return on which nodes a task may be now (m)."""
        fits = self.room.fitting(i)
        if inside is not None:
            fits &= inside
        if self.tasks.apart[i] >= 0:
            mates = self.apart.get(int(self.tasks.apart[i]), [])
            fits[self.room.assignment[mates]] = False
        if self.tasks.together[i] >= 0:
            number = int(self.tasks.together[i])
            problem = self.room.problem
            domain = problem.domains[problem.together_domain[number]]
            fits &= domain >= 0
            mates = self.together.get(number, [])
            if mates:
                fits &= domain == domain[self.room.assignment[mates[0]]]
        return fits

    def keeps_apart(self, i: int, j: int) -> bool:
        """Return whether node j is where task i may be for the sake of its groups."""
        room, tasks = self.room, self.tasks
        if tasks.apart[i] >= 0:
            mates = self.apart.get(int(tasks.apart[i]), [])
            if (room.assignment[mates] == j).any():
                return False
        if tasks.together[i] >= 0:
            number = int(tasks.together[i])
            domain = room.problem.domains[room.problem.together_domain[number]]
            mates = self.together.get(number, [])
            if domain[j] < 0 or (mates and domain[room.assignment[mates[0]]] != domain[j]):
                return False
        return True
