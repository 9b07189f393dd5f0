"""What at least is lost by making room: the proof that a task is outbid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.explain.room import (
    APART,
    DISK,
    GPUS,
    QUOTA,
    TOGETHER,
    ZONE,
    Room,
)
from jupyter_aios.allocation.problem import NO

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints

_VERY_MUCH = 2**62


def least_lost(room: Room, task: int, worth: Ints, enough: int) -> int:
    """Return what at least is lost, of `worth` (n), by stopping whatever makes room for a task.

    Where that is less than `enough` it is not told how much less.

    On each node that may hold it, what lacks is covered by those who give most of it for their
    worth, the last of them in part: the relaxed knapsack, so never more than what is really lost.
    Nodes where only tasks that must stay give enough are out; a node with room costs nothing.
    """
    problem, tasks = room.problem, room.problem.tasks
    lacks = room.lacks(task)
    lacks[:, GPUS : DISK + 1] = False
    # A task to be apart from, a mate elsewhere or a quota may be what stops: then nothing is known.
    if lacks[:, APART].any() or lacks[:, TOGETHER].any() or lacks[:, QUOTA].any():
        return 0
    least = _VERY_MUCH
    may_stop = (room.assignment != NO) & ~tasks.must_be_placed
    by_node = np.argsort(np.where(may_stop, room.assignment, NO), kind="stable")
    held_nodes = room.assignment[by_node]
    begin = int((~may_stop).sum())
    by_node, held_nodes = by_node[begin:], held_nodes[begin:]
    for node in np.flatnonzero(problem.may_hold(task) & ~lacks[:, ZONE]).tolist():
        first, last = np.searchsorted(held_nodes, [node, node + 1])
        least = min(least, _least_on(room, task, node, by_node[first:last], worth))
        if least < enough:
            break
    return least


def _least_on(room: Room, task: int, node: int, held: Ints, worth: Ints) -> int:
    tasks = room.problem.tasks
    short = tasks.demand[task] - room.free[node]
    needs = [(int(short[column]), tasks.demand[held, column]) for column in range(len(short))]
    if tasks.gpus[task]:
        wanted, milli = int(tasks.gpus[task]), int(tasks.milli[task])
        left = np.sort(room.left[node][room.problem.nodes.devices[node] >= 0])[::-1]
        # At least what the fullest of the devices that have most free lack must be given back.
        needs.append((int(np.maximum(milli - left[:wanted], 0).sum()), tasks.gpu_milli[held]))
    most = 0
    for need, gives in needs:
        if need > 0:
            most = max(most, _cover(need, gives, worth[held]))
    return most


def _cover(need: int, gives: Ints, worth: Ints) -> int:
    """Return the least worth, rounded up, that gives `need`, the last one in part."""
    useful = gives > 0
    gives, worth = gives[useful], worth[useful]
    order = np.argsort(worth / gives, kind="stable")
    given = np.cumsum(gives[order])
    if not len(given) or given[-1] < need:
        return _VERY_MUCH
    last = int(np.searchsorted(given, need))
    whole = int(worth[order[:last]].sum())
    rest = need - (int(given[last - 1]) if last else 0)
    return whole - (-rest * int(worth[order[last]]) // int(gives[order[last]]))
