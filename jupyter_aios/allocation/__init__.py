"""Problem → Allocation: which task of a gang goes to which node and devices.

problem     what is asked, what there is, what is taken
greedy      best fit: an answer in well under a millisecond
check       proves that an allocation is feasible, without trusting who made it
"""

from __future__ import annotations

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.greedy import allocate
from jupyter_aios.allocation.problem import Claim, Gang, Problem

__all__ = ["Claim", "Gang", "Problem", "allocate", "faults"]
