from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_aios.allocation import prices
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.prices.fillings import Fillings
from jupyter_aios.allocation.prices.kinds import kinds_of, split
from jupyter_aios.allocation.prices.market import Market
from jupyter_aios.allocation.problem import Problem, nodes_of, problem_of, tasks_of
from tests.allocation.instances import small_problem
from tests.allocation.test_certificate import best_by_brute_force

if TYPE_CHECKING:
    from jupyter_aios.allocation.certificate import Certificate

OBJECTIVES = ("gpu", "priority", "feasible")


def _of_market(problem: Problem, objective: str, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """Solve as if there were too many kinds of tasks and nodes."""
    monkeypatch.setattr(prices, "_MOST_PAIRS", -1)
    return solve_prices(problem, (objective,), Effort.of(60))


@pytest.mark.parametrize("seed", range(90))
def test_a_market_of_samples_proves_a_bound_too(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small_problem(random.Random(seed))
    objective = OBJECTIVES[seed % 3]
    best = best_by_brute_force(problem, weights(problem, objective))
    certificate = _of_market(problem, objective, monkeypatch)
    proven = certificate.check(problem)
    assert proven <= certificate.bound
    assert best is None or best <= proven


def _shares(count: int, milli: int, devices: int) -> Problem:
    """Return shares of one size and one node, with CPU and memory enough for all."""
    demand = np.ones((count, 3), np.int64)
    tasks = tasks_of(
        [f"t{i}" for i in range(count)],
        demand,
        gpus=np.ones(count, np.int64),
        milli=np.full(count, milli),
    )
    nodes = nodes_of(["n"], np.full((1, 3), 10**6), np.full((1, devices), 1000))
    return problem_of(nodes, tasks)


@pytest.mark.parametrize(("milli", "on_one"), [(600, 1), (400, 2), (334, 2), (333, 3), (1000, 1)])
def test_shares_are_not_split_between_devices(milli: int, on_one: int) -> None:
    problem = _shares(20, milli, 3)
    assert solve_prices(problem, ("feasible",), Effort.of(60)).bound == 3 * on_one


def test_whole_devices_are_not_split_between_nodes() -> None:
    tasks = tasks_of(
        [f"t{i}" for i in range(9)],
        np.ones((9, 3), np.int64),
        gpus=np.full(9, 3),
        milli=np.full(9, 1000),
    )
    nodes = nodes_of(["a", "b"], np.full((2, 3), 10**6), np.full((2, 5), 1000))
    # By area 10 devices were three tasks.
    certificate = solve_prices(problem_of(nodes, tasks), ("feasible",), Effort.of(60))
    assert certificate.bound == certificate.check(problem_of(nodes, tasks)) == 2


def test_kinds_are_equals_only() -> None:
    problem = small_problem(random.Random(5), most_tasks=14, most_nodes=5)
    weight = weights(problem, "priority")
    kinds = kinds_of(problem, weight, 10**6)
    assert kinds is not None
    assert kinds.count.sum() == len(problem.tasks)
    for i in range(len(problem.tasks)):
        kind = kinds.class_of[i]
        assert (kinds.demand[kind] == problem.tasks.demand[i]).all()
        assert kinds.weight[kind] == weight[i]
    assert kinds_of(problem, weight, 0) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_programme_fills_devices_as_well_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.sort(rng.choice(np.arange(100, 1000), size=5, replace=False))
    price = rng.random((1, 5)) + 0.1
    fillings = Fillings(levels, price)

    def best(free: int) -> float:
        fits = [s for s, milli in enumerate(levels) if milli <= free]
        return max([float(price[0, s]) + best(free - levels[s]) for s in fits], default=0.0)

    for free in (1000, 640, 99):
        assert fillings.best[0, free] == pytest.approx(best(free))
        content = fillings.content(0, free)
        assert sum(levels[s] * n for s, n in content.items()) <= free
        assert sum(price[0, s] * n for s, n in content.items()) == pytest.approx(best(free))


def test_clusters_refine_what_is_given_and_are_not_too_many() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(3, size=500)
    found = split(rng.random((500, 2)), np.ones(500), coarse, 20)
    assert len(np.unique(found)) == 20
    for cluster in range(20):
        assert len(np.unique(coarse[found == cluster])) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_node_that_takes_another_vector_lowers_the_bound_of_a_market(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=6)
    rng = np.random.default_rng(seed)
    market = Market(problem, weights(problem, "priority"), 4)
    vectors, limits = rng.random((market.vectors, 4)), rng.random(len(market.limit))
    before = market.bound(vectors, limits)
    market.group(market.regroup(vectors))
    assert market.bound(vectors[market.kept], limits) <= before + 1e-5 * abs(before)


def _alike_by_twos(count: int) -> Problem:
    """Return shares of which hardly any fits what is left of the devices."""
    rng = np.random.default_rng(0)
    tasks = tasks_of(
        [f"t{i}" for i in range(count)],
        np.ones((count, 3), np.int64),
        gpus=np.ones(count, np.int64),
        milli=np.append(rng.integers(500, 900, size=count - 1), 200),
    )
    nodes = nodes_of(
        [f"n{j}" for j in range(count)],
        np.full((count, 3), 10**6),
        np.tile(np.array([[450, 1000]]), (count, 1)),
    )
    return problem_of(nodes, tasks)


def test_what_is_left_of_devices_is_worth_little_where_few_shares_are_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jupyter_aios.allocation.prices import shaping

    problem = _alike_by_twos(40)
    shaped = _of_market(problem, "gpu", monkeypatch)
    assert shaped.check(problem) == shaped.bound
    monkeypatch.setattr(shaping, "_SMALL", ())
    assert shaped.bound <= _of_market(problem, "gpu", monkeypatch).bound


def test_memory_in_bytes_does_not_blunt_prices() -> None:
    problem = _shares(4, 1000, 4)
    memory = problem.tasks.demand.copy()
    memory[:, 1] = 2**40 // 3
    free = problem.nodes.free.copy()
    free[0, 1] = 2**40
    problem = replace(
        problem,
        tasks=replace(problem.tasks, demand=memory),
        nodes=replace(problem.nodes, free=free),
    )
    assert solve_prices(problem, ("gpu",), Effort.of(60)).bound == 3000
