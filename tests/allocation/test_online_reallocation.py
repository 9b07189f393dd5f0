from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy import place_in_order
from jupyter_aios.allocation.greedy.fragmentation import fragmentation
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate, weights
from jupyter_aios.allocation.online import reallocate
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Problem, nodes_of, problem_of, tasks_of
from jupyter_aios.errors import InputError
from tests.allocation.instances import small_problem

SEEDS = st.integers(0, 2**32 - 1)
GPU = ("gpu", "moves", "fragmentation")


def in_force(problem: Problem, placed: Placed) -> Problem:
    """The problem after a placement: what is placed is in force, and nothing else is."""
    held = placed.assignment >= 0
    tasks = replace(
        problem.tasks,
        current=placed.assignment,
        current_devices=placed.devices,
        is_preemptible=problem.tasks.is_preemptible & held,
    )
    return replace(problem, tasks=tasks)


@pytest.mark.parametrize("names", [GPU, ("priority", "fragmentation", "moves")])
@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_it_moves_at_most_the_share_stops_nobody_and_is_never_worse(
    names: tuple[str, ...], seed: int
) -> None:
    rng = random.Random(seed)
    drawn = small_problem(rng, most_tasks=10, most_nodes=4)
    order = rng.sample(range(len(drawn.tasks)), len(drawn.tasks))
    current = place_in_order(drawn, order, "random", Effort.of(600.0, seed))
    problem = in_force(drawn, current)
    share = rng.choice((0.0, 0.2, 0.5, 1.0))
    found = reallocate(
        problem, current, most_moved_share=share, effort=Effort.of(600.0), names=names
    )
    assert faults(problem, found.assignment, found.devices) == []
    held = current.assignment >= 0
    assert (found.assignment[held] >= 0).all()
    differs = (found.assignment != current.assignment) | (found.devices != current.devices)
    assert (held & differs).sum() <= share * held.sum()
    before, after = (
        ranking(names, evaluate(problem, one.assignment, one.devices, names))
        for one in (current, found)
    )
    assert after >= before


def scattered() -> tuple[Problem, Placed]:
    """A share on each of two nodes with two GPUs, and a task on two GPUs that has no room."""
    free = np.zeros((2, 3), np.int64)
    nodes = nodes_of(["a", "b"], free, np.full((2, 2), 1000))
    tasks = tasks_of(
        ["s", "t", "wide"],
        np.zeros((3, 3), np.int64),
        gpus=np.array([1, 1, 2]),
        milli=np.array([300, 300, 1000]),
    )
    current = Placed(np.array([0, 1, NO]), np.array([1, 1, 0]))
    return in_force(problem_of(nodes, tasks), current), current


def test_one_move_lets_a_task_in_that_was_left_out() -> None:
    problem, current = scattered()
    found = reallocate(problem, current, most_moved_share=0.5, effort=Effort.of(600.0), names=GPU)
    assert found.assignment[2] >= 0
    assert weights(problem, "gpu")[found.assignment >= 0].sum() == 2600
    none = reallocate(problem, current, most_moved_share=0.4, effort=Effort.of(600.0), names=GPU)
    assert none.assignment.tolist() == current.assignment.tolist()


def test_tasks_move_for_less_fragmentation_only_where_that_is_worth_more_than_moves() -> None:
    problem, current = scattered()
    # The wide task is worth nothing here, so that only fragmentation is left to gain.
    worthless = np.array([1, 1, 0])
    problem = replace(
        problem, tasks=replace(problem.tasks, value=worthless, zone=np.array([0, 0, 1]))
    )
    problem = replace(
        problem, zones=np.array([[True, True], [False, False]]), zone_names=("", "none")
    )
    moved, stayed = (
        reallocate(problem, current, most_moved_share=1.0, effort=Effort.of(600.0), names=names)
        for names in (("priority", "fragmentation"), ("priority", "moves", "fragmentation"))
    )
    assert stayed.assignment.tolist() == current.assignment.tolist()
    assert moved.assignment[0] == moved.assignment[1]
    measured = [fragmentation(problem, one.assignment, one.devices) for one in (moved, stayed)]
    assert measured[0] < measured[1]


def test_a_share_that_is_none_is_refused() -> None:
    problem, current = scattered()
    with pytest.raises(InputError, match="a share of 2 of the tasks"):
        reallocate(problem, current, most_moved_share=2, effort=Effort.of(1.0))


def test_nothing_moves_when_there_is_no_time() -> None:
    problem, current = scattered()
    found = reallocate(problem, current, most_moved_share=1.0, effort=Effort.of(0.0), names=GPU)
    assert found.assignment.tolist() == current.assignment.tolist()
