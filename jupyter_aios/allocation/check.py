"""The proof that an allocation may be launched. It shares no code with who proposes one.

Everything is summed from scratch out of the problem's columns; a solver's own books are not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.allocation.problem import Ints, Problem

_NAMES = ("cpu_milli", "memory_bytes", "disk_bytes")
_QUOTA_NAMES = (*_NAMES, "gpu_milli", "tasks")


def faults(problem: Problem, assignment: Ints, devices: Ints, *, most: int = 20) -> list[str]:
    """Return what is wrong with an allocation, a sentence each; empty where it is feasible.

    `assignment` (n) holds the node of each task, -1 for none; `devices` (n) its devices as bits.
    Feasible: every placed task is on a node of its zone and has as many devices of it as it needs;
    no node, device or quota gives more than it has; gangs are placed all or none; tasks that are to
    be apart share no node, those that are to be together share a domain; what is in force and may
    not be stopped is placed, and what may not be moved is where it was, if it is anywhere. A task
    in force may stay on a node outside its zone: a drained one, say.
    """
    found: list[str] = []
    shape = (len(problem.tasks),)
    if assignment.shape != shape or devices.shape != shape:
        return [f"{len(problem.tasks)} tasks have {assignment.shape[0]} nodes"]
    wrong = (assignment < -1) | (assignment >= len(problem.nodes))
    if wrong.any():
        return [f"there is no node number {assignment[wrong][0]}"]
    for fault in _all(problem, assignment, devices):
        found.append(fault)
        if len(found) == most:
            break
    return found


def _all(problem: Problem, node: Ints, devices: Ints) -> Iterator[str]:
    yield from _places(problem, node, devices)
    yield from _capacities(problem, node)
    yield from _devices(problem, node, devices)
    yield from _quotas(problem, node)
    yield from _groups(problem, node)
    yield from _in_force(problem, node, devices)


def _places(problem: Problem, node: Ints, devices: Ints) -> Iterator[str]:
    tasks, nodes = problem.tasks, problem.nodes
    placed = np.flatnonzero(node >= 0)
    stays = node[placed] == tasks.current[placed]
    for i in placed[~problem.zones[tasks.zone[placed], node[placed]] & ~stays]:
        what = problem.zone_names[tasks.zone[i]] or "nodes that are not drained"
        yield f"{tasks.names[i]} may only be on {what}, and is on {nodes.names[node[i]]}"
    counts = np.zeros(len(node), np.int64)
    for device in range(63):
        counts += devices >> device & 1
    for i in placed[counts[placed] != tasks.gpus[placed]]:
        yield f"{tasks.names[i]} needs {tasks.gpus[i]} devices and got {counts[i]}"
    for i in np.flatnonzero((node < 0) & (devices != 0)):
        yield f"{tasks.names[i]} is not placed and has devices"


def _capacities(problem: Problem, node: Ints) -> Iterator[str]:
    nodes, placed = problem.nodes, node >= 0
    for column, what in enumerate(_NAMES):
        given = np.zeros(len(nodes), np.int64)
        np.add.at(given, node[placed], problem.tasks.demand[placed, column])
        for j in np.flatnonzero(given > nodes.free[:, column]):
            yield f"{nodes.names[j]} would give {given[j]} {what} and has {nodes.free[j, column]}"


def _devices(problem: Problem, node: Ints, devices: Ints) -> Iterator[str]:
    tasks, nodes = problem.tasks, problem.nodes
    for device in range(63):
        uses = np.flatnonzero((devices >> device & 1).astype(bool) & (node >= 0))
        if device >= nodes.devices.shape[1]:
            for i in uses:
                yield f"{nodes.names[node[i]]} has no device {device}"
            continue
        given = np.zeros(len(nodes), np.int64)
        np.add.at(given, node[uses], tasks.milli[uses])
        has = nodes.devices[:, device]
        for i in uses[has[node[uses]] < 0]:
            yield f"{nodes.names[node[i]]} has no device {device}"
        for j in np.flatnonzero((given > has) & (has >= 0)):
            yield f"device {device} of {nodes.names[j]} would give {given[j]} of {has[j]} milli"
    for i in np.flatnonzero((tasks.gpus > 1) & (tasks.milli != MILLI) & (node >= 0)):
        yield f"{tasks.names[i]} wants parts of {tasks.gpus[i]} devices"


def _quotas(problem: Problem, node: Ints) -> Iterator[str]:
    tasks = problem.tasks
    amounts = np.column_stack([tasks.demand, tasks.gpus * tasks.milli, np.ones_like(node)])
    for number, quota in enumerate(problem.quotas):
        counts = (tasks.quotas == number).any(axis=1) & (node >= 0)
        for column, limit in enumerate(quota.limits):
            given = int(amounts[counts, column].sum())
            if limit is not None and given > limit:
                yield f"{quota.name} would have {given} {_QUOTA_NAMES[column]} of {limit}"


def _groups(problem: Problem, node: Ints) -> Iterator[str]:
    tasks, nodes = problem.tasks, problem.nodes
    sizes = np.bincount(tasks.gang[tasks.gang >= 0])
    there = np.bincount(tasks.gang[(tasks.gang >= 0) & (node >= 0)], minlength=len(sizes))
    for gang in np.flatnonzero((there > 0) & (there < sizes)):
        yield f"gang {gang} has {there[gang]} of its {sizes[gang]} tasks placed"
    alone = np.flatnonzero((tasks.apart >= 0) & (node >= 0))
    pairs = tasks.apart[alone] * np.int64(len(nodes) + 1) + node[alone]
    _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    for at in first[counts > 1]:
        i = alone[at]
        yield f"{tasks.names[i]} shares {nodes.names[node[i]]} with a task it is to be apart from"
    bound = np.flatnonzero((tasks.together >= 0) & (node >= 0))
    lies = problem.domains[problem.together_domain[tasks.together[bound]], node[bound]]
    domain_of: dict[int, int] = {}
    for i, domain in zip(bound.tolist(), lies.tolist(), strict=True):
        if domain < 0 or domain_of.setdefault(int(tasks.together[i]), domain) != domain:
            yield f"{tasks.names[i]} is on {nodes.names[node[i]]}, not with its tasks together"


def _in_force(problem: Problem, node: Ints, devices: Ints) -> Iterator[str]:
    tasks = problem.tasks
    held = tasks.current >= 0
    for i in np.flatnonzero(held & ~tasks.is_preemptible & (node < 0)):
        yield f"{tasks.names[i]} is in force, may not be stopped, and has no place"
    moved = (node != tasks.current) | (devices != tasks.current_devices)
    for i in np.flatnonzero(held & ~tasks.is_movable & (node >= 0) & moved):
        yield f"{tasks.names[i]} may not be moved and is"
