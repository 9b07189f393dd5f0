"""Prices for a market from linear programmes over samples of its tasks.

A task whose decision is clear at the present prices is taken as decided, exactly; of the others a
sample stands for all. The first sample is of everybody. As prices get better, more is clear, and
the sample's noise concerns less; a step is taken only as far as the bound over all tasks falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.highs import quiet_highs
from jupyter_aios.allocation.prices.kinds import Floats
from jupyter_aios.allocation.prices.market import RESOURCES, Market
from jupyter_aios.allocation.problem import Ints

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools

_FIRST, _LATER = 1500, 2000
"""Tasks in a sample."""
_CLEAR = (0.1, 0.05, 0.03, 0.03, 0.02, 0.02)
"""How much of its weight a task gains, or loses, where its decision is clear."""
_STEPS = (1.0, 0.5, 0.25, 0.1)
_LEAST_GAIN = 2e-5


@dataclass(frozen=True, eq=False)
class Prices:
    """K vectors of prices of the four resources, and prices of the limits that may bind."""

    vectors: Floats
    limits: Floats
    bound: float

    def towards(self, other: Prices, step: float) -> Prices:
        """Return prices on the way to others; what they prove is not known."""
        return Prices(
            self.vectors + step * (other.vectors - self.vectors),
            self.limits + step * (other.limits - self.limits),
            np.inf,
        )


def seek_prices(market: Market, effort: Effort) -> Prices:
    """Return good prices; `market.vector_of` says which node uses which of them."""
    rng = np.random.default_rng(effort.seed)
    everyone = np.ones(market.tasks, bool)
    first = _sample(market, everyone, _FIRST, rng)
    found = _solve(market, first, market.pool, market.limit, None, effort=effort)
    best = _judged(market, found) if found is not None else _naive(market)
    for clear in _CLEAR:
        if effort.is_over():
            break
        before = best.bound
        best = _regrouped(market, best)
        best = _step(market, best, clear, rng, effort)
        if best.bound > before * (1 - _LEAST_GAIN):
            break
    return _regrouped(market, best)


def _naive(market: Market) -> Prices:
    """Every GPU at what it brings on average, and nothing else has a price."""
    vectors = np.zeros((market.vectors, RESOURCES))
    vectors[:, 3] = 1.0
    return _judged(market, Prices(vectors, np.zeros(len(market.limit)), np.inf))


def _judged(market: Market, prices: Prices) -> Prices:
    return Prices(prices.vectors, prices.limits, market.bound(prices.vectors, prices.limits))


def _regrouped(market: Market, prices: Prices) -> Prices:
    for _ in range(3):
        chosen = market.regroup(prices.vectors)
        if (chosen == market.vector_of).all():
            break
        market.group(chosen)
        prices = Prices(prices.vectors[market.kept], prices.limits, np.inf)
    return _judged(market, prices)


def _step(
    market: Market, best: Prices, clear: float, rng: np.random.Generator, effort: Effort
) -> Prices:
    """Solve for what is not clear, and go towards that as far as it helps."""
    offers = market.offers(best.vectors, best.limits)
    np.maximum(offers, -1e6, out=offers)
    vector = offers.argmax(axis=1)
    gain = offers[np.arange(market.tasks), vector]
    margin = clear * market.weight + 1e-9
    offers[np.arange(market.tasks), vector] = -np.inf
    is_torn = gain - offers.max(axis=1) < margin
    offers[np.arange(market.tasks), vector] = gain
    gains, margins = market.by_unit(gain), market.by_unit(margin)
    is_in = (gains > margins) & (market.by_unit(is_torn) == 0)
    is_out = gains < -margins
    decided = is_in[market.unit_of]
    used = np.stack(
        [
            np.bincount(vector[decided], market.asked[decided, r], market.vectors)
            for r in range(RESOURCES)
        ],
        axis=1,
    )
    pool = np.maximum(market.pool - used, 0.0)
    limit = np.maximum(market.limit - market.quota_use(decided), 0.0)
    is_open = ~(is_in | is_out)[market.unit_of]
    if not is_open.any():
        return best
    sample = _sample(market, is_open, _LATER, rng)
    near = offers >= (gain - 6 * margin)[:, None]
    found = _solve(market, sample, pool, limit, near, effort=effort)
    if found is None:
        return best
    tried = [_judged(market, best.towards(found, step)) for step in _STEPS]
    return min([best, *tried], key=lambda prices: prices.bound)


@dataclass(frozen=True, eq=False)
class _Sample:
    tasks: Ints
    times: float
    """How many tasks each of them stands for."""


def _sample(market: Market, among: Bools, size: int, rng: np.random.Generator) -> _Sample:
    """Return about `size` tasks; gangs as a whole."""
    count = int(among.sum())
    units = np.unique(market.unit_of[among])
    is_drawn = np.zeros(market.gangs + market.tasks, bool)
    is_drawn[units[rng.random(len(units)) < size / max(count, 1)]] = True
    drawn = np.flatnonzero(is_drawn[market.unit_of] & among)
    return _Sample(drawn, count / max(len(drawn), 1))


def _solve(
    market: Market,
    sample: _Sample,
    pool: Floats,
    limit: Floats,
    near: Bools | None,
    *,
    effort: Effort,
) -> Prices | None:
    """Return the duals of the programme over a sample; None where HiGHS finds no optimum."""
    import highspy

    tasks = sample.tasks
    is_open = market.barred[tasks] == 0.0
    if near is not None:
        is_open &= near[tasks]
    task, vector = np.nonzero(is_open)
    if not len(task):
        return None
    at = np.arange(len(task))
    rows, columns, values = [task], [at], [np.ones(len(task))]
    first = len(tasks)
    for r in range(RESOURCES):
        asked = market.asked[tasks[task], r].astype(np.float64)
        if asked.any():
            rows.append(first + vector * RESOURCES + r)
            columns.append(at)
            values.append(asked)
    first += market.vectors * RESOURCES
    for entries in _quota_entries(market, tasks, task):
        rows.append(first + entries[0])
        columns.append(entries[1])
        values.append(entries[2])
    first += len(limit)
    gang = market.problem.tasks.gang[tasks]
    members = np.flatnonzero(gang >= 0)
    gangs, gang_at = np.unique(gang[members], return_inverse=True)
    row_of = np.full(len(tasks), -1)
    row_of[members] = first + np.arange(len(members))
    linked = row_of[task] >= 0
    rows += [row_of[task[linked]], row_of[members]]
    columns += [at[linked], len(task) + gang_at.reshape(-1)]
    values += [np.ones(int(linked.sum())), -np.ones(len(members))]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(task) + len(gangs), first + len(members)
    lp.col_cost_ = np.append(-market.weight[tasks[task]].astype(np.float64), np.zeros(len(gangs)))
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.full(lp.num_col_, np.inf)
    lp.row_upper_ = np.concatenate(
        [np.ones(len(tasks)), pool.ravel() / sample.times, limit / sample.times,
         np.zeros(len(members))]
    )  # fmt: skip
    lp.row_lower_ = np.append(np.full(first, -np.inf), np.zeros(len(members)))
    _set_matrix(lp, np.concatenate(rows), np.concatenate(columns), np.concatenate(values))
    dual = _duals(lp, effort)
    if dual is None:
        return None
    start = len(tasks)
    end = start + market.vectors * RESOURCES
    return Prices(dual[start:end].reshape(-1, RESOURCES), dual[end : end + len(limit)], np.inf)


def _quota_entries(market: Market, tasks: Ints, task: Ints) -> list[tuple[Ints, Ints, Floats]]:
    """Return (limit, column, amount) of the sampled tasks' columns."""
    place = np.full(market.tasks, -1)
    place[tasks] = np.arange(len(tasks))
    mine = place[market.quota_task]
    kept = mine >= 0
    row, mine, used = market.quota_row[kept], mine[kept], market.quota_used[kept]
    starts = np.searchsorted(task, np.arange(len(tasks) + 1))
    counts = np.diff(starts)[mine]
    offset = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    column = np.repeat(starts[mine], counts) + offset
    return [(np.repeat(row, counts), column, np.repeat(used, counts))]


def _set_matrix(lp: object, rows: Ints, columns: Ints, values: Floats) -> None:
    import highspy

    order = np.lexsort((rows, columns))
    matrix = lp.a_matrix_  # type: ignore[attr-defined]
    matrix.format_ = highspy.MatrixFormat.kColwise
    count = lp.num_col_  # type: ignore[attr-defined]
    matrix.start_ = np.searchsorted(columns[order], np.arange(count + 1)).astype(np.int32)
    matrix.index_ = rows[order].astype(np.int32)
    matrix.value_ = values[order].astype(np.float64)


def _duals(lp: object, effort: Effort) -> Floats | None:
    import highspy

    highs = quiet_highs()
    # Any prices do: an interior point without a vertex is enough, and much faster.
    highs.setOptionValue("solver", "ipm")
    highs.setOptionValue("run_crossover", "off")
    highs.setOptionValue("time_limit", max(effort.left_s(), 0.05))
    highs.passModel(lp)
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    dual: Floats = np.maximum(-np.array(highs.getSolution().row_dual), 0.0)
    return dual
