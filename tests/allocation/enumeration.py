"""Every way to place some tasks of a small problem, by trying all nodes and devices.

Shares nothing with the allocator but the problem and the checker, which has the last word on each.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.problem import NO, bits_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jupyter_aios.allocation.problem import Ints, Problem


class Placing:
    """A placement that is extended task by task; sums are kept so that hopeless ones end early."""

    def __init__(self, problem: Problem, assignment: Ints, devices: Ints) -> None:
        self.problem = problem
        self.assignment, self.devices = assignment.copy(), devices.copy()
        tasks, nodes = problem.tasks, problem.nodes
        self.free = nodes.free.copy()
        self.left = nodes.devices.copy()
        for task in np.flatnonzero(assignment != NO):
            self.free[assignment[task]] -= tasks.demand[task]
            for device in range(self.left.shape[1]):
                if devices[task] >> device & 1:
                    self.left[assignment[task], device] -= tasks.milli[task]

    def options(self, task: int) -> Iterator[tuple[int, int]]:
        """Yield the nodes and devices with room; of equally free devices only one choice."""
        tasks, left = self.problem.tasks, self.left
        gpus, milli = int(tasks.gpus[task]), int(tasks.milli[task])
        for node in range(len(self.problem.nodes)):
            if (self.free[node] < tasks.demand[task]).any():
                continue
            if tasks.current[task] == node:
                bits = int(tasks.current_devices[task])
                if all(left[node, d] >= milli for d in range(left.shape[1]) if bits >> d & 1):
                    yield node, bits
            seen = set()
            has = [d for d in range(left.shape[1]) if left[node, d] >= max(milli, 1)]
            for chosen in combinations(has, gpus):
                levels = tuple(sorted(int(left[node, d]) for d in chosen))
                if levels not in seen:
                    seen.add(levels)
                    yield node, bits_of(chosen)

    def put(self, task: int, node: int, bits: int, sign: int = 1) -> None:
        tasks = self.problem.tasks
        self.free[node] -= sign * tasks.demand[task]
        for device in range(self.left.shape[1]):
            if bits >> device & 1:
                self.left[node, device] -= sign * tasks.milli[task]
        self.assignment[task] = node if sign > 0 else NO
        self.devices[task] = bits if sign > 0 else 0

    def is_right(self, *, without: Iterable[str] = ()) -> bool:
        """Ask the checker, except for what only a part of a placement is wrong about."""
        found = faults(self.problem, self.assignment, self.devices, most=100)
        return not [one for one in found if not any(word in one for word in without)]


UNFINISHED = ("of its", "has no place")
"""Words of faults that later tasks may mend: torn gangs, and tasks that must be placed."""


def can_place(problem: Problem, assignment: Ints, devices: Ints, unit: Sequence[int]) -> bool:
    """Return whether all tasks of `unit` fit beside what is placed, which stays as it is."""
    placing = Placing(problem, assignment, devices)

    def descend(rest: tuple[int, ...]) -> bool:
        if not placing.is_right(without=UNFINISHED if rest else ()):
            return False
        if not rest:
            return True
        for node, bits in list(placing.options(rest[0])):
            placing.put(rest[0], node, bits)
            fits = descend(rest[1:])
            placing.put(rest[0], node, bits, -1)
            if fits:
                return True
        return False

    return descend(tuple(unit))


def most_placed(  # noqa: C901 - three small functions that share the placement
    problem: Problem,
    units: Sequence[Sequence[int]],
    worth: Ints | None = None,
    must_place: Sequence[Sequence[int]] = (),
) -> int:
    """Return the most of these units that any schedule can place; others only where they must.

    With `worth` (n) the most that the placed ones are worth; -1 where there is no schedule.
    Units of `must_place` are placed in each.
    """
    tasks = problem.tasks
    n = len(tasks)
    ours = {task for unit in units for task in unit}
    must = [unit for unit in all_units(problem) if tasks.must_be_placed[list(unit)].any()]
    # What cannot move is where it is, before anybody else chooses.
    must.sort(key=lambda unit: bool(tasks.is_movable[list(unit)].any()))
    others = [unit for unit in must if not set(unit) & ours]
    placing = Placing(problem, np.full(n, NO, np.int64), np.zeros(n, np.int64))
    best = -1
    needed = {tuple(unit) for unit in must_place}

    def value(is_ours: bool, unit: tuple[int, ...]) -> int:  # noqa: FBT001 - a column of a list
        return 0 if not is_ours else 1 if worth is None else int(worth[list(unit)].sum())

    def descend(rest: list[tuple[bool, tuple[int, ...]]], count: int) -> None:
        nonlocal best
        if count + sum(value(*one) for one in rest) <= best:
            return
        if not rest:
            if placing.is_right():
                best = count
            return
        (is_ours, unit), *later = rest
        place(unit, later, count + value(is_ours, unit))
        if is_ours and unit not in needed and not tasks.must_be_placed[list(unit)].any():
            descend(later, count)

    def place(unit: tuple[int, ...], later: list[tuple[bool, tuple[int, ...]]], count: int) -> None:
        if not unit:
            descend(later, count)
            return
        for node, bits in list(placing.options(unit[0])):
            placing.put(unit[0], node, bits)
            if placing.is_right(without=UNFINISHED):
                place(unit[1:], later, count)
            placing.put(unit[0], node, bits, -1)

    descend([(False, tuple(unit)) for unit in others] + [(True, tuple(unit)) for unit in units], 0)
    return best


def all_units(problem: Problem) -> list[tuple[int, ...]]:
    """Return the tasks, those of one gang together."""
    gang = problem.tasks.gang
    units: dict[int, list[int]] = {}
    for task in range(len(gang)):
        units.setdefault(-2 - task if gang[task] == NO else int(gang[task]), []).append(task)
    return [tuple(unit) for unit in units.values()]


def most_members(problem: Problem, assignment: Ints, devices: Ints, unit: Sequence[int]) -> int:
    """Return how many tasks of a gang fit at most, were they no gang."""
    gang = problem.tasks.gang.copy()
    gang[list(unit)] = NO
    alone = replace(problem, tasks=replace(problem.tasks, gang=gang))
    return max(
        (
            size
            for size in range(len(unit) + 1)
            for chosen in combinations(unit, size)
            if can_place(alone, assignment, devices, chosen)
        ),
        default=0,
    )
