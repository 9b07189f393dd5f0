"""A first assignment in milliseconds: insertion by regret, then shifts and swaps.

Regret: the task that would lose most by missing its best node goes first (Martello and Toth 1981).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jupyter_aios.allocation.assignment.problem import Floats, Instance, Ints
    from jupyter_aios.allocation.effort import Effort


def insert(instance: Instance, losses: Floats, limit: Effort) -> Ints:
    """Return an assignment by regret on `losses` (tasks × nodes); -1 where nothing was free."""
    assignment = np.full(instance.tasks, -1, np.int64)
    left = instance.capacities.copy()
    blocked = np.where(instance.fits, losses, np.inf)
    least = np.where(instance.fits, instance.demands, 0).max(axis=1)
    spread = 1.0 + float(np.abs(losses).max(initial=0.0))
    two = _least_two(blocked)
    for _ in range(instance.tasks):
        first, second = two[:, 0], two[:, 1]
        possible = np.isfinite(first) & (assignment < 0)
        if not possible.any() or limit.is_over():
            break
        # One node left: now or never, the largest first.
        worst = np.where(np.isfinite(second), second, first + spread)
        regret = np.where(possible, worst - np.where(possible, first, 0.0), -np.inf)
        best = np.flatnonzero(regret >= regret.max() - 1e-12)
        task = int(best[np.argmax(least[best])])
        node = int(np.argmin(blocked[task]))
        assignment[task] = node
        left[node] -= instance.demands[task, node]
        full = np.flatnonzero(
            (instance.demands[:, node] > left[node]) & np.isfinite(blocked[:, node])
        )
        blocked[full, node] = np.inf
        two[full] = _least_two(blocked[full])
    return assignment


def _least_two(losses: Floats) -> Floats:
    """Return the two smallest of each row; the second is infinite where there is one node."""
    if losses.shape[1] == 1:
        return np.column_stack([losses, np.full(len(losses), np.inf)])
    return np.partition(losses, 1, axis=1)[:, :2]


def descend(instance: Instance, assignment: Ints, limit: Effort) -> Ints:
    """Return the assignment after shifts and swaps that save cost, until none does.

    The best move of each task's turn; a turn looks at every node and every other task at once.
    """
    assignment = assignment.copy()
    loads = instance.loads(assignment)
    improved = True
    while improved and not limit.is_over():
        improved = False
        for task in range(instance.tasks):
            move = _best_move(instance, assignment, loads, task)
            if move is None:
                continue
            improved = True
            other, node = move
            for one, to in ((task, node), (other, int(assignment[task]))):
                if one < 0:
                    continue
                if assignment[one] >= 0:
                    loads[assignment[one]] -= instance.demands[one, assignment[one]]
                assignment[one] = to
                loads[to] += instance.demands[one, to]
        # A turn over all tasks is short; time is asked for once per turn.
    return assignment


def _best_move(
    instance: Instance, assignment: Ints, loads: Ints, task: int
) -> tuple[int, int] | None:
    """Return (task to swap with or -1, new node) of the move that saves most, None for none."""
    here = int(assignment[task])
    left = instance.capacities - loads
    now = instance.penalty if here < 0 else int(instance.costs[task, here])
    shift = np.where(instance.demands[task] <= left, instance.costs[task] - now, 0)
    if here >= 0:
        shift[here] = 0
    node = int(np.argmin(shift))
    best, move = int(shift[node]), (-1, node)
    if here >= 0:
        others = np.flatnonzero((assignment >= 0) & (assignment != here))
        there = assignment[others]
        saved = (
            instance.costs[task, there]
            - now
            + instance.costs[others, here]
            - instance.costs[others, there]
        )
        room_there = left[there] + instance.demands[others, there] >= instance.demands[task, there]
        room_here = left[here] + instance.demands[task, here] >= instance.demands[others, here]
        saved = np.where(room_there & room_here, saved, 0)
        if len(saved) and saved.min() < best:
            at = int(np.argmin(saved))
            best, move = int(saved[at]), (int(others[at]), int(there[at]))
    return move if best < 0 else None
