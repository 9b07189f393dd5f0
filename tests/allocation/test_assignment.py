from __future__ import annotations

import csv
import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.allocation.assignment import (
    AssignmentProblem,
    AssignmentSolution,
    faults,
    read_assignment,
    solve_assignment,
)
from jupyter_aios.allocation.assignment.columns import generate
from jupyter_aios.allocation.assignment.companion import Companion
from jupyter_aios.allocation.assignment.dive import NO_CUTOFF, Dive
from jupyter_aios.allocation.assignment.knapsacks import Knapsacks
from jupyter_aios.allocation.assignment.problem import Instance
from jupyter_aios.allocation.assignment.relaxation import relax
from jupyter_aios.allocation.assignment.search import Search
from jupyter_aios.allocation.assignment.start import descend, insert
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(
    os.environ.get("AIOS_REFERENCE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
needs_data = pytest.mark.skipif(
    not (DATA / "gap").is_dir(),
    reason="the reference instances are not here; AIOS_REFERENCE_DATA names their folder",
)
SPREAD = [f"gap{group}-{group % 5}" for group in range(1, 13)]


def make(
    costs: NDArray[np.int64], demands: NDArray[np.int64], capacities: NDArray[np.int64]
) -> AssignmentProblem:
    tasks, nodes = costs.shape
    return AssignmentProblem(
        costs,
        demands,
        capacities,
        tuple(f"t{task}" for task in range(tasks)),
        tuple(f"n{node}" for node in range(nodes)),
    )


def random_problem(
    seed: int, tasks: int, nodes: int, *, tightness: float = 1.0
) -> AssignmentProblem:
    """Dear where small, as type d of the literature: good assignments fill the nodes."""
    rng = np.random.default_rng(seed)
    demands = rng.integers(1, 30, (tasks, nodes))
    costs = 31 - demands + rng.integers(0, 8, (tasks, nodes))
    capacities = tightness * demands.mean(axis=1).sum() / nodes * rng.uniform(0.8, 1.3, nodes)
    return make(costs, demands, capacities.astype(np.int64))


@st.composite
def problems(draw: st.DrawFn) -> AssignmentProblem:
    tasks, nodes = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    cells = st.lists(st.integers(0, 9), min_size=tasks * nodes, max_size=tasks * nodes)
    costs, demands = (np.array(draw(cells)).reshape(tasks, nodes) for _ in range(2))
    capacities = draw(st.lists(st.integers(0, 20), min_size=nodes, max_size=nodes))
    return make(costs, demands, np.array(capacities))


def cheapest_by_brute_force(problem: AssignmentProblem) -> int | None:
    tasks, nodes = problem.size
    best = None
    for chosen in itertools.product(range(nodes), repeat=tasks):
        cost = sum(int(problem.costs[task, node]) for task, node in enumerate(chosen))
        loads = [0] * nodes
        for task, node in enumerate(chosen):
            loads[node] += int(problem.demands[task, node])
        if all(load <= room for load, room in zip(loads, problem.capacities, strict=True)) and (
            best is None or cost < best
        ):
            best = cost
    return best


def hold(problem: AssignmentProblem, solution: AssignmentSolution) -> None:
    """Check everything that a solution claims without the solver."""
    if solution.assignment is not None:
        assert faults(problem, solution.assignment) == []
        tasks = np.arange(len(solution.assignment))
        assert problem.costs[tasks, solution.assignment].sum() == solution.objective
        assert np.ceil(solution.bound) <= solution.objective
    if solution.certificate is not None:
        assert solution.certificate.check(problem) == []
        assert solution.certificate.bound <= solution.bound


@settings(max_examples=60, deadline=None)
@given(problems())
def test_small_problems_are_solved_as_brute_force_solves_them(problem: AssignmentProblem) -> None:
    solution = solve_assignment(problem, time_limit_s=20)
    best = cheapest_by_brute_force(problem)
    assert solution.objective == best
    assert solution.status == ("infeasible" if best is None else "optimal")
    hold(problem, solution)


@pytest.mark.parametrize("seed", range(6))
def test_tight_problems_are_optimal_or_proven_impossible(seed: int) -> None:
    problem = random_problem(seed, 9, 3, tightness=0.85)
    solution = solve_assignment(problem, time_limit_s=20)
    best = cheapest_by_brute_force(problem)
    assert solution.objective == best
    assert solution.status == ("infeasible" if best is None else "optimal")
    hold(problem, solution)


def test_a_task_above_every_node_makes_it_infeasible() -> None:
    problem = make(np.ones((2, 2), int), np.array([[9, 9], [1, 1]]), np.array([5, 5]))
    assert solve_assignment(problem, time_limit_s=5).status == "infeasible"


def test_too_much_for_the_integers_but_not_for_the_relaxation_is_proven_infeasible() -> None:
    problem = make(np.ones((3, 2), int), np.full((3, 2), 2), np.array([3, 3]))
    assert solve_assignment(problem, time_limit_s=5).status == "infeasible"


def test_equal_arguments_give_equal_assignments() -> None:
    problem = random_problem(3, 24, 5)
    one, two = (solve_assignment(problem, time_limit_s=30, seed=7) for _ in range(2))
    assert one.status == two.status == "optimal"
    assert one.assignment is not None
    assert two.assignment is not None
    assert one.assignment.tolist() == two.assignment.tolist()


def test_demands_in_bytes_are_no_harder() -> None:
    small = random_problem(5, 20, 4)
    unit = 2**30 + 7
    large = make(small.costs, small.demands * unit, small.capacities * unit + 60)
    solutions = [solve_assignment(problem, time_limit_s=30) for problem in (small, large)]
    assert [solution.status for solution in solutions] == ["optimal", "optimal"]
    hold(large, solutions[1])
    assert solutions[0].objective == solutions[1].objective


def test_told_to_stop_at_once_it_claims_nothing_that_it_has_not() -> None:
    problem = random_problem(1, 60, 20)
    solution = solve_assignment(problem, time_limit_s=60, stop=lambda: True)
    assert solution.status in {"feasible", "undecided", "optimal"}
    hold(problem, solution)


def test_a_stop_ends_the_search_with_the_best_so_far() -> None:
    problem = random_problem(1, 100, 20)
    asked = itertools.count()
    solution = solve_assignment(problem, time_limit_s=600, stop=lambda: next(asked) > 400)
    assert solution.assignment is not None
    assert solution.time_s < 300
    hold(problem, solution)


def test_a_second_process_takes_part_and_both_agree_on_the_optimum() -> None:
    # Above 800 pairs, so that it is started; easy enough to be proven.
    rng = np.random.default_rng(0)
    demands = rng.integers(5, 25, (90, 10))
    costs = rng.integers(10, 50, (90, 10))
    problem = make(costs, demands, np.full(10, 130))
    solution = solve_assignment(problem, time_limit_s=60)
    assert solution.status == "optimal"
    hold(problem, solution)


def test_the_second_process_alone_finds_the_optimum_and_is_gone_when_closed() -> None:
    problem = random_problem(0, 9, 3)
    instance = Instance(problem.costs, problem.demands, problem.capacities)
    companion = Companion(instance, time_s=100, seed=1)
    try:
        assert companion.wait(100)
        last = list(companion.news())[-1]
    finally:
        companion.close()
    assert last.is_settled
    assert instance.value(last.assignment) == cheapest_by_brute_force(problem)
    companion.tell(last.assignment, "late")
    assert list(companion.news()) == []


def test_the_second_process_tells_when_there_is_no_assignment_at_all() -> None:
    # Three of size 2 on two nodes of 3: the relaxation can, integers cannot.
    instance = Instance(np.ones((3, 2), int), np.full((3, 2), 2), np.array([3, 3]))
    companion = Companion(instance, time_s=100, seed=1)
    try:
        assert companion.wait(100)
        assert [one.is_infeasible for one in companion.news()][-1:] == [True]
    finally:
        companion.close()


# ---------------------------------------------------------------------------------- certificate


def test_a_certificate_that_claims_more_fails() -> None:
    problem = random_problem(2, 30, 5)
    solution = solve_assignment(problem, time_limit_s=30)
    proof = solution.certificate
    assert proof is not None
    assert proof.check(problem) == []
    assert replace(proof, scaled_bound=proof.scaled_bound + 1).check(problem) != []


def test_a_certificate_with_another_price_fails() -> None:
    problem = random_problem(2, 30, 5)
    proof = solve_assignment(problem, time_limit_s=30).certificate
    assert proof is not None
    prices = proof.prices.copy()
    prices[0] -= 10 * 2**16
    assert replace(proof, prices=prices).check(problem) != []
    assert replace(proof, prices=prices[1:]).check(problem) == ["there are 29 prices for 30 tasks"]


def test_a_certificate_of_one_problem_proves_nothing_of_another() -> None:
    problem = random_problem(2, 30, 5)
    proof = solve_assignment(problem, time_limit_s=30).certificate
    assert proof is not None
    cheaper = make(np.maximum(problem.costs - 3, 0), problem.demands, problem.capacities)
    assert proof.check(cheaper) != []


@settings(max_examples=60, deadline=None)
@given(problems(), st.lists(st.integers(-5, 15), min_size=6, max_size=6))
def test_any_prices_give_a_bound_that_is_none_too_high(
    problem: AssignmentProblem, prices: list[int]
) -> None:
    from jupyter_aios.allocation.assignment.lagrange import certify

    tasks, _nodes = problem.size
    instance = Instance(problem.costs, problem.demands, problem.capacities)
    proof = certify(instance, np.array(prices[:tasks], float))
    assert proof.check(problem) == []
    best = cheapest_by_brute_force(problem)
    assert best is None or proof.bound <= best


# ------------------------------------------------------------------------------ parts of the solver


@settings(max_examples=60, deadline=None)
@given(problems(), st.lists(st.integers(0, 20), min_size=6, max_size=6))
def test_knapsacks_and_pair_bounds_are_what_brute_force_finds(
    problem: AssignmentProblem, worth: list[int]
) -> None:
    tasks, nodes = problem.size
    instance = Instance(problem.costs, problem.demands, problem.capacities)
    prices = np.array(worth[:tasks], float)
    knapsacks = Knapsacks(instance, instance.fits)
    values, chosen = knapsacks.choose(prices)
    bounds = knapsacks.bounds(prices)
    for node in range(nodes):
        profits = prices - problem.costs[:, node]
        sets = [
            np.array(one, bool)
            for one in itertools.product([False, True], repeat=tasks)
            if problem.demands[np.array(one, bool), node].sum() <= problem.capacities[node]
        ]
        assert values[node] == max(profits[one].sum() for one in sets)
        assert profits[chosen[:, node]].sum() == values[node]
        assert problem.demands[chosen[:, node], node].sum() <= problem.capacities[node]
        for task in range(tasks):
            inside = [profits[one].sum() for one in sets if one[task]]
            if inside:
                lost = values[node] - max(inside)
                assert bounds[task, node] == prices.sum() - values.sum() + lost
            else:
                assert bounds[task, node] == np.inf


def test_a_dive_places_everything_within_capacity() -> None:
    problem = random_problem(4, 60, 12)
    instance = Instance(problem.costs, problem.demands, problem.capacities)
    limit = Effort.of(60)
    relaxed = relax(instance, 60)
    assert relaxed is not None
    pairs = relaxed.candidates(instance, 4)
    root = generate(instance, relaxed, pairs, 1.01 * relaxed.value, limit)
    assert root is not None
    rng = np.random.default_rng(0)
    found = Dive(instance, pairs, rng, limit, 3, 0.1, 5.0, NO_CUTOFF).run(root)
    assert found is not None
    assert (instance.loads(found) <= instance.capacities).all()
    placed = np.flatnonzero(found >= 0)
    assert len(placed) == 60
    assert instance.value(found) >= root.mix.value - 1


def test_moves_never_make_it_worse() -> None:
    problem = random_problem(6, 50, 8)
    instance = Instance(problem.costs, problem.demands, problem.capacities)
    limit = Effort.of(60)
    relaxed = relax(instance, 60)
    assert relaxed is not None
    inserted = insert(instance, relaxed.losses, limit)
    first = descend(instance, inserted, limit)
    assert instance.value(first) <= instance.value(inserted)
    search = Search(instance, relaxed, limit, 0, first, "regret", 0)
    values = [search.value]
    for _ in range(5):
        search.deal_some()
        search.dive_some()
        values.append(search.value)
        assert (instance.loads(search.best) <= instance.capacities).all()
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


# -------------------------------------------------------------------------------------- reading


def test_the_format_lists_nodes_first() -> None:
    problem = read_assignment("2 3\n 1 2 3\n 4 5 6\n 7 8 9\n 10 11 12\n 20 30\n")
    assert problem.costs.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert problem.demands.tolist() == [[7, 10], [8, 11], [9, 12]]
    assert problem.capacities.tolist() == [20, 30]
    assert problem.size == (3, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the numbers of nodes and tasks are missing"),
        ("0 3", "line 1: 0 nodes, at least 1 is needed"),
        ("1 2\n5 6\n1 1", "line 3: 1 nodes × 2 tasks need 7 numbers, there are 6"),
        ("1 2\n5 6\n1 1\n2 9", "line 4: 1 nodes × 2 tasks need 7 numbers, there are 8; 9 is one"),
        ("1 2\n5 -6\n1 1\n2", "line 2: '-6' is no integer"),
        ("1 2\n5 6\n1 nan\n2", "line 3: 'nan' is no integer"),
        ("1 1\n5\n" + "9" * 30 + "\n2", "is no integer from 0 to 10^18"),
    ],
)
def test_faults_of_a_text_are_named_with_their_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_assignment(text)
    assert said in str(caught.value)


def test_all_faults_of_a_text_come_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read_assignment("1 2\n5 x\n1 y\n2\n2")
    assert all(said in str(caught.value) for said in ("3 faults", "'x'", "'y'", "line 5"))


def test_tables_of_the_wrong_shape_and_names_given_twice_are_refused_together() -> None:
    with pytest.raises(InputError) as caught:
        AssignmentProblem(
            np.ones((2, 2), int),
            np.ones((2, 3), int),
            np.ones(2),  # type: ignore[arg-type]  # the fault
            ("a", "a"),
            ("x", "y"),
        )
    assert "demands are 2 × 3" in str(caught.value)
    assert "capacities are float64" in str(caught.value)
    assert "two tasks are named 'a'" in str(caught.value)


def test_negative_numbers_and_totals_beyond_the_integers_are_refused() -> None:
    with pytest.raises(InputError, match="costs of t0 on n0 are -1"):
        make(np.array([[-1]]), np.array([[1]]), np.array([1]))
    with pytest.raises(InputError, match="costs may add up to"):
        make(np.array([[2**50]]), np.array([[1]]), np.array([1]))


def test_faults_name_the_node_that_gives_too_much_and_the_task_that_is_nowhere() -> None:
    problem = make(np.ones((2, 2), int), np.full((2, 2), 2), np.array([3, 3]))
    assert faults(problem, np.array([0, 0])) == ["n0 would give 4 and has 3"]
    assert faults(problem, np.array([0, -1])) == ["t1 is assigned to node -1, there are 0 to 1"]
    assert faults(problem, np.array([0])) == ["1 tasks are assigned, there are 2"]
    assert faults(problem, np.array([0, 1])) == []


# -------------------------------------------------------------------------- reference instances


@needs_data
@pytest.mark.parametrize("name", [*SPREAD, "chu-a10100", "chu-c05100"])
def test_reference_instances_reach_the_known_optimum(name: str) -> None:
    path = f"cattrysse1994/{name}" if name.startswith("gap") else f"chu1997/{name[4:]}"
    with (DATA / "gap" / "best_known.csv").open() as lines:
        known = {row["Path"]: int(row["Optimum"] or 0) for row in csv.DictReader(lines)}
    problem = read_assignment((DATA / "gap" / path).read_text())
    solution = solve_assignment(problem, time_limit_s=60)
    assert solution.objective == known[path]
    assert solution.status == "optimal"
    hold(problem, solution)
