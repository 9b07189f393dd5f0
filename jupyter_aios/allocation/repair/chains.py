"""Chains of one step: what waits takes the place of what goes elsewhere, or is worth less.

Cheap, and what most of the windows would find too; CP-SAT is for what remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.greedy.policies import BestFit
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

_MOST_EVICTIONS = 64
"""Tasks that are tried to make room for one that waits."""


def eject(problem: Problem, weight: Ints, placed: Placed, effort: Effort) -> Placed:
    """Return a placement of at least the same weight (n), with as many moves or fewer.

    Tasks in force and tasks that are bound to others are left alone. Those that wait are tried once
    each, the weightiest first: where there is room, else in the place of one task, which goes where
    there is room for it or, if it weighs less, waits.
    """
    chains = _Chains(problem, weight, placed)
    waiting = np.flatnonzero(chains.is_free & (placed.assignment == NO) & (weight > 0))
    for task in waiting[np.argsort(-weight[waiting], kind="stable")].tolist():
        if effort.is_over():
            break
        if chains.state.has_quota(task):
            chains.insert(task)
    return Placed(chains.state.assignment, chains.state.bits)


class _Chains:
    """The placement while it changes."""

    def __init__(self, problem: Problem, weight: Ints, placed: Placed) -> None:
        tasks = problem.tasks
        self.problem, self.weight = problem, weight
        self.state = State(problem)
        self.state.take_all(placed)
        self.policy = BestFit(problem)
        bound = (tasks.gang != NO) | (tasks.apart != NO) | (tasks.together != NO)
        self.is_free: Bools = ~bound & ~tasks.is_in_force

    def insert(self, task: int) -> None:
        """Place a task that waits, if it can be done so."""
        if self._place(task):
            return
        for other in self._in_the_way(task):
            node, bits = int(self.state.assignment[other]), int(self.state.bits[other])
            self.state.give_back(other)
            if self._place(task, only=node):
                if self._place(other) or self.weight[other] < self.weight[task]:
                    return
                self.state.give_back(task)
            self.state.take(other, node, bits)

    def _in_the_way(self, task: int) -> list[int]:
        """Return tasks whose place may be large enough, the lightest first."""
        tasks, on = self.problem.tasks, self.state.assignment
        may = np.append(self.problem.may_hold(task), False)
        found = np.flatnonzero(self.is_free & (on != NO) & may[on])
        # Only who gives what is missing: a task of no GPU makes no room for one that lacks GPU.
        short = self._missing(task, on[found])
        gives = np.column_stack([tasks.demand[found], tasks.gpu_milli[found]])
        found = found[(gives >= short).all(axis=1)]
        lightest = found[np.argsort(self.weight[found], kind="stable")][:_MOST_EVICTIONS]
        return [int(other) for other in lightest]

    def _missing(self, task: int, nodes: Ints) -> Ints:
        """Return what the nodes lack of a task's demand (k × 4)."""
        state, tasks = self.state, self.problem.tasks
        free = np.column_stack([column[nodes] for column in (*state.free, state.gpu_free)])
        needs = np.append(tasks.demand[task], tasks.gpu_milli[task])
        short: Ints = np.maximum(needs - free, 0)
        return short

    def _place(self, task: int, only: int = NO) -> bool:
        fits = np.flatnonzero(self.state.fits(task))
        if only != NO:
            fits = fits[fits == only]
        if not len(fits) or not self.state.has_quota(task):
            return False
        node = int(fits[np.argmax(self.policy.score(self.state, task, fits))])
        self.state.take(task, node, self.policy.deal(self.state, task, node))
        return True
