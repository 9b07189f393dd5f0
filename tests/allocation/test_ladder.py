from __future__ import annotations

import logging
import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.ladder import allocate, compare
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Problem, nodes_of, problem_of, tasks_of
from jupyter_aios.errors import InputError
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from jupyter_aios.allocation.result import Allocation


def packing(r: list[int], c: list[int]) -> Problem:
    """Return the textbook's problem: CPUs only."""

    def column(amounts: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        return np.array([[amount * 1000, 0, 0] for amount in amounts], np.int64).reshape(-1, 3)

    nodes = nodes_of([f"n{j}" for j in range(len(c))], column(c), np.zeros((len(c), 0), np.int64))
    return problem_of(nodes, tasks_of([f"t{i}" for i in range(len(r))], column(r)))


def signed(allocation: Allocation) -> tuple[int, ...]:
    names = [level.name for level in allocation.levels]
    return ranking(names, [level.value for level in allocation.levels])


def test_what_fits_is_feasible_and_what_does_not_is_proven() -> None:
    fits = allocate(packing([3, 5, 2], [6, 5]), "feasible")
    assert (fits.status, fits.objective, len(fits.unplaced)) == ("feasible", 3, 0)
    never = allocate(packing([3, 5, 2], [6, 4]), "feasible")
    assert (never.status, never.objective, never.bound) == ("infeasible", 2, 2)


def test_pinned_tasks_count_in_value_and_bound() -> None:
    problem = packing([3, 5, 2], [6, 5])
    fixed = replace(
        problem.tasks,
        current=np.array([0, NO, NO]),
        is_movable=np.array([False, True, True]),
    )
    found = allocate(replace(problem, tasks=fixed), "priority")
    assert found.assignment.tolist() == [0, 1, 0]
    assert found.status == "optimal"
    assert found.objective == found.bound
    assert found.check_bound() >= found.objective


@pytest.mark.parametrize("objective", ["priority", "gpu,moves,balance", "feasible"])
def test_equal_seeds_give_equal_answers_and_none_has_faults(
    objective: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for seed in range(12):
            problem = small_problem(random.Random(seed), most_tasks=12, most_nodes=4, pinned=True)
            one, two = (allocate(problem, objective, 20.0, seed=3) for _ in range(2))
            assert faults(problem, one.assignment, one.devices) == []
            assert one.assignment.tolist() == two.assignment.tolist(), seed
            assert one.devices.tolist() == two.devices.tolist(), seed
            assert one.bound is not None
            assert one.objective <= one.bound
    assert caplog.messages == []


def test_it_is_never_worse_than_a_policy_or_than_leaving_all_as_it_is() -> None:
    for seed in range(12):
        problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=5)
        found = allocate(problem, "priority")
        for other in compare(problem, "priority"):
            assert signed(found) >= signed(other), (seed, other.rung)
        held = problem.tasks
        if not faults(problem, held.current, held.current_devices):
            stays = allocate(problem, start=Placed(held.current, held.current_devices))
            assert signed(found) >= signed(stays) or signed(found) == signed(stays)


def test_nothing_to_place_and_nowhere_to_place_it_are_answered() -> None:
    none = allocate(packing([], [4]))
    assert (none.status, none.objective) == ("optimal", 0)
    nowhere = allocate(packing([3], []))
    assert (nowhere.status, nowhere.objective, nowhere.bound) == ("optimal", 0, 0)


def test_what_is_in_force_and_cannot_be_is_told() -> None:
    problem = packing([3, 5], [6])
    both = replace(problem.tasks, current=np.zeros(2, np.int64))
    with pytest.raises(InputError, match="n0 would give 8000 cpu_milli and has 6000"):
        allocate(replace(problem, tasks=both))


def test_a_gang_that_is_in_force_in_part_is_refused() -> None:
    problem = packing([3, 1], [6])
    torn = replace(problem.tasks, gang=np.zeros(2, np.int64), current=np.array([0, NO]))
    with pytest.raises(InputError, match="gang 0 is in force in part: 1 of 2 tasks"):
        allocate(replace(problem, tasks=torn))


def test_an_unknown_objective_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="no objective is named 'speed'") as caught:
        allocate(packing([1], [1]), "speed")
    assert "priority, gpu" in caught.value.hint
    with pytest.raises(InputError, match="no order of objectives"):
        allocate(packing([1], [1]), "moves,gpu")


@pytest.mark.parametrize("time_limit_s", [1e-9, 0.001, 0.02])
def test_hardly_any_time_is_enough_for_an_answer(time_limit_s: float) -> None:
    for seed in range(4):
        problem = small_problem(random.Random(seed), most_tasks=90, most_nodes=12)
        found = allocate(problem, "priority", time_limit_s)
        assert faults(problem, found.assignment, found.devices) == []


def test_a_word_to_stop_ends_the_search_with_the_best_so_far() -> None:
    said = threading.Event()
    said.set()
    problem = small_problem(random.Random(5), most_tasks=40, most_nodes=12)
    found = allocate(problem, "priority", 60.0, stop=said.is_set)
    assert faults(problem, found.assignment, found.devices) == []


def test_an_interrupt_gives_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jupyter_aios.allocation.prices.solve_prices", interrupted)
    problem = small_problem(random.Random(5), most_tasks=12, most_nodes=4)
    found = allocate(problem, "priority")
    assert found.bound is None
    assert found.rung in {"best-fit", "fgd", "stay"}
    assert faults(problem, found.assignment, found.devices) == []


def test_what_a_rung_proposes_and_the_check_refuses_is_never_the_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def overfull(problem: Problem, *_: object) -> Placed:
        n = len(problem.tasks)
        return Placed(np.zeros(n, np.int64), np.zeros(n, np.int64))

    monkeypatch.setattr("jupyter_aios.allocation.greedy.sorted_greedy", overfull)
    with caplog.at_level(logging.ERROR):
        found = allocate(packing([3, 5, 2], [6, 5]), "feasible")
    assert faults(found.problem, found.assignment, found.devices) == []
    assert "the rung best-fit proposed what cannot be" in caplog.text
