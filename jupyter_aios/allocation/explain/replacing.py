"""The placement of a changed problem from the one before: what stays, what goes, what comes.

Everything stays where it is unless the change forbids it. Then what waits is placed greedily, and
what the change is about (who lost a place, is new, or is worth more now) may take the place of what
is worth less. Nobody else may: what would be better without the change too is not its effect.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.explain.clearing import Clearings
from jupyter_aios.allocation.explain.room import ZONE, Room
from jupyter_aios.allocation.explain.seats import seat, unit_of
from jupyter_aios.allocation.greedy import place_in_order, sorted_greedy
from jupyter_aios.allocation.objectives import sizes
from jupyter_aios.allocation.objectives import weights as weights_of
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Bools, Ints, Problem
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.explain.changes import Change

_POLICY = "best-fit"
_FEW_NODES = 64
"""Nodes with new room up to which only they are looked at."""


def place_again(
    problem: Problem, change: Change, before: Placed, first_level: str, effort: Effort
) -> Placed:
    """Return a placement of the changed problem that begins with the one before it.

    `before` is the whole placement, with what is on nodes that are gone.

    Raises:
        InputError: what is in force and may not be stopped has no place in the changed problem.

    """
    placing = _Placing(problem, weights_of(problem, first_level), effort)
    room = placing.keep(_grown(_without(before, change), len(problem.tasks)))
    placing.leave_drained(room, change)
    placing.meet_quotas(room)
    concerned = placing.concerned(change, before)
    room = placing.fill(room, change, before, concerned)
    if placing.exchange_all(room, concerned):
        room = placing.fill(room, change, before, concerned)
    wrong = faults(problem, room.assignment, room.devices, most=5)
    if not wrong:
        return Placed(room.assignment, room.devices)
    # What must be placed was elsewhere before, and where it is in force somebody is now.
    anew = sorted_greedy(problem, (first_level,), _POLICY, effort)
    if anew is None or faults(problem, anew.assignment, anew.devices, most=1):
        raise InputError.of_faults(wrong, hint="let a task be moved or stopped, or change less")
    return anew


def _without(before: Placed, change: Change) -> Placed:
    gone = np.isin(before.assignment, change.remove_nodes)
    gone[list(change.remove_tasks)] = True
    return Placed(np.where(gone, NO, before.assignment), np.where(gone, 0, before.devices))


def _opened(room: Room, change: Change, before: Placed) -> Ints:
    """Return the nodes that are new, or that a task has left."""
    old, count = before.assignment, len(room.free)
    has_left = (room.assignment[: len(old)] != old) & (old != NO)
    new = np.arange(count - len(change.add_nodes), count)
    opened: Ints = np.append(np.unique(old[has_left]), new)
    return opened


def _grown(before: Placed, count: int) -> Placed:
    more = count - len(before.assignment)
    return Placed(
        np.append(before.assignment, np.full(more, NO, np.int64)),
        np.append(before.devices, np.zeros(more, np.int64)),
    )


@dataclass(frozen=True, eq=False)
class _Placing:
    problem: Problem
    weights: Ints
    effort: Effort

    def keep(self, before: Placed) -> Room:
        """Return the room beside those that may stay; a gang stays as a whole or not at all."""
        problem, tasks = self.problem, self.problem.tasks
        node = before.assignment
        placed = np.flatnonzero(node != NO)
        allowed = problem.zones[tasks.zone[placed], node[placed]]
        goes = np.zeros(len(tasks), bool)
        goes[placed] = ~allowed & (tasks.current[placed] != node[placed])
        goes |= (tasks.gang != NO) & np.isin(tasks.gang, tasks.gang[goes & (tasks.gang != NO)])
        torn = (tasks.gang != NO) & (node == NO)
        goes |= (tasks.gang != NO) & np.isin(tasks.gang, tasks.gang[torn])
        assignment = np.where(goes, NO, node)
        return Room.of(problem, assignment, np.where(goes, 0, before.devices))

    def leave_drained(self, room: Room, change: Change) -> None:
        """Move what is in force on drained nodes and may be moved, where there is room."""
        tasks = self.problem.tasks
        for node in change.drain:
            for task in room.on(node).tolist():
                if not tasks.is_movable[task]:
                    continue
                was = room.take(task)
                lacks = room.lacks(task)
                lacks[list(change.drain), ZONE] = True
                open_nodes = np.flatnonzero(~lacks.any(axis=1))
                if len(open_nodes):
                    left = room.enough_devices(task)[open_nodes]
                    to = int(open_nodes[np.argmin(left)])
                    room.put(task, to, room.choose(task, to))
                else:
                    room.put(task, *was)

    def meet_quotas(self, room: Room) -> None:
        """Stop the tasks that are worth least until every quota is met."""
        tasks = self.problem.tasks
        for quota in range(len(self.problem.quotas)):
            counts = np.flatnonzero((tasks.quotas == quota).any(axis=1) & ~tasks.must_be_placed)
            for task in counts[np.argsort(self.weights[counts], kind="stable")].tolist():
                if (room.quota_left[quota] >= 0).all():
                    break
                over = room.quota_left[quota] < 0
                unit = unit_of(self.problem, task)
                if room.assignment[task] == NO or tasks.must_be_placed[list(unit)].any():
                    continue
                if tasks.consumption[task][over].any():
                    for member in unit:
                        room.take(member)

    def fill(self, room: Room, change: Change, before: Placed, concerned: Ints) -> Room:
        """Return the room with what the change lets in: the most worth for its size first.

        What had room before and waited all the same is not an effect of the change, so only those
        come who fit where it made room. Greedy ends when it is through, whatever time is left, but
        for a moment that suits a production cluster.
        """
        effort = replace(self.effort, ends_at=max(self.effort.ends_at, _soon(self.effort)))
        old = before.assignment
        stopped = np.flatnonzero((room.assignment[: len(old)] == NO) & (old != NO))
        # Who was placed may be anywhere again, except for what is removed, which fits nowhere.
        for task in dict.fromkeys([*concerned.tolist(), *stopped.tolist()]):
            if room.assignment[task] == NO and not effort.is_over():
                self._seat(room, task)
        nodes = _opened(room, change, before)
        order = self._order()
        order = order[(room.assignment[order] == NO) & self._has_quota(room)[order]]
        if change.quotas:
            raised = [quota for quota, _, _ in change.quotas]
            order = order[np.isin(self.problem.tasks.quotas[order], raised).any(axis=1)]
        elif len(nodes) <= _FEW_NODES:
            self._fill_nodes(room, nodes, order, effort)
            return room
        start = Placed(room.assignment, room.devices)
        placed = place_in_order(self.problem, order, _POLICY, effort, start)
        return Room.of(self.problem, placed.assignment, placed.devices)

    def _fill_nodes(self, room: Room, nodes: Ints, order: Ints, effort: Effort) -> None:
        """Place what waits on a few nodes (a gang perhaps beside them too)."""
        fits = np.zeros((len(order), len(nodes)), bool)
        is_open = np.ones(len(order), bool)
        stale = list(range(len(nodes)))
        allowed = np.zeros(len(room.free), bool)
        allowed[nodes] = True
        while not effort.is_over():
            for at in stale:
                fits[:, at] = self._fit_on(room, order, int(nodes[at]))
            waits = is_open & fits.max(axis=1, initial=False)
            if not waits.any():
                return
            first = int(np.argmax(waits))
            is_open[first] = False
            task = int(order[first])
            placed = self._seat(room, task, allowed)
            stale = [at for at, node in enumerate(nodes.tolist()) if node in placed]

    def _fit_on(self, room: Room, waits: Ints, node: int) -> Bools:
        tasks = self.problem.tasks
        left = np.append(room.left[node], NO)
        enough = (left[:, None] >= np.maximum(tasks.milli[waits], 1)).sum(axis=0)
        fits: Bools = (tasks.demand[waits] <= room.free[node]).min(axis=1)
        fits &= (enough >= tasks.gpus[waits]) & self.problem.zones[tasks.zone[waits], node]
        return fits

    def _seat(self, room: Room, task: int, allowed: Bools | None = None) -> set[int]:
        """Place a unit that waits, and return on which nodes; none where it does not fit."""
        unit = unit_of(self.problem, task)
        if room.assignment[task] != NO:
            return set()
        seats = seat(room, unit, allowed if len(unit) == 1 else None)
        for place in seats.places if seats.is_whole else ():
            room.put(*place)
        return {node for _, node, _ in seats.places} if seats.is_whole else set()

    def _has_quota(self, room: Room) -> Bools:
        """Return which tasks no quota keeps out on their own (n)."""
        tasks = self.problem.tasks
        has = np.ones(len(tasks), bool)
        for column in range(tasks.quotas.shape[1]):
            quota = tasks.quotas[:, column]
            counts = np.flatnonzero(quota != NO)
            left = room.quota_left[quota[counts]]
            has[counts] &= (left >= tasks.consumption[counts]).all(axis=1)
        return has

    def _order(self) -> Ints:
        """Return all tasks, the most worth for their size first; a gang is one."""
        gang = self.problem.tasks.gang
        gangs = int(gang.max(initial=NO)) + 1
        unit = np.where(gang == NO, gangs + np.arange(len(gang)), gang)
        worth, size = np.bincount(unit, self.weights), np.bincount(unit, sizes(self.problem))
        order: Ints = np.lexsort((unit, -size[unit], -(worth / np.maximum(size, 1))[unit]))
        return order

    def concerned(self, change: Change, before: Placed) -> Ints:
        """Return the tasks that the change is about, the most worth first."""
        is_concerned = np.ones(len(self.problem.tasks), bool)
        count = len(before.assignment)
        is_concerned[:count] = before.assignment != NO
        is_concerned[[task for task, _ in change.priorities]] = True
        is_concerned[list(change.remove_tasks)] = False
        tasks = np.flatnonzero(is_concerned)
        ordered: Ints = tasks[np.argsort(-self.weights[tasks], kind="stable")]
        return ordered

    def exchange_all(self, room: Room, concerned: Ints) -> int:
        """Return how many units that wait found a place by moving or stopping others."""
        count = 0
        for task in concerned.tolist():
            if self.effort.is_over():
                break
            if room.assignment[task] == NO and self.weights[task]:
                count += self.exchange(room, task)
        return count

    def exchange(self, room: Room, task: int) -> bool:
        """Place a unit that waits by moving others, or instead of what is worth less."""
        unit = unit_of(self.problem, task)
        if room.assignment[task] != NO or self.effort.is_over():
            return False
        worth = int(self.weights[list(unit)].sum())
        for is_move in (True, False):
            search = Clearings(room, unit, self.weights, is_move=is_move)
            found = search.fewest() if is_move else search.cheapest()
            if found is None:
                continue
            gone = list(found.tasks)
            lost = 0 if is_move else int(self.weights[gone].sum())
            must = self.problem.tasks.must_be_placed[gone].any() and not is_move
            if lost < worth and not must:
                for other in gone:
                    room.take(other)
                for place in found.places:
                    room.put(*place)
                return True
        return False


def _soon(effort: Effort) -> float:
    """Return a moment by which a greedy pass is over at a production cluster's size."""
    return time.monotonic() + (0.3 if not effort.stop() else 0.0)
