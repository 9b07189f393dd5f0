"""The bound that prices prove, fast: everything in columns, for what-if and for the ladder."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.objectives import weights
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

_SAFE = 2**61
"""Sums below it cannot overflow; above it Python's integers are used."""


def evaluate(certificate: Certificate, problem: Problem) -> int:
    """Return the bound that the prices prove for a problem."""
    weight = weights(problem, certificate.objective)
    if not len(problem.nodes):
        return 0
    columns = Columns(certificate, problem)
    vectors = choose_vectors(certificate, problem, columns)
    least, fits = columns.least_pay(vectors)
    worth = sum(columns.worth(vectors).tolist()) + columns.quota_worth()
    surplus, can = surpluses(problem, columns.wide(weight) * certificate.scale, least, fits)
    proven = max(int(worth) + int(surplus), 0) // certificate.scale
    return rounded(min(proven, sum(weight[can].tolist())), weight)


def rounded(bound: int, weight: Ints) -> int:
    """Return the bound as a sum of weights could be: a multiple of what divides all of them."""
    divisor = gcd(*np.unique(weight).tolist()) if len(weight) else 1
    return bound // divisor * divisor if divisor else 0


def surpluses(
    problem: Problem, weight: NDArray[Any], least: NDArray[Any], fits: Bools
) -> tuple[int, Bools]:
    """Return the sum of what tasks are worth beyond what they pay, and which can be placed.

    `weight` and `least` (n) are in the certificate's scale; `least` counts where `fits`.
    """
    tasks = problem.tasks
    more = np.where(fits, weight - least, 0)
    must = tasks.must_be_placed
    alone = tasks.gang < 0
    total = sum(np.where(must, more, np.maximum(more, 0))[alone].tolist())
    can = fits.copy()
    if not alone.all():
        members = np.flatnonzero(~alone)
        gangs = tasks.gang[members]
        count = int(gangs.max()) + 1
        sums = np.zeros(count, more.dtype)
        np.add.at(sums, gangs, more[members])
        misfits = np.bincount(gangs, ~fits[members], count).astype(np.int64)
        held = np.bincount(gangs, must[members], count).astype(np.int64)
        sums = np.where(held > 0, sums, np.where(misfits == 0, np.maximum(sums, 0), 0))
        total += sum(sums.tolist())
        can[members] = ((misfits == 0) | (held > 0))[gangs]
    return int(total), can | must


class Columns:
    """Amounts of a problem in a certificate's units, and what is paid for them."""

    def __init__(self, certificate: Certificate, problem: Problem) -> None:
        self.certificate = certificate
        self.problem = problem
        tasks, nodes = problem.tasks, problem.nodes
        units = np.array(certificate.units)
        free = np.maximum(nodes.free, 0)
        self.dtype: Any = (
            np.int64 if self._is_safe(free // units, tasks.demand // units) else object
        )
        self.demand = self.wide(tasks.demand // units)
        self.free = self.wide(free // units)
        self.prices = self.wide(certificate.prices)
        self.task_slot = task_slots(problem)

    def wide(self, column: Ints) -> NDArray[Any]:
        """Return a column as integers that cannot overflow."""
        return column.astype(self.dtype, copy=False)

    def _is_safe(self, free: Ints, demand: Ints) -> bool:
        """True where no sum over a node's or a gang's amounts can leave 64 bits."""
        c = self.certificate
        units = np.maximum(free.max(axis=0, initial=0), demand.max(axis=0, initial=0)).tolist()
        most = sum(p * u for p, u in zip(c.prices.max(axis=0).tolist(), units, strict=True))
        most += (
            int(c.node_fillings.max()) + int(c.fillings.max()) * self.problem.nodes.devices.shape[1]
        )
        amounts = self.problem.tasks.consumption.max(axis=0, initial=0).tolist()
        for prices in c.quota_prices.values():
            most += 2 * sum(p * a for p, a in zip(prices, amounts, strict=True))
        weight = int(weights(self.problem, c.objective).max(initial=0)) * c.scale
        return bool(max(most, weight) * (len(self.problem.tasks) + 1) < _SAFE)

    # ------------------------------------------------------------------------------- worth

    def worth(self, vectors: Ints) -> NDArray[Any]:
        """Return the most that each node's content can pay (m); `vectors` is m."""
        return self._worth(vectors, np.arange(len(vectors)))

    def worth_of(self, nodes: Ints, vector: int) -> NDArray[Any]:
        """Return the most that the content of some nodes can pay by one vector."""
        return self._worth(np.full(len(nodes), vector), nodes)

    def _worth(self, vectors: Ints, nodes: Ints) -> NDArray[Any]:
        c = self.certificate
        worth = (self.free[nodes] * self.prices[vectors]).sum(axis=1)
        devices = self.problem.nodes.devices[nodes]
        partial = np.where((devices > 0) & (devices < MILLI), devices, 0)
        if partial.any():
            worth = worth + self.wide(c.fillings)[vectors[:, None], partial].sum(axis=1)
        whole = (devices >= MILLI).sum(axis=1)
        return np.asarray(worth + self.wide(c.node_fillings)[vectors, whole])

    def quota_worth(self) -> int:
        """Return what the quotas' limits are worth."""
        c, total = self.certificate, 0
        for quota in self.problem.quotas:
            prices = c.quota_prices.get(quota.name, ())
            for limit, price, unit in zip(quota.limits, prices, c.quota_units, strict=False):
                total += 0 if limit is None else price * (limit // unit)
        return total

    # --------------------------------------------------------------------------------- pay

    def pay(self, vector: int, tasks: Ints | slice = slice(None)) -> NDArray[Any]:
        """Return what tasks pay on a node with a vector, quotas left aside."""
        c = self.certificate
        prices = self.prices[vector]
        demand = self.demand[tasks]
        paid = demand[:, 0] * prices[0] + demand[:, 1] * prices[1] + demand[:, 2] * prices[2]
        # Shares cost by their milli, whole devices by their count: one table behind the other.
        table = self.wide(np.concatenate([c.shares[vector], c.wholes[vector, 1:]]))
        return np.asarray(paid + table[np.minimum(self.task_slot[tasks], len(table) - 1)])

    def quota_pay(self) -> NDArray[Any]:
        """Return what tasks pay to their quotas (n)."""
        c, tasks = self.certificate, self.problem.tasks
        paid = self.wide(np.zeros(len(tasks), np.int64))
        if not any(any(prices) for prices in c.quota_prices.values()):
            return paid
        none = (0,) * len(c.quota_units)
        rows = []
        for quota in self.problem.quotas:
            prices = c.quota_prices.get(quota.name, none)
            rows.append([0 if limit is None else price
                         for limit, price in zip(quota.limits, prices, strict=True)])  # fmt: skip
        table = self.wide(np.array([*rows, none], np.int64))
        amounts = self.wide(tasks.consumption // np.array(c.quota_units))
        second = np.where(tasks.quotas[:, 1] == tasks.quotas[:, 0], -1, tasks.quotas[:, 1])
        for column in (tasks.quotas[:, 0], second):
            paid = paid + (amounts * table[column]).sum(axis=1)
        return np.asarray(paid)

    def least_pay(self, vectors: Ints) -> tuple[NDArray[Any], Bools]:
        """Return the least that each task pays anywhere, quotas included, and whether it fits."""
        tasks = self.problem.tasks
        reach = Reach(self.problem, vectors, len(self.prices))
        least = self.wide(np.zeros(len(tasks), np.int64))
        fits = np.zeros(len(tasks), bool)
        used = np.unique(vectors).tolist()
        for zone in np.unique(tasks.zone).tolist():
            of_zone = np.flatnonzero(tasks.zone == zone)
            table = reach.of_zone(zone)
            for vector in used:
                ok = reach.fits(table[vector], of_zone)
                if ok.any():
                    self._lower(least, fits, of_zone[ok], self.pay(vector, of_zone[ok]))
        held = np.flatnonzero(tasks.is_in_force)
        if len(held):
            # What may not move is nowhere else; what may, can stay where its zone says no.
            fits[held[~tasks.is_movable[held]]] = False
            here = vectors[tasks.current[held]]
            for vector in np.unique(here).tolist():
                those = held[here == vector]
                self._lower(least, fits, those, self.pay(vector, those))
        return least + self.quota_pay(), fits

    def _lower(self, least: NDArray[Any], fits: Bools, tasks: Ints, paid: NDArray[Any]) -> None:
        least[tasks] = np.where(fits[tasks], np.minimum(least[tasks], paid), paid)
        fits[tasks] = True


class Reach:
    """The most CPU, memory and disk that a task with given devices finds on nodes of a vector.

    Three maxima, each over all nodes: a task within them need not fit on any single node. It is
    then taken to fit, which only makes the bound larger.
    """

    def __init__(self, problem: Problem, vectors: Ints, count: int) -> None:
        self.problem = problem
        self.vectors = vectors
        self.count = count
        slots = task_slots(problem)
        self.slots: Ints = np.unique(np.append(slots, 0))
        self.task_at: Ints = np.searchsorted(self.slots, slots)
        self.node_at = np.searchsorted(self.slots, node_slots(problem), side="right") - 1

    def of_zone(self, zone: int) -> Ints:
        """Return the maxima (K × slots × 3), -1 where there is no node."""
        problem = self.problem
        most = np.full((self.count, len(self.slots), 3), -1, np.int64)
        nodes = np.flatnonzero(problem.zones[zone])
        np.maximum.at(most, (self.vectors[nodes], self.node_at[nodes]), problem.nodes.free[nodes])
        falling: Ints = np.maximum.accumulate(most[:, ::-1], axis=1)[:, ::-1]
        return falling

    def fits(self, most: Ints, tasks: Ints) -> Bools:
        """Return which tasks are within the maxima of one vector."""
        found = most[self.task_at[tasks]]
        return np.asarray((found >= self.problem.tasks.demand[tasks]).all(axis=1), bool)


def task_slots(problem: Problem) -> Ints:
    """Return what a task asks of devices as one number (n): the milli of a share, 999 + k for k.

    A node has the devices for a task if its own number is at least as large.
    """
    tasks = problem.tasks
    whole = np.where(tasks.gpus > 0, MILLI - 1 + tasks.gpus, 0)
    return np.where(tasks.is_share, tasks.milli, whole)


def node_slots(problem: Problem) -> Ints:
    """Return what a node's devices can give as one number (m), see `task_slots`."""
    devices = problem.nodes.devices
    if not devices.shape[1]:
        return np.zeros(len(devices), np.int64)
    whole = (devices >= MILLI).sum(axis=1)
    slots: Ints = np.where(whole > 0, MILLI - 1 + whole, np.maximum(devices.max(axis=1), 0))
    return slots


def choose_vectors(certificate: Certificate, problem: Problem, columns: Columns) -> Ints:
    """Return the vector of each node (m): by its name, or the one by which it is worth least."""
    nodes = problem.nodes
    known = certificate.vectors
    vectors = np.array([known.get(name, -1) for name in nodes.names], np.int64)
    new = np.flatnonzero(vectors < 0)
    for model in np.unique(nodes.models[new]).tolist():
        those = new[nodes.models[new] == model]
        name = nodes.model_names[model] if model >= 0 else ""
        among = certificate.vectors_of_model.get(name) or range(len(certificate.prices))
        worth = np.stack([columns.worth_of(those, vector) for vector in among])
        vectors[those] = np.array(among)[worth.argmin(axis=0)]
    return vectors
