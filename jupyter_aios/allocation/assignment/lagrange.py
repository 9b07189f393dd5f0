"""Lagrangian relaxation of "one node for each task": strong bounds from the nodes' knapsacks.

Subgradient ascent with the step of Held, Wolfe and Crowder (1974), deflected by the step before
(Camerini, Fratta and Maffioli 1975). Column generation takes over from where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.assignment.certificate import SCALE, AssignmentCertificate
from jupyter_aios.allocation.assignment.knapsacks import Knapsacks
from jupyter_aios.allocation.assignment.problem import Flags, Floats, Instance

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort

CLOSEST = 5e-4
"""The least share by which the target is taken to be above the value."""
PATIENCE = 8
"""Steps without a better bound after which they are shortened."""


@dataclass(frozen=True, eq=False)
class Ascent:
    """The best prices of an ascent, and the nodes' choices that it passed."""

    value: float
    """The bound over the candidate pairs alone; `certify` proves one over all pairs."""
    prices: Floats
    choices: list[Flags]


def ascend(
    knapsacks: Knapsacks, prices: Floats, target: float, *, steps: int, limit: Effort, kept: int
) -> Ascent:
    """Return better prices; `target` is a cost that an assignment could have."""
    best, at_best = -np.inf, prices
    before = np.zeros_like(prices)
    length, waited = 0.5, 0
    choices: list[Flags] = []
    for _ in range(steps):
        values, chosen = knapsacks.choose(prices)
        value = float(prices.sum() - values.sum())
        choices = [*choices[1 - kept :], chosen] if kept > 1 else [chosen]
        missing = 1.0 - chosen.sum(axis=1)
        if value > best + 1e-9 * abs(value):
            best, at_best, waited = value, prices, 0
        else:
            waited += 1
            if waited >= PATIENCE:
                length, waited, prices = 0.7 * length, 0, at_best
        if not missing.any() or limit.is_over():
            break
        before = missing + 0.5 * before
        away = max(target - value, CLOSEST * abs(value))
        step = length * away / max(float(before @ before), 1.0)
        prices = prices + step * before
    return Ascent(best, at_best, choices)


def certify(instance: Instance, prices: Floats) -> AssignmentCertificate:
    """Return what these prices prove over all pairs, in exact integers."""
    scaled = np.rint(prices * SCALE).astype(np.int64)
    pays = scaled[:, None] > SCALE * instance.costs
    every = Knapsacks(instance, instance.fits & pays)
    profit = every.best_scaled(scaled, SCALE)
    return AssignmentCertificate(scaled, int(scaled.sum()) - int(profit.sum()))
