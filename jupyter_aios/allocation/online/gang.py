"""One gang on some nodes, from nothing but the problem: what the queue asks for every job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy.state import deal
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.problem import Ints, Problem


def place_gang(problem: Problem, order: Sequence[int] | None = None) -> Placed | None:
    """Return a placement of all the problem's tasks, or None where none is found.

    Best fit: the nodes that the gang leaves the least free, GPUs first, because they are what
    others wait for; a task without GPUs keeps off the nodes that have some. Ties go to the first
    node by name; whole devices are dealt lowest first, a share where it fits most tightly.

    Tasks that are alike and apart are placed wherever a placement exists; others are placed one
    after the other (in `order`, if given), which may miss one. Deterministic; order m log m in the
    nodes where the tasks are alike.

    Example:
        >>> import numpy as np
        >>> from jupyter_aios.allocation.problem import nodes_of, problem_of, tasks_of
        >>> free = np.array([[500, 0, 0], [500, 0, 0]])
        >>> nodes = nodes_of(["a", "b"], free, np.zeros((2, 0), np.int64))
        >>> group = np.zeros(2, np.int64)
        >>> tasks = tasks_of(["t", "u"], free, gang=group, apart=group)
        >>> place_gang(problem_of(nodes, tasks)).assignment.tolist()
        [0, 1]

    """
    n = len(problem.tasks)
    if not n:
        return Placed(np.zeros(0, np.int64), np.zeros(0, np.int64))
    if _are_alike_and_apart(problem):
        return _one_each(problem)
    from jupyter_aios.allocation.greedy.ordering import place_in_order

    wanted = np.arange(n) if order is None else np.asarray(order, np.int64)
    # A gang is small; the effort only has to be long enough never to end first.
    placed = place_in_order(problem, wanted, "best-fit", Effort.of(3600.0))
    return placed if (placed.assignment >= 0).all() else None


def _are_alike_and_apart(problem: Problem) -> bool:
    tasks = problem.tasks
    alike = np.column_stack([tasks.demand, tasks.gpus, tasks.milli, tasks.zone, tasks.apart])
    is_plain = (tasks.quotas == NO).all() and (tasks.together == NO).all()
    is_new = (tasks.current == NO).all()
    is_apart = len(tasks) == 1 or tasks.apart[0] != NO
    return bool(is_plain and is_new and is_apart and (alike == alike[0]).all())


def _one_each(problem: Problem) -> Placed | None:
    """Every task has a node to itself, so the best nodes that can take one are enough."""
    nodes, tasks = problem.nodes, problem.tasks
    candidates = np.flatnonzero(problem.may_hold(0))
    if len(candidates) < len(tasks):
        return None
    chosen = candidates[_by_what_is_left(problem, candidates)][: len(tasks)]
    gpus, milli = int(tasks.gpus[0]), int(tasks.milli[0])
    bits = [deal(nodes.devices[node].tolist(), gpus, milli) for node in chosen]
    return Placed(chosen.astype(np.int64), np.array(bits, np.int64))


def _by_what_is_left(problem: Problem, candidates: Ints) -> Ints:
    nodes, tasks = problem.nodes, problem.tasks
    left = (nodes.free[candidates] - tasks.demand[0]) / np.maximum(nodes.capacity[candidates], 1)
    names = np.array([nodes.names[node] for node in candidates])
    # Absolute, not a share: a task without GPUs keeps off the nodes that have some.
    gpu = np.maximum(nodes.devices[candidates], 0).sum(axis=1)
    # The last key is the first one that is compared.
    return np.lexsort([names, left[:, 1], left[:, 0], gpu])
