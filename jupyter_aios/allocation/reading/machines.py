"""Columns of nodes → `Nodes`, and which labels they have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import NO, USUAL_MODEL, Ints, Nodes
from jupyter_aios.allocation.reading.names import names_of
from jupyter_aios.allocation.reading.values import MOST_NODES
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.reading.faults import Faults
    from jupyter_aios.allocation.reading.mappings import Pairs, Used
    from jupyter_aios.allocation.reading.sheets import Columns

AMOUNTS = ("cpus", "memory", "disk")


@dataclass(frozen=True, eq=False)
class Machines:
    """The nodes, and how labels are looked up on them."""

    nodes: Nodes
    entry: Ints
    """m: which entry of the input a node comes from."""
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    """Key → value → the number that stands for it in `domain`."""
    _domains: dict[str, Ints] = field(default_factory=dict)

    def domain(self, key: str) -> Ints:
        """Return the number of each node's value under a label (m), -1 where it has none."""
        return self._domains[key]


def build_machines(columns: Columns, wanted: frozenset[str], faults: Faults) -> Machines | None:
    """Return the nodes; None where there are none. `wanted` says which amounts tasks ask for."""
    counts = np.array(columns["count"], np.int64)
    total = int(counts.sum())
    if not total or total > MOST_NODES:
        what = "there are no nodes" if not total else f"{total:,} nodes; {MOST_NODES:,} are read"
        faults.add(what, order=-1, hint="nodes: {count: 4, cpus: 32, memory: 256GiB, gpus: 8}")
        return None
    _refuse_missing(columns, wanted, faults)
    entry = np.repeat(np.arange(len(columns)), counts)
    capacity = _amounts(columns)
    gpus = np.array(columns["gpus"], np.int64)
    used, held = _used(columns, capacity, gpus, faults)
    models, model_names = _models(columns["model"], gpus)
    labels, domains = _labels(columns, entry, faults)
    pairs = tuple(columns["labels"][row] for row in entry) if any(columns["labels"]) else ()
    names = names_of("nodes", columns, counts, np.ones_like(counts), faults)
    nodes = Nodes(
        names=names,
        free=(capacity - used)[entry],
        devices=held[entry],
        capacity=capacity[entry],
        models=models[entry],
        model_names=model_names,
        labels=pairs,
        is_drained=np.array(columns["drained"], bool)[entry],
    )
    return Machines(nodes, entry, labels, domains)


def _amounts(columns: Columns) -> Ints:
    given = [[amount or 0 for amount in columns[key]] for key in AMOUNTS]
    amounts: Ints = np.array(given, np.int64).T.reshape(-1, len(AMOUNTS))
    return amounts


def _refuse_missing(columns: Columns, wanted: frozenset[str], faults: Faults) -> None:
    for key in AMOUNTS:
        if key not in wanted:
            continue
        for row, amount in enumerate(columns[key]):
            is_faulty = amount is None and not _was_given(columns, key, row)
            if is_faulty:
                place, order = columns.sheet.at(row)
                faults.add(f"the nodes' {key} are missing, and tasks ask for them", place, order)


def _was_given(columns: Columns, target: str, row: int) -> bool:
    """Return whether a cell is there, though it may be wrong and told of already."""
    from jupyter_aios.allocation.reading.sheets import ABSENT

    keys = columns.given.get(target, ())
    return any(columns.sheet.columns[key][row] is not ABSENT for key in keys)


def _models(given: list[str | None], gpus: Ints) -> tuple[Ints, tuple[str, ...]]:
    """Return the number of each entry's model, and the models; -1 without GPUs."""
    numbers: dict[str, int] = {}
    found = [
        numbers.setdefault(model or USUAL_MODEL, len(numbers)) if count else NO
        for model, count in zip(given, gpus.tolist(), strict=True)
    ]
    return np.array(found, np.int64), tuple(numbers)


def _used(columns: Columns, capacity: Ints, gpus: Ints, faults: Faults) -> tuple[Ints, Ints]:
    """Return what others hold (entries × 3), and what is left of each device (entries × D)."""
    slots = np.arange(int(gpus.max(initial=0)))
    devices = np.where(slots[None, :] < gpus[:, None], MILLI, NO).astype(np.int64)
    amounts = np.zeros_like(capacity)
    for row, used in enumerate(columns["used"]):
        if used is None:
            continue
        place, order = columns.sheet.at(row, "used")
        amounts[row] = used.amounts
        for key, has, held in zip(AMOUNTS, capacity[row].tolist(), used.amounts, strict=True):
            if held > has:
                faults.add(f"used: more {key} than the node has", place, order)
        for device, held in enumerate(_by_device(used, int(gpus[row]))):
            if device < gpus[row]:
                devices[row, device] -= held
            elif held:
                faults.add(f"used: the node has {gpus[row]} devices", place, order)
                break
    return amounts, devices


def _by_device(used: Used, count: int) -> tuple[int, ...]:
    if isinstance(used.devices, tuple):
        return used.devices
    filled = [min(max(used.devices - MILLI * device, 0), MILLI) for device in range(count)]
    return (*filled, max(used.devices - MILLI * count, 0))


def _labels(
    columns: Columns, entry: Ints, faults: Faults
) -> tuple[dict[str, dict[str, int]], dict[str, Ints]]:
    """Return the values under each label, and their numbers on each node."""
    values: dict[str, dict[str, int]] = {}
    domains: dict[str, Ints] = {}
    for row, pairs in enumerate(columns["labels"]):
        _refuse_two_values(pairs, row, columns, faults)
        for key, value in pairs:
            numbers = values.setdefault(key, {})
            of_entries = domains.setdefault(key, np.full(len(columns), NO, np.int64))
            of_entries[row] = numbers.setdefault(value, len(numbers))
    return values, {key: of_entries[entry] for key, of_entries in domains.items()}


def _refuse_two_values(pairs: Pairs, row: int, columns: Columns, faults: Faults) -> None:
    keys = [key for key, _ in pairs]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        place, order = columns.sheet.at(row, "labels")
        faults.add(f"labels: a node has one {key}", place, order)
