from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy import place_in_order, sorted_greedy
from jupyter_aios.allocation.greedy.fragmentation import Tables, Typical, fragmentation
from jupyter_aios.allocation.greedy.policies import Fgd
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.problem import NO, Problem, devices_of, nodes_of, problem_of, tasks_of
from tests.allocation.instances import small_problem

SEEDS = st.integers(0, 2**32 - 1)
DATA = Path(os.environ.get("AIOS_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "openb").is_dir(), reason="the reference data are not there (AIOS_REFERENCE_DATA)"
)


def lost(cpu: int, free: list[int], task: tuple[int, int, int]) -> int:
    """What a task cannot use of a node's free GPU: the paper's definition, word for word."""
    wants_cpu, gpus, milli = task
    fitting = sum(1 for left in free if left >= milli)
    if gpus == 0 or wants_cpu > cpu or fitting < gpus:
        return sum(free)
    return sum(left for left in free if left < milli)


def defined(problem: Problem, assignment: list[int], devices: list[int]) -> float:
    """The mean over the problem's tasks of what each could not use, on all nodes."""
    tasks, total = problem.tasks, 0
    for node in range(len(problem.nodes)):
        there = [i for i, where in enumerate(assignment) if where == node]
        cpu = int(problem.nodes.free[node, 0]) - sum(int(tasks.demand[i, 0]) for i in there)
        free = [max(int(left), 0) for left in problem.nodes.devices[node]]
        for i in there:
            for device in devices_of(devices[i]):
                free[device] -= int(tasks.milli[i])
        for i in range(len(tasks)):
            asked = (int(tasks.demand[i, 0]), int(tasks.gpus[i]), int(tasks.milli[i]))
            total += lost(cpu, free, asked)
    return total / max(len(tasks), 1)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_fragmentation_is_what_the_paper_defines(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=9, most_nodes=4)
    placed = sorted_greedy(problem, ("priority",), "random", Effort.of(600.0, seed))
    assert placed is not None
    found = fragmentation(problem, placed.assignment, placed.devices)
    wanted = defined(problem, placed.assignment.tolist(), placed.devices.tolist())
    assert abs(found - wanted) <= 0.5


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_fgd_scores_a_node_by_the_growth_of_its_fragmentation(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=6, most_nodes=4)
    state, policy = State(problem), Fgd(problem)
    everything = np.arange(len(problem.tasks))
    none, nothing = np.full(len(everything), NO), np.zeros(len(everything), np.int64)
    before = defined(problem, none.tolist(), nothing.tolist())
    for task in everything:
        for node in np.flatnonzero(state.fits(int(task))).tolist():
            score = policy.score(state, int(task), np.array([node]))[0]
            bits = policy.deal(state, int(task), node)
            grown = []
            free = state.devices[node].tolist()
            options = [1 << d for d, left in enumerate(free) if left >= state.milli[task]]
            for option in options if problem.tasks.is_share[task] else [bits]:
                assignment, devices = none.copy(), nothing.copy()
                assignment[task], devices[task] = node, option
                after = defined(problem, assignment.tolist(), devices.tolist())
                grown.append((after - before, option))
            least = min(grown)[0]
            assert abs({option: growth for growth, option in grown}[bits] - least) < 1e-6
            assert score == pytest.approx(100 / (1 + np.exp(least / 1000)), abs=1.001)


def test_where_there_are_too_many_kinds_the_most_frequent_stand_for_all() -> None:
    cpu = np.concatenate([np.arange(1000), np.full(5, 77)])
    demand = np.column_stack([cpu, np.zeros((len(cpu), 2), np.int64)])
    tasks = tasks_of([str(i) for i in range(len(cpu))], demand)
    nodes = nodes_of(["n"], np.array([[1, 0, 0]]), np.zeros((1, 0), np.int64))
    typical = Typical.of(problem_of(nodes, tasks), most=50)
    assert len(typical.counts) == 50
    assert typical.counts.max() == 6
    assert typical.kinds[:, 0].min() < 50
    assert typical.kinds[:, 0].max() > 950


def test_a_cluster_without_gpus_or_tasks_is_not_fragmented() -> None:
    nodes = nodes_of(["n"], np.array([[1000, 0, 0]]), np.zeros((1, 0), np.int64))
    none = np.zeros(0, np.int64)
    empty = problem_of(nodes, tasks_of([], np.zeros((0, 3), np.int64)))
    assert fragmentation(empty, none, none) == 0
    tables = Tables.of(Typical.of(empty), 0)
    assert tables.measure(np.array([5]), np.zeros((1, 0), np.int64)).tolist() == [0]


@needs_data
def test_on_a_real_cluster_random_is_worse_than_best_fit_and_best_fit_worse_than_fgd() -> None:
    from benchmarks._traces import nodes_csv, read_trace, tasks_csv

    trace = read_trace(nodes_csv(), tasks_csv("default"))
    rng = np.random.default_rng(1)
    # A fifth of the cluster, so that the test is quick.
    some = np.sort(rng.permutation(len(trace.nodes))[: len(trace.nodes) // 5])
    columns = {
        name: getattr(trace.nodes, name)[some]
        for name in ("free", "devices", "capacity", "models", "is_drained")
    }
    nodes = nodes_of([trace.nodes.names[i] for i in some], **columns, model_names=("GPU",) * 20)
    size = trace.gpus * trace.milli
    arrivals = rng.integers(len(size), size=40_000)
    wanted = 1.3 * 1000 * (nodes.devices >= 0).sum()
    arrivals = arrivals[: int(np.searchsorted(size[arrivals].cumsum(), wanted))]
    whole = trace.problem(arrivals)
    problem = problem_of(nodes, whole.tasks)
    given_milli = {}
    for policy in ("random", "best-fit", "fgd"):
        placed = place_in_order(problem, range(len(arrivals)), policy, Effort.of(600.0))
        assert faults(problem, placed.assignment, placed.devices) == []
        given_milli[policy] = int(problem.tasks.gpu_milli[placed.assignment >= 0].sum())
    assert given_milli["random"] < given_milli["best-fit"] < given_milli["fgd"]
