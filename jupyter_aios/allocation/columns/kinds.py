"""Tasks that are alike as classes and claims, nodes that are alike as types.

A trace of 8,152 tasks has 151 distinct demands, its 1,213 nodes are 15 types. What is alike is
interchangeable, and a solver that does not see it drowns in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import Bools, Ints
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.columns.room import Room
    from jupyter_aios.allocation.problem import Problem


@dataclass(frozen=True, eq=False)
class Classes:
    """C kinds of tasks that wait for a place, by what they need: any place of a class fits all."""

    demand: Ints
    """C × 3: CPU, memory, disk."""
    gpus: Ints
    milli: Ints
    zone: Ints
    """C: row of the room's zones."""
    count: Ints
    """C: how many tasks there are."""
    most: Ints
    """C: how many of them one node may have, as far as tasks that must be apart allow."""
    weight: Ints
    """C: the largest weight of a task."""
    has_must: Bools
    """C: some of them must be placed."""
    of_task: Ints
    """n: the class of each task; -1 for one that takes no part."""

    def __len__(self) -> int:
        return len(self.count)

    @cached_property
    def is_share(self) -> Bools:
        """C: takes a part of a single device."""
        is_share: Bools = (self.gpus == 1) & (self.milli < MILLI)
        return is_share


@dataclass(frozen=True, eq=False)
class Claims:
    """K kinds of units that want places of classes, by what they count: weight and quotas.

    A unit is a task, or a gang as a whole. Of gangs whose tasks are all of one class, weight and
    quota, each task counts as a unit: places for as many tasks as they have serve them too.
    """

    places: tuple[tuple[tuple[int, int], ...], ...]
    """K: (class, how many places of it one unit takes)."""
    weight: Ints
    """K: of one unit."""
    consumption: tuple[tuple[tuple[int, int, int], ...], ...]
    """K: (quota, column, how much one unit counts against it)."""
    is_must: Bools
    """K: has to be placed."""
    size: Ints
    """K: how many tasks one unit has."""
    of_task: Ints
    """n: the claim of each task; -1 for one that takes no part."""

    def __len__(self) -> int:
        return len(self.weight)

    def count(self, waiting: Bools) -> Ints:
        """Return how many units wait (K), of the tasks (n) that do."""
        of = self.of_task[waiting & (self.of_task >= 0)]
        count: Ints = np.bincount(of, minlength=len(self)).astype(np.int64) // self.size
        return count


@dataclass(frozen=True, eq=False)
class Types:
    """T kinds of nodes."""

    free: Ints
    """T × 3."""
    devices: Ints
    """T × D: what is free of each device, the most first; -1 where there is none."""
    market: Ints
    """T: row of `allowed`; types of one market may hold the same classes."""
    allowed: Bools
    """markets × C."""
    count: Ints
    """T."""
    of_node: Ints
    """m."""

    def __len__(self) -> int:
        return len(self.count)


def classify(problem: Problem, weights: Ints, zone: Ints, takes_part: Bools) -> Classes:
    """Return the classes of the tasks that take part.

    `zone` (n) are rows of the room's zones, which may be narrower than the problem's.
    """
    tasks = problem.tasks
    who = np.flatnonzero(takes_part)
    keys = np.column_stack([tasks.demand, tasks.gpus, tasks.milli, zone])[who]
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    number, keys = number.ravel(), keys[first]
    count = np.bincount(number, minlength=len(keys)).astype(np.int64)
    weight = np.zeros(len(keys), np.int64)
    np.maximum.at(weight, number, weights[who])
    musts = np.bincount(number[tasks.must_be_placed[who]], minlength=len(keys))
    of_task = np.full(len(tasks), -1, np.int64)
    of_task[who] = number
    return Classes(
        demand=keys[:, :3], gpus=keys[:, 3], milli=keys[:, 4], zone=keys[:, 5], count=count,
        most=_most(tasks.apart[who], number, count), weight=weight, has_must=musts > 0,
        of_task=of_task,
    )  # fmt: skip


def _most(apart: Ints, number: Ints, count: Ints) -> Ints:
    """Return how many tasks of each class one node may have: one of those that are apart."""
    most: Ints = count.copy()
    bound = apart >= 0
    for one in np.unique(number[bound]).tolist():
        inside = number == one
        tags = len(np.unique(apart[inside & bound]))
        most[one] = tags + int((inside & ~bound).sum())
    return most


def claim(problem: Problem, weights: Ints, classes: Classes) -> Claims:
    """Return what the tasks of the classes claim. Gangs take part with all their tasks or none."""
    tasks = problem.tasks
    who = np.flatnonzero(classes.of_task >= 0)
    must = tasks.must_be_placed[who]
    quotas = np.sort(tasks.quotas[who], axis=1)
    keys = np.column_stack([classes.of_task[who], weights[who], quotas, must])
    _, first, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    number = number.ravel().astype(np.int64)
    unit_of = {one: (int(who[first[one]]),) for one in range(len(first))}
    mixed = _mixed(tasks.gang[who], number)
    kinds: dict[tuple[int, ...], int] = {}
    for gang in mixed:
        at = np.flatnonzero(tasks.gang[who] == gang)
        content = tuple(sorted(number[at].tolist()))
        if content not in kinds:
            kinds[content] = len(first) + len(kinds)
            unit_of[kinds[content]] = tuple(who[at].tolist())
        mixed[gang] = kinds[content]
    if mixed:
        gangs = tasks.gang[who]
        number = np.array(
            [
                mixed.get(gang, one)
                for gang, one in zip(gangs.tolist(), number.tolist(), strict=True)
            ]
        )
    of_task = np.full(len(tasks), -1, np.int64)
    of_task[who] = number
    units = [unit_of[one] for one in range(len(unit_of))]
    return Claims(
        places=tuple(_counted(classes.of_task[list(unit)]) for unit in units),
        weight=np.array([int(weights[list(unit)].sum()) for unit in units], np.int64),
        consumption=tuple(_consumption(problem, unit) for unit in units),
        is_must=np.array([bool(tasks.must_be_placed[list(unit)].any()) for unit in units], bool),
        size=np.array([len(unit) for unit in units], np.int64),
        of_task=of_task,
    )


def _mixed(gang: Ints, number: Ints) -> dict[int, int]:
    """Return the gangs whose tasks are not all alike, in order; the values are to be replaced."""
    if not (gang >= 0).any():
        return {}
    at = np.flatnonzero(gang >= 0)
    low = np.full(int(gang.max()) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), -1, np.int64)
    np.minimum.at(low, gang[at], number[at])
    np.maximum.at(high, gang[at], number[at])
    return dict.fromkeys(np.flatnonzero(low < high).tolist(), -1)


def _counted(of: Ints) -> tuple[tuple[int, int], ...]:
    which, counts = np.unique(of, return_counts=True)
    return tuple(zip(which.tolist(), counts.tolist(), strict=True))


def _consumption(problem: Problem, unit: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    if not problem.quotas:
        return ()
    tasks = problem.tasks
    total: dict[tuple[int, int], int] = {}
    for task in unit:
        for quota in {q for q in tasks.quotas[task].tolist() if q >= 0}:
            for column, amount in enumerate(tasks.consumption[task].tolist()):
                total[quota, column] = total.get((quota, column), 0) + amount
    return tuple((quota, column, amount) for (quota, column), amount in total.items() if amount)


def type_nodes(room: Room, classes: Classes) -> Types:
    """Return the types of the nodes as they are now."""
    zones = np.unique(classes.zone)
    shown = room.zones[zones] if len(classes) else np.zeros((0, len(room.free)), bool)
    devices = -np.sort(-room.devices, axis=1)
    columns, market = np.unique(shown.T, axis=0, return_inverse=True)
    market = market.ravel().astype(np.int64)
    keys = np.column_stack([market, room.free, devices])
    _, first, of_node, count = np.unique(
        keys, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    allowed = columns[:, np.searchsorted(zones, classes.zone)]
    return Types(
        free=room.free[first], devices=devices[first], market=market[first], allowed=allowed,
        count=count.astype(np.int64), of_node=of_node.ravel().astype(np.int64),
    )  # fmt: skip
