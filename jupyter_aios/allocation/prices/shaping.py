"""What a small share costs: less than its part of a device, where few tasks are small.

A market prices a device by the milli, as if tasks could be cut to fit: then a quarter of a device
is worth a quarter of one, although hardly any task is small enough for it. Selling small shares for
less makes what is left of devices worth less, at the cost of those tasks' larger surplus.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Problem

_SMALL = (0.005, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""Parts of all shares below whose size the price is tried to be lower."""
_LOWER = (0, 500)
"""Thousandths of the price that are left of it there."""


def shape_shares(certificate: Certificate, problem: Problem, effort: Effort) -> Certificate:
    """Return the certificate with the lowest bound of those in which small shares cost less."""
    tasks = problem.tasks
    milli = tasks.milli[tasks.is_share]
    if not len(milli):
        return certificate
    best = certificate
    for limit in np.unique(np.quantile(milli, _SMALL).astype(np.int64)).tolist():
        for left in _LOWER:
            if effort.is_over():
                return best
            is_small = np.arange(MILLI) < limit
            shares = np.where(is_small, certificate.shares * left // MILLI, certificate.shares)
            tried = replace(certificate, shares=shares)
            bound = tried.evaluate(problem)
            if bound < best.bound:
                best = replace(tried, bound=bound)
    return best
