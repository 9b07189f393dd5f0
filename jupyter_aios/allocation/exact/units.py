"""Tasks as units of a count: what is interchangeable is counted together, what is not stands alone.

A thousand equal tasks are one unit with a count of a thousand. Equal gangs are one unit too, whose
count moves in steps of the gang's size; where each gang is apart on its own, a node may have at
most one task of each gang, and counts that respect that can be dealt to the gangs (Gale-Ryser).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import NO

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Bools, Ints, Problem


@dataclass(frozen=True)
class Unit:
    """Interchangeable tasks, in the order in which they are taken."""

    members: tuple[int, ...]
    step: int = 1
    """How many are placed at a time: the size of its gangs."""
    is_apart: bool = False
    """Whether each gang's tasks are on nodes of their own."""

    @property
    def task(self) -> int:
        """One of them, to ask what they are like."""
        return self.members[0]


def units_of(problem: Problem, weight: Ints) -> list[Unit]:
    """Return all tasks as units, each task in exactly one."""
    tasks = problem.tasks
    kind = np.column_stack([
        tasks.demand, tasks.gpus, tasks.milli, tasks.zone, np.sort(tasks.quotas, axis=1), weight,
    ])  # fmt: skip
    _, kinds = np.unique(kind, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    alone = (tasks.current != NO) | (tasks.together != NO)
    gangs: dict[int, list[int]] = {}
    # A gang of one is a task like any other.
    is_gang = np.isin(tasks.gang, np.flatnonzero(problem.gang_sizes > 1))
    for i in np.flatnonzero(is_gang).tolist():
        gangs.setdefault(int(tasks.gang[i]), []).append(i)
    counted: dict[tuple[int, int, bool], list[int]] = {}
    units = []
    for i in np.flatnonzero(~is_gang).tolist():
        if alone[i] or tasks.apart[i] != NO:
            units.append(Unit((i,)))
        else:
            counted.setdefault((int(kinds[i]), 1, False), []).append(i)
    for members in gangs.values():
        how = _merged(problem, members, kinds, alone)
        if how is None:
            units += [Unit((i,)) for i in members]
        else:
            counted.setdefault((int(kinds[members[0]]), len(members), how), []).extend(members)
    units += [Unit(tuple(found), step, apart) for (_, step, apart), found in counted.items()]
    return units


def _merged(problem: Problem, members: list[int], kinds: Ints, alone: Bools) -> bool | None:
    """Return whether a gang of equal tasks is apart by itself; None where it is no such gang."""
    apart = problem.tasks.apart
    if alone[members].any() or len(set(kinds[members].tolist())) > 1:
        return None
    tags = set(apart[members].tolist())
    if tags == {NO}:
        return False
    is_own = len(tags) == 1 and int((apart == apart[members[0]]).sum()) == len(members)
    return True if is_own else None


def size_of(problem: Problem) -> int:
    """Return about how many variables the model will have."""
    tasks = problem.tasks
    if len(tasks) > 200_000:  # noqa: PLR2004 - counting alone would take seconds
        return len(tasks)
    units = units_of(problem, tasks.priority)
    devices = int(problem.nodes.device_count.sum())
    shares = sum(1 for unit in units if tasks.is_share[unit.task])
    return len(units) * len(problem.nodes) + shares * devices
