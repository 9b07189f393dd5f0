"""The answer of the allocator: who is where, how good that is, and how good anything could be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jupyter_aios.allocation.certificate import Certificate
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import Ints, Problem, devices_of
from jupyter_aios.allocation.reduction import pinned, reduce
from jupyter_aios.errors import StateError


@dataclass(frozen=True)
class Level:
    """One objective's value, and the best that could be."""

    name: str
    value: int
    bound: int | None
    """No allocation that is as good on the levels before has a better value; None: not known."""

    @property
    def gap(self) -> float | None:
        """How far the value is from its bound, as a share of the bound; 0.0 is proven best."""
        if self.bound is None:
            return None
        away = abs(self.bound - self.value)
        return away / max(abs(self.bound), abs(self.value)) if away else 0.0


@dataclass(frozen=True, eq=False)
class Allocation:
    """Which task is on which node and devices. Every one has passed `check.faults`."""

    problem: Problem
    assignment: Ints
    """n: the node of each task, -1 for none."""
    devices: Ints
    """n: its devices there, as bits."""
    levels: tuple[Level, ...]
    rung: str
    """What found it: a greedy policy, `columns`, `exact`, …"""
    time_s: float
    status: str = "feasible"
    """`optimal`: the first level equals its bound; `feasible`; `infeasible`: it is proven that not
    every task can be placed; `undecided`: neither was found out in time."""
    certificate: Certificate | None = None
    """Of the first level's bound."""
    rungs: tuple[tuple[str, int | None, float], ...] = ()
    """(rung, first level's value or None where it found nothing, seconds) of all that were run."""

    @property
    def objective(self) -> int:
        """The first level's value."""
        return self.levels[0].value

    @property
    def bound(self) -> int | None:
        """What no allocation exceeds on the first level (falls below, where it is a cost)."""
        return self.levels[0].bound

    @property
    def gap(self) -> float | None:
        """How far the first level may be from the best, as a share."""
        return self.levels[0].gap

    @cached_property
    def unplaced(self) -> Ints:
        """Indexes of the tasks that have no node."""
        return np.flatnonzero(self.assignment < 0)

    def check_bound(self) -> int:
        """Return the bound that the certificate's prices prove, computed anew and otherwise.

        It is `bound`, except where the exact rung has proven a better one by its own search.

        Raises:
            CertificateError: the prices prove less than the certificate claims.
            StateError: no rung came to a certificate.

        """
        if self.certificate is None:
            raise StateError("there is no certificate", hint="give it more time: --time-limit")
        fixed = pinned(self.problem.tasks)
        held = int(weights(self.problem, self.levels[0].name)[fixed].sum())
        return self.certificate.check(reduce(self.problem).problem) + held

    def devices_of(self, task: int) -> tuple[int, ...]:
        """Return the device indexes of one task."""
        return devices_of(int(self.devices[task]))
