"""Contents of types become tasks on nodes and devices; what is left over is tried one by one."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.filling import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.allocation.columns.diving import Generator
    from jupyter_aios.allocation.columns.filling import Slots
    from jupyter_aios.allocation.columns.kinds import Classes, Types
    from jupyter_aios.allocation.columns.master import Pattern
    from jupyter_aios.allocation.columns.room import Room
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.placed import Placed
    from jupyter_aios.allocation.problem import Bools, Ints

Places = tuple["Ints", "Ints", "Ints"]
"""Class, node and devices (as bits) of each place."""


def places(
    room: Room,
    classes: Classes,
    types: Types,
    chosen: Sequence[tuple[Pattern, int]],
    inside: Ints | None = None,
) -> Places:
    """Return the places that contents give on nodes of their types (on those `inside`, if given).

    Where tasks in force are to be placed again, contents go to the nodes that hold most of them.
    """
    nodes = np.arange(len(types.of_node)) if inside is None else inside
    rank = np.argsort(-room.devices, axis=1, kind="stable")
    waiting = {one: nodes[types.of_node[nodes] == one] for one in range(len(types))}
    held = _held(room, classes)
    of, at, bits = [], [], []
    for pattern, times in sorted(chosen, key=lambda x: -len(x[0].slots)):
        here = waiting[pattern.type]
        if held is not None:
            overlap = np.zeros(len(here), np.int64)
            for one, count in pattern.counts:
                overlap += np.minimum(held[here, one], count)
            here = here[np.argsort(-overlap, kind="stable")]
        waiting[pattern.type] = here[times:]
        for node in here[:times].tolist():
            for one, slots in pattern.slots:
                of.append(one)
                at.append(node)
                bits.append(_real(slots, rank[node]))
    return np.array(of, np.int64), np.array(at, np.int64), np.array(bits, np.int64)


def contents(room: Room, classes: Classes, types: Types, placed: Placed) -> list[tuple[int, Slots]]:
    """Return what an allocation has on the nodes: (type, contents), each once, of what fits there.

    It may be of another room than this one; tasks that take no part here are left out.
    """
    of = classes.of_task
    here = np.flatnonzero((placed.assignment >= 0) & (of >= 0))
    node = placed.assignment[here]
    here = here[types.allowed[types.market[types.of_node[node]], of[here]]]
    order = np.argsort(-room.devices, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    by_node: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for one, at, bits in zip(
        of[here].tolist(),
        placed.assignment[here].tolist(),
        placed.devices[here].tolist(),
        strict=True,
    ):
        by_node[at].append((one, _real(bits, rank[at]) if bits else 0))
    found = {(int(types.of_node[at]), tuple(sorted(slots))) for at, slots in by_node.items()}
    return [(one, slots) for one, slots in sorted(found) if fits(classes, types, one, slots)]


def _held(room: Room, classes: Classes) -> Ints | None:
    """Return how many tasks of each class are in force on each node (m × C); None: none at all."""
    tasks = room.problem.tasks
    again = np.flatnonzero((classes.of_task >= 0) & tasks.is_in_force)
    if not len(again):
        return None
    held = np.zeros((len(room.free), len(classes)), np.int64)
    np.add.at(held, (tasks.current[again], classes.of_task[again]), 1)
    return held


def _real(slots: int, rank: Ints) -> int:
    bits, number = 0, 0
    while slots >> number:
        if slots >> number & 1:
            bits |= 1 << int(rank[number])
        number += 1
    return bits


def seat(room: Room, generator: Generator, found: Places, units: Sequence[Sequence[int]]) -> None:
    """Give places to tasks of their classes, gangs all or none, in the order of `units`.

    First as many units of each claim as the places were chosen for, then whoever is left. Tasks in
    force get a place where they are, if there is one. Places that nobody may take, as all who could
    are to be apart from somebody there, stay empty; gangs may be incomplete then.
    """
    of, node, bits = found
    count = np.bincount(of, minlength=len(generator.classes))
    who = _called(room, generator, count.tolist(), units)
    tasks = room.problem.tasks
    is_simple = (tasks.apart < 0) & (tasks.together < 0) & (tasks.current < 0)
    place_of = np.argsort(of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(count)])
    seats, taken = [], []
    for one, called in who.items():
        mine = place_of[starts[one] : starts[one + 1]]
        if is_simple[called].all():
            seats.extend(mine[: len(called)].tolist())
            taken.extend(called)
        else:
            _seat_with_care(room, called, node[mine], bits[mine])
    room.put_many(np.array(taken, np.int64), node[seats], bits[seats])


def _called(
    room: Room, generator: Generator, left: list[int], units: Sequence[Sequence[int]]
) -> dict[int, list[int]]:
    """Return which tasks of each class get a place, as far as places and quotas go."""
    claims = generator.claims
    budget = np.floor(generator.claimed * claims.size + 1e-6).astype(np.int64).tolist()
    calls = _Calls(room, generator.classes.of_task.tolist(), left)
    late = []
    claim_of = claims.of_task.tolist()
    for unit in units:
        one = claim_of[unit[0]]
        if budget[one] >= len(unit) and calls.call(unit):
            budget[one] -= len(unit)
        else:
            late.append(unit)
    for unit in late:
        calls.call(unit)
    return calls.called


class _Calls:
    """Who gets a place, while places and quotas last."""

    def __init__(self, room: Room, class_of: list[int], left: list[int]) -> None:
        self.class_of, self.left = class_of, left
        self.quotas_of = room.quotas_of
        self.quotas_left = room.quotas_left.copy()
        self.consumption = room.problem.tasks.consumption
        self.called: dict[int, list[int]] = defaultdict(list)

    def call(self, unit: Sequence[int]) -> bool:
        """Call a unit with all its tasks; True where there was enough for it."""
        for number, task in enumerate(unit):
            if self.left[self.class_of[task]] <= 0 or not self._take(task, 1):
                for other in unit[:number]:
                    self._take(other, -1)
                return False
        for task in unit:
            self.called[self.class_of[task]].append(task)
        return True

    def _take(self, task: int, sign: int) -> bool:
        quotas = self.quotas_of[task] if self.quotas_of is not None else None
        if quotas:
            left = self.quotas_left[quotas] - sign * self.consumption[task]
            if sign > 0 and (left < 0).any():
                return False
            self.quotas_left[quotas] = left
        self.left[self.class_of[task]] -= sign
        return True


def _seat_with_care(room: Room, called: list[int], node: Ints, bits: Ints) -> None:
    """Seat tasks of one class of which some are in force, or mind who else is where."""
    tasks = room.problem.tasks
    free: dict[int, list[int]] = defaultdict(list)
    for at, on in zip(node.tolist(), bits.tolist(), strict=True):
        free[at].append(on)
    waiting: dict[int, list[int]] = defaultdict(list)
    for task in called:
        at, own = int(tasks.current[task]), int(tasks.current_devices[task])
        if free.get(at) and room.may_join(task, at):
            on = own if own in free[at] else free[at][0]
            free[at].remove(on)
            room.put(task, at, on)
        else:
            waiting[int(tasks.apart[task])].append(task)
    # The nodes with most places first, and there the tags with most tasks: Gale and Ryser's rule.
    for at in sorted(free, key=lambda at: -len(free[at])):
        for on in free[at]:
            tags = sorted(waiting, key=lambda tag: (tag < 0, -len(waiting[tag])))
            for tag in tags:
                if waiting[tag] and room.may_join(waiting[tag][0], at):
                    room.put(waiting[tag].pop(0), at, on)
                    break


def mend_gangs(room: Room, chosen: Bools) -> None:
    """Complete gangs that are placed in part, or take them out."""
    gang = room.problem.tasks.gang
    bound = np.flatnonzero(gang >= 0)
    if not len(bound):
        return
    placed = np.bincount(gang[bound], room.node[bound] >= 0)
    size = np.bincount(gang[bound])
    for one in np.flatnonzero((placed > 0) & (placed < size)).tolist():
        members = bound[gang[bound] == one]
        missing = members[room.node[members] < 0].tolist()
        if chosen[missing].all() and room.put_unit(missing):
            continue
        for task in members[room.node[members] >= 0].tolist():
            room.take(task)


def fill(room: Room, units: Iterable[Sequence[int]], effort: Effort) -> None:
    """Place what still fits, in the order of `units`; tasks that are alike fail together."""
    failed: set[tuple[int, ...]] = set()
    alike, node = room.likeness.tolist(), room.node.tolist()
    for number, unit in enumerate(units):
        if node[unit[0]] >= 0:
            continue
        key = tuple(alike[task] for task in unit)
        if key in failed:
            continue
        if number % 16 == 0 and effort.is_over():
            return
        if not room.put_unit(unit):
            failed.add(key)
