"""Why a task is where it is: the smallest set of constraints without which it would be placed.

First beside nothing but what must stay (would it fit an empty cluster?), then beside everything
that is placed. A constraint is binding when the task fits without it, and all others stay: that is
tried, not guessed. Among equally small sets the task's own zone stays, and the set that opens the
most nodes is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.explain.room import (
    CPU,
    DISK,
    GPUS,
    LACKS,
    QUOTA,
    ZONE,
    Room,
    lacks_nothing,
)
from jupyter_aios.allocation.explain.seats import Seats, consumption_of, fits_without, seat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.allocation.problem import Bools, Ints

RESOURCES = frozenset(range(GPUS, DISK + 1))
_LARGEST_SET = 3
"""Of a gang, larger sets of constraints are not told apart."""


@dataclass(frozen=True)
class Reason:
    """Why a task is placed or is not.

    kinds: `placed`; `too-large` (fits no node even when empty); `no-node` (its zone has none);
    `fragmented` (enough free devices in sum, not on one node); `full` (not enough in sum);
    `exhausted` (devices are free, CPU, memory or disk there is not); `quota`; `apart`; `together`;
    `several` (no single constraint: all of `lacking`); `gang` (a part of it has room, for the rest
    `lacking` says why not); `outbid` (whatever would have to stop is worth as much or more);
    `undecided` (it fits, or what is worth less would make room, and the search ended).
    """

    kind: str
    lacking: tuple[str, ...] = ()
    """Without these constraints (of `LACKS`), all others as they are, it would be placed."""
    is_static: bool = False
    """True where it holds in every schedule, for it holds beside nothing but what must stay."""
    is_proven: bool = True
    """False where a search for room was given up: the gang may fit in a way that was not seen."""
    values: dict[str, int | str] = field(default_factory=dict)
    """What was found: amounts in their units, names."""


def reason_of(empty: Room, room: Room, unit: tuple[int, ...]) -> tuple[Reason, Seats]:
    """Return why a unit is not placed, and the seats that a part of it would find.

    `empty` is the room beside what must stay, `room` beside everything that is placed.
    """
    beside_nothing = seat(empty, unit)
    is_static = not beside_nothing.is_whole and beside_nothing.is_proven
    where = empty if is_static else room
    seats = beside_nothing if is_static else seat(room, unit)
    values: dict[str, int | str] = {"of": len(unit), "fit": len(seats.places)}
    if seats.is_whole:
        first = room.problem.nodes.names[seats.places[0][1]]
        return Reason("undecided", values=values | {"node": first, "fits": 1}), seats
    lacking = _lacking(where, unit)
    task = _first_out(unit, seats)
    values |= _measure(_with_seats(where, seats), task, lacking)
    kind = "gang" if seats.places else _kind(values, lacking, is_static=is_static)
    names = tuple(LACKS[number] for number in sorted(lacking))
    return Reason(kind, names, is_static, seats.is_proven, values), seats


def _first_out(unit: tuple[int, ...], seats: Seats) -> int:
    """Return the first task of the unit that found no place."""
    placed = {task for task, _, _ in seats.places}
    return next((task for task in unit if task not in placed), unit[0])


def _with_seats(room: Room, seats: Seats) -> Room:
    room = room.copy()
    for place in seats.places:
        room.put(*place)
    return room


def _lacking(room: Room, unit: tuple[int, ...]) -> frozenset[int]:
    if len(unit) == 1:
        return _lacking_of_one(room.lacks(unit[0]))
    concerned = _concerned(room, unit)
    for size in range(1, _LARGEST_SET + 1):
        sets = [frozenset(chosen) for chosen in combinations(concerned, size)]
        found = [one for one in sets if fits_without(room, unit, one).is_whole]
        if found:
            return min(found, key=lambda one: (ZONE in one, sorted(one)))
    lacking = frozenset(concerned)
    for number in concerned:
        # None of a larger set is needless, though another set may be smaller.
        if fits_without(room, unit, lacking - {number}).is_whole:
            lacking -= {number}
    return lacking


def _concerned(room: Room, unit: tuple[int, ...]) -> list[int]:
    """Return the constraints that the unit has at all."""
    tasks, members = room.problem.tasks, list(unit)
    amounts = np.column_stack([tasks.gpus[members], tasks.demand[members]]).max(axis=0) > 0
    groups = (tasks.apart, tasks.together, tasks.quotas)
    has_group = [bool((column[members] >= 0).any()) for column in groups]
    return [n for n, has in enumerate([True, *amounts.tolist(), *has_group]) if has]


def _lacking_of_one(lacks: Bools) -> frozenset[int]:
    """Return the smallest set that some node lacks; of equal ones, the one of the most nodes."""
    if not len(lacks):
        return frozenset((ZONE,))
    codes: Ints = lacks @ (1 << np.arange(len(LACKS)))
    sets, counts = np.unique(codes, return_counts=True)
    sizes = [sum(code >> n & 1 for n in range(len(LACKS))) for code in sets.tolist()]
    at = min(
        range(len(sets)),
        key=lambda k: (sizes[k], bool(sets[k] >> ZONE & 1), -counts[k], sets[k]),
    )
    return frozenset(n for n in range(len(LACKS)) if sets[at] >> n & 1)


def _kind(values: dict[str, int | str], lacking: frozenset[int], *, is_static: bool) -> str:
    if lacking == {ZONE}:
        return "no-node"
    if lacking == {QUOTA}:
        return "quota"
    if len(lacking) == 1 and not lacking <= RESOURCES:
        return LACKS[next(iter(lacking))]
    if is_static and lacking <= RESOURCES:
        return "too-large"
    if lacking == {GPUS}:
        return "fragmented" if values["free_in_all"] >= values["wanted_in_all"] else "full"  # type: ignore[operator]
    return "exhausted" if len(lacking) == 1 else "several"


def _measure(room: Room, task: int, lacking: frozenset[int]) -> dict[str, int | str]:
    """Return the amounts that a sentence about the lacking constraints needs."""
    problem, tasks = room.problem, room.problem.tasks
    lacks = room.lacks(task)
    zone = ~lacks[:, ZONE]
    # Where nothing else lacks: of a gang's last task that may be nowhere.
    only = lacks_nothing(np.delete(lacks, sorted(lacking), axis=1))
    near = only if only.any() else zone
    values: dict[str, int | str] = {
        "task": tasks.names[task],
        "zone": problem.zone_names[tasks.zone[task]],
        "zone_nodes": int(zone.sum()),
        "nodes": int(only.sum()),
        "gpus": int(tasks.gpus[task]),
        "milli": int(tasks.milli[task]),
    }
    if GPUS in lacking:
        values |= _devices(room, task, zone, near)
        lacks[:, GPUS] |= lacks[:, ZONE]
        has_devices = ~lacks[:, GPUS]
        for number in range(CPU, DISK + 1):
            others = lacks_nothing(np.delete(lacks, number, axis=1))
            values[f"only_{LACKS[number]}"] = int((has_devices & others).sum())
    for number in sorted(lacking & frozenset(range(CPU, DISK + 1))):
        most = room.free[near, number - CPU].max(initial=0)
        values[f"wanted_{LACKS[number]}"] = int(tasks.demand[task, number - CPU])
        values[f"most_{LACKS[number]}"] = int(max(most, 0))
    return values | _nearest(room, task, near)


def _devices(room: Room, task: int, zone: Bools, near: Bools) -> dict[str, int | str]:
    """Return what is free where only devices lack (`near`): in thousandths of one for a share."""
    tasks = room.problem.tasks
    is_share = bool(tasks.is_share[task])
    left = np.maximum(room.left, 0)
    free = left.max(axis=1, initial=0) if is_share else room.enough_devices(task)
    return {
        "most_free": int(free[near].max(initial=0)),
        "most_free_anywhere": int(free[zone].max(initial=0)),
        "free_in_all": int(left[near].sum() if is_share else free[near].sum()),
        "wanted_in_all": int(tasks.milli[task] if is_share else tasks.gpus[task]),
    }


def _nearest(room: Room, task: int, nodes: Bools) -> dict[str, int | str]:
    """Return the node that lacks the least, as a share of what is wanted, and what it lacks."""
    tasks = room.problem.tasks
    at = np.flatnonzero(nodes)
    if not len(at):
        return {}
    need = np.append(tasks.demand[task], tasks.gpus[task])
    has = np.column_stack([room.free[at], room.enough_devices(task)[at]])
    missing: Ints = np.maximum(need - has, 0)
    share = (missing / np.maximum(need, 1)).sum(axis=1)
    best = int(np.argmin(share))
    names = ("cpu", "memory", "disk", "gpus")
    found: dict[str, int | str] = {"nearest": room.problem.nodes.names[at[best]]}
    lacking = zip(names, missing[best].tolist(), strict=True)
    found |= {f"missing_{name}": amount for name, amount in lacking if amount}
    return found


def quota_values(room: Room, unit: tuple[int, ...]) -> Iterable[tuple[int, int, int, int]]:
    """Yield (quota, column, wanted, left) where a unit wants more than a quota has left."""
    for quota, amounts in consumption_of(room, unit).items():
        for column in np.flatnonzero(room.quota_left[quota] < amounts).tolist():
            yield quota, column, int(amounts[column]), int(room.quota_left[quota, column])
