"""Which contents how many nodes get: columns until none is better, then whole numbers by diving.

Diving: fix the whole parts of the programme's solution, take them off, price what is left anew,
and go on (Vanderbeck 2011, "Branching in branch-and-price", section on primal heuristics).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.master import Master, Pattern, Prices
from jupyter_aios.allocation.columns.pricing import Pricer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.columns.filling import Slots
    from jupyter_aios.allocation.columns.kinds import Claims, Classes, Types
    from jupyter_aios.allocation.columns.tables import Floats
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints

Chosen = list[tuple[Pattern, int]]
"""Contents, and how many nodes get them."""

_EXTRAS = (0.0, 0.3, 1.0)
"""Prices on the other resources to search with, as shares of what the dearest node is worth."""
_STALLED_COARSE, _STALLED = 1e-4, 1e-5
"""A gain of less than this share, over a few rounds, ends the search for columns."""
_COARSE, _FINE = 320, 640
"""Units of the main resource that the largest node has, while prices change and after."""
_ROUNDS = 6
_SMOOTH = 0.8
"""Weight of earlier prices in those that columns are searched with (Wentges 1997, Neame 1999)."""
_LIKELY, _TINY = 0.5, 1e-6
"""Parts of a column that are more likely one than none, and that are nothing."""
_HURRY = 0.4
"""When less than this share of a dive's time is left, it prices no more and fixes more at once."""
_SEEDS = 60
_CHUNK = 96
"""Types that are priced at a time."""


class Generator:
    """Columns for one set of classes and types; they are kept for what is asked later."""

    def __init__(self, classes: Classes, claims: Claims, types: Types, quotas_left: Ints) -> None:
        self.classes, self.claims, self.types = classes, claims, types
        self.master = Master(classes, claims, types, quotas_left)
        axis = _axis(classes, types)
        self.pricer = Pricer(classes, types, axis, _COARSE, is_careful=False)
        self.fine = Pricer(classes, types, axis, _FINE)
        self.start = classes.weight / self.master.scale
        self.start[classes.has_must] += 1.0
        self.claimed = np.zeros(len(claims))
        """K: how many units of each claim the places were chosen for."""
        self._next = 0
        self.prices: Prices | None = None
        """Of the whole programme, when it was solved last."""

    def run(self, effort: Effort, known: Sequence[tuple[int, Slots]] = ()) -> Chosen:
        """Return contents for all nodes; none where there was no time.

        `known` contents, (type, contents), are what it starts with: those of a greedy allocation
        are nearly as good as any, mixed anew.
        """
        if not self.master.add(known, None):
            self._seed(effort.share(0.15))
        self._improve(effort.share(0.45), _STALLED_COARSE)
        self.pricer = self.fine
        self._improve(effort.share(0.4), _STALLED)
        return self._dive(effort, rounds=2)

    def again(self, waiting: Bools, nodes: Ints, quotas_left: Ints, effort: Effort) -> Chosen:
        """Return contents for some nodes of each type (T), of the tasks that wait (n).

        Where nothing is whole, one column is fixed at a time: few nodes forgive no haste.
        """
        self.master.reset(waiting, nodes, quotas_left)
        return self._dive(effort, rounds=1, likely=1.0)

    def _seed(self, effort: Effort) -> None:
        """Add what a greedy choice of contents gives, node after node, until nothing is left.

        The programme then starts near its end: prices out of contents that all want the same few
        tasks say little.
        """
        supply, nodes = self.classes.count.copy(), self.types.count.copy()
        nothing = np.zeros(3)
        for _ in range(_SEEDS + 2 * len(self.types) // _CHUNK):
            used = False
            for market, which in self._turn(nodes):
                if effort.is_over():
                    return
                contents = self.pricer.best(market, self.start, supply, nothing, which)
                for one, (slots, _) in zip(which.tolist(), contents, strict=True):
                    if not slots:
                        nodes[one] = 0
                        continue
                    tasks, counts = np.unique([task for task, _ in slots], return_counts=True)
                    times = min(int((supply[tasks] // counts).min()), int(nodes[one]))
                    supply[tasks] -= times * counts
                    nodes[one] -= times
                    self.master.add([(one, slots)], None)
                    used = True
            if not used:
                break

    def _turn(self, nodes: Ints) -> list[tuple[int, Ints]]:
        """Return the types whose turn it is, by market: all of them where they are few."""
        has = np.flatnonzero(nodes > 0)
        if len(has) > _CHUNK:
            after = np.searchsorted(has, self._next) % len(has)
            has = np.roll(has, -after)[:_CHUNK]
            self._next = int(has[-1]) + 1
        market = self.types.market[has]
        return [(one, np.sort(has[market == one])) for one in np.unique(market).tolist()]

    def _price(
        self, prices: Prices, extras: tuple[float, ...], effort: Effort, exact: Prices | None = None
    ) -> int:
        """Add contents that are good at `prices` and improve (at `exact` ones); return how many."""
        supply, nodes = self.master.supply, self.master.nodes
        dearest = prices.node.max(initial=0.0)
        found: list[tuple[int, Slots]] = []
        for market, turn in self._turn(nodes):
            which = turn
            for share in extras:
                if not len(which) or effort.is_over():
                    break
                extra = share * dearest / self.pricer.price_scale
                extra[self.pricer.axis] = 0.0
                contents = self.pricer.best(market, prices.profit, supply, extra, which)
                found.extend(
                    (one, slots) for one, (slots, _) in zip(which.tolist(), contents, strict=True)
                )
                which = which[[lacks for _, lacks in contents]]
        return self.master.add(found, exact or prices)

    def _improve(self, effort: Effort, stalled: float) -> None:
        """Add columns until nothing gains."""
        # Every type is to have had its turn a few times.
        turns = -(-len(self.types) // _CHUNK)
        rounds = _ROUNDS * turns
        values: list[float] = []
        smooth: Prices | None = None
        is_last = False
        while (solved := self.master.solve(effort)) is not None:
            value, self.prices = solved
            values.append(value)
            before = values[-rounds] if len(values) > rounds else -np.inf
            if value - before <= stalled * abs(value):
                # Prices of long ago may be to blame: once more with those of now alone.
                if smooth is None or is_last:
                    break
                smooth, is_last = None, True
                values.clear()
            smooth = self.prices if smooth is None else self.prices.mixed(smooth, _SMOOTH)
            if self._price(smooth, _EXTRAS, effort, self.prices):
                continue
            smooth = None
            if not any(self._price(self.prices, _EXTRAS, effort) for _ in range(turns)):
                break

    def _dive(self, effort: Effort, rounds: int, likely: float = _LIKELY) -> Chosen:
        master, hurry_s = self.master, _HURRY * effort.left_s()
        fixed: dict[int, int] = {}
        solved = master.solve(effort)
        uses = np.zeros(0)
        while solved is not None:
            is_late = effort.left_s() < hurry_s
            for _ in range(rounds if fixed and not is_late else 0):
                if not self._price(solved[1], (0.0, 0.5), effort):
                    break
                again = master.solve(effort)
                if again is None:
                    break
                solved = again
            self.claimed, uses = master.claimed(), master.uses()
            times = _whole_parts(master, uses, 0.0 if is_late else likely)
            if not times:
                break
            _fix(master, times, fixed)
            for column, count in times.items():
                uses[column] = max(uses[column] - count, 0.0)
            if not master.nodes.any():
                break
            solved = master.solve(effort)
        if solved is None:
            _fix(master, _rounded(master, uses, len(uses)), fixed)
        return [(master.patterns[column], count) for column, count in sorted(fixed.items())]


def _axis(classes: Classes, types: Types) -> int:
    """Return the resource that is scarcest: the second dimension of the tables."""
    needs = (classes.demand.astype(float) * classes.count[:, None]).sum(axis=0)
    has = (types.free.astype(float) * types.count[:, None]).sum(axis=0)
    return int((needs / np.maximum(has, 1.0)).argmax())


def _fix(master: Master, times: dict[int, int], fixed: dict[int, int]) -> None:
    for column, count in times.items():
        fixed[column] = fixed.get(column, 0) + count
    master.shrink(times)


def _whole_parts(master: Master, uses: Floats, likely: float) -> dict[int, int]:
    """Return how often to fix which columns: whole parts, or a third of the likely ones."""
    whole = np.floor(uses + _TINY).astype(np.int64)
    if whole.any():
        return {int(column): int(whole[column]) for column in np.flatnonzero(whole)}
    return _rounded(master, uses, max(1, int((uses > likely).sum()) // 3))


def _rounded(master: Master, uses: Floats, most: int) -> dict[int, int]:
    """Return the columns with the largest parts, as far as nodes and tasks go."""
    chosen: dict[int, int] = {}
    nodes, supply = master.nodes.copy(), master.supply.copy()
    for column in np.argsort(-uses, kind="stable").tolist():
        if uses[column] < _TINY or len(chosen) == most:
            break
        pattern = master.patterns[column]
        if nodes[pattern.type] and all(supply[one] >= count for one, count in pattern.counts):
            nodes[pattern.type] -= 1
            for one, count in pattern.counts:
                supply[one] -= count
            chosen[column] = 1
    return chosen
