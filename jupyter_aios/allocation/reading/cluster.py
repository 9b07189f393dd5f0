"""The live cluster as a problem: what runs stays where it is, what waits may go anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.entities import amount_of, nodes_of_cluster
from jupyter_aios.allocation.problem import NO, bits_of, problem_of, tasks_of
from jupyter_aios.allocation.reading.names import GroupedNames, NameGroup
from jupyter_aios.core.entities import Job
from jupyter_aios.core.states import JobState
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.problem import Bools, Problem, Tasks
    from jupyter_aios.core.entities import Node, NodeId


def problem_of_cluster(nodes: Sequence[Node], jobs: Sequence[Job]) -> Problem:
    """Return the problem of placing the jobs that wait beside those that run.

    A job is a gang of equal tasks, each on a node of its own among those of the job's engine. Tasks
    of running jobs are in force and stay: this system does not move a running rank. Jobs that are
    over are not there. The lowest priority becomes 1, since 0 would be worth nothing.

    Raises:
        InputError: no nodes, or nothing that runs or waits.

    """
    if not nodes:
        raise InputError("there are no nodes", hint="%aios nodes")
    ordered = sorted(nodes, key=lambda node: node.id)
    rows = {node.id: row for row, node in enumerate(ordered)}
    parts = [_part(job, rows) for job in jobs if job.state.holds_allocation]
    parts += [_Part(job, (NO,) * job.spec.nodes) for job in jobs if job.state is JobState.QUEUED]
    parts = [part for part in parts if part.where]
    if not parts:
        raise InputError("no job runs or waits", hint="%aios jobs")
    zones, zone_names, of_engine = _engines(ordered, parts)
    tasks = _tasks(parts, ordered, of_engine)
    return problem_of(nodes_of_cluster(ordered), tasks, zones=zones, zone_names=zone_names)


@dataclass(frozen=True)
class _Part:
    """A job, and the node row of each of its tasks: -1 while it waits."""

    job: Job
    where: tuple[int, ...]
    devices: tuple[tuple[int, ...], ...] = ()
    """By index, as CUDA_VISIBLE_DEVICES calls them."""


def _part(job: Job, rows: dict[NodeId, int]) -> _Part:
    """Return a running job; what it holds on nodes that are gone is not there."""
    placements = job.allocation.placements if job.allocation else ()
    there = [one for one in placements if one.node in rows]
    return _Part(job, tuple(rows[one.node] for one in there), tuple(one.devices for one in there))


def _tasks(parts: Sequence[_Part], nodes: Sequence[Node], of_engine: dict[str, int]) -> Tasks:
    each = np.repeat(np.arange(len(parts)), [len(part.where) for part in parts])
    specs = [part.job.spec for part in parts]
    priorities = np.array([spec.priority for spec in specs], np.int64)
    milli = np.array([spec.resources.gpu_milli for spec in specs], np.int64)
    current = np.array([row for part in parts for row in part.where], np.int64)
    bits = [held for part in parts for held in _bits(part, nodes)]
    names = _names(parts)
    owners = list(dict.fromkeys(str(part.job.owner) for part in parts))
    return tasks_of(
        GroupedNames(names),
        np.array([amount_of(spec.resources) for spec in specs], np.int64)[each],
        gpus=(-(-milli // MILLI))[each],
        milli=np.minimum(milli, MILLI)[each],
        priority=(priorities - priorities.min() + 1)[each],
        zone=np.array([of_engine[spec.engine] for spec in specs], np.int64)[each],
        gang=np.where(current == NO, each, NO),
        gang_names=tuple(group.prefix for group in names),
        apart=each,
        current=current,
        current_devices=np.array(bits, np.int64),
        is_movable=current == NO,
        user=np.array([owners.index(str(part.job.owner)) for part in parts], np.int64)[each],
        user_names=tuple(owners),
        job=each,
        job_names=tuple(group.prefix for group in names),
    )


def _bits(part: _Part, nodes: Sequence[Node]) -> list[int]:
    if not part.devices:
        return [0] * len(part.where)
    found = []
    for row, indexes in zip(part.where, part.devices, strict=True):
        devices = nodes[row].devices
        found.append(bits_of([at for at, device in enumerate(devices) if device.index in indexes]))
    return found


def _names(parts: Sequence[_Part]) -> list[NameGroup]:
    """Return the jobs' names; where two share one, with their ids."""
    given = [part.job.name for part in parts]
    shown = [
        name if given.count(name) == 1 else f"{name} ({part.job.id})"
        for name, part in zip(given, parts, strict=True)
    ]
    return [NameGroup(name, len(part.where)) for name, part in zip(shown, parts, strict=True)]


def _engines(
    nodes: Sequence[Node], parts: Sequence[_Part]
) -> tuple[Bools, tuple[str, ...], dict[str, int]]:
    """Return a zone for each engine: its nodes that are not drained."""
    engines = list(dict.fromkeys([node.engine for node in nodes]))
    engines += sorted({part.job.spec.engine for part in parts} - set(engines))
    is_open = np.array([not node.is_drained for node in nodes], bool)
    zones = [is_open & np.array([node.engine == engine for node in nodes]) for engine in engines]
    names = ("",) if len(engines) == 1 else tuple(f"engine={engine}" for engine in engines)
    return np.stack(zones), names, {engine: row for row, engine in enumerate(engines)}
