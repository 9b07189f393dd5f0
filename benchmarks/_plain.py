"""The usual way to hand an allocation to a solver: one boolean for each pair of task and node.

A share of a device needs one for each device besides. Peers of the allocator, written as a person
would write them who does not know that tasks are alike.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints, Problem

Terms = list[tuple[int, int]]
"""(coefficient, column)."""


class PlainModel:
    """Columns, and rows that are at most something: CPU, memory, devices, one node per task."""

    def __init__(self, problem: Problem, weights: Ints) -> None:
        self.costs: list[int] = []
        self.rows: list[tuple[Terms, int]] = []
        self.of_task: list[list[int]] = [[] for _ in problem.tasks.names]
        tasks, nodes = problem.tasks, problem.nodes
        for j in range(len(nodes)):
            held: list[Terms] = [[], [], []]
            whole: Terms = []
            opened = []
            for room in nodes.devices[j][nodes.devices[j] > 0].tolist():
                opened.append((self._column(0), room))
                whole.append((1, opened[-1][0]))
            shares: list[Terms] = [[(-room, column)] for column, room in opened]
            for i in np.flatnonzero(problem.zones[tasks.zone, j]).tolist():
                gpus, milli = int(tasks.gpus[i]), int(tasks.milli[i])
                if tasks.is_share[i]:
                    columns = [self._column(int(weights[i])) for _ in opened]
                    for device, column in enumerate(columns):
                        shares[device].append((milli, column))
                else:
                    columns = [self._column(int(weights[i]))]
                    if gpus:
                        whole.append((gpus, columns[0]))
                for resource in range(3):
                    if amount := int(tasks.demand[i, resource]):
                        held[resource] += [(amount, column) for column in columns]
                self.of_task[i] += columns
            self.rows += [(terms, int(nodes.free[j, at])) for at, terms in enumerate(held) if terms]
            self.rows += [(terms, 0) for terms in shares]
            self.rows.append((whole, len(opened)))
        self.rows += [([(1, column) for column in columns], 1) for columns in self.of_task]

    def _column(self, cost: int) -> int:
        self.costs.append(cost)
        return len(self.costs) - 1


def solve_cp_sat(problem: Problem, weights: Ints, limit_s: float) -> tuple[int, float]:
    """Return the weight that CP-SAT places, and its seconds with building the model."""
    from ortools.sat.python import cp_model

    begun = time.monotonic()
    plain = PlainModel(problem, weights)
    model = cp_model.CpModel()
    on = [model.new_bool_var("") for _ in plain.costs]
    for terms, most in plain.rows:
        model.add(
            cp_model.LinearExpr.weighted_sum([on[c] for _, c in terms], [a for a, _ in terms])
            <= most
        )
    model.maximize(cp_model.LinearExpr.weighted_sum(on, plain.costs))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(limit_s - (time.monotonic() - begun), 0.1)
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    found = status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
    value = round(solver.objective_value) if found else 0
    return value, time.monotonic() - begun


def solve_mip(problem: Problem, weights: Ints, limit_s: float) -> tuple[int, float]:
    """Return the weight that HiGHS' branch and bound places, and its seconds."""
    import highspy

    begun = time.monotonic()
    plain = PlainModel(problem, weights)
    program: Any = highspy.HighsLp()
    count, rows = len(plain.costs), len(plain.rows)
    program.num_col_, program.num_row_ = count, rows
    program.col_cost_ = -np.array(plain.costs, float)
    program.col_lower_, program.col_upper_ = np.zeros(count), np.ones(count)
    program.row_lower_ = np.full(rows, -np.inf)
    scale = np.array([max(most, 1) for _, most in plain.rows], float)
    program.row_upper_ = np.array([most for _, most in plain.rows], float) / scale
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    sizes = [len(terms) for terms, _ in plain.rows]
    program.a_matrix_.start_ = np.concatenate([[0], np.cumsum(sizes)])
    program.a_matrix_.index_ = np.array([c for terms, _ in plain.rows for _, c in terms], np.int32)
    values = np.array([a for terms, _ in plain.rows for a, _ in terms], float)
    program.a_matrix_.value_ = values / np.repeat(scale, sizes)
    program.integrality_ = [highspy.HighsVarType.kInteger] * count
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)  # noqa: FBT003 - HiGHS' own signature
    solver.setOptionValue("time_limit", max(limit_s - (time.monotonic() - begun), 0.1))
    solver.passModel(program)
    solver.run()
    info = solver.getInfo()
    found = info.primal_solution_status == 2
    value = round(-info.objective_function_value) if found else 0
    return value, time.monotonic() - begun
