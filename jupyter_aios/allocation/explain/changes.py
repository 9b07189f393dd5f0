"""Changes of a problem that mend something or ask "what if", and the problem that each makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import (
    NO,
    QUOTA_COLUMNS,
    TASK_COLUMNS,
    Bools,
    Names,
    Problem,
    Quota,
    Tasks,
)
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Demand:
    """What a task asks for instead."""

    gpus: int
    milli: int
    amounts: tuple[int, int, int]
    """CPU milli, memory and disk bytes."""


@dataclass(frozen=True)
class Change:
    """What is different; tasks, nodes and quotas by their numbers in the problem."""

    stop: tuple[int, ...] = ()
    """Tasks that give up their place; those in force may then be stopped."""
    moves: tuple[tuple[int, int, int], ...] = ()
    """(task, node, devices as bits): placed tasks that go elsewhere."""
    quotas: tuple[tuple[int, int, int], ...] = ()
    """(quota, column of `QUOTA_COLUMNS`, new limit)."""
    add_nodes: tuple[int, ...] = ()
    """For each new node the node that it is like, empty."""
    demands: tuple[tuple[int, Demand], ...] = ()
    """(task, what it asks for instead)."""
    allow: tuple[tuple[int, int], ...] = ()
    """(task, node): the task may be there too."""
    priorities: tuple[tuple[int, int], ...] = ()
    """(task, new priority)."""
    drain: tuple[int, ...] = ()
    """Nodes that take nothing new."""
    remove_nodes: tuple[int, ...] = ()
    """Nodes that are gone; what was in force there waits again."""
    remove_tasks: tuple[int, ...] = ()
    """Tasks that are gone: they may be nowhere."""
    add_tasks: tuple[int, ...] = ()
    """For each new task the task that it is like, waiting; of a gang all tasks are named."""


def apply(problem: Problem, change: Change) -> Problem:
    """Return the changed problem. Tasks and nodes keep their numbers, and new ones come last.

    Moves change no problem, and of tasks that stop only what may be done with them. What is removed
    keeps its number too: a node has nothing, a task may be nowhere.
    """
    if change.add_nodes:
        problem = with_nodes_like(problem, change.add_nodes)
    if change.add_tasks:
        problem = _with_tasks_like(problem, change.add_tasks)
    if change.remove_nodes:
        problem = _without_nodes(problem, list(change.remove_nodes))
    if change.remove_tasks:
        problem = _without_tasks(problem, list(change.remove_tasks))
    if change.drain:
        problem = _drained(problem, change.drain)
    if change.allow:
        problem = _allowing(problem, change.allow)
    quotas = _with_limits(problem.quotas, change.quotas)
    return replace(problem, tasks=_changed(problem.tasks, change), quotas=quotas)


def _changed(tasks: Tasks, change: Change) -> Tasks:
    """Return the tasks with other demands, priorities, and leave to be stopped."""
    gpus, milli, demand = tasks.gpus.copy(), tasks.milli.copy(), tasks.demand.copy()
    for task, asked in change.demands:
        gpus[task], milli[task], demand[task] = asked.gpus, asked.milli, asked.amounts
    priority, may_stop = tasks.priority.copy(), tasks.is_preemptible.copy()
    for task, value in change.priorities:
        priority[task] = value
    may_stop[list(change.stop)] = True
    return replace(
        tasks, gpus=gpus, milli=milli, demand=demand, priority=priority, is_preemptible=may_stop
    )


def with_nodes_like(problem: Problem, like: Sequence[int]) -> Problem:
    """Return the problem with one more node, empty, for each of those named (and as they are)."""
    nodes, rows = problem.nodes, np.array(like, np.int64)
    devices = np.where(nodes.devices[rows] >= 0, MILLI, NO)
    grown = replace(
        nodes,
        names=[*nodes.names, *_new_names(nodes.names, like)],
        free=np.vstack([nodes.free, nodes.capacity[rows]]),
        devices=np.vstack([nodes.devices, devices]),
        capacity=np.vstack([nodes.capacity, nodes.capacity[rows]]),
        models=np.append(nodes.models, nodes.models[rows]),
        labels=nodes.labels + tuple(nodes.labels[row] for row in like if nodes.labels),
        is_drained=np.append(nodes.is_drained, np.zeros(len(rows), bool)),
    )
    domains = np.hstack([problem.domains, problem.domains[:, rows]])
    if len(domains):
        # Row 0 is the node itself, and a new node is a new domain.
        domains[0, len(nodes) :] = domains[0].max(initial=NO) + 1 + np.arange(len(rows))
    zones = np.hstack([problem.zones, problem.zones[:, rows]])
    return replace(problem, nodes=grown, zones=zones, domains=domains)


def _new_names(known: Names, rows: Sequence[int]) -> list[str]:
    taken, names, numbers = set(known), [], dict.fromkeys(rows, 1)
    for row in rows:
        while f"{known[row]}+{numbers[row]}" in taken:
            numbers[row] += 1
        names.append(f"{known[row]}+{numbers[row]}")
        taken.add(names[-1])
    return names


def _with_tasks_like(problem: Problem, like: Sequence[int]) -> Problem:
    """Return the problem with one more waiting task for each; copies of a gang are new gangs."""
    tasks, rows = problem.tasks, np.array(like, np.int64)
    # The k-th copy of a task belongs to the k-th copy of its gang.
    copy = np.zeros(len(rows), np.int64)
    seen: dict[int, int] = {}
    for at, row in enumerate(like):
        copy[at] = seen[row] = seen.get(row, -1) + 1
    columns = {key: getattr(tasks, key)[rows] for key in TASK_COLUMNS}
    columns["current"] = np.full(len(rows), NO, np.int64)
    columns["current_devices"] = np.zeros(len(rows), np.int64)
    columns["is_movable"] = np.ones(len(rows), bool)
    columns["is_preemptible"] = np.zeros(len(rows), bool)
    rows_of_tag = problem.together_domain
    for key in ("gang", "apart", "together"):
        old = getattr(tasks, key)
        # Tags that tasks outside of gangs have too stay what they are; a gang's own are new.
        shared = np.unique(old[(tasks.gang == NO) & (old != NO)])
        is_new = (columns[key] != NO) & (columns["gang"] != NO) & ~np.isin(columns[key], shared)
        if not is_new.any():
            continue
        pairs = np.column_stack([columns[key], copy])[is_new]
        unique, number = np.unique(pairs, axis=0, return_inverse=True)
        first = int(old.max()) + 1
        if key == "together":
            rows_of_tag = np.append(rows_of_tag[:first], rows_of_tag[unique[:, 0]])
        columns[key] = columns[key].copy()
        columns[key][is_new] = first + number.reshape(-1)
    names = [*tasks.names, *_new_names(tasks.names, like)]
    grown = {key: np.concatenate([getattr(tasks, key), columns[key]]) for key in TASK_COLUMNS}
    gang_names = tasks.gang_names
    if gang_names:
        extra = int(grown["gang"].max()) + 1 - len(gang_names)
        gang_names += tuple(f"new gang {number + 1}" for number in range(extra))
    tasks = replace(tasks, names=names, gang_names=gang_names, **grown)  # type: ignore[arg-type]
    return replace(problem, tasks=tasks, together_domain=rows_of_tag)


def _without_nodes(problem: Problem, gone: list[int]) -> Problem:
    nodes, tasks, zones = problem.nodes, problem.tasks, problem.zones.copy()
    free, devices, capacity = nodes.free.copy(), nodes.devices.copy(), nodes.capacity.copy()
    free[gone], devices[gone], capacity[gone] = 0, NO, 0
    zones[:, gone] = False
    was_there = np.isin(tasks.current, gone)
    # A gang is in force as a whole: with one of its nodes gone it waits as a whole.
    was_there |= (tasks.gang != NO) & np.isin(tasks.gang, tasks.gang[was_there])
    return replace(
        problem,
        nodes=replace(nodes, free=free, devices=devices, capacity=capacity),
        zones=zones,
        tasks=_waiting(tasks, was_there),
    )


def _without_tasks(problem: Problem, gone: list[int]) -> Problem:
    tasks = problem.tasks
    is_gone = np.zeros(len(tasks), bool)
    is_gone[gone] = True
    zone = np.where(is_gone, len(problem.zones), tasks.zone)
    nowhere = np.zeros((1, len(problem.nodes)), bool)
    return replace(
        problem,
        zones=np.vstack([problem.zones, nowhere]),
        zone_names=(*problem.zone_names, "gone"),
        tasks=replace(_waiting(tasks, is_gone), zone=zone),
    )


def _waiting(tasks: Tasks, which: Bools) -> Tasks:
    return replace(
        tasks,
        current=np.where(which, NO, tasks.current),
        current_devices=np.where(which, 0, tasks.current_devices),
        is_movable=tasks.is_movable | which,
        is_preemptible=tasks.is_preemptible & ~which,
    )


def _drained(problem: Problem, drain: Sequence[int]) -> Problem:
    is_drained, zones = problem.nodes.is_drained.copy(), problem.zones.copy()
    is_drained[list(drain)] = True
    zones[:, list(drain)] = False
    return replace(problem, nodes=replace(problem.nodes, is_drained=is_drained), zones=zones)


def _allowing(problem: Problem, allow: Sequence[tuple[int, int]]) -> Problem:
    """Give each of the tasks a zone of its own: the old one and the nodes named."""
    zone, zones, names = problem.tasks.zone.copy(), list(problem.zones), list(problem.zone_names)
    for task in dict.fromkeys(task for task, _ in allow):
        row = zones[zone[task]].copy()
        row[[node for who, node in allow if who == task]] = True
        names.append(names[zone[task]])
        zone[task] = len(zones)
        zones.append(row)
    return replace(
        problem,
        zones=np.array(zones),
        zone_names=tuple(names),
        tasks=replace(problem.tasks, zone=zone),
    )


def _with_limits(
    quotas: tuple[Quota, ...], limits: Sequence[tuple[int, int, int]]
) -> tuple[Quota, ...]:
    changed = list(quotas)
    for number, column, limit in limits:
        values = dict(zip(QUOTA_COLUMNS, changed[number].limits, strict=True))
        values[QUOTA_COLUMNS[column]] = limit
        changed[number] = Quota(changed[number].name, **values)
    return tuple(changed)
