"""Whether a task or a whole gang fits beside what is placed, and how many of a gang do.

Equal tasks fit greedily or not at all; for a gang of different ones a search goes back, and says
when it gave up, so that "does not fit" is only said where it is proven.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.explain.room import (
    APART,
    CPU,
    DISK,
    GPUS,
    QUOTA,
    TOGETHER,
    ZONE,
    Room,
)
from jupyter_aios.allocation.problem import NO, Bools, Ints, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_TRIES = 1_500
"""Nodes of the search for a gang of different tasks before it gives up."""


@dataclass(frozen=True)
class Seats:
    """Where the tasks of a unit fit."""

    places: tuple[tuple[int, int, int], ...]
    """(task, node, devices as bits) of the most tasks that were found a place for."""
    is_whole: bool
    is_proven: bool
    """Not whole, and it is proven that it cannot be."""


def unit_of(problem: Problem, task: int) -> tuple[int, ...]:
    """Return the tasks that are placed all or none with this one, and it: its gang."""
    gang = int(problem.tasks.gang[task])
    members = np.flatnonzero(problem.tasks.gang == gang).tolist() if gang != NO else [task]
    return tuple(members)


def seat(room: Room, unit: tuple[int, ...], allowed: Bools | None = None) -> Seats:
    """Return where a unit that is not placed fits beside what is; the room stays as it is.

    `allowed` (m) names nodes it may be on, besides what else says so.
    """
    if _is_over_quota(room, unit):
        return Seats((), is_whole=False, is_proven=True)
    everywhere = np.ones(len(room.problem.nodes), bool) if allowed is None else allowed
    best: list[tuple[int, int, int]] = []
    for nodes in _domains(room, unit, everywhere):
        places = _greedy(room, unit, nodes)
        if len(places) == len(unit):
            return Seats(tuple(places), is_whole=True, is_proven=False)
        best = max(best, places, key=len)
    if are_equal(room.problem, unit):
        return Seats(tuple(best), is_whole=False, is_proven=True)
    search = _Search(room.copy(), unit, everywhere, best)
    found = search.run()
    is_whole = len(found) == len(unit)
    return Seats(tuple(found), is_whole, is_proven=not is_whole and search.tries < _MOST_TRIES)


def lift(room: Room, unit: tuple[int, ...], lacking: frozenset[int]) -> Room:
    """Return the same room, in which some of the constraints do not count for a unit's tasks."""
    tasks, members = room.problem.tasks, list(unit)
    problem = room.problem
    changed: dict[str, Ints] = {}

    def clear(column: str, value: int) -> None:
        changed[column] = getattr(tasks, column).copy()
        changed[column][members] = value

    if ZONE in lacking:
        everywhere = np.ones((1, len(problem.nodes)), bool)
        problem = replace(
            problem,
            zones=np.vstack([problem.zones, everywhere]),
            zone_names=(*problem.zone_names, ""),
        )
        clear("zone", len(problem.zones) - 1)
        clear("current", NO)
    if GPUS in lacking:
        clear("gpus", 0)
        clear("milli", 0)
        clear("current_devices", 0)
    demand = tasks.demand.copy()
    for column in range(CPU, DISK + 1):
        if column in lacking:
            demand[members, column - CPU] = 0
    changed["demand"] = demand
    for number, column_name in ((APART, "apart"), (TOGETHER, "together")):
        if number in lacking:
            clear(column_name, NO)
    # Quotas are asked before, with what the tasks really count: `seat` has nothing left to ask.
    clear("quotas", NO)
    return replace(room, problem=replace(problem, tasks=replace(tasks, **changed)))  # type: ignore[arg-type]


def fits_without(room: Room, unit: tuple[int, ...], lacking: frozenset[int]) -> Seats:
    """Return where a unit fits when some constraints do not count for it."""
    if QUOTA not in lacking and _is_over_quota(room, unit):
        return Seats((), is_whole=False, is_proven=True)
    return seat(lift(room, unit, lacking), unit)


def are_equal(problem: Problem, unit: tuple[int, ...]) -> bool:
    """Return whether all tasks of a unit ask for the same."""
    if len(unit) == 1:
        return True
    tasks, members = problem.tasks, list(unit)
    columns = (tasks.gpus, tasks.milli, tasks.zone, tasks.apart, tasks.together, tasks.current)
    rows = np.column_stack([tasks.demand[members], *(column[members] for column in columns)])
    return bool((rows == rows[0]).all()) and bool((tasks.current[members] == NO).all())


def consumption_of(room: Room, unit: tuple[int, ...]) -> dict[int, Ints]:
    """Return what a unit counts against each of its quotas (5 amounts)."""
    tasks = room.problem.tasks
    amounts: dict[int, Ints] = {}
    for i in unit:
        for quota in set(tasks.quotas[i].tolist()) - {NO}:
            amounts[quota] = amounts.get(quota, np.zeros(5, np.int64)) + tasks.consumption[i]
    return amounts


def _is_over_quota(room: Room, unit: tuple[int, ...]) -> bool:
    amounts = consumption_of(room, unit)
    return any((room.quota_left[quota] < amount).any() for quota, amount in amounts.items())


def _domains(room: Room, unit: tuple[int, ...], everywhere: Bools) -> Iterator[Bools]:
    """Yield the nodes of each domain that a gang of one tag could be in, the roomiest first."""
    problem, tasks = room.problem, room.problem.tasks
    tags = set(tasks.together[list(unit)].tolist())
    if len(unit) == 1 or len(tags) > 1 or tags == {NO}:
        yield everywhere
        return
    tag = tags.pop()
    domains = problem.domains[problem.together_domain[tag]]
    open_nodes = everywhere & room.fits(unit[0])
    numbers, sizes = np.unique(domains[open_nodes & (domains >= 0)], return_counts=True)
    for at in np.argsort(-sizes, kind="stable"):
        yield everywhere & (domains == numbers[at])


def _order(problem: Problem, unit: tuple[int, ...]) -> list[int]:
    tasks = problem.tasks
    return sorted(unit, key=lambda i: (-tasks.gpu_milli[i], tuple(-tasks.demand[i]), i))


def _greedy(room: Room, unit: tuple[int, ...], allowed: Bools) -> list[tuple[int, int, int]]:
    room = room.copy() if len(unit) > 1 else room
    places = []
    for i in _order(room.problem, unit):
        nodes = np.flatnonzero(allowed & room.fits(i))
        if not len(nodes):
            continue
        # The node that is left with the fewest devices of this kind: large holes stay large.
        node = int(nodes[np.argmin(room.enough_devices(i)[nodes])])
        place = (i, node, room.choose(i, node))
        places.append(place)
        if len(unit) > 1:
            room.put(*place)
    return places


@dataclass
class _Search:
    """Depth first over (node, device) of one task after the other; keeps the most it placed."""

    room: Room
    unit: tuple[int, ...]
    allowed: Bools
    best: list[tuple[int, int, int]]
    tries: int = 0

    def run(self) -> list[tuple[int, int, int]]:
        self._descend(_order(self.room.problem, self.unit), [])
        return self.best

    def _descend(self, rest: list[int], places: list[tuple[int, int, int]]) -> bool:
        if len(places) > len(self.best):
            self.best = list(places)
        if not rest or len(places) + len(rest) <= len(self.best):
            return not rest
        i, *later = rest
        for node in np.flatnonzero(self.allowed & self.room.fits(i)).tolist():
            for bits in self._choices(i, node):
                self.tries += 1
                if self.tries >= _MOST_TRIES:
                    return False
                self.room.put(i, node, bits)
                is_done = self._descend(later, [*places, (i, node, bits)])
                self.room.take(i)
                if is_done:
                    return True
        return self._descend(later, places) and False

    def _choices(self, task: int, node: int) -> list[int]:
        """Return one choice of devices for each that differs: free whole ones are all alike."""
        tasks = self.room.problem.tasks
        if not tasks.is_share[task] or (tasks.current[task] != NO and not tasks.is_movable[task]):
            return [self.room.choose(task, node)]
        left = self.room.left[node]
        values, first = np.unique(left, return_index=True)
        return [1 << int(at) for at in first[values >= tasks.milli[task]]]
