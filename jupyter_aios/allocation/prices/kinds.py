"""Tasks and nodes that are alike, taken together: thousands of tasks are a few hundred classes.

Only equals are taken together. Averaging near ones was tried and proves little: with many types
some are too cheap by chance, and every task goes where it is too cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.allocation.certificate.evaluation import Reach, task_slots
from jupyter_aios.allocation.problem import NO, Bools, Ints
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem

Floats = NDArray[np.float64]

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Kinds:
    """C classes of tasks and T types of nodes."""

    class_of: Ints
    """n: the class of each task."""
    type_of: Ints
    """m: the type of each node."""
    count: Floats
    """C: tasks of each class."""
    demand: Floats
    """C × 3: CPU, memory, disk of one task."""
    weight: Floats
    """C."""
    consumption: Floats
    """C × 5: what one task counts against quotas."""
    slot: Ints
    """C: see `task_slots`."""
    quotas: Ints
    """C × 2."""
    must: Bools
    """C."""
    group: Ints
    """C: gangs whose members are placed to the same part; -1 for none."""
    free: Floats
    """T × 3: free CPU, memory, disk of all nodes of a type."""
    partial: tuple[tuple[tuple[int, float], ...], ...]
    """T: (milli free, number of devices) of devices that are not wholly free."""
    whole: tuple[tuple[tuple[int, float], ...], ...]
    """T: (wholly free devices, number of nodes)."""
    eligible: Bools
    """C × T: whether some task of a class may be on some node of a type."""


def kinds_of(problem: Problem, weight: Ints, most_pairs: int) -> Kinds | None:
    """Return classes and types of equals, None where there are more pairs than `most_pairs`."""
    tasks, nodes = problem.tasks, problem.nodes
    devices = np.sort(nodes.devices, axis=1)
    type_of = _numbered(hashed(nodes.free, devices, zone_keys(problem)))
    class_of, group_of = _task_classes(problem, weight, type_of)
    classes, types = int(class_of.max(initial=-1)) + 1, int(type_of.max(initial=-1)) + 1
    if classes * types > most_pairs:
        return None
    first = np.zeros(classes, np.int64)
    first[class_of[::-1]] = np.arange(len(tasks))[::-1]
    return Kinds(
        class_of,
        type_of,
        np.bincount(class_of, minlength=classes).astype(np.float64),
        tasks.demand[first].astype(np.float64),
        weight[first].astype(np.float64),
        tasks.consumption[first].astype(np.float64),
        task_slots(problem)[first],
        tasks.quotas[first],
        tasks.must_be_placed[first],
        group_of[first],
        np.column_stack(
            [np.bincount(type_of, np.maximum(nodes.free[:, c], 0), types) for c in range(3)]
        ),
        _partial(problem, type_of, types),
        _whole(problem, type_of, types),
        _eligible(problem, class_of, type_of, classes, types),
    )


def amount_sizes(problem: Problem, weight: Ints) -> Floats:
    """Return what a unit of CPU, memory, disk, GPU and weight is worth, at a guess (5)."""
    nodes, tasks = problem.nodes, problem.tasks
    milli = np.where(nodes.devices > 0, nodes.devices, 0).sum()
    have = np.append(np.maximum(nodes.free, 0).sum(axis=0), milli).astype(np.float64)
    asked = np.append(tasks.demand.sum(axis=0), tasks.gpu_milli.sum()).astype(np.float64)
    scarce = np.minimum(asked / np.maximum(have, 1), 1.0)
    return np.append(scarce / np.maximum(have, 1), 1.0 / max(float(weight.sum()), 1.0))


def _numbered(keys: NDArray[np.uint64]) -> Ints:
    numbers: Ints = np.unique(keys, return_inverse=True)[1].reshape(-1)
    return numbers


def hashed(*columns: Ints) -> NDArray[np.uint64]:
    """Return a number for each row that differs where rows differ (all but surely)."""
    rows = np.column_stack(columns).astype(np.uint64)
    found = np.full(len(rows), _MIX, np.uint64)
    for c in range(rows.shape[1]):
        found = (found ^ rows[:, c]) * _MIX
        found ^= found >> np.uint64(29)
    return found


def zone_keys(problem: Problem) -> Ints:
    """Return a number for each node (m): in which of the zones that tasks use it is."""
    used = np.unique(problem.tasks.zone)
    packed = np.packbits(problem.zones[used], axis=0).T.astype(np.int64)
    return _numbered(hashed(packed))


def _task_classes(problem: Problem, weight: Ints, type_of: Ints) -> tuple[Ints, Ints]:
    """Return the class of each task, and the group of gangs that it belongs to."""
    tasks = problem.tasks
    away = ~problem.zones[tasks.zone, tasks.current]
    home = np.where(tasks.is_in_force & (away | ~tasks.is_movable), type_of[tasks.current], NO)
    own = hashed(
        tasks.zone, tasks.quotas, tasks.must_be_placed.astype(np.int64), home,
        tasks.demand, task_slots(problem), weight,
    )  # fmt: skip
    group_of = np.full(len(tasks), NO, np.int64)
    members = np.flatnonzero(tasks.gang >= 0)
    if len(members):
        gangs = tasks.gang[members]
        sums = np.zeros(int(gangs.max()) + 1, np.uint64)
        np.add.at(sums, gangs, own[members] ^ (own[members] >> np.uint64(31)))
        group_of[members] = _numbered(sums)[gangs]
    return _numbered(hashed(own.astype(np.int64), group_of)), group_of


def split(points: Floats, weight: Floats, coarse: Ints, most: int) -> Ints:
    """Return clusters (n) of points (n × d) that refine `coarse`, about `most` of them.

    The cluster with the largest spread is halved along its widest dimension, over and over.
    """
    import heapq

    order = np.argsort(coarse, kind="stable")
    starts = np.flatnonzero(np.diff(coarse[order], prepend=-1))
    heap: list[tuple[float, int, Ints]] = []
    found = np.zeros(len(points), np.int64)
    number = 0

    def put(those: Ints) -> None:
        nonlocal number
        inside = points[those]
        middle = np.average(inside, axis=0, weights=weight[those] + 1e-30)
        spread = (np.abs(inside - middle) * weight[those][:, None]).sum()
        heapq.heappush(heap, (-float(spread), number, those))
        number += 1

    for those in np.split(order, starts[1:]):
        put(those)
    while len(heap) < most and heap[0][0] < 0.0:
        _, _, those = heapq.heappop(heap)
        inside = points[those]
        middle = np.average(inside, axis=0, weights=weight[those] + 1e-30)
        wide = int((np.abs(inside - middle) * weight[those][:, None]).sum(axis=0).argmax())
        is_low = inside[:, wide] <= middle[wide]
        if is_low.all() or not is_low.any():
            heapq.heappush(heap, (0.0, number, those))
            number += 1
            continue
        put(those[is_low])
        put(those[~is_low])
    for cluster, (_, _, those) in enumerate(heap):
        found[those] = cluster
    return found


def _partial(
    problem: Problem, type_of: Ints, types: int
) -> tuple[tuple[tuple[int, float], ...], ...]:
    devices = problem.nodes.devices
    node, at = np.nonzero((devices > 0) & (devices < MILLI))
    milli = devices[node, at]
    levels: list[list[tuple[int, float]]] = [[] for _ in range(types)]
    keys, count = np.unique(type_of[node] * MILLI + milli, return_counts=True)
    for key, times in zip(keys.tolist(), count.tolist(), strict=True):
        levels[key // MILLI].append((key % MILLI, float(times)))
    return tuple(map(tuple, levels))


def _whole(
    problem: Problem, type_of: Ints, types: int
) -> tuple[tuple[tuple[int, float], ...], ...]:
    free = (problem.nodes.devices >= MILLI).sum(axis=1)
    levels: list[list[tuple[int, float]]] = [[] for _ in range(types)]
    keys, count = np.unique(type_of[free > 0] * 64 + free[free > 0], return_counts=True)
    for key, times in zip(keys.tolist(), count.tolist(), strict=True):
        levels[key // 64].append((key % 64, float(times)))
    return tuple(map(tuple, levels))


def _eligible(problem: Problem, class_of: Ints, type_of: Ints, classes: int, types: int) -> Bools:
    tasks = problem.tasks
    eligible = np.zeros((classes, types), bool)
    reach = Reach(problem, type_of, types)
    goes = ~tasks.is_in_force | tasks.is_movable
    for zone in np.unique(tasks.zone).tolist():
        those = np.flatnonzero((tasks.zone == zone) & goes)
        table = reach.of_zone(zone)
        for kind in range(types):
            if table[kind].max() >= 0:
                eligible[class_of[those[reach.fits(table[kind], those)]], kind] = True
    held = np.flatnonzero(tasks.is_in_force)
    eligible[class_of[held], type_of[tasks.current[held]]] = True
    return eligible
