"""Small allocation problems with every feature there is, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.problem import (
    NO,
    Nodes,
    Problem,
    Quota,
    Tasks,
    bits_of,
    nodes_of,
    problem_of,
    tasks_of,
)
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    import random

    from jupyter_aios.allocation.problem import Ints

FEATURES = frozenset(
    ("gangs", "shares", "models", "quotas", "apart", "together", "in-force", "drained", "busy")
)
_LIKELY = {"gangs": 0.6, "quotas": 0.6, "shares": 0.6}
MODELS = ("A100", "T4")
GIB = 2**30


def small_problem(
    rng: random.Random,
    *,
    most_tasks: int = 6,
    most_nodes: int = 3,
    features: frozenset[str] = FEATURES,
    pinned: bool = False,
) -> Problem:
    """Return a problem that is tight enough for its features to matter.

    Each feature is in half of the problems or more. Tasks in force lie feasibly; with `pinned` some
    of them may neither be moved nor stopped (rungs never see such ones, `allocate` does).
    """
    used = {one for one in sorted(features) if rng.random() < _LIKELY.get(one, 0.5)}
    nodes = _nodes(rng, rng.randint(1, most_nodes), used)
    # Seldom few: two tasks bind each other rarely.
    n = max(rng.randint(1, most_tasks), rng.randint(1, most_tasks))
    groups = _groups(rng, n, used)
    kinds = [_kind(rng, used) for _ in range(max(2, n // 2))]
    # Few kinds for many tasks, and one kind per gang: tasks that are alike are the usual case.
    of_gang: dict[int, _Kind] = {}
    chosen = []
    for gang in groups["gang"].tolist():
        kind = rng.choice(kinds)
        chosen.append(kind if gang == NO else of_gang.setdefault(gang, kind))
    zones, names, zone = _zones(rng, nodes, n, used)
    tasks = tasks_of(
        [f"t{number}" for number in range(n)],
        np.array([[kind.cpu, kind.memory, kind.disk] for kind in chosen], np.int64),
        gpus=np.array([kind.gpus for kind in chosen], np.int64),
        milli=np.array([kind.milli for kind in chosen], np.int64),
        priority=np.array([rng.choice((1, 1, 2, 5)) for _ in range(n)], np.int64),
        zone=zone,
        **groups,
    )
    racks = np.array([rng.choice((NO, 0, 1)) for _ in range(len(nodes))])
    columns: dict[str, Any] = {
        "zones": zones,
        "zone_names": names,
        "domains": np.stack([np.arange(len(nodes)), racks]),
        "together_domain": np.array([rng.choice((0, 1)) for _ in range(2)]),
    }
    problem = problem_of(nodes, tasks, **columns)
    if "quotas" in used:
        problem = _with_quotas(rng, problem, columns)
    return _with_force(rng, problem, columns, pinned=pinned) if "in-force" in used else problem


@dataclass(frozen=True)
class _Kind:
    cpu: int
    memory: int
    disk: int
    gpus: int
    milli: int


def _kind(rng: random.Random, used: set[str]) -> _Kind:
    gpus, milli = rng.choice(((0, 0), (1, MILLI), (1, MILLI), (2, MILLI), (3, MILLI)))
    if "shares" in used and rng.random() < 0.6:
        gpus, milli = 1, rng.choice((110, 250, 400, 470, 500, 600, 810))
    cpu = rng.choice((0, 1000, 1000, 2000, 4000, 500))
    return _Kind(cpu, rng.choice((0, 1, 2, 4)) * GIB, rng.choice((0, 0, 0, 3)) * GIB, gpus, milli)


def _nodes(rng: random.Random, count: int, used: set[str]) -> Nodes:
    counts = [rng.choice((0, 1, 2, 2, 4)) for _ in range(count)]
    devices = np.full((count, max(counts)), NO, np.int64)
    for node, has in enumerate(counts):
        devices[node, :has] = MILLI
        if "busy" in used:
            devices[node, :has] = [rng.choice((MILLI, MILLI, 0, 300, 750)) for _ in range(has)]
    free = np.array(
        [
            [rng.choice((1000, 2000, 4000, 6000)), rng.choice((2, 4, 8)) * GIB, 4 * GIB]
            for _ in range(count)
        ],
        np.int64,
    )
    models = [rng.randrange(2) if has else NO for has in counts]
    drained = [("drained" in used and rng.random() < 0.25) for _ in range(count)]
    return nodes_of(
        [f"n{number}" for number in range(count)],
        free,
        devices,
        capacity=free + GIB,
        models=np.array(models, np.int64),
        model_names=MODELS,
        is_drained=np.array(drained),
    )


def _groups(rng: random.Random, n: int, used: set[str]) -> dict[str, Ints]:
    gang = np.full(n, NO, np.int64)
    if "gangs" in used:
        at, number = 0, 0
        while at < n:
            size = rng.randint(2, 3)
            if rng.random() < 0.6:
                gang[at : at + size] = number
                number += 1
            at += size
    found = {"gang": gang}
    for column in ("apart", "together"):
        found[column] = np.full(n, NO, np.int64)
        if column in used:
            by_gang = gang.copy() if rng.random() < 0.5 and gang.max(initial=NO) < 2 else None
            drawn = [rng.choice((NO, NO, 0, 1)) for _ in range(n)]
            found[column] = np.array(drawn, np.int64) if by_gang is None else by_gang
    return found


def _zones(
    rng: random.Random, nodes: Nodes, n: int, used: set[str]
) -> tuple[np.ndarray[Any, Any], tuple[str, ...], Ints]:
    zones, names = [np.ones(len(nodes), bool)], [""]
    for number, model in enumerate(MODELS):
        zones.append(nodes.models == number)
        names.append(model)
    zone = [rng.choice((0, 0, 1, 2)) if "models" in used else 0 for _ in range(n)]
    return np.array(zones) & ~nodes.is_drained, tuple(names), np.array(zone, np.int64)


def _with_quotas(rng: random.Random, problem: Problem, columns: dict[str, Any]) -> Problem:
    quotas = (
        Quota("user ada", gpu_milli=rng.choice((0, 500, 1000, 2000)), tasks=rng.choice((None, 2))),
        Quota("group all", cpu_milli=rng.choice((1000, 3000, 6000)), tasks=rng.choice((None, 3))),
    )
    n = len(problem.tasks)
    of_task = [[rng.choice((NO, 0)), rng.choice((NO, 1))] for _ in range(n)]
    tasks = _changed(problem.tasks, quotas=np.array(of_task, np.int64).reshape(n, 2))
    return problem_of(problem.nodes, tasks, quotas=quotas, **columns)


def _with_force(
    rng: random.Random, problem: Problem, columns: dict[str, Any], *, pinned: bool
) -> Problem:
    """Put some tasks (gangs as a whole) where they fit, at random."""
    tasks = problem.tasks
    n = len(tasks)
    node, devices = np.full(n, NO, np.int64), np.zeros(n, np.int64)
    # A node may have been drained since: what is in force there may stay.
    zones = np.array([np.ones(len(problem.nodes), bool), *problem.zones[1:]])
    for number in (0, 1):
        zones[1 + number] = problem.nodes.models == number
    before = replace(problem, zones=zones)
    for unit in _units(tasks) * 4:
        if node[unit[0]] != NO or rng.random() < 0.5:
            continue
        tried_node, tried_devices = node.copy(), devices.copy()
        for i in unit:
            tried_node[i] = rng.randrange(len(problem.nodes))
            has = np.flatnonzero(problem.nodes.devices[tried_node[i]] >= 0).tolist()
            count = int(tasks.gpus[i])
            if count <= len(has):
                tried_devices[i] = bits_of(rng.sample(has, count))
        if not faults(before, tried_node, tried_devices):
            node, devices = tried_node, tried_devices
    held = node >= 0
    stops = np.array([rng.random() < 0.5 for _ in range(n)]) & held
    moves = np.array([rng.random() < 0.7 for _ in range(n)])
    moves |= ~held | (~stops & (not pinned))
    changed = _changed(
        tasks,
        current=node,
        current_devices=devices,
        is_preemptible=stops,
        is_movable=moves,
    )
    return problem_of(problem.nodes, changed, quotas=problem.quotas, **columns)


def _units(tasks: Tasks) -> list[list[int]]:
    units: dict[int, list[int]] = {}
    for i, gang in enumerate(tasks.gang.tolist()):
        units.setdefault(gang if gang != NO else -2 - i, []).append(i)
    return list(units.values())


def _changed(tasks: Tasks, **columns: Any) -> Tasks:
    return replace(tasks, **columns)
