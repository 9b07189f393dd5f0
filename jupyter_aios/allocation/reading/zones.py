"""Which nodes a task may be on, and where tasks in force are now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import NO, bits_of
from jupyter_aios.allocation.reading.faults import legal
from jupyter_aios.allocation.reading.mappings import Pairs

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Bools, Ints, Tasks
    from jupyter_aios.allocation.reading.demands import Unrolled
    from jupyter_aios.allocation.reading.faults import Faults
    from jupyter_aios.allocation.reading.machines import Machines
    from jupyter_aios.allocation.reading.mappings import Spot
    from jupyter_aios.allocation.reading.sheets import Columns


@dataclass(frozen=True)
class Wish:
    """What a task asks of the node that it is on."""

    models: tuple[str, ...] = ()
    labels: Pairs = ()
    avoid: Pairs = ()

    def __str__(self) -> str:
        asked = ", ".join(f"{key}={' or '.join(of)}" for key, of in _grouped(self.labels))
        avoided = ", ".join(f"{key}={' or '.join(of)}" for key, of in _grouped(self.avoid))
        parts = [" or ".join(self.models)] if self.models else []
        if asked:
            parts.append(f"with {asked}" if parts else asked)
        if avoided:
            parts.append(f"without {avoided}" if parts else f"nodes without {avoided}")
        return " ".join(parts)

    def nodes(self, machines: Machines) -> Bools:
        """Return where it may be (m); unknown models and labels are nowhere."""
        nodes = machines.nodes
        allowed: Bools = ~nodes.is_drained
        if self.models:
            number = {name: at for at, name in enumerate(nodes.model_names)}
            chosen = [number[name] for name in self.models if name in number]
            allowed = allowed & np.isin(nodes.models, chosen)
        for key, values in _grouped(self.labels):
            allowed = allowed & _has(machines, key, values)
        for key, values in _grouped(self.avoid):
            allowed = allowed & ~_has(machines, key, values)
        return allowed


def _grouped(pairs: Pairs) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return list(found.items())


def _has(machines: Machines, key: str, values: list[str]) -> Bools:
    known = machines.labels.get(key)
    if known is None:
        return np.zeros(len(machines.nodes), bool)
    chosen = [known[value] for value in values if value in known]
    found: Bools = np.isin(machines.domain(key), chosen)
    return found


def with_zones(
    tasks: Tasks, columns: Columns, unrolled: Unrolled, machines: Machines, faults: Faults
) -> tuple[Tasks, Bools, tuple[str, ...]]:
    """Return the tasks with their zones, the zones (k × m) and their names."""
    numbers: dict[Wish, int] = {Wish(): 0}
    of_entry = np.zeros(len(columns), np.int64)
    wishes = zip(columns["models"], columns["labels"], columns["avoid"], strict=True)
    for row, parts in enumerate(wishes):
        if any(parts):
            wish = Wish(*parts)
            _refuse_unknown(wish, row, columns, machines, faults)
            of_entry[row] = numbers.setdefault(wish, len(numbers))
    zones = np.stack([wish.nodes(machines) for wish in numbers])
    zone = np.repeat(of_entry, unrolled.counts)
    return replace(tasks, zone=zone), zones, tuple(map(str, numbers))


def _refuse_unknown(
    wish: Wish, row: int, columns: Columns, machines: Machines, faults: Faults
) -> None:
    models = machines.nodes.model_names
    if columns.sheet.is_of_another_cluster:
        return
    place, order = columns.sheet.at(row, "model" if "model" in columns.sheet.columns else "models")
    for model in wish.models:
        if model not in models:
            told = legal(model, models)
            faults.add(f"no node has GPUs of model {model}; {told}", place, order)
    for what, pairs in (("labels", wish.labels), ("avoid", wish.avoid)):
        place, order = columns.sheet.at(row, what)
        for key, value in pairs:
            if key not in machines.labels:
                told = legal(key, machines.labels)
                faults.add(f"{what}: no node has a label {key}; {told}", place, order)
            elif value not in machines.labels[key]:
                told = legal(value, machines.labels[key])
                faults.add(f"{what}: no node has {key}={value}; {told}", place, order)


def with_places(
    tasks: Tasks, columns: Columns, unrolled: Unrolled, machines: Machines, faults: Faults
) -> Tasks:
    """Return the tasks with the node and devices on which they are in force.

    Devices that are not named are the first that have room beside those that are.
    """
    rows = [row for row, spots in enumerate(columns["on"]) if spots is not None]
    if not rows:
        return tasks
    number = {name: at for at, name in enumerate(machines.nodes.names)}
    left = machines.nodes.devices.copy()
    current, bits = np.full(len(tasks), NO, np.int64), np.zeros(len(tasks), np.int64)
    open_ones: list[tuple[int, int]] = []
    for row in rows:
        spots: tuple[Spot, ...] = columns["on"][row]
        place, order = columns.sheet.at(row, "on")
        if len(spots) != unrolled.counts[row]:
            faults.add(f"on: {len(spots)} places for {unrolled.counts[row]} tasks", place, order)
            continue
        for task, spot in enumerate(spots, start=int(unrolled.starts[row])):
            node = number.get(spot.node)
            if node is None:
                told = legal(spot.node, number)
                faults.add(f"on: no node is named {spot.node}; {told}", place, order)
                continue
            current[task] = node
            if spot.devices is None:
                open_ones.append((task, row))
            elif message := _hold(tasks, task, left[node], spot.devices):
                faults.add(f"on: {spot.node} {message}", place, order)
            else:
                bits[task] = bits_of(spot.devices)
    for task, row in open_ones:
        node = int(current[task])
        room = np.flatnonzero(left[node] >= tasks.milli[task])[: tasks.gpus[task]]
        if message := _hold(tasks, task, left[node], tuple(room.tolist())):
            place, order = columns.sheet.at(row, "on")
            faults.add(f"on: {machines.nodes.names[node]} {message}", place, order)
        bits[task] = bits_of(room.tolist())
    _refuse_torn_gangs(tasks, current, rows, columns=columns, unrolled=unrolled, faults=faults)
    return replace(tasks, current=current, current_devices=bits)


def _refuse_torn_gangs(
    tasks: Tasks,
    current: Ints,
    rows: list[int],
    *,
    columns: Columns,
    unrolled: Unrolled,
    faults: Faults,
) -> None:
    """A gang is in force as a whole or not at all."""
    for row in rows:
        gang = int(tasks.gang[unrolled.starts[row]])
        held = current[tasks.gang == gang] != NO
        if gang != NO and not held.all():
            place, order = columns.sheet.at(row, "on")
            said = f"gang {tasks.gang_names[gang]} is in force in part: {held.sum()} of {held.size}"
            faults.add(f"{said} tasks", place, order, "say for all tasks of a gang where they are")


def _hold(tasks: Tasks, task: int, left: Ints, devices: tuple[int, ...]) -> str:
    """Take a task's part of each device; return what is wrong with that, or nothing."""
    has = int((left != NO).sum())
    missing = [device for device in devices if device >= has]
    if missing:
        return f"has no device {missing[0]}, it has {has}"
    if len(devices) != tasks.gpus[task]:
        return f"has {len(devices)} devices for {tasks.names[task]}, which needs {tasks.gpus[task]}"
    for device in devices:
        if left[device] < tasks.milli[task]:
            return f"has {left[device]} of the {tasks.milli[task]} milli-GPU on device {device}"
    left[list(devices)] -= tasks.milli[task]
    return ""
