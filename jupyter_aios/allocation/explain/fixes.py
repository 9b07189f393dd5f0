"""What would mend it: each fix is applied, the task is placed in the changed problem, and checked.

A fix is "the smallest" only in this sense, and only where it is proven: no smaller change of the
same kind lets the task in, all tasks that the fix does not name staying where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.explain import words
from jupyter_aios.allocation.explain.changes import Change, Demand, apply
from jupyter_aios.allocation.explain.clearing import Clearing, Clearings
from jupyter_aios.allocation.explain.reasons import Reason, quota_values
from jupyter_aios.allocation.explain.room import CPU, DISK, GPUS, LACKS, QUOTA, ZONE, Room
from jupyter_aios.allocation.explain.seats import Seats, are_equal, fits_without, seat
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Ints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.allocation.problem import Problem

_MOST_NEW_NODES = 64


@dataclass(frozen=True, eq=False)
class Fix:
    """One way to have a task placed.

    kinds: `place` (it fits as it is); `moves`; `free` (tasks give up their place); `quota`;
    `add-nodes`; `less` (ask for less); `zone` (allow another node); `priority`.
    """

    kind: str
    sentence: str
    change: Change
    size: int
    """What is to be small: tasks that move or go, nodes that are added, what is asked for less."""
    placed: Placed
    """A placement of the changed problem with the task in it."""
    is_verified: bool
    """`check.faults` found none in it, and every task is placed that was, but those that go."""
    is_smallest: bool
    """Proven: no smaller change of this kind does, what it does not name staying where it is."""


@dataclass(frozen=True, eq=False)
class Mending:
    """Finds the fixes of one unit that is not placed."""

    room: Room
    unit: tuple[int, ...]
    reason: Reason
    weights: Ints
    """n: what each task adds to the first level."""
    first_level: str

    def fixes(self) -> tuple[Fix, ...]:
        """Return verified fixes, the mildest first."""
        found = [fix for fix in self._all() if fix.is_verified]
        return tuple(found)

    @property
    def _problem(self) -> Problem:
        return self.room.problem

    def _all(self) -> Iterator[Fix]:
        seats = seat(self.room, self.unit)
        if seats.is_whole:
            yield self._fix("place", "place it now", Change(), 0, seats, is_smallest=True)
            return
        lacking = frozenset(LACKS.index(name) for name in self.reason.lacking)
        yield from self._moves()
        yield from self._free()
        yield from self._quota()
        yield from self._less(lacking)
        yield from self._zone()
        yield from self._nodes()

    def _fix(
        self, kind: str, told: str, change: Change, size: int, seats: Seats, *, is_smallest: bool
    ) -> Fix:
        problem = apply(self._problem, change)
        assignment, devices = self.room.assignment.copy(), self.room.devices.copy()
        gone = list(change.stop)
        assignment[gone], devices[gone] = NO, 0
        for task, node, bits in seats.places:
            assignment[task], devices[task] = node, bits
        return Fix(
            kind,
            told,
            change,
            size,
            Placed(assignment, devices),
            self._is_verified(problem, change, assignment, devices),
            is_smallest,
        )

    def _is_verified(
        self, problem: Problem, change: Change, assignment: Ints, devices: Ints
    ) -> bool:
        stays = self.room.assignment != NO
        stays[list(change.stop)] = False
        moved = np.zeros(len(stays), bool)
        moved[[task for task, _, _ in change.moves]] = True
        same = (assignment == self.room.assignment) & (devices == self.room.devices)
        if (assignment[list(self.unit)] == NO).any() or not (same | moved)[stays].all():
            return False
        return not faults(problem, assignment, devices, most=1)

    # ---------------------------------------------------------------------- who is in the way

    def _moves(self) -> Iterator[Fix]:
        found = Clearings(self.room, self.unit, self.weights, is_move=True).fewest()
        if found is None or len(found.tasks) > max(3, len(self.unit)):
            return
        seats = Seats(found.places, is_whole=True, is_proven=False)
        moves = tuple(place for place in found.places if place[0] in found.tasks)
        told = "move " + words.listed(
            [f"{self._problem.tasks.names[i]} to {self._where(i, node)}" for i, node, _ in moves]
        )
        yield self._fix(
            "moves", told, Change(moves=moves), len(moves), seats, is_smallest=found.is_smallest
        )

    def _where(self, task: int, node: int) -> str:
        name = self._problem.nodes.names[node]
        return f"other GPUs of {name}" if self.room.assignment[task] == node else name

    def _free(self) -> Iterator[Fix]:
        search = Clearings(self.room, self.unit, self.weights, is_move=False)
        fewest = search.fewest()
        cheapest = search.cheapest()
        both = [one for one in (fewest, cheapest) if one is not None]
        if len(both) == 2 and self._lost(both[0]) <= self._lost(both[1]):  # noqa: PLR2004
            both.pop()
        for found in both:
            yield self._freeing(found)
        if both and self.first_level == "priority":
            yield from self._priority(both[-1])

    def _lost(self, found: Clearing) -> int:
        return int(self.weights[list(found.tasks)].sum())

    def _freeing(self, found: Clearing) -> Fix:
        tasks, gone = self._problem.tasks, list(found.tasks)
        nodes = dict.fromkeys(self.room.assignment[gone].tolist())
        where = words.listed([self._problem.nodes.names[node] for node in nodes])
        milli = int(tasks.gpu_milli[gone].sum())
        cpu, memory, disk = tasks.demand[gone].sum(axis=0).tolist()
        amounts = {"gpus": milli, "cpu": cpu, "memory": memory, "disk": disk}
        # Of what they hold, what the task lacks; the place itself where it is none of these.
        freed = words.listed(
            [words.freed(name, amounts[name]) for name in self.reason.lacking if amounts.get(name)]
        )
        held = " (in force, and may not be stopped)" if tasks.must_be_placed[gone].any() else ""
        who = words.names_of(self._problem, gone) + held
        told = f"free {freed or 'the place'} on {where}: stop {who}"
        seats = Seats(found.places, is_whole=True, is_proven=False)
        change = Change(stop=found.tasks)
        return self._fix("free", told, change, len(gone), seats, is_smallest=found.is_smallest)

    def _priority(self, found: Clearing) -> Iterator[Fix]:
        """The least priority at which the unit is worth more than those that would have to go."""
        tasks, members = self._problem.tasks, list(self.unit)
        if tasks.must_be_placed[list(found.tasks)].any():
            return
        from jupyter_aios.allocation.objectives import sizes

        size, lost = int(sizes(self._problem)[members].sum()), self._lost(found)
        if size == 0 or int(self.weights[members].sum()) > lost:
            return
        least = lost // size
        told = f"raise the priority above {least}: it is then worth more than " + (
            words.names_of(self._problem, found.tasks)
        )
        seats = Seats(found.places, is_whole=True, is_proven=False)
        change = Change(priorities=tuple((task, least + 1) for task in members), stop=found.tasks)
        yield self._fix("priority", told, change, least + 1, seats, is_smallest=False)

    # ---------------------------------------------------------------------- other limits

    def _quota(self) -> Iterator[Fix]:
        seats = fits_without(self.room, self.unit, frozenset((QUOTA,)))
        if not seats.is_whole:
            return
        limits, told, size = [], [], 0
        for quota, column, wanted, left in quota_values(self.room, self.unit):
            limit = int(self._problem.quota_limits[quota, column]) + wanted - left
            limits.append((quota, column, limit))
            size += wanted - left
            name = self._problem.quotas[quota].name
            told.append(f"raise the quota of {name} to {words.quota_amount(column, limit)}")
        change = Change(quotas=tuple(limits))
        yield self._fix("quota", words.listed(told), change, size, seats, is_smallest=True)

    def _zone(self) -> Iterator[Fix]:
        members = list(self.unit)
        seats = fits_without(self.room, self.unit, frozenset((ZONE,)))
        if not seats.is_whole or (self._problem.tasks.current[members] != NO).any():
            return
        tasks, nodes = self._problem.tasks, self._problem.nodes
        allow = tuple(
            (task, node)
            for task, node, _ in seats.places
            if not self._problem.zones[tasks.zone[task], node]
        )
        where = dict.fromkeys(node for _, node in allow)
        told = "allow it on " + words.listed([_described(self._problem, node) for node in where])
        if nodes.is_drained[list(where)].all():
            told = "undrain " + words.listed([nodes.names[node] for node in where])
        yield self._fix("zone", told, Change(allow=allow), len(where), seats, is_smallest=False)

    def _nodes(self) -> Iterator[Fix]:
        """Add empty nodes like the smallest one that could hold what does not fit."""
        like = self._template()
        if like is None:
            return
        is_proven = True
        for more in range(1, min(len(self.unit), _MOST_NEW_NODES) + 1):
            change = Change(add_nodes=(like,) * more)
            room = Room.of(apply(self._problem, change), self.room.assignment, self.room.devices)
            seats = seat(room, self.unit)
            if seats.is_whole:
                name = _described(self._problem, like)
                told = f"add {words.count(more, 'node')} like {name}"
                yield self._fix("add-nodes", told, change, more, seats, is_smallest=is_proven)
                return
            if not seats.places and more > 1:
                return
            is_proven = is_proven and seats.is_proven

    def _template(self) -> int | None:
        problem, tasks, nodes = self._problem, self._problem.tasks, self._problem.nodes
        worst = max(self.unit, key=lambda i: (tasks.gpu_milli[i], *tasks.demand[i].tolist()))
        fits = (nodes.capacity >= tasks.demand[worst]).all(axis=1)
        fits &= (nodes.device_count >= tasks.gpus[worst]) & problem.zones[tasks.zone[worst]]
        if not fits.any():
            return None
        at = np.flatnonzero(fits)
        order = np.lexsort((nodes.capacity[at, 0], nodes.device_count[at]))
        return int(at[order[0]])

    def _less(self, lacking: frozenset[int]) -> Iterator[Fix]:
        if len(lacking) != 1 or not are_equal(self._problem, self.unit):
            return
        (what,) = lacking
        if not GPUS <= what <= DISK:
            return
        task = self.unit[0]
        has = self._asked(task, what)
        low, high, best = 0, has, None
        while high - low > 1:
            middle = (low + high) // 2
            room = replace(self.room, problem=apply(self._problem, self._asking(what, middle)))
            seats = seat(room, self.unit)
            low, high, best = (middle, high, seats) if seats.is_whole else (low, middle, best)
        if best is None:
            return
        told = f"ask for {self._amount(what, low)} instead of {self._amount(what, has)}"
        change = self._asking(what, low)
        yield self._fix("less", told, change, has - low, best, is_smallest=True)

    def _asked(self, task: int, what: int) -> int:
        tasks = self._problem.tasks
        if what == GPUS:
            return int(tasks.milli[task] if tasks.is_share[task] else tasks.gpus[task])
        return int(tasks.demand[task, what - CPU])

    def _asking(self, what: int, value: int) -> Change:
        tasks, task = self._problem.tasks, self.unit[0]
        gpus, milli = int(tasks.gpus[task]), int(tasks.milli[task])
        amounts = tasks.demand[task].tolist()
        if what != GPUS:
            amounts[what - CPU] = value
        elif tasks.is_share[task]:
            milli = value
        else:
            gpus = value
        demand = Demand(gpus, milli, (amounts[0], amounts[1], amounts[2]))
        return Change(demands=tuple((member, demand) for member in self.unit))

    def _amount(self, what: int, value: int) -> str:
        if what == GPUS:
            is_share = bool(self._problem.tasks.is_share[self.unit[0]])
            return words.gpus(1, value) if is_share else words.gpus(value, 1000)
        return words.amount(LACKS[what], value)


def _described(problem: Problem, node: int) -> str:
    nodes = problem.nodes
    model = int(nodes.models[node])
    return f"{nodes.names[node]} ({nodes.model_names[model]})" if model >= 0 else nodes.names[node]
