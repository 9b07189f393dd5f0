"""A few nodes, what is on them, and what waits, as a problem of their own.

What is outside stays as it is. A task whose gang, or whose tasks to be together with, reach beyond
the window is pinned in it (or left out, if it waits), so that nothing outside can become wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import (
    NO,
    TASK_COLUMNS,
    Ints,
    Problem,
)
from jupyter_aios.allocation.reduction import Reduction, quotas_left, reduce

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Bools, Tasks


@dataclass(frozen=True, eq=False)
class Window:
    """`problem` is to be solved; `start` is how its tasks are now."""

    whole: Placed
    nodes: Ints
    members: Ints
    reduction: Reduction
    start: Placed

    @property
    def problem(self) -> Problem:
        """What is open in the window."""
        return self.reduction.problem

    def expand(self, placed: Placed) -> Placed:
        """Return the whole placement with the window's tasks as `placed` has them."""
        inside = self.reduction.expand(placed)
        assignment, devices = self.whole.assignment.copy(), self.whole.devices.copy()
        on = inside.assignment
        assignment[self.members] = np.where(on >= 0, self.nodes[np.maximum(on, 0)], NO)
        devices[self.members] = inside.devices
        return Placed(assignment, devices)


def window_of(problem: Problem, placed: Placed, nodes: Ints, candidates: Ints) -> Window:
    """Return the window over these nodes (sorted) and these waiting tasks."""
    tasks = problem.tasks
    there = np.isin(placed.assignment, nodes)
    inside = there.copy()
    inside[candidates] = True
    reaches = _reaches_beyond(problem, placed, inside, nodes)
    while (inside & reaches & ~there).any():
        # Who waits and is left out is outside: its gang reaches beyond the window now.
        inside &= there | ~reaches
        reaches = _reaches_beyond(problem, placed, inside, nodes)
    members = np.flatnonzero(inside)
    row = np.full(len(problem.nodes) + 1, NO, np.int64)
    row[nodes] = np.arange(len(nodes))
    now = row[placed.assignment[members]]
    open_part = _tasks(tasks, members, row, now, placed, pinned=reaches[members])
    outside = (placed.assignment >= 0) & ~inside
    quotas = quotas_left(problem, np.flatnonzero(outside))
    part = replace(problem.on(nodes), tasks=open_part, quotas=quotas)
    reduction = reduce(part)
    start = reduction.restrict(Placed(now, placed.devices[members]))
    return Window(placed, nodes, members, reduction, start)


def _reaches_beyond(problem: Problem, placed: Placed, inside: Bools, nodes: Ints) -> Bools:
    """Return the tasks that must not change with the window alone (n).

    To be apart from a task that is outside binds nobody: that one is on none of the nodes.
    """
    tasks = problem.tasks
    outside = ~inside
    found = np.zeros(len(tasks), bool)
    for tags, others in (
        (tasks.gang, outside),
        (tasks.together, outside & (placed.assignment >= 0)),
    ):
        found |= (tags != NO) & np.isin(tags, tags[others & (tags != NO)])
    # In force elsewhere: who may not be stopped keeps the place it has, and who may not be moved
    # cannot come here.
    is_elsewhere = tasks.is_in_force & ~np.isin(tasks.current, nodes)
    return found | (is_elsewhere & (tasks.must_be_placed | ~tasks.is_movable))


def _tasks(
    tasks: Tasks, members: Ints, row: Ints, now: Ints, placed: Placed, *, pinned: Bools
) -> Tasks:
    columns = {key: getattr(tasks, key)[members] for key in TASK_COLUMNS}
    current = row[columns["current"]]
    fixed = pinned & (now >= 0)
    columns["current"] = np.where(fixed, now, current)
    columns["current_devices"] = np.where(
        fixed, placed.devices[members], np.where(current >= 0, columns["current_devices"], 0)
    )
    columns["is_movable"] = columns["is_movable"] & ~fixed
    columns["is_preemptible"] = columns["is_preemptible"] & ~fixed
    names = [tasks.names[i] for i in members.tolist()]
    return replace(tasks, names=names, **columns)
