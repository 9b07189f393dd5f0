"""The linear programme over classes of tasks and types of nodes, with patterns of devices.

How many tasks of a class go to a type is fractional; how whole devices and shares fill a node's
devices is by patterns, so that three shares of 0.4 take two devices. Patterns are priced to
convergence (Gilmore and Gomory, Operations Research 9, 1961).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.highs import quiet_highs
from jupyter_aios.allocation.prices.fillings import Fillings
from jupyter_aios.allocation.prices.kinds import Floats
from jupyter_aios.allocation.problem import Ints
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.prices.kinds import Kinds
    from jupyter_aios.allocation.problem import Problem

log = logging.getLogger(__name__)

_TOLERANCE = 1e-7


class SolverError(RuntimeError):
    """The linear-programming solver gave no optimum; nobody meets it outside of this room."""


@dataclass(frozen=True, eq=False)
class Duals:
    """Prices in units of the objective; T node types, S levels of shares."""

    prices: Floats
    """T × 3: of CPU, memory, disk, per milli-CPU and byte."""
    levels: Ints
    """S: milli of shares, ascending."""
    shares: Floats
    """T × S."""
    wholes: Floats
    """T × 63: of k devices for one task."""
    quotas: Floats
    """q × 5: per unit of consumption."""
    objective: float
    """Of the programme; it converges to the bound from below."""
    amounts: Floats
    """C × T: how many tasks of each class go to each type."""


@dataclass
class Rows:
    """Rows by what they are about; -1 where there is none."""

    count: int = 0
    upper: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)

    def add(self, uppers: Floats | list[float], *, is_equal: bool = False) -> Ints:
        """Append rows `… ≤ upper` (or `=`) and return their numbers."""
        uppers = [float(x) for x in uppers]
        self.upper += uppers
        self.lower += uppers if is_equal else [-np.inf] * len(uppers)
        self.count += len(uppers)
        return np.arange(self.count - len(uppers), self.count)


class Master:
    """The programme, solved again and again from where it was."""

    def __init__(self, problem: Problem, kinds: Kinds) -> None:
        self.kinds = kinds
        self.rows = Rows()
        self.entries: list[tuple[Ints, Ints, Floats]] = []
        self.costs: list[float] = []
        self.scale = max(float(kinds.weight.mean()), 1e-9) if len(kinds.weight) else 1.0
        self.unit = np.maximum(kinds.demand.mean(axis=0), 1.0)
        self._add_rows(problem)
        self._add_tasks()
        self._add_first_patterns()
        self.highs = quiet_highs()
        self._pass()

    # ------------------------------------------------------------------------------ the model

    def _add_rows(self, problem: Problem) -> None:
        kinds, rows = self.kinds, self.rows
        types = len(kinds.free)
        self.row_class = rows.add(kinds.count)
        self.row_free = np.stack([rows.add(kinds.free[:, c] / self.unit[c]) for c in range(3)])
        is_share = (kinds.slot > 0) & (kinds.slot < MILLI)
        self.levels: Ints = np.unique(kinds.slot[is_share])
        self.sizes: Ints = np.unique(kinds.slot[kinds.slot >= MILLI]) - MILLI + 1
        self.row_share = np.full((types, len(self.levels)), -1)
        self.row_size = np.full((types, 63), -1)
        self.row_device = np.full(types, -1)
        self.row_partial: list[list[tuple[int, int]]] = []
        self.row_nodes: list[list[tuple[int, int]]] = []
        for t in range(types):
            if kinds.whole[t] or kinds.partial[t]:
                self.row_share[t] = rows.add([0.0] * len(self.levels))
            self.row_partial.append([(f, int(rows.add([n])[0])) for f, n in kinds.partial[t]])
            if kinds.whole[t]:
                self.row_device[t] = rows.add([0.0])[0]
                self.row_size[t, self.sizes] = rows.add([0.0] * len(self.sizes))
            self.row_nodes.append([(g, int(rows.add([n])[0])) for g, n in kinds.whole[t]])
        none = np.iinfo(np.int64).max
        limits = problem.quota_limits.astype(np.float64)
        self.quota_at = np.argwhere(problem.quota_limits < none)
        self.quota_unit = np.maximum(kinds.consumption.mean(axis=0), 1.0)
        self.row_quota = rows.add(
            [limits[q, c] / self.quota_unit[c] for q, c in self.quota_at.tolist()]
        )
        groups = int(kinds.group.max(initial=-1)) + 1
        self.group_rows = rows.add([0.0] * int((kinds.group >= 0).sum()), is_equal=True)
        self.groups = groups

    def _add_tasks(self) -> None:
        kinds = self.kinds
        c, t = np.nonzero(kinds.eligible)
        self.x_class, self.x_type = c, t
        at = np.arange(len(c))
        self._columns(kinds.weight[c] / self.scale)
        self._entries(self.row_class[c], at, np.ones(len(c)))
        for column in range(3):
            self._entries(self.row_free[column, t], at, kinds.demand[c, column] / self.unit[column])
        slot = kinds.slot[c]
        share = (slot > 0) & (slot < MILLI)
        level = np.searchsorted(self.levels, slot[share])
        self._entries(self.row_share[t[share], level], at[share], np.ones(int(share.sum())))
        whole = slot >= MILLI
        size = slot[whole] - MILLI + 1
        self._entries(self.row_size[t[whole], size], at[whole], np.ones(int(whole.sum())))
        for (q, column), row in zip(self.quota_at.tolist(), self.row_quota.tolist(), strict=True):
            counts = (kinds.quotas[c] == q).any(axis=1)
            amounts = kinds.consumption[c[counts], column] / self.quota_unit[column]
            self._entries(np.full(len(amounts), row), at[counts], amounts)
        self._add_gangs(at, c)
        self._add_musts()

    def _add_gangs(self, at: Ints, c: Ints) -> None:
        """All classes of a group of gangs are placed to the same part of their tasks."""
        kinds = self.kinds
        members = np.flatnonzero(kinds.group >= 0)
        if not len(members):
            return
        row_of = np.full(len(kinds.group), -1)
        row_of[members] = self.group_rows
        linked = row_of[c] >= 0
        self._entries(row_of[c[linked]], at[linked], 1.0 / kinds.count[c[linked]])
        first = len(self.costs)
        self._columns(np.zeros(self.groups))
        self._entries(self.group_rows, first + kinds.group[members], -np.ones(len(members)))

    def _add_musts(self) -> None:
        """A task that must be placed is not at a very high price only, so there is a solution."""
        kinds = self.kinds
        musts = np.flatnonzero(kinds.must)
        if len(musts):
            rows = self.row_class[musts]
            for row in rows.tolist():
                self.rows.lower[row] = self.rows.upper[row]
            first = len(self.costs)
            dear = 10.0 * max(float(kinds.weight.max()), 1.0) / self.scale
            self._columns(np.full(len(musts), -dear))
            self._entries(rows, first + np.arange(len(musts)), np.ones(len(musts)))

    def _add_first_patterns(self) -> None:
        self.seen: set[tuple[Any, ...]] = set()
        self.waiting: list[tuple[Ints, Floats]] = []
        for t in range(len(self.kinds.free)):
            for g, row in self.row_nodes[t]:
                for size in self.sizes[self.sizes <= g].tolist():
                    self._node_pattern(t, row, {size: g // size}, g % size)
                self._node_pattern(t, row, {}, g)
            for f, row in self._device_rows(t):
                for s, level in enumerate(self.levels.tolist()):
                    if level <= f:
                        self._device_pattern(t, row, {s: f // level})
        for rows, values in self.waiting:
            at = len(self.costs)
            self._columns(np.zeros(1))
            self._entries(rows, np.full(len(rows), at), values)
        self.waiting = []

    def _device_rows(self, t: int) -> list[tuple[int, int]]:
        rows = list(self.row_partial[t])
        if self.row_device[t] >= 0:
            rows.append((MILLI, int(self.row_device[t])))
        return rows

    def _node_pattern(self, t: int, row: int, sizes: dict[int, int], shares: int) -> bool:
        """Propose how a node's whole devices are used; False if it is there already."""
        key = (row, *sorted(sizes.items()), shares)
        if key in self.seen:
            return False
        self.seen.add(key)
        rows = [row, *(int(self.row_size[t, k]) for k in sizes)]
        values = [1.0, *(-float(n) for n in sizes.values())]
        if shares:
            rows.append(int(self.row_device[t]))
            values.append(-float(shares))
        self.waiting.append((np.array(rows), np.array(values)))
        return True

    def _device_pattern(self, t: int, row: int, shares: dict[int, int]) -> bool:
        """Propose how a device is filled with shares; False if it is there already."""
        key = (row, "shares", *sorted(shares.items()))
        if key in self.seen:
            return False
        self.seen.add(key)
        rows = [row, *(int(self.row_share[t, s]) for s in shares)]
        values = [1.0, *(-float(n) for n in shares.values())]
        self.waiting.append((np.array(rows), np.array(values)))
        return True

    def _columns(self, gains: Floats) -> None:
        self.costs += (-gains).tolist()

    def _entries(self, rows: Ints, columns: Ints, values: Floats) -> None:
        self.entries.append((rows, columns, values))

    def _pass(self) -> None:
        import highspy

        rows = np.concatenate([r for r, _, _ in self.entries])
        columns = np.concatenate([c for _, c, _ in self.entries])
        values = np.concatenate([v for _, _, v in self.entries])
        kept = values != 0.0
        rows, columns, values = rows[kept], columns[kept], values[kept]
        order = np.lexsort((rows, columns))
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.costs), self.rows.count
        lp.col_cost_ = np.array(self.costs)
        lp.col_lower_ = np.zeros(len(self.costs))
        lp.col_upper_ = np.full(len(self.costs), np.inf)
        lp.row_lower_ = np.array(self.rows.lower)
        lp.row_upper_ = np.array(self.rows.upper)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        starts = np.searchsorted(columns[order], np.arange(len(self.costs) + 1))
        lp.a_matrix_.start_ = starts.astype(np.int32)
        lp.a_matrix_.index_ = rows[order].astype(np.int32)
        lp.a_matrix_.value_ = values[order]
        if self.highs.passModel(lp) == highspy.HighsStatus.kError:
            raise SolverError("HiGHS refused the linear programme of the prices")

    # ------------------------------------------------------------------------------ solving

    def solve(self, effort: Effort, most_rounds: int = 60) -> Duals:
        """Return the duals when no pattern is worth more than it costs, or when time is over.

        Raises:
            SolverError: HiGHS found no optimum, not even of the first patterns.

        """
        found: Duals | None = None
        for _ in range(most_rounds):
            dual = self._run(effort)
            if dual is None:
                break
            found = self._duals(dual)
            if effort.is_over() or not self._price(dual):
                break
        if found is None:
            raise SolverError(f"HiGHS ended with {self.highs.getModelStatus()}")
        return found

    def _run(self, effort: Effort) -> Floats | None:
        """Return the prices of the rows, or None where there is no optimum in time."""
        import highspy

        # HiGHS counts from the first run on.
        limit_s = self.highs.getRunTime() + max(effort.left_s(), 0.01)
        self.highs.setOptionValue("time_limit", limit_s)
        self.highs.run()
        status = self.highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            log.info("HiGHS ended the linear programme of the prices with %s", status)
            return None
        return -np.array(self.highs.getSolution().row_dual)

    def _price(self, dual: Floats) -> int:
        """Add the patterns that are worth more than they cost; return how many."""
        shares = np.where(self.row_share >= 0, dual[self.row_share], 0.0)
        fillings = Fillings(self.levels, shares)
        for t in range(len(shares)):
            for f, row in self._device_rows(t):
                if fillings.best[t, f] > dual[row] + _TOLERANCE * (1.0 + dual[row]):
                    self._device_pattern(t, row, fillings.content(t, f))
            if self.row_nodes[t]:
                self._price_nodes(t, dual)
        return self._add_waiting()

    def _price_nodes(self, t: int, dual: Floats) -> None:
        prices = {int(k): float(dual[self.row_size[t, k]]) for k in self.sizes}
        device = float(dual[self.row_device[t]])
        most = max(g for g, _ in self.row_nodes[t])
        best, chosen = [0.0], [0]
        for g in range(1, most + 1):
            options = [(best[g - 1] + device, 0)]
            options += [(best[g - k] + price, k) for k, price in prices.items() if k <= g]
            value, size = max(options)
            best.append(value)
            chosen.append(size)
        for g, row in self.row_nodes[t]:
            if best[g] > dual[row] + _TOLERANCE * (1.0 + dual[row]):
                sizes: dict[int, int] = {}
                shares, left = 0, g
                while left:
                    size = chosen[left]
                    if size:
                        sizes[size] = sizes.get(size, 0) + 1
                    shares += not size
                    left -= size or 1
                self._node_pattern(t, row, sizes, shares)

    def _add_waiting(self) -> int:
        count = len(self.waiting)
        if count:
            starts = np.cumsum([0] + [len(rows) for rows, _ in self.waiting])[:-1]
            index = np.concatenate([rows for rows, _ in self.waiting]).astype(np.int32)
            values = np.concatenate([values for _, values in self.waiting])
            zeros = np.zeros(count)
            self.highs.addCols(
                count, zeros, zeros, np.full(count, np.inf),
                len(index), starts.astype(np.int32), index, values,
            )  # fmt: skip
        self.waiting = []
        return count

    def _duals(self, dual: Floats) -> Duals:
        kinds = self.kinds
        dual = np.maximum(dual, 0.0) * self.scale
        types = len(kinds.free)
        wholes = np.zeros((types, 63))
        has = self.row_size >= 0
        wholes[has] = dual[self.row_size[has]]
        wholes[:, 1] = np.maximum(
            wholes[:, 1], np.where(self.row_device >= 0, dual[self.row_device], 0.0)
        )
        quotas = np.zeros((int(self.quota_at[:, 0].max(initial=-1)) + 1, 5))
        for (q, column), row in zip(self.quota_at.tolist(), self.row_quota.tolist(), strict=True):
            quotas[q, column] = dual[row] / self.quota_unit[column]
        amounts = np.zeros((len(kinds.count), types))
        values = np.array(self.highs.getSolution().col_value)
        amounts[self.x_class, self.x_type] = values[: len(self.x_class)]
        return Duals(
            np.stack([dual[self.row_free[c]] / self.unit[c] for c in range(3)], axis=1),
            self.levels,
            np.where(self.row_share >= 0, dual[self.row_share], 0.0),
            wholes,
            quotas,
            -self.highs.getInfo().objective_function_value * self.scale,
            amounts,
        )
