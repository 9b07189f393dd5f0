"""A linear programme → prices: a bound for every allocation, and what to place first.

kinds      tasks and nodes that are alike, taken together
master     few kinds: the programme over classes × types with patterns of devices
market     all differ: few price vectors, of which each node takes the one it is worth least by
sampling   ... and programmes over samples of the tasks
shaping    ... and lower prices for small shares, where that proves more
whole      prices as integers: a certificate
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.prices.kinds import kinds_of
from jupyter_aios.allocation.prices.whole import (
    certificate_of,
    certificate_of_market,
    free_certificate,
)

if TYPE_CHECKING:
    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.prices.kinds import Kinds
    from jupyter_aios.allocation.problem import Ints, Problem

log = logging.getLogger(__name__)

_MOST_PAIRS = 20_000
"""Classes × types up to which the programme over kinds is solved."""
_VECTORS = (8, 16)
"""Price vectors: few are found sooner and guide a search better, many may prove more."""
_CLEARLY = 2e-3
"""How much lower the bound of many has to be for them to be taken."""
_KINDS_PART, _MARKET_PART = 0.5, 0.3
"""Of the time that is left; the rest is for placing."""
_SEEK_PART = 0.7
"""Of the market's part; the rest is for the shape of shares' prices."""


def solve_prices(problem: Problem, names: tuple[str, ...], effort: Effort) -> Certificate:
    """Return prices and the bound that they prove for the first of the objectives `names`.

    Any prices prove a bound, so there is always one; with no time left it is the sum of the weights
    of what fits at all.
    """
    weight = weights(problem, names[0])
    free = free_certificate(problem, names[0])
    if not free.bound or effort.is_over():
        return free
    kinds = kinds_of(problem, weight, _MOST_PAIRS)
    found = None
    if kinds is not None:
        found = _of_kinds(problem, names[0], kinds, effort.share(_KINDS_PART))
    if found is None:
        found = _of_market(problem, names[0], weight, effort.share(_MARKET_PART))
    return found if found.bound <= free.bound else free


def _of_kinds(problem: Problem, name: str, kinds: Kinds, effort: Effort) -> Certificate | None:
    """Return the certificate of the programme over kinds, None where it was not solved in time."""
    from jupyter_aios.allocation.prices.master import Master, SolverError

    try:
        return certificate_of(problem, name, kinds, Master(problem, kinds).solve(effort))
    except SolverError as error:
        log.info("the programme over kinds was not solved: %s", error)
        return None


def _of_market(problem: Problem, name: str, weight: Ints, effort: Effort) -> Certificate:
    from jupyter_aios.allocation.prices.market import Market
    from jupyter_aios.allocation.prices.sampling import seek_prices
    from jupyter_aios.allocation.prices.shaping import shape_shares

    def solve(vectors: int) -> Certificate:
        market = Market(problem, weight, vectors)
        found = seek_prices(market, seeking)
        return shape_shares(certificate_of_market(problem, name, market, found), problem, effort)

    seeking = effort.share(_SEEK_PART)
    enough_s = seeking.left_s() / 2
    few = solve(_VECTORS[0])
    if seeking.left_s() < enough_s:
        return few
    many = solve(_VECTORS[1])
    return many if many.bound < few.bound * (1 - _CLEARLY) else few
