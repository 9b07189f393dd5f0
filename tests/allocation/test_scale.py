from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.problem import NO
from jupyter_aios.allocation.scale import scale
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.allocation.result import Placed

OBJECTIVES = ("gpu", "priority", "feasible")


def _value(problem: Problem, objective: str, placed: Placed) -> int:
    return int(weights(problem, objective)[placed.assignment >= 0].sum())


@pytest.mark.parametrize("seed", range(120))
def test_what_is_proposed_is_feasible_and_within_the_bound(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=5)
    objective = OBJECTIVES[seed % 3]
    certificate = solve_prices(problem, (objective,), Effort.of(60))
    placed = scale(problem, (objective,), Effort.of(0.1), certificate=certificate)
    assert placed is not None
    assert faults(problem, placed.assignment, placed.devices) == []
    assert _value(problem, objective, placed) <= certificate.bound


@pytest.mark.parametrize("seed", range(40))
def test_nothing_that_fits_is_left_out(seed: int) -> None:
    rng = random.Random(seed)
    problem = small_problem(rng, most_tasks=14, most_nodes=5, features=frozenset({"shares"}))
    placed = scale(problem, ("gpu",), Effort.of(0.1))
    assert placed is not None
    free, devices = problem.nodes.free.copy(), problem.nodes.devices.copy()
    for i in np.flatnonzero(placed.assignment >= 0).tolist():
        free[placed.assignment[i]] -= problem.tasks.demand[i]
        for d in range(devices.shape[1]):
            if placed.devices[i] >> d & 1:
                devices[placed.assignment[i], d] -= problem.tasks.milli[i]
    left = replace(problem, nodes=replace(problem.nodes, free=free, devices=devices))
    for i in np.flatnonzero(placed.assignment < 0).tolist():
        assert not left.may_hold(i).any()


def test_a_better_start_is_not_thrown_away() -> None:
    problem = small_problem(random.Random(3), most_tasks=14, most_nodes=5, features=frozenset())
    best = scale(problem, ("priority",), Effort.of(1.0))
    assert best is not None
    again = scale(problem, ("priority",), Effort.of(0.0), best)
    assert again is not None
    assert _value(problem, "priority", again) >= _value(problem, "priority", best)


@pytest.mark.parametrize("seed", range(3))
def test_equal_seeds_give_equal_placements(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=5)
    first, second = (scale(problem, ("gpu",), Effort.of(30.0, seed=seed)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.assignment == second.assignment).all()
    assert (first.devices == second.devices).all()


def test_without_nodes_nothing_is_placed() -> None:
    problem = small_problem(random.Random(1), features=frozenset())
    nodes = problem.nodes
    none = replace(
        nodes,
        names=[],
        free=nodes.free[:0],
        devices=nodes.devices[:0],
        capacity=nodes.capacity[:0],
        models=nodes.models[:0],
        is_drained=nodes.is_drained[:0],
    )
    empty = replace(problem, nodes=none, zones=problem.zones[:, :0], domains=problem.domains[:, :0])
    placed = scale(empty, ("gpu",), Effort.of(1.0))
    assert placed is not None
    assert (placed.assignment == NO).all()
