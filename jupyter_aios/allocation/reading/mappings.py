"""Cells that are mappings, or may be: labels, who is together, where a task is, what is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jupyter_aios.allocation.problem import MAX_DEVICES
from jupyter_aios.allocation.reading.faults import legal
from jupyter_aios.allocation.reading.values import (
    cpus,
    memory,
    plain,
    scaled,
    shown,
    text,
    whole,
)
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

Pairs = tuple[tuple[str, str], ...]


def labels(value: object) -> Pairs:
    """Return (key, value) pairs of a mapping, sorted; a list of values gives a pair for each."""
    if not isinstance(value, dict):
        raise InputError(f"{shown(value)} is no mapping", hint="labels: {zone: eu}")
    found = {
        (text(key), text(one))
        for key, values in value.items()
        for one in (values if isinstance(values, (list, tuple)) else [values])
    }
    return tuple(sorted(found))


def tag(value: object) -> str | None:
    """Return a name that joins entries; empty for `true`: the entry's own tasks."""
    said = str(value).strip().lower()
    if said in {"true", "yes"}:
        return ""
    return None if said in {"false", "no"} else text(value)


@dataclass(frozen=True)
class Together:
    """`tag` joins entries (empty: the entry's own tasks); `within` is a label, empty for a node."""

    tag: str
    within: str


def together(value: object) -> Together | None:
    """Return which tasks are kept together, and within what."""
    if not isinstance(value, dict):
        name = tag(value)
        return None if name is None else Together(name, "")
    _refuse_keys(value, ("tag", "within"), "together: {tag: T, within: rack}")
    name = tag(value["tag"]) if "tag" in value else ""
    within = text(value["within"]) if "within" in value else ""
    return None if name is None else Together(name, within)


@dataclass(frozen=True)
class Spot:
    """Where one task is now; `devices` None: the first that are free."""

    node: str
    devices: tuple[int, ...] | None


def places(value: object) -> tuple[Spot, ...]:
    """Return where the tasks of an entry are, one after the other."""
    return tuple(_spot(one) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _spot(value: object) -> Spot:
    if not isinstance(value, dict):
        return Spot(text(value), None)
    _refuse_keys(value, ("node", "devices"), "on: {node: node-0, devices: [0, 1]}")
    if "node" not in value:
        raise InputError("the node is missing", hint="on: {node: node-0, devices: [0, 1]}")
    devices = value.get("devices")
    if devices is None:
        return Spot(text(value["node"]), None)
    many = devices if isinstance(devices, (list, tuple)) else [devices]
    found = tuple(whole(0, MAX_DEVICES - 1)(plain(one)) for one in many)
    if len(set(found)) < len(found):
        raise InputError("a device is named twice")
    return Spot(text(value["node"]), found)


@dataclass(frozen=True)
class Used:
    """What others hold of a node: CPU, memory, disk, and thousandths of each device."""

    amounts: tuple[int, int, int]
    devices: tuple[int, ...] | int
    """A number is an amount that fills the first devices."""


def used(value: object) -> Used:
    """Return what others hold of a node."""
    keys = ("cpus", "memory", "disk", "gpus")
    example = "used: {cpus: 8, memory: 64GiB, gpus: [1, 0.5, 0, 0]}"
    if not isinstance(value, dict):
        raise InputError(f"{shown(value)} is no mapping", hint=example)
    _refuse_keys(value, keys, example)
    readers = (cpus, memory, memory)
    amounts = [
        reader(plain(value[key])) if key in value else 0
        for key, reader in zip(keys, readers, strict=False)
    ]
    gpus_used = plain(value.get("gpus", 0))
    if not isinstance(gpus_used, (list, tuple)):
        filled = scaled(gpus_used, MILLI, MAX_DEVICES * MILLI)
        return Used((amounts[0], amounts[1], amounts[2]), filled)
    devices = tuple(scaled(plain(one), MILLI, MILLI) for one in gpus_used)
    return Used((amounts[0], amounts[1], amounts[2]), devices)


def _refuse_keys(value: dict[Any, Any], known: tuple[str, ...], example: str) -> None:
    for key in value:
        if key not in known:
            raise InputError(f"{key} is unknown; {legal(str(key), known)}", hint=example)
