"""The highest load lowered: one task at a time leaves the fullest node for a less burdened one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.greedy.policies import BestFit
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Ints, Problem

_LESS = 1e-9
"""How much lower a load has to be to count as lower."""


def spread(
    problem: Problem, placed: Placed, effort: Effort, *, keep_in_force: bool = True
) -> Placed:
    """Return the same tasks placed with a highest load that is as low or lower.

    With `keep_in_force` what is in force and at its place stays there, so that nobody moves more.
    It ends where no single task of the fullest node can go to one that stays below.
    """
    return _Spread(problem, placed, keep_in_force=keep_in_force).run(effort)


class _Spread:
    """The placement while it changes, and the load of every node."""

    def __init__(self, problem: Problem, placed: Placed, *, keep_in_force: bool) -> None:
        tasks, nodes = problem.tasks, problem.nodes
        self.problem = problem
        self.state = State(problem)
        self.state.take_all(placed)
        self.policy = BestFit(problem)
        at_home = (placed.assignment == tasks.current) & (placed.devices == tasks.current_devices)
        stays = tasks.is_in_force & (at_home if keep_in_force else ~tasks.is_movable)
        self.may_go = (placed.assignment != NO) & ~stays
        has = np.column_stack([nodes.capacity, nodes.device_count * MILLI])
        self.per: NDArray[np.float64] = np.where(has > 0, 1.0 / np.maximum(has, 1), 0.0)
        taken = has[:, 3] - np.where(nodes.devices > 0, nodes.devices, 0).sum(axis=1)
        self.used: Ints = np.column_stack([nodes.capacity - nodes.free, taken])
        self.amount: Ints = np.column_stack([tasks.demand, tasks.gpu_milli])
        there = placed.assignment != NO
        np.add.at(self.used, placed.assignment[there], self.amount[there])

    def run(self, effort: Effort) -> Placed:
        """Move tasks until nothing helps or time is over."""
        while not effort.is_over():
            loads = (self.used * self.per).max(axis=1)
            fullest = int(loads.argmax()) if len(loads) else NO
            if fullest == NO or not self._relieve(fullest, loads[fullest]):
                break
        return Placed(self.state.assignment, self.state.bits)

    def _relieve(self, node: int, load: float) -> bool:
        """Move one task away so that its node's and its new node's loads are below `load`."""
        column = int((self.used[node] * self.per[node]).argmax())
        mine = np.flatnonzero((self.state.assignment == node) & self.may_go)
        mine = mine[self.amount[mine, column] > 0]
        for task in mine[np.argsort(-self.amount[mine, column], kind="stable")].tolist():
            bits = int(self.state.bits[task])
            self.state.give_back(task)
            allowed = self.state.allowed(task)
            may = self.state.fits(task) if allowed is None else self.state.fits(task) & allowed
            may[node] = False
            fits = np.flatnonzero(may)
            after = ((self.used[fits] + self.amount[task]) * self.per[fits]).max(axis=1)
            if len(fits) and after.min() < load - _LESS:
                target = int(fits[after.argmin()])
                self.state.take(task, target, self.policy.deal(self.state, task, target))
                self.used[node] -= self.amount[task]
                self.used[target] += self.amount[task]
                return True
            self.state.take(task, node, bits)
        return False
