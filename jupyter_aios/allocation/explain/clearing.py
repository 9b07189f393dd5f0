"""Which placed tasks have to go, or to move, so that a task or gang fits beside the rest.

On a small problem every set of tasks is tried, the small ones first, and then the smallest is known
to be the smallest. On a large one all single tasks are looked at in a few array operations, and
sets of several only on the nodes that lack least.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.explain.room import (
    APART,
    CPU,
    DISK,
    GPUS,
    TOGETHER,
    Room,
    lacks_nothing,
)
from jupyter_aios.allocation.explain.seats import Seats, seat, unit_of
from jupyter_aios.allocation.problem import NO, Ints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_SETS = 400
"""Sets that are tried on a small problem."""
_SMALL = 12
"""Placed units up to which all sets of them are tried."""
_SMALL_TASKS = 64
"""Placed tasks up to which they are counted as units at all."""
_MOST_NODES = 12
"""Nodes on which sets of several tasks are looked for on a large problem."""
_MOST_SINGLES = 24
"""Single tasks that are tried on a large problem."""
_MOST_MOVES = 3
_MOST_GONE = 12


@dataclass(frozen=True)
class Clearing:
    """Tasks that are in the way, and where the unit (and they, when they move) then fit."""

    tasks: tuple[int, ...]
    places: tuple[tuple[int, int, int], ...]
    is_smallest: bool
    """It is proven that no fewer tasks do."""


@dataclass(eq=False)
class Clearings:
    """Finds them for one unit. `worth` (n) is what is lost with each task."""

    room: Room
    unit: tuple[int, ...]
    worth: Ints
    is_move: bool
    """The tasks in the way move elsewhere; otherwise they go."""
    _own: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._own = set(self.unit)

    def fewest(self) -> Clearing | None:
        """Return the fewest tasks that were found to be in the way."""
        if int((self.room.assignment != NO).sum()) <= _SMALL_TASKS:
            units = self._units()
            if len(units) <= _SMALL:
                return self._try_all(units)
        found = [one for one in (self._by_members(costs=False), self._single()) if one]
        return min(found, key=lambda one: len(one.tasks), default=None)

    def cheapest(self) -> Clearing | None:
        """Return the tasks of the least worth that were found to be in the way."""
        found = [one for one in (self.fewest(), self._by_members(costs=True)) if one]
        return min(found, key=lambda one: int(self.worth[list(one.tasks)].sum()), default=None)

    def _may(self, task: int) -> bool:
        tasks = self.room.problem.tasks
        if task in self._own:
            return False
        return not self.is_move or tasks.current[task] == NO or bool(tasks.is_movable[task])

    def _units(self) -> list[tuple[int, ...]]:
        """Return what goes or moves at once: a gang goes as a whole, its tasks move singly."""
        placed = np.flatnonzero(self.room.assignment != NO).tolist()
        tasks = self.room.problem.tasks
        units: dict[int, list[int]] = {}
        for i in placed:
            gang = int(tasks.gang[i])
            if self._may(i):
                units.setdefault(-2 - i if gang == NO or self.is_move else gang, []).append(i)
        return [tuple(unit) for unit in units.values()]

    def _try(self, gone: tuple[int, ...]) -> Seats:
        room = self.room.copy()
        for i in gone:
            room.take(i)
        return seat(room, (*self.unit, *gone) if self.is_move else self.unit)

    def _try_all(self, units: list[tuple[int, ...]]) -> Clearing | None:
        sets = [
            tuple(i for unit in chosen for i in unit)
            for size in range(1, len(units) + 1)
            for chosen in combinations(units, size)
        ]
        # Of sets of one size the one that is worth least; those in force that must stay come last.
        must = self.room.problem.tasks.must_be_placed
        sets.sort(key=lambda gone: (len(gone), int(must[list(gone)].sum()), self._lost(gone)))
        size, is_proven, is_proven_below = 0, True, True
        for gone in sets[:_MOST_SETS]:
            if len(gone) > size:
                size, is_proven_below = len(gone), is_proven
            seats = self._try(gone)
            if seats.is_whole:
                return Clearing(gone, seats.places, is_smallest=is_proven_below)
            is_proven = is_proven and seats.is_proven
        return None

    def _lost(self, gone: tuple[int, ...]) -> int:
        return int(self.worth[list(gone)].sum())

    # ------------------------------------------------------------------ on a large problem

    def _single(self) -> Clearing | None:
        if len(self.unit) > 1:
            return None
        candidates = [i for i in self._singles(self.unit[0]).tolist() if self._may(i)]
        for i in candidates[:_MOST_SINGLES]:
            gone = (i,) if self.is_move else unit_of(self.room.problem, i)
            if len(gone) > 1:
                continue
            places = self._places(gone)
            if places is not None:
                return Clearing(gone, places, is_smallest=True)
        return None

    def _singles(self, task: int) -> Ints:
        """Return the placed tasks without which the task fits on their node, the cheapest first."""
        room, tasks = self.room, self.room.problem.tasks
        lacks = room.lacks(task)
        lacks[:, GPUS : DISK + 1] = False
        if tasks.apart[task] != NO:
            lacks[:, APART] = False  # the one that goes may be the one to be apart from
        open_nodes = lacks_nothing(lacks)
        placed = np.flatnonzero(room.assignment != NO)
        placed = placed[open_nodes[room.assignment[placed]]]
        node = room.assignment[placed]
        fits = (room.free[node] + tasks.demand[placed] >= tasks.demand[task]).all(axis=1)
        placed, node = placed[fits], node[fits]
        if tasks.gpus[task]:
            bits = room.devices[placed][:, None] >> np.arange(room.left.shape[1]) & 1
            left = room.left[node] + bits * tasks.milli[placed][:, None]
            fits = (left >= tasks.milli[task]).sum(axis=1) >= tasks.gpus[task]
            placed = placed[fits]
        must = tasks.must_be_placed[placed] & (not self.is_move)
        found: Ints = placed[np.lexsort((tasks.gpu_milli[placed], self.worth[placed], must))]
        return found

    def _places(self, gone: tuple[int, ...]) -> tuple[tuple[int, int, int], ...] | None:
        """Return where a single-task unit fits without those, and where those go if they move."""
        room = self.room.copy()
        for i in gone:
            room.take(i)
        return _seat_in_turn(room, (*self.unit, *gone) if self.is_move else self.unit)

    def _by_members(self, *, costs: bool) -> Clearing | None:
        """Make room for one task of the unit after the other, each on the node that costs least."""
        room = self.room.copy()
        gone: list[int] = []
        for i in self.unit:
            if room.assignment[i] != NO:
                continue
            places = _seat_in_turn(room, (i,))
            if places is None:
                best = self._on_some_node(room, i, costs=costs)
                if best is None or len(gone) + len(best) > _MOST_GONE:
                    return None
                for j in best:
                    room.take(j)
                gone += best
                places = _seat_in_turn(room, (i, *(best if self.is_move else ())))
            for place in places or ():
                room.put(*place)
        whole = (*self.unit, *gone) if self.is_move else self.unit
        where = [(i, int(room.assignment[i]), int(room.devices[i])) for i in whole]
        if any(node == NO for _, node, _ in where) or len(set(gone)) < len(gone):
            return None
        return Clearing(tuple(gone), tuple(where), is_smallest=len(gone) == 1)

    def _on_some_node(self, room: Room, task: int, *, costs: bool) -> tuple[int, ...] | None:
        def key(gone: tuple[int, ...]) -> tuple[int, int, int]:
            must = int(room.problem.tasks.must_be_placed[list(gone)].sum())
            lost = self._lost(gone)
            return (must * (not self.is_move), *((lost, len(gone)) if costs else (len(gone), lost)))

        found = []
        for node in self._near_nodes(room, task, costs=costs):
            gone = self._on_node(room, task, node)
            if gone is None or (self.is_move and len(gone) > _MOST_MOVES):
                continue
            if self.is_move:
                tried = room.copy()
                for i in gone:
                    tried.take(i)
                if _seat_in_turn(tried, (task, *gone)) is None:
                    continue
            found.append(gone)
        return min(found, key=key, default=None)

    def _near_nodes(self, room: Room, task: int, *, costs: bool) -> Iterator[int]:
        """Yield nodes that could hold the task when empty: those that lack least, or hold least."""
        problem, tasks = room.problem, room.problem.tasks
        lacks = room.lacks(task)
        lacks[:, GPUS : DISK + 1] = False
        lacks[:, APART] = False
        lacks[:, TOGETHER] &= len(self.unit) == 1
        nodes = np.flatnonzero(problem.may_hold(task) & lacks_nothing(lacks))
        worth = np.zeros(len(problem.nodes), np.int64)
        placed = room.assignment != NO
        np.add.at(worth, room.assignment[placed], self.worth[placed])
        short = np.maximum(tasks.gpus[task] - room.enough_devices(task)[nodes], 0)
        keys = (short, worth[nodes]) if costs else (worth[nodes], short)
        yield from nodes[np.lexsort(keys)][:_MOST_NODES].tolist()

    def _on_node(self, room: Room, task: int, node: int) -> tuple[int, ...] | None:
        """Return tasks of a node without which the task fits there; none of them is needless."""
        held = [i for i in room.on(node).tolist() if self._may(i)]
        must = room.problem.tasks.must_be_placed
        needed = _needed(room, task, node)
        held.sort(key=lambda i: (bool(must[i]) and not self.is_move, *needed(i, self.worth)))
        tried, gone = room.copy(), []
        for i in held:
            if not tried.lacks(task)[node].any():
                break
            if tried.assignment[i] == NO:
                continue
            members = (i,) if self.is_move else unit_of(room.problem, i)
            for member in members:
                tried.take(member)
            gone.append(members)
        if tried.lacks(task)[node].any():
            return None
        for members in list(gone):
            _give_back(tried, room, members)
            if tried.lacks(task)[node].any():
                for member in members:
                    tried.take(member)
            else:
                gone.remove(members)
        return tuple(i for members in gone for i in members)


def _needed(room: Room, task: int, node: int) -> Callable[[int, Ints], tuple[float, int]]:
    """Return a key that puts first who gives much of what the task lacks there for little worth."""
    tasks = room.problem.tasks
    lacks = room.lacks(task)[node]
    wants_devices = bool(lacks[GPUS])
    columns = [c for c in range(3) if lacks[CPU + c]]

    def key(i: int, worth: Ints) -> tuple[float, int]:
        gives = tasks.gpu_milli[i] / max(int(tasks.gpu_milli[task]), 1) if wants_devices else 0.0
        for column in columns:
            gives += tasks.demand[i, column] / max(int(tasks.demand[task, column]), 1)
        return (float(worth[i] / gives) if gives else float("inf"), i)

    return key


def _give_back(tried: Room, room: Room, members: tuple[int, ...]) -> None:
    for member in members:
        tried.put(member, int(room.assignment[member]), int(room.devices[member]))


def _seat_in_turn(room: Room, unit: tuple[int, ...]) -> tuple[tuple[int, int, int], ...] | None:
    """Return places for tasks, one after the other; None where one finds none. No going back."""
    room, places = room.copy(), []
    for i in unit:
        at = np.flatnonzero(room.fits(i))
        if not len(at):
            return None
        node = int(at[np.argmin(room.enough_devices(i)[at])])
        places.append((i, node, room.choose(i, node)))
        room.put(*places[-1])
    return tuple(places)
