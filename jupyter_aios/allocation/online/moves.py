"""Moves: tasks go elsewhere, so that another one has room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import CPU, DISK, MEMORY, NO, bits_of
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.greedy.choice import Choice
    from jupyter_aios.allocation.greedy.state import State
    from jupyter_aios.allocation.problem import Bools, Ints

_MOST_TRIES = 16
"""Nodes that are tried before it is said that none can be cleared."""
_NEVER = 1_000
"""More moves than anybody makes for one task."""


def make_room(choice: Choice, task: int, movable: Bools, most: int = 1) -> list[int]:
    """Place a task on a node from which others go elsewhere; return those.

    `movable` (n) says which tasks may go, `most` how many. Empty where none of the nodes that are
    tried, those with the fewest tasks in the way first, can be cleared; nothing has changed then.
    Order (n + m) · D for the list of nodes, m for each task that goes.
    """
    state = choice.state
    if not state.has_quota(task):
        return []
    movable = movable & (state.assignment != NO)
    movable[task] = False
    for node in _nodes(state, task, movable, most)[:_MOST_TRIES].tolist():
        moved = _clear(choice, task, node, movable, most)
        if moved:
            return moved
    return []


def _nodes(state: State, task: int, movable: Bools, most: int) -> Ints:
    """Return the nodes that would have room without their movable tasks, the nearest to it first.

    How near a node is: the tasks on the devices that are the least in use, and one more where CPU,
    memory or disk are short too.
    """
    tasks, m = state.problem.tasks, len(state.problem.nodes)
    others = np.flatnonzero(movable)
    node = state.assignment[others]
    ok, is_short = state.zones[state.zone[task]].copy(), np.zeros(m, bool)
    allowed = state.allowed(task)
    if allowed is not None:
        ok &= allowed
    for column, amount in zip((CPU, MEMORY, DISK), state.demand[task], strict=True):
        # Sums of float64 are exact below 2**53, which is 8 PiB.
        freed = np.bincount(node, tasks.demand[others, column], m).astype(np.int64)
        ok &= state.free[column] + freed >= amount
        is_short |= state.free[column] < amount
    away = _in_the_way(state, task, others)
    gpus = state.gpus[task]
    near = np.sort(away, axis=1)[:, :gpus].sum(axis=1) + is_short
    near[~ok | (gpus > away.shape[1])] = _NEVER
    order = np.lexsort([np.arange(m), state.gpu_free, near])
    nearest: Ints = order[near[order] <= most]
    return nearest


def _in_the_way(state: State, task: int, others: Ints) -> Ints:
    """Return how many of the others have to leave each device for the task (m × D)."""
    tasks, m = state.problem.tasks, len(state.problem.nodes)
    milli = max(state.milli[task], 1)
    node, bits = state.assignment[others], state.bits[others]
    away = np.zeros(state.devices.shape, np.int64)
    for device in range(state.devices.shape[1]):
        on = (bits >> device & 1).astype(bool)
        count = np.bincount(node[on], minlength=m)
        if milli < MILLI:
            count = np.minimum(count, 1)  # it may be enough that the largest one leaves
        freed = np.bincount(node[on], tasks.milli[others[on]], m).astype(np.int64)
        free = state.devices[:, device]
        away[:, device] = np.where(free + freed >= milli, count, _NEVER)
        away[free >= milli, device] = 0
    return away


def _clear(choice: Choice, task: int, node: int, movable: Bools, most: int) -> list[int]:
    """Place the task on this node and what is in the way elsewhere, or change nothing."""
    state = choice.state
    going = _leaving(state, task, node, movable, most)
    before = [(i, int(state.assignment[i]), int(state.bits[i])) for i in going]
    for other in going:
        state.give_back(other)
    done: list[int] = []
    if going and bool(state.fits_on(task, np.array([node]))[0]):
        state.take(task, node, choice.policy.deal(state, task, node))
        done.append(task)
        for other in going:
            elsewhere = choice.best(other)
            if elsewhere == NO:
                break
            state.take(other, elsewhere, choice.policy.deal(state, other, elsewhere))
            done.append(other)
    if len(done) == len(going) + 1:
        return going
    for placed in done:
        state.give_back(placed)
    for other, where, bits in before:
        state.take(other, where, bits)
    return []


def _leaving(state: State, task: int, node: int, movable: Bools, most: int) -> list[int]:
    """Return tasks of the node without which the task fits, few and small; empty where none do."""
    tasks = state.problem.tasks
    there = np.flatnonzero(movable & (state.assignment == node))
    there = there[np.lexsort([there, tasks.demand[there, CPU], tasks.gpu_milli[there]])]
    for other in there.tolist():
        if _fits_without(state, task, node, [other]):
            return [other]
    if most == 1:
        return []
    # All of those on the devices that are the least in use, then those with the most CPU.
    gpus, milli = state.gpus[task], state.milli[task]
    counts = [int((state.bits[there] >> d & 1).sum()) for d in range(state.devices.shape[1])]
    real = [d for d, has in enumerate(state.problem.nodes.devices[node].tolist()) if has >= milli]
    wanted = sorted(real, key=lambda device: (counts[device], device))[:gpus]
    in_way = (state.bits[there] & bits_of(wanted)) != 0
    order = there[np.lexsort([there, -tasks.demand[there, CPU], ~in_way])].tolist()
    least = max(int(in_way.sum()), 2)
    for count in range(least, min(most, len(order)) + 1):
        if _fits_without(state, task, node, order[:count]):
            chosen: list[int] = order[:count]
            return chosen
    return []


def _fits_without(state: State, task: int, node: int, others: list[int]) -> bool:
    held = [(other, int(state.bits[other])) for other in others]
    for other in others:
        state.give_back(other)
    fits = bool(state.fits_on(task, np.array([node]))[0])
    for other, bits in held:
        state.take(other, node, bits)
    return fits
