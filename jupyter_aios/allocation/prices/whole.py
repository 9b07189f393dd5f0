"""Prices as integers: a certificate out of a linear programme's duals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.certificate import Certificate
from jupyter_aios.allocation.certificate.knapsacks import fill_devices, fill_nodes
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import QUOTA_COLUMNS
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.prices.kinds import Floats, Kinds
    from jupyter_aios.allocation.prices.market import Market
    from jupyter_aios.allocation.prices.master import Duals
    from jupyter_aios.allocation.prices.sampling import Prices
    from jupyter_aios.allocation.problem import Ints, Problem

_UNIT_BITS = 24
_WEIGHT_BITS = 56
_SCALE_BITS = 20
SIZES = 63


def certificate_of(problem: Problem, objective: str, kinds: Kinds, duals: Duals) -> Certificate:
    """Return the certificate of a programme's duals; node types are its vectors."""
    shares = np.zeros((len(duals.prices), MILLI))
    at = np.searchsorted(duals.levels, np.arange(MILLI), side="right") - 1
    reached = at >= 0
    shares[:, reached] = np.maximum.accumulate(duals.shares, axis=1)[:, at[reached]]
    return whole_certificate(
        problem,
        objective,
        vector_of=kinds.type_of,
        prices=duals.prices,
        shares=shares,
        wholes=duals.wholes,
        quotas=duals.quotas,
    )


def certificate_of_market(
    problem: Problem, objective: str, market: Market, found: Prices
) -> Certificate:
    """Return the certificate of a market's prices; a share costs its part of a device.

    Less than the smallest share that there is cannot be sold, so it is worth nothing.
    """
    prices = found.vectors / market.unit * market.mean_weight
    tasks = problem.tasks
    milli = np.arange(MILLI)
    smallest = int(tasks.milli[tasks.is_share].min(initial=MILLI))
    quotas = np.zeros((len(problem.quotas), len(QUOTA_COLUMNS)))
    for (q, column), price in zip(market.limits, found.limits.tolist(), strict=True):
        quotas[q, column] = price / market.quota_unit[column] * market.mean_weight
    return whole_certificate(
        problem,
        objective,
        vector_of=market.vector_of,
        prices=prices[:, :3],
        shares=np.where(milli >= smallest, prices[:, 3:] * milli, 0.0),
        wholes=prices[:, 3:] * MILLI * np.arange(SIZES),
        quotas=quotas,
    )


def whole_certificate(
    problem: Problem,
    objective: str,
    *,
    vector_of: Ints,
    prices: Floats,
    shares: Floats,
    wholes: Floats,
    quotas: Floats,
) -> Certificate:
    """Return a certificate of prices in units of the objective, with its bound.

    `prices` is K × 3, `shares` K × 1000, `wholes` K × 63, `quotas` q × 5 (or shorter), `vector_of`
    m. A share is made as dear as the best filling of so much, which makes no device dearer and no
    bound larger.
    """
    nodes = problem.nodes
    scale = scale_of(problem, objective)
    units = units_of(problem)
    device = fill_devices(_whole(shares * scale))
    node = fill_nodes(_whole(wholes * scale), device[:, MILLI])
    quota_units, quota_prices = _quotas(problem, quotas, scale)
    draft = Certificate(
        objective,
        scale,
        units,
        _whole(prices * np.array(units) * scale),
        device[:, :MILLI],
        node,
        quota_units,
        quota_prices,
        dict(zip(nodes.names, vector_of.tolist(), strict=True)),
        _vectors_of_model(problem, vector_of),
        0,
    )
    return replace(draft, bound=draft.evaluate(problem))


def free_certificate(problem: Problem, objective: str) -> Certificate:
    """Return the certificate in which nothing costs anything: all that fits at all is placed."""
    return whole_certificate(
        problem,
        objective,
        vector_of=np.zeros(len(problem.nodes), np.int64),
        prices=np.zeros((1, 3)),
        shares=np.zeros((1, MILLI)),
        wholes=np.zeros((1, SIZES)),
        quotas=np.zeros((0, 5)),
    )


def scale_of(problem: Problem, objective: str) -> int:
    """Return the units of price per unit of weight: as fine as sums in 64 bits allow."""
    total = int(weights(problem, objective).sum()) if len(problem.tasks) else 0
    return 1 << max(min(_SCALE_BITS, _WEIGHT_BITS - total.bit_length()), 0)


def units_of(problem: Problem) -> tuple[int, int, int]:
    """Return units of CPU, memory and disk of which no node has more than about 2^24."""
    most = np.maximum(problem.nodes.free, 0).max(axis=0, initial=0).tolist()
    first, second, third = (1 << max(int(x).bit_length() - _UNIT_BITS, 0) for x in most)
    return first, second, third


def _quotas(
    problem: Problem, quotas: Floats, scale: int
) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    amounts = problem.tasks.consumption.max(axis=0, initial=0).tolist()
    units = tuple(1 << max(int(x).bit_length() - _UNIT_BITS, 0) for x in amounts)
    prices = {}
    for q in range(len(quotas)):
        row = _whole(quotas[q] * np.array(units) * scale)
        if row.any():
            prices[problem.quotas[q].name] = tuple(row.tolist())
    return units, prices


def _vectors_of_model(problem: Problem, vector_of: Ints) -> dict[str, tuple[int, ...]]:
    nodes = problem.nodes
    return {
        "" if model < 0 else nodes.model_names[model]: tuple(
            np.unique(vector_of[nodes.models == model]).tolist()
        )
        for model in np.unique(nodes.models).tolist()
    }


def _whole(prices: Floats) -> Ints:
    """Round down; prices beyond any weight are cut, which is as good."""
    whole: NDArray[np.int64] = np.clip(np.nan_to_num(prices), 0.0, 2.0**52).astype(np.int64)
    return whole
