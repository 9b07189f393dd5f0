"""The allocation problem as one boolean for each task, node and device: slow, plain, exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ortools.sat.python import cp_model

from jupyter_aios.allocation.problem import devices_of

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints, Problem


def most_weight(problem: Problem, weights: Ints, limit_s: float) -> tuple[int, int] | None:
    """Return the most weight that can be placed, as found and as bounded; None: infeasible."""
    model = cp_model.CpModel()
    y, x = _variables(model, problem)
    _capacities(model, problem, y, x)
    _groups(model, problem, y)
    _quotas(model, problem, y)
    tasks = problem.tasks
    for i in range(len(tasks)):
        if tasks.must_be_placed[i]:
            model.add(sum(y[i]) == 1)
        else:
            model.add(sum(y[i]) <= 1)
    model.maximize(sum(int(weights[i]) * on for i in range(len(tasks)) for on in y[i]))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return round(solver.objective_value), round(solver.best_objective_bound)


Booleans = list[list[cp_model.IntVar]]


def _variables(
    model: cp_model.CpModel, problem: Problem
) -> tuple[Booleans, dict[tuple[int, int, int], cp_model.IntVar]]:
    tasks, nodes = problem.tasks, problem.nodes
    y = [[model.new_bool_var("") for _ in range(len(nodes))] for _ in range(len(tasks))]
    x = {}
    for i in range(len(tasks)):
        for j in range(len(nodes)):
            own = tasks.current[i] == j
            is_pinned = tasks.current[i] >= 0 and not tasks.is_movable[i]
            may = (problem.zones[tasks.zone[i], j] and not is_pinned) or own
            if not may:
                model.add(y[i][j] == 0)
                continue
            has = [d for d in range(nodes.devices.shape[1]) if nodes.devices[j, d] >= 0]
            for d in has:
                x[i, j, d] = model.new_bool_var("")
                if is_pinned and d not in devices_of(int(tasks.current_devices[i])):
                    model.add(x[i, j, d] == 0)
            model.add(sum(x[i, j, d] for d in has) == int(tasks.gpus[i]) * y[i][j])
    return y, x


def _capacities(
    model: cp_model.CpModel,
    problem: Problem,
    y: Booleans,
    x: dict[tuple[int, int, int], cp_model.IntVar],
) -> None:
    tasks, nodes = problem.tasks, problem.nodes
    for j in range(len(nodes)):
        for column in range(3):
            used = sum(int(tasks.demand[i, column]) * y[i][j] for i in range(len(tasks)))
            model.add(used <= int(nodes.free[j, column]))
        for d in range(nodes.devices.shape[1]):
            if nodes.devices[j, d] >= 0:
                on = [(i, x[i, j, d]) for i in range(len(tasks)) if (i, j, d) in x]
                used = sum(int(tasks.milli[i]) * here for i, here in on)
                model.add(used <= int(nodes.devices[j, d]))


def _groups(model: cp_model.CpModel, problem: Problem, y: Booleans) -> None:
    tasks, nodes = problem.tasks, problem.nodes
    first: dict[int, int] = {}
    bound: dict[int, list[int]] = {}
    for i in range(len(tasks)):
        gang, apart = int(tasks.gang[i]), int(tasks.apart[i])
        if gang >= 0 and first.setdefault(gang, i) != i:
            model.add(sum(y[i]) == sum(y[first[gang]]))
        if apart >= 0:
            bound.setdefault(apart, []).append(i)
    for members in bound.values():
        for j in range(len(nodes)):
            model.add(sum(y[i][j] for i in members) <= 1)
    chosen: dict[tuple[int, int], cp_model.IntVar] = {}
    for i in range(len(tasks)):
        tag = int(tasks.together[i])
        for j in range(len(nodes)) if tag >= 0 else ():
            domain = int(problem.domains[problem.together_domain[tag], j])
            if domain < 0:
                model.add(y[i][j] == 0)
            else:
                at = chosen.setdefault((tag, domain), model.new_bool_var(""))
                model.add(y[i][j] <= at)
    for tag in {tag for tag, _ in chosen}:
        model.add(sum(at for (other, _), at in chosen.items() if other == tag) <= 1)


def _quotas(model: cp_model.CpModel, problem: Problem, y: Booleans) -> None:
    tasks = problem.tasks
    for number, quota in enumerate(problem.quotas):
        who = [i for i in range(len(tasks)) if number in tasks.quotas[i]]
        for column, limit in enumerate(quota.limits):
            if limit is not None:
                used = sum(int(tasks.consumption[i, column]) * sum(y[i]) for i in who)
                model.add(used <= limit)
