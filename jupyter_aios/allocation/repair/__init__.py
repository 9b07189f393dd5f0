"""What is there made better while time is left: by chains of one step, then by exact windows.

chains    a task that waits takes the place of one that goes elsewhere or is worth less
windows   a few nodes, what is on them, and what waits: a problem of their own, solved exactly
spreading the highest load lowered
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.exact import solve
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate, moved, weights
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import Problem
from jupyter_aios.allocation.repair.chains import eject
from jupyter_aios.allocation.repair.windows import Window, window_of

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints

_NODES = 6
_CANDIDATES = 24
_FOREIGN = 5
"""How much less likely a node is that may not have the task."""
_WINDOW_S = 1.0
_MOST_IN_VAIN = 60
"""Windows in a row that bring nothing, after which it is over."""


def improve(problem: Problem, names: tuple[str, ...], placed: Placed, effort: Effort) -> Placed:
    """Return a placement that is at least as good on every level, in their order.

    Works on the first level, and on `moves` where that is the second; the others are only kept
    from becoming worse. Each window is drawn by the seed: nodes that may have a task that waits, or
    the node that a task was moved from.
    """
    search = _Search(problem, names, effort, placed, random.Random(effort.seed))  # noqa: S311 - no keys
    search.offer(eject(problem, search.weight, placed, effort))
    in_vain = 0
    while in_vain < _MOST_IN_VAIN and not effort.is_over():
        window = search.window()
        if window is None:
            break
        found = solve(window.problem, search.inside, effort.share(1.0, _WINDOW_S), window.start)
        is_better = found.placed is not None and search.offer(window.expand(found.placed))
        in_vain = 0 if is_better else in_vain + 1
    return search.placed


@dataclass
class _Search:
    """The best placement so far, and where to look for a better one."""

    problem: Problem
    names: tuple[str, ...]
    effort: Effort
    placed: Placed
    rng: random.Random

    def __post_init__(self) -> None:
        self.weight = weights(self.problem, self.names[0])
        self.inside = self.names[:2] if self.names[1:2] == ("moves",) else self.names[:1]
        self.key = self._key(self.placed)

    def _key(self, placed: Placed) -> tuple[int, ...]:
        values = evaluate(self.problem, placed.assignment, placed.devices, self.names)
        return ranking(self.names, values)

    def offer(self, placed: Placed) -> bool:
        """Keep a placement if it is better, and say whether it is."""
        key = self._key(placed)
        is_better = key > self.key
        if is_better:
            self.placed, self.key = placed, key
        return is_better

    def window(self) -> Window | None:
        """Return the next window; None where nothing waits and nothing was moved."""
        tasks, on = self.problem.tasks, self.placed.assignment
        waiting = np.flatnonzero((on < 0) & (self.weight > 0))
        away = np.zeros(0, np.int64)
        if "moves" in self.inside:
            away = moved(self.problem, on, self.placed.devices)
        if not len(self.problem.nodes) or not len(waiting) + len(away):
            return None
        pick_away = len(away) and (not len(waiting) or self.rng.randrange(2))
        task = int(self.rng.choice((away if pick_away else waiting).tolist()))
        first = sorted({int(j) for j in (tasks.current[task], on[task]) if pick_away and j >= 0})
        nodes = self._nodes(task, first)
        return window_of(self.problem, self.placed, nodes, self._candidates(waiting))

    def _nodes(self, task: int, first: list[int]) -> Ints:
        """Return `first` and some others, likelier if empty and if they may have the task."""
        may = self.problem.may_hold(task)
        on = self.placed.assignment
        cost = (1 + np.bincount(on[on >= 0], minlength=len(may))) * np.where(may, 1, _FOREIGN)
        keys = [self.rng.random() * one for one in cost.tolist()]
        others = [j for j in np.argsort(keys, kind="stable").tolist() if j not in first]
        return np.array(sorted([*first, *others][:_NODES]), np.int64)

    def _candidates(self, waiting: Ints) -> Ints:
        """Return the weightiest that wait, and some others."""
        half = _CANDIDATES // 2
        by_weight = waiting[np.argsort(-self.weight[waiting], kind="stable")]
        first, others = by_weight[:half].tolist(), by_weight[half:].tolist()
        return np.array(sorted(first + self.rng.sample(others, min(len(others), half))), np.int64)


__all__ = ["Window", "eject", "improve", "window_of"]
