from __future__ import annotations

import os
import random
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.linear_solver import pywraplp

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.greedy.fragmentation import Typical
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.online import Placer
from jupyter_aios.allocation.online.device_values import (
    DeviceValues,
    best_fillings,
    pattern_of,
    slot_prices,
)
from jupyter_aios.allocation.online.outlook import Outlook
from jupyter_aios.allocation.problem import nodes_of, problem_of, tasks_of

SEEDS = st.integers(0, 2**32 - 1)
DATA = Path(os.environ.get("AIOS_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "openb").is_dir(), reason="the reference data are not there (AIOS_REFERENCE_DATA)"
)


def typical(*kinds: tuple[int, int, int, int]) -> Typical:
    """Kinds of (CPU milli, GPUs, milli of each, how many)."""
    table = np.array(kinds, np.int64)
    return Typical(table[:, :3], table[:, 3])


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_prices_are_those_of_the_linear_programme_over_all_patterns(seed: int) -> None:
    rng = random.Random(seed)
    sizes = np.array(sorted(rng.sample(range(20, 101), rng.randint(1, 4))))
    arrivals = np.array([rng.uniform(0.05, 2.0) for _ in sizes])
    prices = slot_prices(sizes, arrivals)
    best, _ = best_fillings(sizes, prices)
    optimum = _by_all_patterns(sizes, arrivals)
    # By weak duality the prices, and the device at its best filling, prove a bound: it is tight.
    margins = np.array(arrivals * (sizes - prices))
    bound = best[-1] + max(0.0, *(margins[:k].sum() for k in range(len(sizes) + 1)))
    assert bound == pytest.approx(optimum, abs=1e-5)


def _by_all_patterns(sizes: np.ndarray[Any, Any], arrivals: np.ndarray[Any, Any]) -> float:
    """The same programme with every pattern there is, by another solver."""
    solver = pywraplp.Solver.CreateSolver("GLOP")
    accepted = [solver.NumVar(0, 1, "") for _ in sizes]
    counts = [range(100 // size + 1) for size in sizes]
    patterns = [c for c in product(*counts) if np.dot(c, sizes) <= 100]
    used = [solver.NumVar(0, 1, "") for _ in patterns]
    solver.Add(sum(used) <= 1)
    for at, arriving in enumerate(arrivals.tolist()):
        places = sum(c[at] * often for c, often in zip(patterns, used, strict=True) if c[at])
        solver.Add(accepted[at] * arriving <= places)
    for smaller, larger in pairwise(accepted):
        solver.Add(larger <= smaller)
    gains = (arrivals * sizes).tolist()
    solver.Maximize(sum(gain * one for gain, one in zip(gains, accepted, strict=True)))
    assert solver.Solve() == pywraplp.Solver.OPTIMAL
    return float(solver.Objective().Value())


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_the_ceiling_is_the_programmes_optimum(seed: int) -> None:
    rng = random.Random(seed)
    sizes = sorted(rng.sample(range(20, 101), rng.randint(1, 4)))
    counts = [rng.randint(1, 30) for _ in sizes]
    kinds = typical(*[(0, 1, size * 10, count) for size, count in zip(sizes, counts, strict=True)])
    demand = rng.choice((0.5, 1.0, 1.3))
    total = sum(size * count for size, count in zip(sizes, counts, strict=True))
    arrivals = np.array(counts) * demand * 100 / total
    optimum = _by_all_patterns(np.array(sizes), arrivals)
    assert DeviceValues.of(kinds, demand).ceiling == pytest.approx(optimum / 100, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_the_best_filling_of_a_device_is_found(seed: int) -> None:
    rng = random.Random(seed)
    sizes = np.array(sorted(rng.sample(range(20, 101), 3)))
    prices = np.array([rng.uniform(0, 9) for _ in sizes])
    best, last = best_fillings(sizes, prices)
    free = rng.randint(0, 100)
    counts = [range(free // size + 1) for size in sizes]
    values = [np.dot(c, prices) for c in product(*counts) if np.dot(c, sizes) <= free]
    assert best[free] == pytest.approx(max(values))
    pattern = pattern_of(sizes, last)
    assert pattern @ sizes <= 100
    assert pattern @ prices == pytest.approx(best[100])


def test_what_is_left_beside_a_large_share_is_worth_nothing_where_nothing_small_comes() -> None:
    kinds = typical((3000, 1, 810, 50), (10_000, 1, 470, 50), (11_000, 1, 1000, 50))
    values = DeviceValues.of(kinds)
    assert values.worth[1000] == pytest.approx(1000)
    assert values.worth[190] == 0
    assert 400 < values.worth[530] < 600
    assert (np.diff(values.worth) >= -1e-9).all()
    # Filling 530 takes one task of 470.
    assert values.cpu_need[530] == pytest.approx(10_000)
    assert values.cpu_need[190] == 0


def test_without_gpu_tasks_nothing_is_worth_anything() -> None:
    values = DeviceValues.of(typical((1000, 0, 0, 3)))
    assert not values.worth.any()
    assert not values.cpu_need.any()


def test_a_task_without_gpus_goes_where_cpu_abounds() -> None:
    demand = np.array([[10_000, 0, 0]] * 8 + [[40_000, 0, 0]])
    gpus = np.array([1] * 8 + [0])
    tasks = tasks_of([str(i) for i in range(9)], demand, gpus=gpus, milli=gpus * 1000)
    free = np.array([[80_000, 0, 0], [100_000, 0, 0]])
    devices = np.array([[1000] * 8, [1000, 1000] + [-1] * 6])
    problem = problem_of(nodes_of(["many", "few"], free, devices), tasks)
    placer = Placer(problem, "outlook")
    assert placer.submit([8]).places[0].node == 1  # type: ignore[union-attr]
    # Best fit fills the node with less CPU left, and strands four of its GPUs.
    assert Placer(problem, "first-fit").submit([8]).places[0].node == 0  # type: ignore[union-attr]


def test_a_share_avoids_the_device_that_it_would_spoil() -> None:
    kinds = typical((0, 1, 810, 10), (0, 1, 470, 60), (0, 1, 250, 10))
    tasks = tasks_of(["t"], np.zeros((1, 3), np.int64), gpus=np.array([1]), milli=np.array([250]))
    nodes = nodes_of(["n"], np.zeros((1, 3), np.int64), np.array([[470, 500, 1000, 280]]))
    problem = problem_of(nodes, tasks)
    policy = Outlook(problem, kinds)
    assert policy.deal(State(problem), 0, 0) == 0b1000


@needs_data
def test_on_a_real_cluster_more_gpu_is_allocated_than_by_fgd() -> None:
    from benchmarks._traces import nodes_csv, read_trace, tasks_csv

    trace = read_trace(nodes_csv(), tasks_csv("gpushare100"))
    asked = np.column_stack([trace.demand[:, 0], trace.gpus, trace.milli])
    kinds, counts = np.unique(asked, axis=0, return_counts=True)
    rng = np.random.default_rng(3)
    size = trace.gpus * trace.milli
    arrivals = rng.integers(len(size), size=40_000)
    arrivals = arrivals[: int(np.searchsorted(size[arrivals].cumsum(), 1.3 * trace.gpu_milli))]
    problem = trace.problem(arrivals)
    given_milli = {}
    for policy in ("fgd", "outlook"):
        placer = Placer(problem, policy, typical=Typical(kinds, counts))
        for task in range(len(arrivals)):
            placer.submit([task])
        end = placer.placed()
        assert faults(problem, end.assignment, end.devices) == []
        given_milli[policy] = int(problem.tasks.gpu_milli[end.assignment >= 0].sum())
    assert given_milli["outlook"] > given_milli["fgd"]
