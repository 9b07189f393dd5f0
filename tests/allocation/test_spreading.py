from __future__ import annotations

import random

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.ladder import allocate
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.problem import nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.repair.spreading import spread
from tests.allocation.instances import small_problem

NAMES = ("priority", "moves", "balance")


def test_the_highest_load_falls_or_stays_and_nobody_moves_more() -> None:
    fell = 0
    for seed in range(300):
        problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=6)
        packed = sorted_greedy(problem, NAMES, "best-fit", Effort.of(60.0))
        if packed is None:
            continue
        even = spread(problem, packed, Effort.of(60.0))
        assert faults(problem, even.assignment, even.devices) == [], seed
        before = evaluate(problem, packed.assignment, packed.devices, NAMES)
        after = evaluate(problem, even.assignment, even.devices, NAMES)
        assert after[0] == before[0], seed
        assert after[1] <= before[1], seed
        assert after[2] <= before[2], seed
        fell += after[2] < before[2]
    assert fell


def test_many_nodes_are_loaded_evenly_where_balance_is_asked_for() -> None:
    free = np.full((200, 3), 64_000, np.int64)
    nodes = nodes_of([f"n{j}" for j in range(200)], free, np.full((200, 8), 1000))
    demand = np.array([[4000 + 500 * (i % 7), 0, 0] for i in range(800)], np.int64)
    ones = np.ones(800, np.int64)
    tasks = tasks_of([f"t{i}" for i in range(800)], demand, gpus=ones, milli=1000 * ones)
    problem = problem_of(nodes, tasks)
    found = allocate(problem, "gpu,balance", 60.0)
    assert [level.value for level in found.levels] == [800_000, 500_000]
    packed = allocate(problem, "gpu", 60.0)
    assert evaluate(problem, packed.assignment, packed.devices, ("balance",)) == (1_000_000,)
