"""The master programme: how many nodes of each type get which contents (HiGHS, kept warm).

Dantzig and Wolfe (1960); whole-node patterns as in cutting stock. Patterns give places of classes,
claims take them: a task takes one, a gang as a whole takes several, and what they count and what
quotas they touch is theirs. So a hundred quotas or kinds of gangs make more claims but no more
classes, and pricing stays as fast. Its value is no bound, as pricing is heuristic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.filling import Slots
from jupyter_aios.allocation.columns.tables import Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.columns.kinds import Claims, Classes, Types
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints

_ABSENCE = 50.0
"""What a task that must be placed pays for its absence, in units of the largest weight."""
_WORTH = 1000.0
"""The largest weight, in the programme's units."""


@dataclass(frozen=True)
class Pattern:
    """Contents of one type of node."""

    type: int
    slots: Slots
    counts: tuple[tuple[int, int], ...]
    """(class, how many), in ascending order."""


@dataclass(frozen=True, eq=False)
class Prices:
    """The dual values of the master programme, in its units."""

    profit: Floats
    """C: what a place for a task of the class is worth."""
    node: Floats
    """T: what a node of the type is worth."""

    def mixed(self, other: Prices, share: float) -> Prices:
        """Return prices between these and others, of which they take a share."""
        return Prices(
            (1 - share) * self.profit + share * other.profit,
            (1 - share) * self.node + share * other.node,
        )


class Master:
    """The linear programme over the patterns so far; `shrink` fixes some of them.

    Rows: the places of each class, the nodes of each type, the limits of quotas. Columns: places
    that are missing for what must be placed, claims, patterns.
    """

    def __init__(self, classes: Classes, claims: Claims, types: Types, quotas_left: Ints) -> None:
        import highspy

        from jupyter_aios.allocation.highs import quiet_highs

        self.classes, self.claims, self.types = classes, claims, types
        self.infinity = highspy.kHighsInf
        self.optimal = highspy.HighsModelStatus.kOptimal
        self.solver = quiet_highs()
        self.scale = float(max(int(classes.weight.max(initial=0)), 1)) / _WORTH
        """Weight in one of the programme's units."""
        self.patterns: list[Pattern] = []
        self._known: set[tuple[int, Slots]] = set()
        self._limits = self._limits_that_matter(quotas_left)
        self._unit = [max(int(quotas_left[at]), 1) / 1000.0 for at in self._limits]
        everyone = np.ones(len(claims.of_task), bool)
        self._begin(claims.count(everyone), quotas_left)
        self.nodes = types.count.copy()
        """T: nodes that are not fixed yet."""
        self.supply = classes.count.copy()
        """C: tasks that have no fixed place yet."""
        self._given = np.zeros(len(classes), np.int64)
        self._lower, self._upper = self._bounds()
        none = np.zeros(0)
        for low, high in zip(self._lower, self._upper, strict=True):
            self.solver.addRow(low, high, 0, none.astype(np.int32), none)
        self._add_claims()

    def _limits_that_matter(self, quotas_left: Ints) -> list[tuple[int, int]]:
        """Return (quota, column) of the limits that could bind."""
        claims = self.claims
        count = claims.count(np.ones(len(claims.of_task), bool))
        total: dict[tuple[int, int], int] = {}
        for one, parts in enumerate(claims.consumption):
            for quota, column, amount in parts:
                taken = total.get((quota, column), 0)
                total[quota, column] = taken + amount * int(count[one])
        return sorted(at for at, taken in total.items() if taken > quotas_left[at])

    def _begin(self, count: Ints, quotas_left: Ints) -> None:
        self.count = count
        """K: units that wait."""
        self._left = [max(int(quotas_left[at]), 0) for at in self._limits]

    def _bounds(self) -> tuple[Floats, Floats]:
        """Return the rows' bounds. Limits are in thousandths of themselves: bytes are too many."""
        free = np.full(len(self.types) + len(self._limits), -self.infinity)
        limits = [left / unit for left, unit in zip(self._left, self._unit, strict=True)]
        lower = np.concatenate([-self._given.astype(float), free])
        upper = np.concatenate(
            [np.full(len(self.classes), self.infinity), self.nodes.astype(float), limits]
        )
        return lower, upper

    def _add_claims(self) -> None:
        classes, claims = self.classes, self.claims
        missing = np.flatnonzero(classes.has_must).tolist()
        for one in missing:
            self._add_column(_ABSENCE * _WORTH, (0.0, self.infinity), [one], [1.0])
        self.first_claim = len(missing)
        first = len(classes) + len(self.types)
        number = {at: row for row, at in enumerate(self._limits)}
        for one, places in enumerate(claims.places):
            rows = [of for of, _ in places]
            values = [-float(times) for _, times in places]
            for quota, column, amount in claims.consumption[one]:
                row = number.get((quota, column))
                if row is not None:
                    rows.append(first + row)
                    values.append(amount / self._unit[row])
            cost = -float(claims.weight[one]) / self.scale
            self._add_column(cost, self._claimed(one), rows, values)
        self.first_pattern = self.first_claim + len(claims)

    def _claimed(self, one: int) -> tuple[float, float]:
        most = float(self.count[one])
        return (most if self.claims.is_must[one] else 0.0), most

    def _add_column(
        self, cost: float, bounds: tuple[float, float], rows: Sequence[int], values: Sequence[float]
    ) -> None:
        self.solver.addCol(
            cost, *bounds, len(rows), np.array(rows, np.int32), np.array(values, np.float64)
        )

    def add(self, found: Sequence[tuple[int, Slots]], prices: Prices | None) -> int:
        """Add the contents that are new and would improve; return how many."""
        starts: list[int] = []
        rows: list[int] = []
        values: list[float] = []
        for one, slots in found:
            if not slots or (one, slots) in self._known:
                continue
            tasks, counts = np.unique([task for task, _ in slots], return_counts=True)
            if prices is not None:
                gain = float(prices.profit[tasks] @ counts) - prices.node[one]
                if gain <= 1e-6 * max(1.0, prices.node[one]):
                    continue
            self._known.add((one, slots))
            pairs = tuple(zip(tasks.tolist(), counts.tolist(), strict=True))
            self.patterns.append(Pattern(one, slots, pairs))
            starts.append(len(rows))
            rows += [*tasks.tolist(), len(self.classes) + one]
            values += [*counts.tolist(), 1.0]
        if starts:
            new = len(starts)
            self.solver.addCols(
                new, np.zeros(new), np.zeros(new), np.full(new, self.infinity), len(rows),
                np.array(starts, np.int32), np.array(rows, np.int32), np.array(values, np.float64),
            )  # fmt: skip
        return len(starts)

    def solve(self, effort: Effort) -> tuple[float, Prices] | None:
        """Return value and prices of the programme; None where time is over or HiGHS gave up."""
        left = effort.left_s()
        if left <= 0.0:
            return None
        self.solver.setOptionValue("time_limit", self.solver.getRunTime() + left)
        self.solver.run()
        if self.solver.getModelStatus() != self.optimal:
            return None
        dual = np.array(self.solver.getSolution().row_dual)
        count = len(self.classes)
        node = np.maximum(-dual[count : count + len(self.types)], 0.0)
        prices = Prices(np.maximum(dual[:count], 0.0), node)
        return -self.solver.getInfo().objective_function_value, prices

    def uses(self) -> Floats:
        """Return how often each pattern is used, a fraction."""
        uses: Floats = np.array(self.solver.getSolution().col_value)[self.first_pattern :]
        return uses

    def claimed(self) -> Floats:
        """Return how many units of each claim are placed (K), a fraction."""
        found = np.array(self.solver.getSolution().col_value)
        claimed: Floats = found[self.first_claim : self.first_pattern]
        return claimed

    def shrink(self, times: dict[int, int]) -> None:
        """Fix how often some patterns (by number) are used."""
        for number, uses in times.items():
            pattern = self.patterns[number]
            self.nodes[pattern.type] -= uses
            for one, count in pattern.counts:
                self._given[one] += uses * count
                self.supply[one] = max(self.supply[one] - uses * count, 0)
        self._set_rows()

    def reset(self, waiting: Bools, nodes: Ints, quotas_left: Ints) -> None:
        """Ask anew: for the tasks (n) that wait, on so many nodes of each type (T)."""
        self._begin(self.claims.count(waiting), quotas_left)
        of = self.classes.of_task[waiting & (self.classes.of_task >= 0)]
        self.supply = np.bincount(of, minlength=len(self.classes)).astype(np.int64)
        self._given = np.zeros(len(self.classes), np.int64)
        self.nodes = nodes.copy()
        for one in range(len(self.claims)):
            self.solver.changeColBounds(self.first_claim + one, *self._claimed(one))
        self._set_rows()

    def _set_rows(self) -> None:
        lower, upper = self._bounds()
        changed = np.flatnonzero((lower != self._lower) | (upper != self._upper))
        for row in changed.tolist():
            self.solver.changeRowBounds(row, lower[row], upper[row])
        self._lower, self._upper = lower, upper
