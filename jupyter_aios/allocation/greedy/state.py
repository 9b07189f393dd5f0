"""What is free while tasks are placed one after the other; every step can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import CPU, DISK, MEMORY, NO
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.placed import Placed
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

_NUMBERS = ("gpus", "milli", "zone", "apart", "together", "current")
"""Columns of tasks that are kept as lists."""


def deal(free: Sequence[int], gpus: int, milli: int) -> int:
    """Return the devices for a task as bits: whole ones lowest first, a share where it is tightest.

    `free` holds the thousandths of each device. The devices have to be there: see `State.fits`.

    Example:
        >>> deal([1000, 400, 1000], 1, 300), deal([1000, 400, 1000], 2, 1000)
        (2, 5)

    """
    room = sorted((left, device) for device, left in enumerate(free) if left >= milli)
    return sum(1 << device for _, device in room[:gpus])


class State:
    """Free amounts of nodes and quotas, and who is where. `changed` logs the nodes that changed."""

    def __init__(self, problem: Problem) -> None:
        nodes = problem.nodes
        self.problem = problem
        # A column each: a comparison over all nodes reads one piece of memory.
        self.free = [nodes.free[:, column].copy() for column in (CPU, MEMORY, DISK)]
        self.devices = np.maximum(nodes.devices, 0)
        self.gpu_free: Ints = self.devices.sum(axis=1)
        self.whole: Ints = (self.devices == MILLI).sum(axis=1)
        self.largest: Ints = self.devices.max(axis=1, initial=0)
        # The same as rows: a few nodes are asked about with one look at each.
        self._room = np.column_stack([*self.free, self.whole, self.largest])
        self.quota_left = problem.quota_limits.copy()
        self.zones = problem.zones
        self._is_anywhere = [bool(zone.all()) for zone in problem.zones]
        self.assignment = np.full(len(problem.tasks), NO, np.int64)
        self.bits = np.zeros(len(problem.tasks), np.int64)
        self.changed: list[int] = []
        self._apart: dict[int, set[int]] = {}
        self._together: dict[int, list[int]] = {}
        self.has_quotas = bool(problem.quotas)
        self.demand: list[list[int]] = []
        self.gpus: list[int] = []
        self.milli: list[int] = []
        self.zone: list[int] = []
        self.apart: list[int] = []
        self.together: list[int] = []
        self.current: list[int] = []
        self.quotas: list[tuple[int, ...]] = []
        self.is_bound: list[bool] = []
        self._wants = np.zeros((0, 5), np.int64)
        self._read(problem)

    def _read(self, problem: Problem) -> None:
        """Keep what is asked per task as Python numbers, which single look-ups are faster with."""
        tasks, known = problem.tasks, len(self.demand)
        self.demand += tasks.demand[known:].tolist()
        for name in _NUMBERS:
            getattr(self, name).extend(getattr(tasks, name)[known:].tolist())
        self.quotas += [tuple({q for q in row if q != NO}) for row in tasks.quotas[known:].tolist()]
        is_bound = (tasks.apart[known:] != NO) | (tasks.together[known:] != NO)
        self.is_bound += is_bound.tolist()
        gpus, milli = tasks.gpus[known:], tasks.milli[known:]
        whole, part = np.where(milli == MILLI, gpus, 0), np.where(milli < MILLI, milli, 0)
        wants = np.column_stack([tasks.demand[known:], whole, part])
        self._wants = np.concatenate([self._wants, wants])

    def extend(self, problem: Problem) -> None:
        """Take a problem that has more tasks after the ones that are known."""
        more = len(problem.tasks) - len(self.assignment)
        self.assignment = np.append(self.assignment, np.full(more, NO, np.int64))
        self.bits = np.append(self.bits, np.zeros(more, np.int64))
        self.problem = problem
        self._read(problem)

    def open(self, node: int, zones: Bools) -> None:
        """Let a node take tasks of these zones (k) only."""
        if self.zones is self.problem.zones:
            self.zones = self.zones.copy()
        self.zones[:, node] = zones
        self._is_anywhere = [bool(zone.all()) for zone in self.zones]
        self.changed.append(node)

    # ------------------------------------------------------------------------ questions

    def fits(self, task: int) -> Bools:
        """Return which nodes have room for a task and are in its zone (m); see `allowed` too."""
        cpu, memory, disk = self.demand[task]
        ok: Bools = self.free[CPU] >= cpu
        ok &= self.free[MEMORY] >= memory
        if disk:
            ok &= self.free[DISK] >= disk
        gpus = self.gpus[task]
        if gpus:
            milli = self.milli[task]
            ok &= (self.whole >= gpus) if milli == MILLI else (self.largest >= milli)
        ok &= self.zones[self.zone[task]]
        return ok

    def fits_on(self, task: int, nodes: Ints) -> Bools:
        """Return the same for some nodes only, in their order."""
        ok: Bools = (self._room[nodes] >= self._wants[task]).all(axis=1)
        if not self._is_anywhere[self.zone[task]]:
            ok &= self.zones[self.zone[task], nodes]
        return ok

    def allowed(self, task: int) -> Bools | None:
        """Return the nodes that its groups leave to a task (m); None where they say nothing."""
        if not self.is_bound[task]:
            return None
        ok = np.ones(len(self.problem.nodes), bool)
        if self.apart[task] != NO:
            ok[list(self._apart.get(self.apart[task], ()))] = False
        group = self.together[task]
        if group != NO:
            domains = self.domains_of(group)
            held = self._together.get(group)
            ok &= (domains == held[0]) if held else (domains >= 0)
        return ok

    def domains_of(self, group: int) -> Ints:
        """Return the domain of each node (m) that a number of `Tasks.together` is about."""
        domains: Ints = self.problem.domains[self.problem.together_domain[group]]
        return domains

    def domain_of(self, group: int) -> int:
        """Return where the tasks of this number are; -1 where none is placed."""
        held = self._together.get(group)
        return held[0] if held else NO

    def has_quota(self, task: int) -> bool:
        """True where no quota keeps the task out."""
        if not self.has_quotas:
            return True
        amounts = self._amounts(task)
        return all((self.quota_left[quota] >= amounts).all() for quota in self.quotas[task])

    def may_be(self, task: int, node: int, bits: int) -> bool:
        """True where the task fits on just these devices, zones aside."""
        if any(self.free[column][node] < self.demand[task][column] for column in range(3)):
            return False
        devices, milli, device = self.devices[node].tolist(), self.milli[task], 0
        while bits >> device:
            if bits >> device & 1 and devices[device] < milli:
                return False
            device += 1
        allowed = self.allowed(task)
        return self.has_quota(task) and (allowed is None or bool(allowed[node]))

    # ------------------------------------------------------------------------ steps

    def take(self, task: int, node: int, bits: int) -> None:
        """Place a task; nobody checks here that it fits."""
        self._shift(task, node, bits, 1)
        self.assignment[task], self.bits[task] = node, bits
        if self.apart[task] != NO:
            self._apart.setdefault(self.apart[task], set()).add(node)
        group = self.together[task]
        if group != NO:
            held = self._together.setdefault(group, [int(self.domains_of(group)[node]), 0])
            held[1] += 1

    def give_back(self, task: int) -> None:
        """Take a task from where it is."""
        node = int(self.assignment[task])
        self._shift(task, node, int(self.bits[task]), -1)
        self.assignment[task], self.bits[task] = NO, 0
        if self.apart[task] != NO:
            self._apart[self.apart[task]].discard(node)
        group = self.together[task]
        if group != NO:
            held = self._together[group]
            held[1] -= 1
            if not held[1]:
                del self._together[group]

    def take_all(self, placed: Placed) -> None:
        """Place what is placed there."""
        for task in np.flatnonzero(placed.assignment >= 0).tolist():
            self.take(task, int(placed.assignment[task]), int(placed.devices[task]))

    def restore(self, before: Placed) -> None:
        """Put every task back to where it was then."""
        changed = (self.assignment != before.assignment) | (self.bits != before.devices)
        tasks = np.flatnonzero(changed).tolist()
        for task in tasks:
            if self.assignment[task] != NO:
                self.give_back(task)
        for task in tasks:
            if before.assignment[task] != NO:
                self.take(task, int(before.assignment[task]), int(before.devices[task]))

    def _amounts(self, task: int) -> Ints:
        gpu = self.gpus[task] * self.milli[task]
        return np.array([*self.demand[task], gpu, 1], np.int64)

    def _shift(self, task: int, node: int, bits: int, sign: int) -> None:
        for column, amount in enumerate(self.demand[task]):
            if amount:
                self.free[column][node] -= sign * amount
                self._room[node, column] -= sign * amount
        if bits:
            row, milli, device = self.devices[node], sign * self.milli[task], 0
            while bits >> device:
                if bits >> device & 1:
                    row[device] -= milli
                device += 1
            left = row.tolist()
            self.gpu_free[node] = sum(left)
            self.whole[node] = left.count(MILLI)
            self.largest[node] = max(left)
            self._room[node, 3:] = self.whole[node], self.largest[node]
        if self.has_quotas:
            amounts = self._amounts(task)
            for quota in self.quotas[task]:
                limited = self.problem.quota_limits[quota] != np.iinfo(np.int64).max
                self.quota_left[quota][limited] -= sign * amounts[limited]
        self.changed.append(node)
