"""From counts back to tasks on devices, and from a placement to hints for the search."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, devices_of
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.allocation.exact.model import Model
    from jupyter_aios.allocation.exact.units import Unit

Hints = list[tuple[Any, int]]
"""Variables of CP-SAT and a value of each."""


def values_of(model: Model, value: Callable[[Any], int]) -> Hints:
    """Return the variables that decide, with their values."""
    decide = (model.x, model.y, model.w, model.stays)
    return [(var, int(value(var))) for group in decide for var in group.values()]


def placed_of(model: Model, value: Callable[[Any], int]) -> Placed:
    """Return the tasks of a solution on their nodes and devices."""
    tasks = model.problem.tasks
    assignment = np.full(len(tasks), NO, np.int64)
    devices = np.zeros(len(tasks), np.int64)
    for i, var in model.stays.items():
        if value(var):
            assignment[i], devices[i] = tasks.current[i], tasks.current_devices[i]
    whole: dict[int, list[int]] = defaultdict(list)
    for (j, d), var in model.w.items():
        if value(var):
            whole[j].append(d)
    for u, unit in enumerate(model.units):
        seats = [j for j, var in model.nodes_of(u) for _ in range(int(value(var)))]
        shares = {
            j: [d for d, var in model.devices_of(u, j) for _ in range(int(value(var)))]
            for j in set(seats)
        }
        for i, j in zip(_dealt(unit, len(seats)), seats, strict=True):
            assignment[i] = j
            if tasks.is_share[i]:
                devices[i] = 1 << shares[j].pop()
            else:
                for _ in range(int(tasks.gpus[i])):
                    devices[i] |= 1 << whole[j].pop(0)
    return Placed(assignment, devices)


def _dealt(unit: Unit, seats: int) -> list[int]:
    """Return which members take the seats, which are sorted by node."""
    if not unit.is_apart:
        return list(unit.members[:seats])
    # Going round the gangs gives no gang a node twice: no node has more seats than there are gangs.
    times = seats // unit.step
    gangs = [unit.members[g * unit.step : (g + 1) * unit.step] for g in range(times)]
    return [gangs[k % times][k // times] for k in range(seats)]


def hints_of(model: Model, start: Placed) -> Hints:
    """Return what the variables are at a placement."""
    tasks = model.problem.tasks
    hints: Hints = []
    stays = (start.assignment == tasks.current) & (start.devices == tasks.current_devices)
    hints += [(var, int(stays[i])) for i, var in model.stays.items()]
    is_new = (start.assignment != NO) & ~stays
    named = _renamed(model, start)
    for u, unit in enumerate(model.units):
        placed = [i for i in unit.members if is_new[i]]
        counts = Counter(int(start.assignment[i]) for i in placed)
        hints += [(var, counts[j]) for j, var in model.nodes_of(u)]
        if tasks.is_share[unit.task]:
            on = Counter(named[int(start.assignment[i]), _first(start, i)] for i in placed)
            hints += [
                (var, on[j, d]) for j, _ in model.nodes_of(u) for d, var in model.devices_of(u, j)
            ]
    is_whole = is_new & ~tasks.is_share & (tasks.gpus > 0)
    whole = {
        named[int(start.assignment[i]), d]
        for i in np.flatnonzero(is_whole).tolist()
        for d in devices_of(int(start.devices[i]))
    }
    return hints + [(var, int(key in whole)) for key, var in model.w.items()]


def _first(start: Placed, task: int) -> int:
    return int(start.devices[task]).bit_length() - 1


def _renamed(model: Model, start: Placed) -> dict[tuple[int, int], tuple[int, int]]:
    """Return what each device is called where devices that are alike are used in order."""
    tasks, nodes = model.problem.tasks, model.problem.nodes
    has = nodes.devices
    load = np.zeros(has.shape, np.int64)
    is_whole = np.zeros(has.shape, bool)
    for i in np.flatnonzero(start.assignment != NO).tolist():
        for d in devices_of(int(start.devices[i])):
            load[start.assignment[i], d] += tasks.milli[i]
            is_whole[start.assignment[i], d] |= tasks.milli[i] == MILLI
    named = {(j, d): (j, d) for j, d in np.argwhere(has >= 0).tolist()}
    for j in range(len(nodes)):
        for alike in model.alike.get(j, []):
            order = sorted(alike, key=list(zip(~is_whole[j], -load[j], strict=True)).__getitem__)
            named |= {(j, d): (j, alike[k]) for k, d in enumerate(order)}
    return named
