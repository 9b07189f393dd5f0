"""Exact solves of small parts, by CP-SAT: the end of a dive, windows of a neighbourhood, the core.

Effort is CP-SAT's deterministic time, about seconds on a slow core, so that a window's result does
not depend on how busy the machine is; the wall clock ends it only where the time is over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.assignment.problem import Flags, Instance, Ints

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort

POLL_S = 0.02


@dataclass(frozen=True, eq=False)
class Window:
    """What CP-SAT found out about a part."""

    status: str
    """`optimal`, `feasible`, `infeasible` or `undecided`."""
    assignment: Ints | None
    """tasks: their nodes; -1 is nowhere. None where none was found."""
    bound: float


@dataclass(frozen=True, eq=False)
class _Model:
    model: Any
    at_task: Ints
    at_node: Ints
    pairs: list[Any]
    left_out: list[Any]


def solve_window(
    instance: Instance,
    candidates: Flags,
    *,
    limit: Effort,
    effort: float,
    hint: Ints | None = None,
    seed: int = 0,
    may_leave: bool = True,
    below: int | None = None,
) -> Window:
    """Return the cheapest assignment over the candidate pairs.

    `may_leave` lets tasks stay out at the instance's penalty; `below` asks for a smaller cost.
    """
    if limit.is_over():
        return Window("undecided", None, -np.inf)
    built = _build(instance, candidates, hint, may_leave=may_leave, below=below)
    solver, status = _run(built.model, limit, effort=effort, seed=seed)
    if status not in {"optimal", "feasible"}:
        return Window(status, None, -np.inf)
    taken = np.array([solver.boolean_value(pair) for pair in built.pairs], bool)
    assignment = np.full(instance.tasks, -1, np.int64)
    assignment[built.at_task[taken]] = built.at_node[taken]
    return Window(status, assignment, solver.best_objective_bound)


def _build(
    instance: Instance, candidates: Flags, hint: Ints | None, *, may_leave: bool, below: int | None
) -> _Model:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    at_task, at_node = np.nonzero(candidates)
    pairs = [model.new_bool_var("") for _ in at_task]
    costs = instance.costs[at_task, at_node].tolist()
    demands = instance.demands[at_task, at_node].tolist()
    left_out = [model.new_bool_var("") for _ in range(instance.tasks)] if may_leave else []
    of_task: list[list[Any]] = [[one] for one in left_out] or [[] for _ in range(instance.tasks)]
    of_node: list[list[int]] = [[] for _ in range(instance.nodes)]
    for at, (task, node) in enumerate(zip(at_task.tolist(), at_node.tolist(), strict=True)):
        of_task[task].append(pairs[at])
        of_node[node].append(at)
    for literals in of_task:
        model.add_exactly_one(literals)
    for node, ats in enumerate(of_node):
        load = cp_model.LinearExpr.weighted_sum(
            [pairs[at] for at in ats], [demands[at] for at in ats]
        )
        model.add(load <= int(instance.capacities[node]))
    weights = costs + [instance.penalty] * len(left_out)
    cost = cp_model.LinearExpr.weighted_sum(pairs + left_out, weights)
    if below is not None:
        model.add(cost < below)
    model.minimize(cost)
    if hint is not None:
        for at, (task, node) in enumerate(zip(at_task, at_node, strict=True)):
            model.add_hint(pairs[at], int(hint[task] == node))
        for task, one in enumerate(left_out):
            model.add_hint(one, int(hint[task] < 0))
    return _Model(model, at_task, at_node, pairs, left_out)


def _run(model: Any, limit: Effort, *, effort: float, seed: int) -> tuple[Any, str]:  # noqa: ANN401 - ortools' own
    """Return the solver after a search, and how it ended."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = effort
    solver.parameters.max_time_in_seconds = max(limit.left_s(), 0.001)
    is_done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(solver, limit, is_done), daemon=True)
    watcher.start()
    try:
        status = solver.solve(model)
    finally:
        is_done.set()
        watcher.join()
    names = {
        cp_model.OPTIMAL: "optimal",
        cp_model.FEASIBLE: "feasible",
        cp_model.INFEASIBLE: "infeasible",
    }
    return solver, names.get(status, "undecided")


def _watch(solver: Any, limit: Effort, is_done: threading.Event) -> None:  # noqa: ANN401 - ortools' own
    """End a search when its caller says stop, which CP-SAT would not ask by itself."""
    while not is_done.wait(POLL_S):
        if limit.is_over():
            solver.stop_search()
            return
