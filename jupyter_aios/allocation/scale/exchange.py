"""One task of every node is exchanged, on all nodes at once: a matching of tasks and holes.

A task that fits another node's hole better makes room for a better one in its own, which in turn
may be had from a third node. Chains of such moves are paths in a bipartite graph, and the best set
of them is a flow of least cost. (Very large neighbourhoods: Ahuja, Ergun, Orlin and Punnen, "A
survey of very large-scale neighborhood search techniques", 2002.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.problem import NO, Ints
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools
    from jupyter_aios.allocation.scale.room import Room
    from jupyter_aios.allocation.scale.units import Units

    Floats = NDArray[np.float64]

_BATCH = 256
"""Holes that are compared with tasks at a time."""
_OFFERED, _KEPT = 4000, 24
"""Tasks that are offered to a batch of holes, and of them those that a hole keeps."""
_NOISE = 0.3
"""How much of what a task pays is drawn at random when a hole's tasks are chosen."""
_NODE_S = 2e-4
"""Seconds per node that an exchange takes at most: once begun it is not cut short."""


@dataclass(frozen=True, eq=False)
class Holes:
    """What is free on some nodes once one task of each is taken away."""

    nodes: Ints
    taken: Ints
    """The task that is taken away, -1 where there is none."""
    free: Ints
    slot: Ints


def exchange(
    units: Units, unplaced: Ints, is_free: Bools, rng: np.random.Generator, effort: Effort
) -> int:
    """Exchange one task of each node for the best; return by how much the first level rose.

    `unplaced` are tasks that may be placed, `is_free` (n) says which may be taken away; none of
    them may be bound to another task.
    """
    room = units.room
    if effort.left_s() < _NODE_S * len(room.free):
        return 0
    holes = _make_holes(room, is_free, rng)
    tasks = np.concatenate([holes.taken[holes.taken >= 0], unplaced])
    if not len(tasks):
        return 0
    hole, at = _edges(room, holes, tasks, rng)
    return _apply(units, holes, _match(room, holes, tasks, hole, at))


def _make_holes(room: Room, is_free: Bools, rng: np.random.Generator) -> Holes:
    """Take one free task from each node, drawn at random."""
    tasks = room.problem.tasks
    placed = np.flatnonzero(is_free & (room.assignment >= 0))
    placed = rng.permutation(placed)
    nodes = np.arange(len(room.free))
    taken = np.full(len(nodes), NO, np.int64)
    taken[room.assignment[placed]] = placed
    has = np.flatnonzero(taken >= 0)
    those = taken[has]
    free, devices = room.free.copy(), room.devices.copy()
    free[has] += tasks.demand[those]
    for d in range(devices.shape[1]):
        devices[has, d] += np.where(room.bits[those] >> d & 1, tasks.milli[those], 0)
    whole = (devices >= MILLI).sum(axis=1)
    slot = np.where(whole > 0, MILLI - 1 + whole, np.maximum(devices.max(axis=1, initial=0), 0))
    return Holes(nodes, taken, free, slot)


def _edges(room: Room, holes: Holes, tasks: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return pairs of holes and tasks (places in `tasks`) that fit: few for every hole.

    Kept are the tasks that would pay most, as they use a hole best, and the one taken away.
    """
    columns = room.problem.tasks
    order = rng.permutation(len(holes.nodes))
    own = np.full(len(columns), -1)
    own[tasks] = np.arange(len(tasks))
    mine = np.flatnonzero(holes.taken >= 0)
    found = [(mine, own[holes.taken[mine]])]
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        some = np.arange(len(tasks))
        if len(tasks) > _OFFERED:
            some = rng.integers(len(tasks), size=_OFFERED)
        those = tasks[some]
        fits = _fits(room, holes, batch, those)
        key = room.net[those] * (1.0 - _NOISE * rng.random(len(those)))
        ranked = np.argsort(-key, kind="stable")
        fits = fits[:, ranked]
        is_kept = fits & (np.cumsum(fits, axis=1, dtype=np.int16) <= _KEPT)
        row, column = np.nonzero(is_kept)
        found.append((batch[row], some[ranked[column]]))
    pairs = np.concatenate([h * len(tasks) + t for h, t in found])
    pairs = np.unique(pairs)
    return pairs // len(tasks), pairs % len(tasks)


def _fits(room: Room, holes: Holes, batch: Ints, tasks: Ints) -> Bools:
    """Return which tasks fit which holes (holes × tasks)."""
    columns = room.problem.tasks
    fits: Bools = holes.slot[batch, None] >= room.task_slot[tasks]
    for c in range(3):
        demand = columns.demand[tasks, c]
        if demand.any():
            fits &= holes.free[batch, c, None] >= demand
    fits &= room.problem.zones[:, holes.nodes[batch]][columns.zone[tasks]].T
    return fits


def _match(room: Room, holes: Holes, tasks: Ints, hole: Ints, at: Ints) -> Ints:
    """Return the task of each hole in the matching of largest weight, -1 for none."""
    from ortools.graph.python import min_cost_flow

    count, many = len(tasks), len(holes.nodes)
    source, sink = 0, 1
    of_task, of_hole = 2 + np.arange(count), 2 + count + np.arange(many)
    used = np.unique(at)
    tails: list[Any] = [np.full(len(used), source), of_task[at], of_hole, [source]]
    heads: list[Any] = [of_task[used], of_hole[hole], np.full(many, sink), [sink]]
    pairs = len(used) + len(at)
    costs = np.zeros(pairs + many + 1, np.int64)
    costs[: len(used)] = -room.weight[tasks[used]]
    # Its types ask for one width of integers each and take any.
    flow: Any = min_cost_flow.SimpleMinCostFlow()
    flow.add_arcs_with_capacity_and_unit_cost(
        np.concatenate(tails),
        np.concatenate(heads),
        # What no hole takes goes past them.
        np.append(np.ones(pairs + many, np.int64), many),
        costs,
    )
    flow.set_nodes_supplies(np.array([source, sink]), np.array([many, -many]))
    if flow.solve() != flow.OPTIMAL:
        return holes.taken
    is_chosen = flow.flows(np.arange(len(used), pairs)) > 0
    matched = np.full(many, NO, np.int64)
    matched[hole[is_chosen]] = tasks[at[is_chosen]]
    return matched


def _apply(units: Units, holes: Holes, new: Ints) -> int:
    """Put the matched tasks into the holes; all back where that is worse in the end.

    It may be, as the matching knows nothing of quotas.
    """
    room = units.room
    changed = np.flatnonzero(new != holes.taken)
    before = room.value()
    old: list[tuple[int, int, int]] = []
    for h in changed[holes.taken[changed] >= 0].tolist():
        i = int(holes.taken[h])
        j, bits = units.remove(i)
        old.append((i, j, bits))
    placed: list[int] = []
    todo = changed[new[changed] >= 0]
    for h in todo[np.argsort(-room.weight[new[todo]], kind="stable")].tolist():
        i = int(new[h])
        if room.has_quota(i):
            units.place_at(i, int(holes.nodes[h]))
            placed.append(i)
    gained = room.value() - before
    if gained >= 0:
        return gained
    for i in placed:
        units.remove(i)
    for i, j, bits in old:
        units.place_at(i, j, bits)
    return 0
