"""The proof of a bound: prices, and nothing else.

Linear-programming duality over node patterns. Let every task pay for what it takes of a node, and
every node be worth the most that any content of it can pay. Then for any prices ≥ 0

    Σ_i w_i·placed_i  ≤  Σ_j worth(j)  +  Σ_q quota_price·limit  +  Σ_i surplus_i

where `surplus_i = max(0, w_i - quota prices - the least that i would pay on a node of its zone)`;
a gang's surplus is the positive part of its members' sum, and nothing where one of them fits
nowhere; a task that must be placed keeps its sign. Good prices come from `allocation.prices`; the
proof does not ask where they are from. They are integers, and everything is rounded so that the
bound can only grow: amounts to whole units and payments downwards, so that the payments of what is
on a node never add up to more than its own amounts would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.certificate.evaluation import evaluate
from jupyter_aios.allocation.certificate.knapsacks import fill_devices, fill_nodes
from jupyter_aios.allocation.certificate.proof import prove
from jupyter_aios.allocation.problem import Ints

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem


class CertificateError(ArithmeticError):
    """A certificate claims less than its prices prove: a bug, or it was tampered with."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """K price vectors, of which each node uses one, quota prices, and the bound that they prove.

    All prices are in 1/`scale` units of the objective and at least 0.
    """

    objective: str
    """The level that the bound is about; weights come from `objectives.weights`."""
    scale: int
    units: tuple[int, int, int]
    """How much CPU, memory and disk one price is for."""
    prices: Ints
    """K × 3: of one unit of CPU, memory, disk."""
    shares: Ints
    """K × 1000: what a share of 0 … 999 milli of one device costs, never falling."""
    wholes: Ints
    """K × 63: what k whole devices of a node cost, never falling; 0 for none."""
    quota_units: tuple[int, ...]
    """5: how much of each of `QUOTA_COLUMNS` one price is for."""
    quota_prices: Mapping[str, tuple[int, ...]]
    """By a quota's name: the price of each column."""
    vectors: Mapping[str, int]
    """By a node's name: its vector."""
    vectors_of_model: Mapping[str, tuple[int, ...]]
    """By model ("" for nodes without GPUs): the vectors among which a node that is new chooses."""
    bound: int
    """No allocation of the problem has a larger first level."""

    def evaluate(self, problem: Problem) -> int:
        """Return the bound that the same prices prove for a changed problem.

        It holds for any problem. Nodes are known by their names; a new one gets the vector by which
        it is worth least. At 8,000 tasks × 1,200 nodes it takes about 10 ms.
        """
        return evaluate(self, problem)

    def check(self, problem: Problem) -> int:
        """Return the bound that the prices prove, recomputed by other means than `evaluate`.

        The best fillings come from max-plus squaring, not from a recursion over capacities, and
        whether a task fits anywhere is asked of the nodes themselves.

        Raises:
            CertificateError: `bound` is lower than what is proven, or a price is negative.

        """
        proven = prove(self, problem)
        if proven > self.bound:
            raise CertificateError(f"{self.bound} is claimed and only {proven} is proven")
        return proven

    @cached_property
    def fillings(self) -> Ints:
        """K × 1001: the most that shares can pay for a device with f milli free."""
        return fill_devices(self.shares)

    @cached_property
    def node_fillings(self) -> Ints:
        """K × 63: the most that can be paid for k wholly free devices of a node."""
        return fill_nodes(self.wholes, self.fillings[:, -1])

    def __post_init__(self) -> None:
        for name in ("prices", "shares", "wholes"):
            column = np.ascontiguousarray(getattr(self, name), np.int64)
            if column.size and column.min() < 0:
                raise CertificateError(f"a price is negative in {name}")
            object.__setattr__(self, name, column)
        # A price for nothing could be paid any number of times.
        if self.shares[:, 0].any() or self.wholes[:, 0].any():
            raise CertificateError("nothing has a price in shares or wholes")
        if (np.diff(self.shares, axis=1) < 0).any():
            raise CertificateError("a larger share costs less than a smaller one")
        if any(price < 0 for prices in self.quota_prices.values() for price in prices):
            raise CertificateError("a price is negative in quota_prices")
