"""The most tasks of one kind that any schedule could place: a count that no solver is asked for.

Equal tasks are one kind, and so are gangs of equal tasks. On one node the most copies of a task
beside what must stay is exact (every amount is divided, whole devices are counted, shares are
counted device by device); the sum over the nodes, and what quotas, domains and tasks apart leave of
it, is never less than what a schedule can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jupyter_aios.allocation.explain.room import Room, lacks_nothing
from jupyter_aios.allocation.problem import NO, Bools, Ints, Problem
from jupyter_aios.allocation.reduction import pinned

_PRIVATE = 2
"""Tags that only one gang uses are numbered downwards from minus this, gang by gang."""
_MANY = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Bound:
    """No schedule can place more than `most` of the `of` tasks (or gangs) of this kind."""

    most: int
    of: int


@dataclass(frozen=True, eq=False)
class Kinds:
    """Which tasks are alike."""

    problem: Problem
    task_kind: Ints
    """n: number of the task's kind when it is looked at alone."""
    unit_kind: Ints
    """n: number of the kind of its unit: itself, or its gang."""
    relative: Ints
    """n × 2: the tags apart and together; those that only one gang has, numbered from -2 down."""

    @cached_property
    def unit_counts(self) -> Ints:
        """How many units each kind of unit has."""
        tasks = self.problem.tasks
        kinds, first = self.unit_kind, np.ones(len(self.unit_kind), bool)
        members = np.flatnonzero(tasks.gang != NO)
        _, at = np.unique(tasks.gang[members], return_index=True)
        first[members] = False
        first[members[at]] = True
        counts: Ints = np.bincount(kinds[first], minlength=int(kinds.max(initial=NO)) + 1)
        return counts

    def alike(self, task: int) -> Ints:
        """Return all tasks of units like the task's."""
        return np.flatnonzero(self.unit_kind == self.unit_kind[task])


def kinds_of(problem: Problem) -> Kinds:
    """Return which tasks, and which gangs, are alike: they ask for the same and belong alike."""
    tasks = problem.tasks
    apart = _relative(tasks.apart, tasks.gang, np.zeros(len(tasks), np.int64), 1)
    rows = problem.together_domain
    has_tag = tasks.together != NO
    domain = np.zeros(len(tasks), np.int64)
    domain[has_tag] = rows[tasks.together[has_tag]]
    together = _relative(tasks.together, tasks.gang, domain, len(problem.domains))
    columns = [tasks.demand, tasks.gpus, tasks.milli, tasks.zone, np.sort(tasks.quotas, axis=1)]
    table = np.column_stack([*columns, apart, together, tasks.gang != NO])
    _, task_kind = np.unique(table, axis=0, return_inverse=True)
    task_kind = task_kind.reshape(-1).astype(np.int64)
    unit_kind = task_kind.copy()
    members = np.flatnonzero(tasks.gang != NO)
    members = members[np.lexsort((task_kind[members], tasks.gang[members]))]
    known: dict[bytes, int] = {}
    cuts = np.flatnonzero(np.diff(tasks.gang[members])) + 1
    base = int(task_kind.max(initial=NO)) + 1
    for gang in np.split(members, cuts) if len(members) else ():
        unit_kind[gang] = base + known.setdefault(task_kind[gang].tobytes(), len(known))
    return Kinds(problem, task_kind, unit_kind, np.column_stack([apart, together]))


def _relative(tags: Ints, gang: Ints, code: Ints, codes: int) -> Ints:
    """Return the tags, those of a single gang as -2 and less by rank in the gang and code."""
    used = np.flatnonzero(tags != NO)
    if not len(used):
        return tags
    size = int(tags.max()) + 1
    least, most = np.full(size, _MANY), np.full(size, NO)
    np.minimum.at(least, tags[used], gang[used])
    np.maximum.at(most, tags[used], gang[used])
    is_private = (least == most) & (least >= 0)
    mine = used[is_private[tags[used]]]
    pairs, inverse = np.unique(gang[mine] * size + tags[mine], return_inverse=True)
    owners = pairs // size
    rank = np.arange(len(pairs)) - np.searchsorted(owners, owners)
    relative: Ints = tags.copy()
    relative[mine] = -_PRIVATE - (rank[inverse.reshape(-1)] * codes + code[mine])
    return relative


@dataclass(frozen=True, eq=False)
class Limits:
    """What must stay, and bounds beside it."""

    kinds: Kinds

    @cached_property
    def _stays(self) -> Bools:
        return pinned(self.kinds.problem.tasks)

    def room_beside(self, others: Bools) -> Room:
        """Return the room beside those of the pinned tasks that `others` (n) names."""
        problem = self.kinds.problem
        stays = self._stays & others
        node = np.where(stays, problem.tasks.current, NO)
        return Room.of(problem, node, np.where(stays, problem.tasks.current_devices, 0))

    @cached_property
    def _beside_all(self) -> Room:
        return self.room_beside(np.ones(len(self.kinds.problem.tasks), bool))

    def bound(self, task: int) -> Bound:
        """Return the most units like the task's that any schedule could place."""
        kinds, problem = self.kinds, self.kinds.problem
        alike = kinds.alike(task)
        of = int(kinds.unit_counts[kinds.unit_kind[task]])
        others = np.ones(len(problem.tasks), bool)
        others[alike] = False
        room = self.room_beside(others) if self._stays[alike].any() else self._beside_all
        unit = alike[problem.tasks.gang[alike] == problem.tasks.gang[task]]
        members = unit if problem.tasks.gang[task] != NO else np.array([task])
        most = min(of, _most_by_quota(room, members), self._most_by_total(room, alike, members))
        for kind in np.unique(kinds.task_kind[members]):
            same = members[kinds.task_kind[members] == kind]
            of_kind = alike[kinds.task_kind[alike] == kind]
            most = min(most, _most_by_nodes(room, kinds, of_kind, same, most))
        return Bound(max(most, 0), of)

    def _most_by_total(self, room: Room, alike: Ints, members: Ints) -> int:
        """Divide what all allowed nodes have in sum, less what others there cannot do without."""
        problem, tasks = self.kinds.problem, self.kinds.problem.tasks
        allowed = _allowed(problem, alike)
        amounts = np.column_stack([tasks.demand, tasks.gpu_milli])
        has = np.append(room.free[allowed].sum(axis=0), np.maximum(room.left[allowed], 0).sum())
        must = tasks.must_be_placed & ~self._stays
        must[alike] = False
        if must.any():
            stays_there = lacks_nothing(problem.zones & ~allowed)
            must &= stays_there[tasks.zone] & allowed[tasks.current]
            has = has - amounts[must].sum(axis=0)
        need = amounts[members].sum(axis=0)
        return int((has[need > 0] // need[need > 0]).min(initial=_MANY))


def _allowed(problem: Problem, alike: Ints) -> Bools:
    """Return the nodes of the tasks' zones, and those where they are in force (m)."""
    tasks = problem.tasks
    allowed: Bools = problem.zones[np.unique(tasks.zone[alike])].max(axis=0)
    current = tasks.current[alike]
    allowed[current[current != NO]] = True
    return allowed


def copies_per_node(room: Room, task: int, most: int) -> Ints:
    """Return how many tasks like this one each node has room for (m), at most so many."""
    tasks = room.problem.tasks
    demand, gpus, milli = tasks.demand[task], int(tasks.gpus[task]), int(tasks.milli[task])
    counts = np.full(len(room.free), most, np.int64)
    for column in np.flatnonzero(demand):
        counts = np.minimum(counts, np.maximum(room.free[:, column], 0) // demand[column])
    if gpus and milli:
        counts = np.minimum(counts, (np.maximum(room.left, 0) // milli).sum(axis=1) // gpus)
    return counts


def _most_by_quota(room: Room, members: Ints) -> int:
    tasks = room.problem.tasks
    most = _MANY
    for quota in np.unique(tasks.quotas[members]):
        if quota != NO:
            counts = members[(tasks.quotas[members] == quota).any(axis=1)]
            need = tasks.consumption[counts].sum(axis=0)
            left = room.quota_left[quota]
            most = min(most, int((left[need > 0] // need[need > 0]).min(initial=_MANY)))
    return most


def _most_by_nodes(room: Room, kinds: Kinds, of_kind: Ints, same: Ints, most: int) -> int:
    """Return the most units when each has `same` of these tasks, by what fits on each node."""
    problem, tasks = room.problem, room.problem.tasks
    task, size = int(same[0]), len(same)
    counts = copies_per_node(room, task, most * size)
    current = tasks.current[of_kind]
    here = np.bincount(current[current != NO], minlength=len(problem.nodes))
    counts = np.where(problem.zones[tasks.zone[task]], counts, np.minimum(counts, here))
    apart, together = kinds.relative[task].tolist()
    if apart != NO:
        # Tasks of one gang are apart from each other only, so a node may have one of each gang.
        counts = np.minimum(counts, 1 if apart >= 0 else most)
    if apart >= 0:
        mates = (tasks.apart == tasks.apart[task]) & (room.assignment >= 0)
        counts[room.assignment[mates]] = 0
    if together == NO:
        return _most_units(counts, size, most, is_apart=apart <= -_PRIVATE)
    domains = problem.domains[problem.together_domain[tasks.together[task]]]
    counts[~room.beside_mates(task)] = 0
    totals = [
        _most_units(counts[domains == domain], size, most, is_apart=apart <= -_PRIVATE)
        for domain in np.unique(domains[counts > 0])
    ]
    # A tag that others have too draws all of them into one domain.
    return max(totals, default=0) if together >= 0 else sum(totals)


def _most_units(counts: Ints, size: int, most: int, *, is_apart: bool) -> int:
    """Return the most units of `size` equal tasks for which the nodes have room.

    With the tasks of each unit on different nodes, k units fit where Σ min(counts, k) ≥ k·size
    (Gale and Ryser, 1957); what is short then only grows with k.
    """
    if not is_apart:
        return int(counts.sum()) // size
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(counts, middle).sum()) >= middle * size:
            low = middle
        else:
            high = middle - 1
    return low
