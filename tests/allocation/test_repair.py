"""Repair makes placements better, never worse, and never wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.exact import solve
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate, weights
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Problem, nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.repair import eject, improve, window_of
from tests.allocation.brute import best_values
from tests.allocation.instances import small_problem


def as_it_is(problem: Problem) -> Placed:
    """Return what is in force, and nothing else."""
    return Placed(problem.tasks.current.copy(), problem.tasks.current_devices.copy())


def half_of(problem: Problem, seed: int) -> Placed:
    """Return what is best for a part of the tasks (gangs whole) that have to be there or wait."""
    rng = random.Random(seed)
    tasks = problem.tasks
    gangs = rng.sample(range(50), 25)
    chosen = [rng.random() < 0.5 if g == NO else g in gangs for g in tasks.gang.tolist()]
    part = np.flatnonzero(np.array(chosen) | tasks.must_be_placed | tasks.is_in_force)
    found = solve(problem.keep(part), ("feasible",), Effort.of(60.0)).placed
    assert found is not None
    whole = Placed(np.full(len(tasks), NO, np.int64), np.zeros(len(tasks), np.int64))
    whole.assignment[part], whole.devices[part] = found.assignment, found.devices
    return whole


def key(problem: Problem, placed: Placed, names: tuple[str, ...]) -> tuple[int, ...]:
    return ranking(names, evaluate(problem, placed.assignment, placed.devices, names))


@pytest.mark.parametrize("names", [("priority", "moves"), ("gpu", "moves", "balance")])
def test_every_step_is_feasible_and_none_makes_any_level_worse(names: tuple[str, ...]) -> None:
    better = 0
    for seed in range(20):
        problem = small_problem(random.Random(seed), most_tasks=16, most_nodes=8)
        start = half_of(problem, seed)
        assert faults(problem, start.assignment, start.devices) == []
        found = improve(problem, names, start, Effort.of(60.0, seed))
        assert faults(problem, found.assignment, found.devices) == [], seed
        assert key(problem, found, names) >= key(problem, start, names), seed
        better += key(problem, found, names) > key(problem, start, names)
    assert better > 8


def test_a_window_over_all_nodes_finds_the_best_there_is() -> None:
    names = ("priority", "moves")
    for seed in range(30):
        problem = small_problem(random.Random(seed), most_nodes=4)
        start = as_it_is(problem)
        if faults(problem, start.assignment, start.devices):
            continue
        found = improve(problem, names, start, Effort.of(60.0))
        assert evaluate(problem, found.assignment, found.devices, names) == best_values(
            problem, names
        ), seed


def test_a_window_changes_nothing_outside_and_nothing_that_reaches_beyond_it() -> None:
    rng = random.Random(9)
    changed = 0
    for seed in range(120):
        problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=6)
        start = half_of(problem, seed)
        m = len(problem.nodes)
        nodes = np.array(sorted(rng.sample(range(m), rng.randint(1, m))), np.int64)
        waiting = np.flatnonzero(start.assignment == NO)
        window = window_of(problem, start, nodes, waiting)
        assert faults(window.problem, window.start.assignment, window.start.devices) == []
        again = window.expand(window.start)
        assert again.assignment.tolist() == start.assignment.tolist()
        assert again.devices.tolist() == start.devices.tolist()
        placed = solve(window.problem, ("priority", "moves"), Effort.of(60.0), window.start).placed
        assert placed is not None
        found = window.expand(placed)
        assert faults(problem, found.assignment, found.devices) == [], seed
        outside = (start.assignment >= 0) & ~np.isin(start.assignment, nodes)
        assert (found.assignment[outside] == start.assignment[outside]).all()
        changed += found.assignment.tolist() != start.assignment.tolist()
    assert changed > 30


def test_a_task_goes_elsewhere_so_that_a_larger_one_has_its_place() -> None:
    # n0 has 4 CPUs, n1 has 2. The small task is on n0, the large one needs all of it.
    nodes = nodes_of(["n0", "n1"], np.array([[4, 0, 0], [2, 0, 0]]), np.zeros((2, 0), np.int64))
    problem = problem_of(nodes, tasks_of(["small", "large"], np.array([[2, 0, 0], [4, 0, 0]])))
    start = Placed(np.array([0, NO]), np.zeros(2, np.int64))
    found = eject(problem, np.array([1, 1]), start, Effort.of(60.0))
    assert found.assignment.tolist() == [1, 0]


def test_a_task_of_less_weight_waits_and_one_of_more_or_the_same_does_not() -> None:
    nodes = nodes_of(["n0"], np.array([[4, 0, 0]]), np.array([[1000, 1000]]))
    tasks = tasks_of(
        ["there", "waits"],
        np.zeros((2, 3), np.int64),
        gpus=np.array([1, 2]),
        milli=np.array([600, 1000]),
    )
    problem = problem_of(nodes, tasks)
    start = Placed(np.array([0, NO]), np.array([2, 0]))
    assert eject(problem, np.array([5, 5]), start, Effort.of(60.0)).assignment.tolist() == [0, NO]
    found = eject(problem, np.array([5, 6]), start, Effort.of(60.0))
    assert (found.assignment.tolist(), found.devices.tolist()) == ([NO, 0], [0, 3])


def test_chains_are_feasible_weigh_no_less_and_leave_what_is_in_force_alone() -> None:
    better = 0
    for seed in range(150):
        problem = small_problem(random.Random(seed), most_tasks=16, most_nodes=5)
        start = as_it_is(problem)
        if faults(problem, start.assignment, start.devices):
            continue
        weight = weights(problem, "priority")
        found = eject(problem, weight, start, Effort.of(60.0))
        assert faults(problem, found.assignment, found.devices) == [], seed
        before, after = (int(weight[one.assignment >= 0].sum()) for one in (start, found))
        assert after >= before
        held = problem.tasks.is_in_force
        assert (found.assignment[held] == start.assignment[held]).all()
        better += after > before
    assert better > 25


def test_an_effort_that_is_over_gives_back_what_was_given() -> None:
    problem = small_problem(random.Random(3), most_tasks=16, most_nodes=8)
    start = half_of(problem, 3)
    found = improve(problem, ("priority",), start, Effort.of(60.0, stop=lambda: True))
    assert found is start


def test_equal_seeds_give_equal_repairs() -> None:
    problem = small_problem(random.Random(2), most_tasks=30, most_nodes=12)
    start = half_of(problem, 2)
    names = ("priority", "moves")
    one, two = (improve(problem, names, start, Effort.of(60.0, seed=5)) for _ in range(2))
    assert one.assignment.tolist() == two.assignment.tolist()
    assert one.devices.tolist() == two.devices.tolist()
