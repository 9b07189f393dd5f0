"""Re-allocation: a few tasks move, so that what was left out fits or less GPU is out of reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy.choice import Choice
from jupyter_aios.allocation.greedy.fragmentation import Tables, Typical
from jupyter_aios.allocation.greedy.ordering import by_worth, units_in
from jupyter_aios.allocation.greedy.policies import policy_of
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.objectives import weights as weights_of
from jupyter_aios.allocation.online.moves import make_room
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import CPU, NO, Problem
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.greedy.choice import Kind


_MOST_FOR_ONE = 4
"""Tasks that move at most so that another one fits."""
_MOST_NODES = 200
"""Nodes that are relieved, the most fragmented first."""


def reallocate(
    problem: Problem,
    current: Placed,
    *,
    most_moved_share: float,
    effort: Effort,
    names: tuple[str, ...] = ("priority", "moves", "fragmentation"),
) -> Placed:
    """Return a placement that is better by the objective, or `current` where none is found.

    At most `most_moved_share` (0 to 1) of the tasks that `current` places go elsewhere; none of
    them is stopped. First, tasks that are left out are placed where room is or one move makes it,
    those that weigh the most first. Then, if `names` values less fragmentation above fewer moves,
    tasks leave the nodes where GPU is out of reach.

    Raises:
        InputError: the share is not between 0 and 1.

    """
    if not 0 <= most_moved_share <= 1:
        raise InputError(
            f"a share of {most_moved_share} of the tasks cannot move", hint="a share from 0 to 1"
        )
    placed = current.assignment >= 0
    moving = _Moving(problem, current, int(most_moved_share * placed.sum()), effort)
    best, best_rank = current, _rank(problem, current, names)
    steps = [moving.place_left_out]
    if _wants_less_fragmentation(names):
        steps.append(moving.relieve)
    for step in steps:
        step(names)
        found = moving.placed()
        rank = _rank(problem, found, names)
        if rank > best_rank:
            best, best_rank = found, rank
    return best


def _wants_less_fragmentation(names: Sequence[str]) -> bool:
    if "fragmentation" not in names:
        return False
    return "moves" not in names or names.index("fragmentation") < names.index("moves")


def _rank(problem: Problem, placed: Placed, names: tuple[str, ...]) -> tuple[int, ...]:
    return ranking(names, evaluate(problem, placed.assignment, placed.devices, names))


@dataclass(eq=False)
class _Moving:
    """A placement while tasks of it move."""

    problem: Problem
    start: Placed
    most: int
    effort: Effort

    def __post_init__(self) -> None:
        self.state = State(self.problem)
        self.state.take_all(self.start)
        self.choice = Choice(self.state, policy_of("fgd", self.problem))
        # Everybody is asked again and again here: scores are kept for all kinds.
        self.choice.expect([*range(len(self.problem.tasks))] * 2)

    def placed(self) -> Placed:
        """Return where the tasks are now."""
        return Placed(self.state.assignment.copy(), self.state.bits.copy())

    @property
    def moved(self) -> int:
        """How many tasks of the start are elsewhere."""
        was = self.start.assignment >= 0
        elsewhere = self.state.assignment != self.start.assignment
        elsewhere |= self.state.bits != self.start.devices
        return int((was & elsewhere).sum())

    def place_left_out(self, names: Sequence[str]) -> None:
        """Place units that are nowhere, those that weigh the most for their size first."""
        order = by_worth(self.problem, weights_of(self.problem, names[0]), names[0])
        order = order[self.state.assignment[order] < 0]
        hopeless: set[Kind] = set()
        for unit in units_in(self.problem, order):
            if self.effort.is_over():
                return
            # A task like one that found no place finds none, until something has changed.
            is_plain = len(unit) == 1 and not self.state.is_bound[unit[0]]
            kind = self.choice.kind_of(unit[0])
            if is_plain and kind in hopeless:
                continue
            if self.choice.place(unit) or self._place_with_moves(unit):
                hopeless.clear()
            elif is_plain and not self.state.quotas[unit[0]]:
                hopeless.add(kind)

    def _place_with_moves(self, unit: Sequence[int]) -> bool:
        before = self.placed()
        movable = self.problem.tasks.is_movable & (self.start.assignment >= 0)
        for task in unit:
            if self.choice.place([task]):
                continue
            most = min(self.most - self.moved, _MOST_FOR_ONE)
            if most < 1 or not make_room(self.choice, task, movable, most):
                self.state.restore(before)
                return False
        return True

    def relieve(self, names: Sequence[str]) -> None:
        """Move tasks away from fragmented nodes, each only where that lowers fragmentation."""
        del names
        state, nodes = self.state, self.problem.nodes
        if not nodes.devices.shape[1]:
            return
        tables = Tables.of(Typical.of(self.problem), nodes.devices.shape[1])
        measured = tables.measure(state.free[CPU], state.devices)
        for node in np.argsort(-measured, kind="stable")[:_MOST_NODES].tolist():
            for task in np.flatnonzero(state.assignment == node).tolist():
                if self.effort.is_over() or self.moved >= self.most:
                    return
                if self.problem.tasks.is_movable[task] and self.start.assignment[task] == node:
                    self._move_if_better(tables, task, node)

    def _move_if_better(self, tables: Tables, task: int, node: int) -> None:
        state = self.state
        bits = int(state.bits[task])
        before = tables.measure(state.free[CPU], state.devices).sum()
        state.give_back(task)
        elsewhere = self.choice.best(task)
        if elsewhere not in (NO, node):
            state.take(task, elsewhere, self.choice.policy.deal(state, task, elsewhere))
            if tables.measure(state.free[CPU], state.devices).sum() < before:
                return
            state.give_back(task)
        state.take(task, node, bits)
