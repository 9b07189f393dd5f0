from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Problem
from jupyter_aios.allocation.reduction import pinned, reduce
from tests.allocation.instances import small_problem


def guess(rng: random.Random, problem: Problem) -> Placed:
    """Return a placement at random: often wrong, sometimes right."""
    nodes, tasks = problem.nodes, problem.tasks
    where = np.array([rng.randrange(-1, len(nodes)) for _ in range(len(tasks))], np.int64)
    stay = np.array([rng.random() < 0.7 for _ in range(len(tasks))]) & tasks.is_in_force
    where = np.where(stay, tasks.current, where)
    devices = np.zeros(len(tasks), np.int64)
    for i, node in enumerate(where.tolist()):
        has = np.flatnonzero(nodes.devices[node] >= 0).tolist() if node >= 0 else []
        if stay[i]:
            devices[i] = tasks.current_devices[i]
        elif len(has) >= tasks.gpus[i] and node >= 0:
            devices[i] = sum(1 << device for device in rng.sample(has, int(tasks.gpus[i])))
        else:
            where[i] = NO
    return Placed(where, devices)


def test_a_placement_of_the_open_part_is_feasible_exactly_where_the_whole_is() -> None:
    rng, counts = random.Random(7), {True: 0, False: 0}
    for seed in range(4000):
        problem = small_problem(random.Random(seed), pinned=True)
        if not pinned(problem.tasks).any():
            continue
        reduction = reduce(problem)
        part = reduction.restrict(guess(rng, problem))
        whole = reduction.expand(part)
        wrong = faults(reduction.problem, part.assignment, part.devices)
        assert (wrong == []) == (faults(problem, whole.assignment, whole.devices) == []), seed
        counts[wrong == []] += 1
        assert evaluate(problem, whole.assignment, whole.devices, ("moves",)) == evaluate(
            reduction.problem, part.assignment, part.devices, ("moves",)
        )
    assert min(counts.values()) > 20, counts


def test_a_problem_without_pinned_tasks_is_left_as_it_is() -> None:
    problem = small_problem(random.Random(1), features=frozenset({"gangs"}))
    assert reduce(problem).problem is problem


def test_what_a_pinned_task_holds_is_free_no_more() -> None:
    problem = small_problem(random.Random(3), features=frozenset())
    tasks = problem.tasks
    held = replace(
        tasks,
        current=np.zeros(len(tasks), np.int64),
        is_movable=np.zeros(len(tasks), bool),
    )
    reduction = reduce(replace(problem, tasks=held))
    assert len(reduction.problem.tasks) == 0
    left = problem.nodes.free[0] - tasks.demand.sum(axis=0)
    assert reduction.problem.nodes.free[0].tolist() == left.tolist()
