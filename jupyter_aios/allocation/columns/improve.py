"""Some nodes again, where most was lost: a large-neighbourhood search over the same columns.

The prices of the whole programme say where whole numbers cost something: a node whose content pays
less than the node's price. With the tasks left out that would pay, these losses add up to exactly
what the allocation lacks of the programme's value. So the nodes of a window are drawn by their
loss, emptied, and filled again by diving; what is worse is undone. (Shaw 1998, large neighbourhood
search.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.materialise import fill, mend_gangs, places, seat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.columns.diving import Generator
    from jupyter_aios.allocation.columns.room import Room
    from jupyter_aios.allocation.columns.tables import Floats
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints

_SIZES = (60, 120, 36)
"""Nodes of a window, in turn."""
_FAILURES = 24
"""So many windows in a row that gain nothing end the search."""


class Windows:
    """The search around one allocation."""

    def __init__(
        self,
        room: Room,
        weights: Ints,
        generator: Generator,
        units: Sequence[Sequence[int]],
    ) -> None:
        self.room, self.generator = room, generator
        classes = generator.classes
        self.classes, self.types = classes, generator.types
        self.units = units
        self.takes_part: Bools = classes.of_task >= 0
        musts = room.problem.tasks.must_be_placed
        self.worth = weights + musts * (int(weights.sum()) + 1)
        self.gang_nodes = self._gangs()

    def _gangs(self) -> bool:
        return bool((self.room.problem.tasks.gang[self.takes_part] >= 0).any())

    def value(self) -> int:
        """Return what is placed; a task that must be placed counts more than all others."""
        return int(self.worth[self.room.node >= 0].sum())

    def improve(self, effort: Effort) -> None:
        """Replace windows until time is over or nothing gains any more."""
        if self.generator.prices is None:
            return
        draw = np.random.default_rng(effort.seed)
        failures, number, best = 0, 0, self.value()
        while failures < _FAILURES and not effort.is_over():
            losses = self._losses()
            if losses.sum() <= 0 or not (self.room.node[self.takes_part] < 0).any():
                return
            size = _SIZES[number % len(_SIZES)]
            number += 1
            inside = self._window(losses, size, draw)
            before = self.room.copy()
            self._again(inside, effort)
            value = self.value()
            if value < best:
                self.room.become(before)
            failures = 0 if value > best else failures + 1
            best = max(best, value)

    def _losses(self) -> Floats:
        """Return how much less each node's content pays than the node's price."""
        prices = self.generator.prices
        if prices is None:
            return np.zeros(len(self.room.free))
        here = np.flatnonzero(self.takes_part & (self.room.node >= 0))
        pays = np.zeros(len(self.room.free))
        np.add.at(pays, self.room.node[here], prices.profit[self.classes.of_task[here]])
        return np.maximum(prices.node[self.types.of_node] - pays, 0.0)

    def _window(self, losses: Floats, size: int, draw: np.random.Generator) -> Bools:
        """Return nodes, drawn by their loss, and with them the nodes of their gangs."""
        # The largest of loss ÷ exponential noise is a draw without replacement.
        share = losses + 0.02 * losses.max()
        order = np.argsort(draw.exponential(size=len(losses)) / share, kind="stable")
        inside = np.zeros(len(losses), bool)
        if not self.gang_nodes:
            inside[order[:size]] = True
            return inside
        gang, node = self.room.problem.tasks.gang, self.room.node
        for at in order.tolist():
            more = _closure(at, gang, node)
            if inside.sum() + len(more) <= max(size, 2):
                inside[more] = True
            if inside.sum() >= size:
                break
        return inside

    def _again(self, inside: Bools, effort: Effort) -> None:
        room = self.room
        placed = np.flatnonzero(self.takes_part & (room.node >= 0))
        for task in placed[inside[room.node[placed]]].tolist():
            room.take(task)
        waiting = self.takes_part & (room.node < 0)
        nodes = np.bincount(self.types.of_node[inside], minlength=len(self.types))
        found = self.generator.again(waiting, nodes, room.quotas_left, effort)
        units = [unit for unit in self.units if room.node[unit[0]] < 0]
        at = places(room, self.classes, self.types, found, np.flatnonzero(inside))
        seat(room, self.generator, at, units)
        mend_gangs(room, self.takes_part)
        fill(room, units, effort)


def _closure(start: int, gang: Ints, node: Ints) -> list[int]:
    """Return a node and all that are tied to it by gangs."""
    found, new = {start}, [start]
    while new:
        gangs = np.unique(gang[np.isin(node, new) & (gang >= 0)])
        more = (
            set(np.unique(node[np.isin(gang, gangs) & (node >= 0)]).tolist())
            if len(gangs)
            else set()
        )
        new = sorted(more - found)
        found |= more
    return sorted(found)
