"""Column generation over whole-node contents: few kinds of tasks, many nodes.

kinds         tasks that are alike as classes, nodes that are alike as types
pricing       the best contents of a node at given prices: dynamic programming
master        the linear programme over contents (HiGHS)
diving        columns, then whole numbers
materialise   contents become tasks on nodes and devices
room          what the nodes still have, with every rule
bundles       tasks that are to be together
units         what is placed all or none
search        all of them in turn
improve       some nodes again, where most was lost
ruins         a few nodes or groups again, in another order, with every rule
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation import objectives
from jupyter_aios.allocation.columns.room import Room
from jupyter_aios.allocation.columns.ruins import Ruins
from jupyter_aios.allocation.columns.search import place_all
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.placed import Placed

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

_MANY = 2_000


def columns(
    problem: Problem, names: tuple[str, ...], effort: Effort, start: Placed | None = None
) -> Placed | None:
    """Return an allocation; None where there was no time, or what must be placed found no place.

    Where something is in force it is tried with everything staying where it is, which costs no
    move, and with everything that may be moved placed anew; `start` (a greedy one, if none is
    given) is a third candidate, and the first contents come from it. The best by all levels is
    improved while time is left.
    """
    weights = objectives.weights(problem, names[0])
    if start is None:
        start = sorted_greedy(problem, names, "best-fit", effort.share(0.3))
    candidates = [] if start is None else [start]
    is_held = problem.tasks.is_in_force
    if is_held.any():
        stays = _searched(problem, weights, is_held, effort.share(0.4), start)
        candidates.append(stays)
        if (stays.assignment >= 0).all():
            return stays
    if not effort.is_over():
        # Where tasks are many, ruins reach few of them.
        part = 0.8 if len(problem.tasks) <= _MANY else 0.95
        candidates.append(
            _searched(problem, weights, _is_bound(problem), effort.share(part), start)
        )
    must = problem.tasks.must_be_placed
    candidates = [one for one in candidates if (one.assignment[must] >= 0).all()]
    if not candidates:
        return None
    best = _best(problem, names, weights, candidates)
    if effort.is_over():
        return best
    room = _filled(problem, best.assignment >= 0, best)
    Ruins(room, weights, effort.seed).improve(effort)
    return _best(problem, names, weights, [room.placed(), best])


def _best(
    problem: Problem, names: tuple[str, ...], weights: Ints, candidates: list[Placed]
) -> Placed:
    """Return the best by all levels; later ones are asked only where the first one ties."""
    worth = [int(weights[one.assignment >= 0].sum()) for one in candidates]
    best = [one for one, value in zip(candidates, worth, strict=True) if value == max(worth)]
    if len(best) == 1:
        return best[0]

    def rank(placed: Placed) -> tuple[int, ...]:
        values = objectives.evaluate(problem, placed.assignment, placed.devices, names)
        return ranking(names, values)

    return max(best, key=rank)


def count_kinds(problem: Problem) -> tuple[int, int]:
    """Return how many classes of tasks and types of nodes there are, as far as demands tell."""
    tasks, nodes = problem.tasks, problem.nodes
    columns = [tasks.demand, tasks.gpus, tasks.milli, tasks.zone, tasks.quotas]
    columns += [tasks.priority, tasks.value]
    of_node = [nodes.free, -np.sort(-nodes.devices, axis=1), problem.zones.T]
    classes = np.unique(np.column_stack(columns), axis=0)
    return len(classes), len(np.unique(np.column_stack(of_node), axis=0))


def _searched(
    problem: Problem, weights: Ints, fixed: Bools, effort: Effort, start: Placed | None
) -> Placed:
    """Return what a search finds around what is fixed where it is in force."""
    now = Placed(problem.tasks.current, problem.tasks.current_devices)
    room = _filled(problem, fixed, now)
    place_all(room, weights, ~fixed, effort, start)
    return room.placed()


def _filled(problem: Problem, which: Bools, placed: Placed) -> Room:
    """Return a room with some of the tasks where an allocation has them."""
    room = Room(problem)
    who = np.flatnonzero(which)
    room.put_many(who, placed.assignment[who], placed.devices[who])
    return room


def _is_bound(problem: Problem) -> Bools:
    """Return which tasks in force may not be moved, or are of a gang with such a task."""
    tasks = problem.tasks
    bound = tasks.is_in_force & ~tasks.is_movable
    gangs = np.unique(tasks.gang[bound & (tasks.gang >= 0)])
    return bound | (tasks.is_in_force & np.isin(tasks.gang, gangs))
