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
from jupyter_aios.allocation.prices.whole import free_certificate
from jupyter_aios.allocation.problem import NO, nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.scale import scale
from jupyter_aios.allocation.scale.exchange import exchange
from jupyter_aios.allocation.scale.refill import best_fillings
from jupyter_aios.allocation.scale.room import Room
from jupyter_aios.allocation.scale.search import Search
from jupyter_aios.allocation.scale.units import Units
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from jupyter_aios.allocation.placed import Placed
    from jupyter_aios.allocation.problem import Problem

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


def _room(problem: Problem, objective: str) -> Room:
    return Room(problem, weights(problem, objective), free_certificate(problem, objective))


def test_a_task_moves_to_another_node_to_make_room_for_a_better_one() -> None:
    demand = np.array([[4, 1, 1], [10, 1, 1]])
    tasks = tasks_of(["small", "large"], demand, value=np.array([4, 10]))
    nodes = nodes_of(["a", "b"], np.array([[10, 9, 9], [4, 9, 9]]), np.full((2, 1), -1))
    problem = problem_of(nodes, tasks)
    room = _room(problem, "priority")
    units = Units(room)
    units.place_at(0, 0)
    before = room.value()
    gained = exchange(units, np.array([1]), units.is_plain, np.random.default_rng(0), Effort.of(60))
    assert room.assignment.tolist() == [1, 0]
    assert gained == room.value() - before > 0


@pytest.mark.parametrize("seed", range(60))
def test_exchanges_keep_a_placement_feasible_and_never_make_it_worse(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=5)
    objective = OBJECTIVES[seed % 3]
    start = scale(problem, (objective,), Effort.of(0.0))
    assert start is not None
    room = _room(problem, objective)
    units = Units(room)
    search = Search(room, units, Effort.of(60, seed))
    for i in np.flatnonzero(start.assignment >= 0).tolist():
        units.place_at(i, int(start.assignment[i]), int(start.devices[i]))
    for _ in range(10):
        before = room.value()
        gained = exchange(
            units, room.unplaced(search.is_free), search.is_free, search.rng, search.effort
        )
        assert 0 <= gained == room.value() - before
        placed = room.placed()
        assert faults(problem, placed.assignment, placed.devices) == []


@pytest.mark.parametrize("seed", range(40))
def test_several_nodes_filled_at_once_hold_what_their_fillings_say(seed: int) -> None:
    rng = random.Random(seed)
    problem = small_problem(rng, most_tasks=14, most_nodes=4, features=frozenset({"shares"}))
    room = _room(problem, "gpu")
    count = len(problem.nodes)
    candidates = np.full((count, len(problem.tasks)), NO, np.int64)
    for i in range(len(problem.tasks)):
        j = rng.randrange(count)
        if problem.zones[problem.tasks.zone[i], j]:
            candidates[j, i] = i
    nodes = problem.nodes
    fillings = best_fillings(
        room,
        np.arange(count),
        candidates,
        (nodes.free, nodes.devices),
        6,
        rng=np.random.default_rng(seed),
    )
    assignment, devices = np.full(len(problem.tasks), NO, np.int64), room.bits.copy()
    for j, filling in enumerate(fillings):
        assert filling.value == pytest.approx(room.net[filling.tasks].sum())
        for i, bits in zip(filling.tasks, filling.bits, strict=True):
            assert candidates[j, i] == i
            assignment[i], devices[i] = j, bits
    assert faults(problem, assignment, devices) == []
    # What would still fit would be taken.
    for i in np.flatnonzero(candidates.max(axis=0) >= 0).tolist():
        j = int(np.flatnonzero(candidates[:, i] >= 0)[0])
        if assignment[i] < 0:
            assignment[i] = j
            assert not _fits_without_devices(problem, assignment, i) or problem.tasks.gpus[i]
            assignment[i] = NO


def _fits_without_devices(problem: Problem, assignment: np.ndarray, i: int) -> bool:
    j = assignment[i]
    used = problem.tasks.demand[assignment == j].sum(axis=0)
    return bool((used <= problem.nodes.free[j]).all())
