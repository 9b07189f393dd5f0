"""The levels one after the other: solve one, keep it as good as it became, go on with the next.

This is what runs in the child process: every better placement is told at once, so that a kill at
the end of the time loses nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.exact.goals import goal_of
from jupyter_aios.allocation.exact.model import Model
from jupyter_aios.allocation.exact.seats import hints_of, placed_of, values_of
from jupyter_aios.allocation.levels import OBJECTIVES, ranking
from jupyter_aios.allocation.objectives import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.allocation.exact.goals import Goal
    from jupyter_aios.allocation.exact.seats import Hints
    from jupyter_aios.allocation.placed import Placed
    from jupyter_aios.allocation.problem import Problem

    Bounds = tuple[int | None, ...]
    Found = tuple[Placed | None, Bounds]

_SMALL = 1500
"""Variables up to which one thread is faster, and deterministic by itself."""
_NO_BOUND = 2.0**60
_SPARE = 0.1
"""Of the time: kept back, at most `_SPARE_S`, because CP-SAT ends late and is killed if it does."""
_SPARE_S = 0.1


def solve_here(  # noqa: PLR0917 - arguments that cross to a process have no names
    problem: Problem,
    names: tuple[str, ...],
    ends_at: float,
    seed: int,
    start: Placed | None,
    tell: Callable[[Found], object],
) -> Found:
    """Return (placement or None, bound of each level), telling each better one on the way.

    `ends_at` is on the monotonic clock, which all processes of a machine share. `start` is where
    the search begins, and the answer is never worse.
    """
    left_s = ends_at - time.monotonic()
    until = ends_at - min(_SPARE_S, _SPARE * max(left_s, 0.0))
    levels = _Levels(problem, names, tell)
    if start is not None:
        levels.offer(start)
    model = Model(problem, names[0])
    hints = [] if start is None else hints_of(model, start)
    for number, name in enumerate(names):
        goal = goal_of(model, name)
        if goal is None:
            break
        hear = levels.at(number)
        hear(None, goal.trivial)
        solved = _solve(model, goal, hints, until=until, seed=seed, hear=hear)
        if solved is None:
            break
        value, hints = solved
        goal.keep(model.model, value)
    return levels.best, tuple(levels.bounds)


class _Levels:
    """The best placement so far and what is proven of each level."""

    def __init__(
        self, problem: Problem, names: tuple[str, ...], tell: Callable[[Found], object]
    ) -> None:
        self.problem, self.names, self.tell = problem, names, tell
        self.bounds: list[int | None] = [None] * len(names)
        self.best: Placed | None = None
        self._key: tuple[int, ...] = ()

    def offer(self, placed: Placed) -> None:
        """Keep and tell a placement that is better than the best."""
        values = evaluate(self.problem, placed.assignment, placed.devices, self.names)
        key = ranking(self.names, values)
        if self.best is None or key > self._key:
            self.best, self._key = placed, key
            self.tell((self.best, tuple(self.bounds)))

    def at(self, number: int) -> Callable[[Placed | None, int | None], None]:
        """Return what listens to one level's placements and bounds."""

        def hear(placed: Placed | None, bound: int | None) -> None:
            if bound is not None and bound != self.bounds[number]:
                self.bounds[number] = bound
                self.tell((self.best, tuple(self.bounds)))
            if placed is not None:
                self.offer(placed)

        return hear


def _solve(
    model: Model,
    goal: Goal,
    hints: Hints,
    *,
    until: float,
    seed: int,
    hear: Callable[[Placed | None, int | None], None],
) -> tuple[int, Hints] | None:
    """Return the best sum of one level and the variables there; None if that is not proven."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(until - time.monotonic(), 0.01)
    solver.parameters.max_deterministic_time = goal.effort
    solver.parameters.random_seed = seed % 2**31
    is_small = len(model.model.proto.variables) <= _SMALL
    solver.parameters.num_workers = 1 if is_small else 2
    solver.parameters.interleave_search = not is_small
    model.model.clear_hints()
    for var, number in hints:
        model.model.add_hint(var, number)
    is_maximised = OBJECTIVES[goal.name].is_maximised
    if is_maximised:
        model.model.maximize(goal.total)
    else:
        model.model.minimize(goal.total)

    class Telling(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            hear(placed_of(model, self.value), None)

    def hear_bound(bound: float) -> None:
        if abs(bound) < _NO_BOUND:
            hear(None, goal.bound(_whole(bound, is_maximised)))

    solver.best_bound_callback = hear_bound
    status = solver.solve(model.model, Telling())
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        # What the solver has as its bound then is none: 0, where amounts multiply beyond 2^63.
        return None
    bound = _whole(solver.best_objective_bound, is_maximised)
    hear(placed_of(model, solver.value), goal.bound(bound))
    if status == cp_model.FEASIBLE:
        return None
    return round(solver.objective_value), values_of(model, solver.value)


def _whole(bound: float, is_maximised: bool) -> int:  # noqa: FBT001 - of one private function
    """Return an integer that is no tighter than the solver's bound; its values are integers."""
    return int(np.floor(bound + 1e-6)) if is_maximised else int(np.ceil(bound - 1e-6))
