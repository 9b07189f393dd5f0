"""Tasks and nodes that all differ, as a market: few price vectors, and who buys what where.

Every node uses the vector by which it is worth least, every task goes where it pays least. What
that proves is a convex function of the prices; `sampling` lowers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.certificate.evaluation import Reach, node_slots
from jupyter_aios.allocation.prices.kinds import amount_sizes, split, zone_keys
from jupyter_aios.allocation.problem import QUOTA_COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.prices.kinds import Floats
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

    Singles = NDArray[np.float32]

RESOURCES = 4
"""CPU, memory, disk, and thousandths of GPU."""
_FAR = np.float32(1e9)
"""The price of what cannot be bought, in mean weights."""
_MUST = 20.0
"""What a task that must be placed is worth more, in mean weights, while prices are sought."""


class Market:
    """Amounts in means of the tasks, values in the mean weight; float32 where it is large."""

    def __init__(self, problem: Problem, weight: Ints, vectors: int) -> None:
        tasks, nodes = problem.tasks, problem.nodes
        self.problem = problem
        milli = np.where(nodes.devices > 0, nodes.devices, 0).sum(axis=1)
        have = np.column_stack([np.maximum(nodes.free, 0), milli]).astype(np.float64)
        asked = np.column_stack([tasks.demand, tasks.gpu_milli]).astype(np.float64)
        self.unit: Floats = np.maximum(asked.mean(axis=0), 1.0)
        self.mean_weight = max(float(weight.mean()), 1e-9)
        self.asked: Singles = (asked / self.unit).astype(np.float32)
        self.have: Floats = have / self.unit
        self.weight: Singles = (weight / self.mean_weight).astype(np.float32)
        self.weight[tasks.must_be_placed] += np.float32(_MUST)
        self.zone_key = zone_keys(problem)
        amounts = have * amount_sizes(problem, weight)[:RESOURCES]
        total = amounts.sum(axis=1)
        shares = amounts / np.maximum(total, 1e-30)[:, None]
        self._count_quotas(problem)
        members = np.flatnonzero(tasks.gang >= 0)
        self.members = members
        self.gangs = int(tasks.gang.max(initial=-1)) + 1
        # Gangs first, then every other task by itself.
        self.unit_of: Ints = np.where(
            tasks.gang >= 0, tasks.gang, self.gangs + np.arange(len(tasks))
        )
        self.group(split(shares, total, self.zone_key, vectors))

    def _count_quotas(self, problem: Problem) -> None:
        """Note the limits that could bind, and what each task counts against its two quotas."""
        tasks = problem.tasks
        n, none = len(tasks), np.iinfo(np.int64).max
        consumption = tasks.consumption.astype(np.float64)
        self.quota_unit: Floats = np.maximum(consumption.mean(axis=0), 1.0)
        limits = problem.quota_limits
        self.limits: list[tuple[int, int]] = []
        rows: list[tuple[Ints, Singles]] = []
        amounts: list[float] = []
        for column in range(len(QUOTA_COLUMNS)):
            totals = self._by_quota(consumption[:, column], len(limits))
            for q in np.flatnonzero((limits[:, column] < none) & (totals > limits[:, column])):
                mine = np.flatnonzero((tasks.quotas == q).any(axis=1))
                used = (consumption[mine, column] / self.quota_unit[column]).astype(np.float32)
                self.limits.append((int(q), column))
                rows.append((mine, used))
                amounts.append(float(limits[q, column]) / self.quota_unit[column])
        self.limit: Floats = np.array(amounts)
        # Entries of the sparse matrix limits × tasks, by task.
        count = [len(mine) for mine, _ in rows]
        row = np.repeat(np.arange(len(rows)), count)
        task = np.concatenate([mine for mine, _ in rows]) if rows else np.zeros(0, np.int64)
        used = np.concatenate([u for _, u in rows]) if rows else np.zeros(0, np.float32)
        order = np.argsort(task, kind="stable")
        self.quota_row, self.quota_task = row[order], task[order]
        self.quota_used: Floats = used[order].astype(np.float64)
        self.tasks = n

    def _by_quota(self, consumption: Floats, quotas: int) -> Floats:
        pairs = self.problem.tasks.quotas
        totals = np.zeros(quotas + 1)
        second = np.where(pairs[:, 1] == pairs[:, 0], -1, pairs[:, 1])
        for column in (pairs[:, 0], second):
            np.add.at(totals, column, consumption)
        return totals[:quotas]

    # ------------------------------------------------------------------------------- vectors

    def group(self, vector_of: Ints) -> None:
        """Let node j use vector `vector_of[j]`; vectors without nodes are dropped.

        Returns nothing; the caller keeps its prices in step with `kept`.
        """
        self.kept, self.vector_of = np.unique(vector_of, return_inverse=True)
        self.vector_of = self.vector_of.reshape(-1)
        self.vectors = len(self.kept)
        self.pool: Floats = np.stack(
            [np.bincount(self.vector_of, self.have[:, r], self.vectors) for r in range(RESOURCES)],
            axis=1,
        )
        self.barred: Singles = np.full((self.tasks, self.vectors), _FAR)
        tasks = self.problem.tasks
        reach = Reach(self.problem, self.vector_of, self.vectors)
        goes = ~tasks.is_in_force | tasks.is_movable
        for zone in np.unique(tasks.zone).tolist():
            those = np.flatnonzero((tasks.zone == zone) & goes)
            table = reach.of_zone(zone)
            for v in range(self.vectors):
                if table[v].max() >= 0:
                    self.barred[those[reach.fits(table[v], those)], v] = 0.0
        held = np.flatnonzero(tasks.is_in_force)
        self.barred[held, self.vector_of[tasks.current[held]]] = 0.0

    def regroup(self, prices: Floats) -> Ints:
        """Return for each node the vector by which it is worth least, without helping any task.

        A node takes another vector only where that is used by a node of the same zones that is at
        least as large: then no task can pay less than before, and the bound can only fall.
        """
        slots, at = np.unique(node_slots(self.problem), return_inverse=True)
        free = self.problem.nodes.free
        worth = self.have @ prices.T
        chosen: Ints = self.vector_of.copy()
        for key in np.unique(self.zone_key).tolist():
            those = np.flatnonzero(self.zone_key == key)
            used = np.unique(self.vector_of[those])
            most = np.full((self.vectors, len(slots), 3), -1, np.int64)
            np.maximum.at(most, (self.vector_of[those], at[those]), free[those])
            most = np.maximum.accumulate(most[:, ::-1], axis=1)[:, ::-1]
            is_within = (most[used][:, at[those]] >= free[those]).all(axis=2).T
            costs = np.where(is_within, worth[np.ix_(those, used)], np.inf)
            least = used[costs.argmin(axis=1)]
            is_less = costs.min(axis=1) < worth[those, chosen[those]] * (1 - 1e-9) - 1e-12
            chosen[those] = np.where(is_less, least, chosen[those])
        return chosen

    # ------------------------------------------------------------------------------- the bound

    def offers(self, prices: Floats, quota_prices: Floats) -> Singles:
        """Return what each task gains on each vector (tasks × vectors)."""
        gains = self.asked @ (-prices.T).astype(np.float32)
        gains -= self.barred
        gains += (self.weight - self.quota_pay(quota_prices))[:, None]
        return np.asarray(gains, np.float32)

    def quota_pay(self, quota_prices: Floats) -> Singles:
        """Return what each task pays to its quotas."""
        if not len(self.quota_row):
            return np.zeros(self.tasks, np.float32)
        paid = quota_prices[self.quota_row] * self.quota_used
        return np.asarray(np.bincount(self.quota_task, paid, self.tasks), np.float32)

    def bound(self, prices: Floats, quota_prices: Floats) -> float:
        """Return what the prices prove, about: floats, and every share at its part of a device."""
        gains = np.maximum(self.offers(prices, quota_prices).max(axis=1), -_FAR / 1000)
        total = float((prices * self.pool).sum() + (quota_prices * self.limit).sum())
        return total + float(np.maximum(self.by_unit(gains), 0.0).sum())

    def by_unit(self, values: Singles) -> Floats:
        """Return sums over gangs; tasks without a gang are units of their own."""
        return np.asarray(np.bincount(self.unit_of, values, self.gangs + self.tasks), np.float64)

    def quota_use(self, tasks: Bools) -> Floats:
        """Return what some tasks count against each limit."""
        counted = tasks[self.quota_task]
        used = np.bincount(self.quota_row[counted], self.quota_used[counted], len(self.limit))
        return np.asarray(used, np.float64)
