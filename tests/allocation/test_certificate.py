from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_aios.allocation.certificate import Certificate, CertificateError
from jupyter_aios.allocation.certificate.knapsacks import fill_devices, fill_nodes
from jupyter_aios.allocation.certificate.proof import closure
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.prices.whole import free_certificate, whole_certificate
from jupyter_aios.allocation.problem import NO, Problem, Quota, nodes_of, problem_of, tasks_of
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints

OBJECTIVES = ("gpu", "priority", "feasible")


def best_by_brute_force(problem: Problem, weight: Ints) -> int | None:  # noqa: C901 - one search
    """Return the best sum of weights over all placements; None where there is none at all."""
    tasks, nodes = problem.tasks, problem.nodes
    n = len(tasks)
    node, devices = np.full(n, NO, np.int64), np.zeros(n, np.int64)
    free, left = nodes.free.copy(), nodes.devices.copy()
    best: int | None = None

    def options(i: int) -> list[tuple[int, int]]:
        found = [(NO, 0)] if not tasks.must_be_placed[i] else []
        if tasks.is_in_force[i] and not tasks.is_movable[i]:
            return [*found, (int(tasks.current[i]), int(tasks.current_devices[i]))]
        for j in range(len(nodes)):
            if problem.zones[tasks.zone[i], j] or tasks.current[i] == j:
                has = np.flatnonzero(left[j] >= tasks.milli[i]) if tasks.gpus[i] else np.zeros(0)
                alike = set()
                for chosen in combinations(has.astype(int).tolist(), int(tasks.gpus[i])):
                    key = tuple(sorted(left[j, list(chosen)].tolist()))
                    if key not in alike:
                        alike.add(key)
                        found.append((j, sum(1 << d for d in chosen)))
        return found

    def search(i: int, value: int) -> None:
        nonlocal best
        if best is not None and value + int(weight[i:].sum()) <= best:
            return
        if i == n:
            if not faults(problem, node, devices, most=1):
                best = value
            return
        for j, bits in options(i):
            chosen = [d for d in range(left.shape[1]) if bits >> d & 1]
            if j >= 0:
                if (free[j] < tasks.demand[i]).any() or (left[j, chosen] < tasks.milli[i]).any():
                    continue
                free[j] -= tasks.demand[i]
                left[j, chosen] -= tasks.milli[i]
            node[i], devices[i] = j, bits
            search(i + 1, value + (int(weight[i]) if j >= 0 else 0))
            node[i], devices[i] = NO, 0
            if j >= 0:
                free[j] += tasks.demand[i]
                left[j, chosen] += tasks.milli[i]

    search(0, 0)
    return best


def random_certificate(rng: random.Random, problem: Problem, objective: str) -> Certificate:
    """Return prices that nobody optimised: they must prove a bound too."""
    draw = np.random.default_rng(rng.randrange(2**32))
    count = rng.randint(1, 3)
    weight = float(weights(problem, objective).max(initial=1))
    most = np.maximum(problem.nodes.free.max(axis=0, initial=1), 1)
    shares = np.sort(draw.random((count, 1000)) * weight, axis=1)
    shares[:, 0] = 0
    wholes = np.sort(draw.random((count, 63)) * weight, axis=1)
    wholes[:, 0] = 0
    return whole_certificate(
        problem,
        objective,
        vector_of=draw.integers(count, size=len(problem.nodes)),
        prices=draw.random((count, 3)) * weight / most,
        shares=shares,
        wholes=wholes,
        quotas=draw.random((len(problem.quotas), 5)) * weight / 1000,
    )


@pytest.mark.parametrize("seed", range(120))
def test_no_placement_exceeds_a_bound(seed: int) -> None:
    rng = random.Random(seed)
    problem = small_problem(rng)
    objective = OBJECTIVES[seed % 3]
    best = best_by_brute_force(problem, weights(problem, objective))
    solved = solve_prices(problem, (objective,), Effort.of(60))
    for certificate in (solved, random_certificate(rng, problem, objective)):
        proven = certificate.check(problem)
        assert proven <= certificate.bound
        assert best is None or best <= proven
    assert solved.bound <= free_certificate(problem, objective).bound


@pytest.mark.parametrize("seed", range(50))
def test_prices_of_one_problem_prove_a_bound_for_another(seed: int) -> None:
    rng = random.Random(seed)
    before, after = small_problem(rng), small_problem(rng)
    certificate = solve_prices(before, ("priority",), Effort.of(60))
    best = best_by_brute_force(after, weights(after, "priority"))
    bound = certificate.evaluate(after)
    assert best is None or best <= bound
    # The names of nodes repeat, so the vectors of one are used for the other; and new nodes choose.
    renamed = replace(after, nodes=replace(after.nodes, names=["x", "y", "z"][: len(after.nodes)]))
    assert best is None or best <= certificate.evaluate(renamed)
    assert replace(certificate, bound=bound).check(after) <= bound


@pytest.mark.parametrize("seed", range(40))
def test_a_bound_that_is_lowered_is_refused(seed: int) -> None:
    problem = small_problem(random.Random(seed))
    certificate = solve_prices(problem, ("priority",), Effort.of(60))
    proven = certificate.check(problem)
    with pytest.raises(CertificateError, match="is claimed"):
        replace(certificate, bound=proven - 1).check(problem)


def test_prices_that_are_no_prices_are_refused() -> None:
    certificate = free_certificate(small_problem(random.Random(0)), "gpu")
    below = certificate.prices.copy()
    below[0, 0] = -1
    with pytest.raises(CertificateError, match="negative in prices"):
        replace(certificate, prices=below)
    free_lunch = np.ones_like(certificate.shares)
    with pytest.raises(CertificateError, match="nothing has a price"):
        replace(certificate, shares=free_lunch)
    falling = np.zeros_like(certificate.shares)
    falling[0, 500] = 1
    with pytest.raises(CertificateError, match="larger share costs less"):
        replace(certificate, shares=falling)
    with pytest.raises(CertificateError, match="quota_prices"):
        replace(certificate, quota_prices={"user ada": (0, 0, 0, -1, 0)})


@pytest.mark.parametrize("seed", range(20))
def test_two_ways_to_fill_a_device_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = np.zeros((3, 1000), np.int64)
    for row in shares:
        steps = rng.choice(np.arange(1, 1000), size=rng.integers(1, 30), replace=False)
        row[steps] = rng.integers(1, 1000, size=len(steps))
        np.cumsum(row, out=row)
    device = fill_devices(shares)
    assert (closure(np.hstack([shares, np.zeros((3, 1), np.int64)])) == device).all()
    wholes = np.sort(rng.integers(0, 9999, size=(3, 63)), axis=1)
    wholes[:, 0] = 0
    items = wholes.copy()
    items[:, 1] = np.maximum(items[:, 1], device[:, -1])
    assert (closure(items) == fill_nodes(wholes, device[:, -1])).all()


def test_a_device_is_worth_its_best_filling() -> None:
    shares = np.zeros((1, 1000), np.int64)
    shares[0, 300:] = 30
    shares[0, 450:] = 50
    filled = fill_devices(shares)[0]
    # 3 × 300; 300 + 600 or 450 + 450; a single 450.
    assert (filled[1000], filled[910], filled[760]) == (100, 100, 80)
    assert (filled[299], filled[300], filled[599], filled[600]) == (0, 30, 50, 60)


def _toy(demands: list[int], capacities: list[int]) -> Problem:
    demand = np.array([[cpu, 0, 0] for cpu in demands], np.int64).reshape(-1, 3)
    free = np.array([[cpu, 0, 0] for cpu in capacities], np.int64).reshape(-1, 3)
    nodes = nodes_of([f"n{j}" for j in range(len(free))], free, np.zeros((len(free), 0), np.int64))
    return problem_of(nodes, tasks_of([f"t{i}" for i in range(len(demand))], demand))


@pytest.mark.parametrize(("demands", "capacities"), [([], []), ([], [5]), ([5], []), ([9], [5])])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_nothing_to_place_the_bound_is_0(
    demands: list[int], capacities: list[int], objective: str
) -> None:
    problem = _toy(demands, capacities)
    certificate = solve_prices(problem, (objective,), Effort.of(60))
    assert certificate.bound == certificate.check(problem) == certificate.evaluate(problem) == 0


def test_without_time_there_is_a_bound_too() -> None:
    problem = _toy([3, 5, 2, 9], [6, 5])
    certificate = solve_prices(problem, ("feasible",), Effort.of(0))
    # The one that fits nowhere is not counted.
    assert certificate.bound == certificate.check(problem) == 3


def test_numbers_beyond_64_bits_are_added_exactly() -> None:
    huge = 2**55
    problem = _toy([huge, huge, huge], [2 * huge, huge - 1])
    heavy = replace(problem.tasks, value=np.full(3, 2**52), priority=np.full(3, 3))
    problem = replace(problem, tasks=heavy)
    certificate = solve_prices(problem, ("priority",), Effort.of(60))
    assert certificate.check(problem) <= certificate.bound == 2 * 3 * 2**52


def test_a_gang_that_fits_in_part_is_not_counted() -> None:
    problem = _toy([3, 9], [4])
    gang = replace(problem, tasks=replace(problem.tasks, gang=np.zeros(2, np.int64)))
    assert solve_prices(problem, ("feasible",), Effort.of(60)).bound == 1
    assert solve_prices(gang, ("feasible",), Effort.of(60)).bound == 0


def test_a_quota_that_binds_lowers_the_bound() -> None:
    problem = _toy([2, 2, 2], [6])
    tasks = replace(problem.tasks, quotas=np.array([[0, NO], [0, 0], [0, NO]]))
    for quota in (Quota("user ada", tasks=2), Quota("user ada", cpu_milli=4)):
        bound = replace(problem, tasks=tasks, quotas=(quota,))
        certificate = solve_prices(bound, ("feasible",), Effort.of(60))
        assert certificate.bound == certificate.check(bound) == 2
        raised = replace(bound, quotas=(Quota("user ada"),))
        assert certificate.evaluate(raised) == 3
