"""The exact solver against brute force: every feature, every level, every bound."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.exact import is_tractable, solve
from jupyter_aios.allocation.exact.model import Model
from jupyter_aios.allocation.exact.seats import hints_of, placed_of
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.problem import NO, Problem, Quota, nodes_of, problem_of, tasks_of
from jupyter_aios.core.units import MILLI
from tests.allocation.brute import best_values
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.placed import Placed

LEVELS = (
    ("priority", "moves", "fragmentation"),
    ("gpu", "moves", "balance"),
    ("priority", "balance"),
    ("gpu", "fragmentation", "balance"),
    ("feasible",),
)
CHUNKS, SIZE = 5, 30


def alike(
    *,
    tasks: int,
    demand: Sequence[int] = (1000, 0, 0),
    gpus: int = 0,
    milli: int = MILLI,
    nodes: Sequence[Sequence[int]] = ((4000, 0, 0),),
    devices: Sequence[Sequence[int]] | None = None,
    quotas: tuple[Quota, ...] = (),
    **columns: object,
) -> Problem:
    """Return a problem of equal tasks."""
    has = np.zeros((len(nodes), 0), np.int64) if devices is None else np.array(devices, np.int64)
    places = nodes_of([f"n{j}" for j in range(len(nodes))], np.array(nodes, np.int64), has)
    asked = tasks_of(
        [f"t{i}" for i in range(tasks)],
        np.tile(np.array(demand, np.int64), (tasks, 1)),
        gpus=np.full(tasks, gpus),
        milli=np.full(tasks, milli if gpus else 0),
        **columns,
    )
    return problem_of(places, asked, quotas=quotas)


def solved(problem: Problem, *names: str, start: Placed | None = None) -> tuple[int, ...]:
    """Return the values that were found, checked and proven best."""
    found = solve(problem, names, Effort.of(60.0), start)
    assert found.placed is not None
    placed = found.placed
    assert faults(problem, placed.assignment, placed.devices) == []
    values = evaluate(problem, placed.assignment, placed.devices, names)
    assert found.bounds == values
    return values


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("names", LEVELS, ids="-".join)
def test_values_and_bounds_of_all_levels_are_those_of_brute_force(
    names: tuple[str, ...], chunk: int
) -> None:
    for seed in range(chunk * SIZE, (chunk + 1) * SIZE):
        problem = small_problem(random.Random(seed))
        found = solve(problem, names, Effort.of(60.0))
        assert found.placed is not None
        placed = found.placed
        assert faults(problem, placed.assignment, placed.devices) == [], seed
        best = best_values(problem, names)
        assert evaluate(problem, placed.assignment, placed.devices, names) == best, seed
        assert found.bounds == best, seed


def test_where_not_all_that_must_be_kept_can_be_there_is_no_allocation() -> None:
    problem = alike(tasks=2, nodes=((1000, 0, 0),))
    tasks = replace(problem.tasks, current=np.zeros(2, np.int64))
    held = replace(problem, tasks=tasks)
    assert best_values(held, ("priority",)) is None
    found = solve(held, ("priority", "moves"), Effort.of(60.0))
    assert found.placed is None


def test_a_task_that_fits_nowhere_proves_that_not_all_can_be_placed() -> None:
    problem = alike(tasks=3, demand=(5000, 0, 0))
    assert solved(problem, "feasible") == (0,)


def test_equal_gangs_that_are_apart_are_dealt_out_node_by_node() -> None:
    # Two gangs of three on four nodes of two seats: each gang on three nodes of its own.
    gangs = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    problem = alike(tasks=9, nodes=((2000, 0, 0),) * 4, gang=gangs, apart=gangs)
    assert solved(problem, "feasible") == (6,)


def test_gangs_of_one_are_tasks_like_any_other() -> None:
    problem = alike(tasks=4, gang=np.array([0, 1, 2, NO]), nodes=((3000, 0, 0),))
    assert solved(problem, "feasible") == (3,)


def test_shares_are_packed_on_devices_and_not_on_their_sum() -> None:
    # 3 × 600 are less than two devices have, and two devices hold two of them.
    problem = alike(tasks=3, gpus=1, milli=600, nodes=((9000, 0, 0),), devices=((MILLI, MILLI, 0),))
    assert solved(problem, "gpu") == (1200,)


def test_a_quota_counts_a_task_once_even_where_both_its_quotas_are_the_same() -> None:
    both = np.zeros((4, 2), np.int64)
    problem = alike(tasks=4, quotas=(Quota("user ada", cpu_milli=2500),))
    problem = replace(problem, tasks=replace(problem.tasks, quotas=both))
    assert solved(problem, "feasible") == (2,)


def test_a_task_may_change_devices_on_its_drained_node() -> None:
    # t0 holds device 0, t1 needs two whole devices: t0 has to go to device 2 of its own node.
    nodes = nodes_of(
        ["n0"],
        np.array([[4000, 0, 0]]),
        np.array([[MILLI, MILLI, 500]]),
        is_drained=np.array([True]),
    )
    tasks = tasks_of(
        ["t0", "t1"],
        np.zeros((2, 3), np.int64),
        gpus=np.array([1, 2]),
        milli=np.array([500, MILLI]),
        current=np.array([0, NO]),
        current_devices=np.array([1, 0]),
        zone=np.array([0, 1]),
    )
    zones = np.array([[False], [True]])
    problem = problem_of(nodes, tasks, zones=zones, zone_names=("", "any"))
    assert best_values(problem, ("gpu", "moves")) == (2500, 1)
    assert solved(problem, "gpu", "moves") == (2500, 1)


def test_terabytes_are_multiplied_without_running_over() -> None:
    large = 64 * 2**40 + 1
    problem = alike(tasks=2, demand=(0, large // 2, 0), nodes=((0, large, 0), (0, large, 0)))
    found = solve(problem, ("feasible", "balance"), Effort.of(60.0))
    assert found.placed is not None
    assert found.bounds[0] == 2
    values = evaluate(problem, found.placed.assignment, found.placed.devices, ("balance",))
    assert found.bounds[1] is None or found.bounds[1] <= values[0]


def test_equal_seeds_give_equal_placements() -> None:
    problem = small_problem(random.Random(4), most_tasks=20, most_nodes=6)
    one, two = (solve(problem, LEVELS[0], Effort.of(60.0, seed=7)) for _ in range(2))
    assert one.placed is not None
    assert two.placed is not None
    assert one.placed.assignment.tolist() == two.placed.assignment.tolist()
    assert one.placed.devices.tolist() == two.placed.devices.tolist()


def test_the_hints_of_a_placement_are_that_placement() -> None:
    """Fix all variables to the hints of a solution: it is a solution still, and as good."""
    from ortools.sat.python import cp_model

    names = ("priority", "moves", "balance")
    for seed in range(80):
        problem = small_problem(random.Random(seed), most_tasks=10, most_nodes=4)
        start = solve(problem, names, Effort.of(60.0)).placed
        assert start is not None
        model = Model(problem, "priority")
        for var, number in hints_of(model, start):
            model.model.add(var == number)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        assert solver.solve(model.model) == cp_model.OPTIMAL, seed
        again = placed_of(model, solver.value)
        values = [evaluate(problem, one.assignment, one.devices, names) for one in (start, again)]
        assert values[0] == values[1], seed


def test_the_answer_is_never_worse_than_the_start_even_without_time() -> None:
    names = ("priority", "moves")
    problem = small_problem(random.Random(11), most_tasks=12, most_nodes=4)
    start = solve(problem, names, Effort.of(60.0)).placed
    assert start is not None
    best = evaluate(problem, start.assignment, start.devices, names)
    found = solve(problem, names, Effort.of(0.02), start).placed
    if found is not None:
        values = evaluate(problem, found.assignment, found.devices, names)
        assert ranking(names, values) >= ranking(names, best)


def test_only_what_has_few_nodes_and_few_kinds_is_tractable() -> None:
    nodes = ((4000, 0, 0),)
    assert is_tractable(alike(tasks=100_000, nodes=nodes * 20))
    assert not is_tractable(alike(tasks=10, nodes=nodes * 200))
    apart = np.arange(3000)
    assert not is_tractable(alike(tasks=3000, nodes=nodes * 40, apart=apart))
