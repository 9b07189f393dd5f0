"""Limits of users and groups, and which tasks count against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.problem import NO, Quota
from jupyter_aios.allocation.reading import values
from jupyter_aios.allocation.reading.faults import legal
from jupyter_aios.allocation.reading.tree import line_of
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints, Tasks
    from jupyter_aios.allocation.reading.demands import Unrolled
    from jupyter_aios.allocation.reading.faults import Faults
    from jupyter_aios.allocation.reading.sheets import Columns

EXAMPLE = "quotas: {user ada: {gpus: 4}, group vision: {gpus: 16, tasks: 100}}"
_KINDS = ("user", "group")
_MOST_GPUS = 10**9


def _gpu_milli(value: object) -> int:
    return values.scaled(value, MILLI, _MOST_GPUS * MILLI)


def _cpu_milli(value: object) -> int:
    return values.scaled(value, MILLI, values.MOST_BYTES)


_READERS: dict[str, tuple[str, Callable[[object], int]]] = {
    "cpus": ("cpu_milli", _cpu_milli),
    "memory": ("memory_bytes", values.memory),
    "disk": ("disk_bytes", values.memory),
    "gpus": ("gpu_milli", _gpu_milli),
    "tasks": ("tasks", values.whole(0, values.MOST_TASKS)),
}


def read_quotas(given: object, top: object, faults: Faults) -> tuple[Quota, ...]:
    """Return the quotas of an input; their order is that of the input."""
    line = line_of(top, "quotas")
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        faults.add("quotas is a mapping", f"line {line}" if line else "quotas", line, EXAMPLE)
        return ()
    found = []
    for name, limits in given.items():
        line = line_of(top, "quotas", name)
        place = f"line {line}" if line else f"quotas[{name}]"
        kind, _, who = str(name).strip().partition(" ")
        if kind not in _KINDS or not who.strip():
            faults.add(f"{name!r} is neither `user NAME` nor `group NAME`", place, line, EXAMPLE)
        elif not isinstance(limits, Mapping) or not limits:
            faults.add(f"{name} has no limits", place, line, EXAMPLE)
        else:
            read = _limits(str(name), limits, place, line, faults)
            found.append(Quota(f"{kind} {who.strip()}", **read))
    return tuple(found)


def _limits(
    name: str, limits: Mapping[Any, Any], place: str, line: int, faults: Faults
) -> dict[str, int]:
    found = {}
    for key, value in limits.items():
        if key not in _READERS:
            faults.add(f"{name} has no {key}; {legal(str(key), _READERS)}", place, line)
            continue
        column, read = _READERS[key]
        cell = values.plain(value)
        if values.is_missing(cell):
            faults.add(f"{name}: {key}: there is no value", place, line)
            continue
        try:
            found[column] = read(cell)
        except InputError as error:
            faults.add(f"{name}: {key}: {error.message}", place, line, error.hint)
    return found


def with_quotas(
    tasks: Tasks,
    quotas: tuple[Quota, ...],
    columns: Columns,
    unrolled: Unrolled,
    faults: Faults,
) -> Tasks:
    """Return the tasks with the quotas that they count against: their user's and their group's."""
    if not quotas:
        return tasks
    numbers = {quota.name: number for number, quota in enumerate(quotas)}
    found: Ints = np.full((len(columns), len(_KINDS)), NO, np.int64)
    for column, kind in enumerate(_KINDS):
        known = {name for name in columns[kind] if name}
        for row, name in enumerate(columns[kind]):
            found[row, column] = numbers.get(f"{kind} {name}", NO) if name else NO
        for quota in quotas:
            of, _, who = quota.name.partition(" ")
            if of == kind and who not in known:
                faults.add(f"quotas: no task is of {kind} {who}; {legal(who, known)}")
    return replace(tasks, quotas=np.repeat(found, unrolled.counts, axis=0))
