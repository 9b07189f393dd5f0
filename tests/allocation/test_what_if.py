from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.explain import WhatIf, what_if
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.objectives import evaluate, weights
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.problem import NO, Problem, Quota, nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.reduction import reduce
from jupyter_aios.allocation.result import Allocation, Level
from jupyter_aios.errors import InputError, UnknownNameError
from tests.allocation.enumeration import all_units, most_placed
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints

LEVELS = ("priority", "moves")


def allocation_of(problem: Problem, assignment: Ints, devices: Ints) -> Allocation:
    values = evaluate(problem, assignment, devices, LEVELS)
    levels = tuple(Level(name, value, None) for name, value in zip(LEVELS, values, strict=True))
    prices = solve_prices(reduce(problem).problem, LEVELS, Effort.of(1.0))
    return Allocation(problem, assignment, devices, levels, "greedy", 0.0, "feasible", prices)


def greedy(problem: Problem) -> Allocation:
    placed = sorted_greedy(problem, LEVELS, "best-fit", Effort.of(5.0))
    assert placed is not None
    return allocation_of(problem, placed.assignment, placed.devices)


def cluster(**columns: Any) -> Problem:
    """Return two nodes of two GPUs and five tasks of one, all alike."""
    nodes = nodes_of(
        ["n0", "n1"],
        np.full((2, 3), 8000, np.int64),
        np.full((2, 2), 1000, np.int64),
        models=np.array([0, 1]),
        model_names=("A100", "T4"),
    )
    one = np.ones(5, np.int64)
    quotas = columns.pop("quotas", ())
    of_task = {"quotas": np.array([[0, NO]] * 5, np.int64)} if quotas else {}
    tasks = tasks_of(
        [f"t{i}" for i in range(5)],
        np.zeros((5, 3), np.int64),
        gpus=one,
        milli=one * 1000,
        job_names=("first", "second"),
        job=np.array([0, 0, 0, 1, 1]),
        **(columns | of_task),
    )
    return problem_of(nodes, tasks, quotas=quotas)


def test_more_nodes_of_a_model_let_more_tasks_run() -> None:
    found = what_if(greedy(cluster()), add_nodes={"A100": 1})
    assert len(found.differences.started) == 1
    assert found.sentence.startswith("with 1 more A100 node t4 runs (4,000 → 5,000 points")
    assert found.after.bound == 5000
    assert found.after.problem.nodes.names[2] == "n0+1"


def test_a_task_of_a_higher_priority_takes_the_place_of_another() -> None:
    before = greedy(cluster())
    (waits,) = before.unplaced
    name = before.problem.tasks.names[waits]
    found = what_if(before, priority={name: 7})
    assert found.differences.started.tolist() == [waits]
    assert len(found.differences.stopped) == 1
    assert f"{name} runs" in found.sentence


def test_what_was_on_a_removed_node_waits_or_runs_elsewhere() -> None:
    before = greedy(cluster())
    found = what_if(before, remove=["n1"])
    assert not (found.after.assignment == 1).any()
    assert len(found.differences.stopped) == 2
    assert found.after.bound == 2000


def test_what_is_in_force_leaves_a_drained_node_where_there_is_room() -> None:
    current = np.array([1, NO, NO, NO, NO])
    problem = cluster(current=current, current_devices=np.where(current == 1, 1, 0))
    placed = Problem.keep(problem, np.array([0]))
    before = allocation_of(placed, np.array([1]), np.array([1]))
    found = what_if(before, drain=["n1"])
    assert found.after.assignment.tolist() == [0]
    assert "t0 moves" in found.sentence


def test_a_lower_quota_is_met() -> None:
    problem = cluster(quotas=(Quota("user ada", gpu_milli=4000),))
    node, devices = np.array([1, 0, 0, 1, NO]), np.array([2, 2, 1, 1, 0])
    before = allocation_of(problem, node, devices)
    found = what_if(before, quota={"user ada": {"gpu_milli": 2500}})
    assert len(found.differences.stopped) == 2
    assert not len(found.differences.moved)
    assert not len(found.differences.started)
    assert found.after.bound is not None
    assert found.after.bound < 3000


def test_removed_tasks_make_room_and_are_not_called_stopped() -> None:
    before = greedy(cluster())
    gone = before.problem.tasks.names[int(np.flatnonzero(before.assignment != NO)[0])]
    found = what_if(before, remove=[gone])
    assert found.differences.stopped.tolist() == []
    assert len(found.differences.started) == 1
    assert what_if(before, remove=["first"]).after.objective == 2000


def test_more_tasks_like_one_wait_where_there_is_no_room() -> None:
    found = what_if(greedy(cluster()), add_tasks={"t0": 3})
    assert len(found.after.assignment) == 8
    assert "no other task runs" in found.sentence


def test_a_copy_of_a_gang_is_another_gang() -> None:
    pair = np.array([0, 0, NO, NO, NO])
    before = greedy(cluster(gang=pair, apart=pair))
    found = what_if(before, add_tasks={"t0": 2}, add_nodes={"n0": 4})
    tasks = found.after.problem.tasks
    assert tasks.gang.tolist() == [0, 0, NO, NO, NO, 1, 1, 2, 2]
    assert tasks.apart.tolist() == [0, 0, NO, NO, NO, 1, 1, 2, 2]
    assert (found.after.assignment != NO).all()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"add_nodes": {"A10": 1}}, "no node or GPU model is named 'A10'"),
        ({"remove": ["n7"]}, "no node, task or job is named 'n7'"),
        ({"drain": ["n7"]}, "no node is named 'n7'"),
        ({"priority": {"t9": 1}}, "no task or job is named 't9'"),
        ({"quota": {"user bob": {}}}, "no quota is named 'user bob'"),
        ({"add_tasks": {"t9": 1}}, "no task or job is named 't9'"),
    ],
)
def test_unknown_names_are_told(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UnknownNameError, match=told):
        what_if(greedy(cluster()), **asked)


def test_a_question_without_a_difference_is_refused() -> None:
    with pytest.raises(InputError, match="nothing is different"):
        what_if(greedy(cluster()))
    with pytest.raises(InputError, match="-1 more cannot be added"):
        what_if(greedy(cluster()), add_nodes={"A100": -1})
    with pytest.raises(InputError, match="priority -1 is negative"):
        what_if(greedy(cluster()), priority={"t0": -1})


def some_change(rng: random.Random, problem: Problem) -> dict[str, Any]:
    node = rng.choice(list(problem.nodes.names))
    task = rng.choice(list(problem.tasks.names))
    options: list[dict[str, Any]] = [
        {"add_nodes": {node: rng.randint(1, 2)}},
        {"remove": [node]},
        {"remove": [task]},
        {"drain": [node]},
        {"priority": {task: rng.choice((0, 9, 20))}},
        {"add_tasks": {task: 1}},
    ]
    if problem.quotas:
        options.append({"quota": {problem.quotas[0].name: {"gpu_milli": rng.choice((0, 5000))}}})
    chosen: dict[str, Any] = {}
    for option in rng.sample(options, rng.randint(1, 2)):
        chosen = option | chosen
    return chosen


def answers(chunk: int) -> list[tuple[Problem, dict[str, Any], WhatIf | None]]:
    found: list[tuple[Problem, dict[str, Any], WhatIf | None]] = []
    for number in range(40):
        rng = random.Random(chunk * 1000 + number)
        problem = small_problem(rng, most_tasks=5, pinned=True)
        placed = sorted_greedy(reduce(problem).problem, LEVELS, "best-fit", Effort.of(5.0))
        if placed is None:
            continue
        whole = reduce(problem).expand(placed)
        before = allocation_of(problem, whole.assignment, whole.devices)
        asked = some_change(rng, problem)
        try:
            found.append((problem, asked, what_if(before, **asked)))
        except InputError:
            found.append((problem, asked, None))
    return found


@pytest.mark.parametrize("chunk", range(6))
def test_the_answer_is_feasible_and_no_schedule_exceeds_its_bound(chunk: int) -> None:
    refused = 0
    for _, asked, found in answers(chunk):
        if found is None:
            refused += 1
            # Only a quota can make impossible what may not be stopped.
            assert "quota" in asked
            continue
        after = found.after
        assert not faults(after.problem, after.assignment, after.devices), found.sentence
        worth = weights(after.problem, "priority")
        best = most_placed(after.problem, all_units(after.problem), worth)
        assert after.bound is not None
        assert after.objective <= best <= after.bound, found.sentence
        gone = set(found.change.remove_tasks)
        assert not gone & set(np.flatnonzero(after.assignment != NO).tolist())
        assert not np.isin(after.assignment, found.change.remove_nodes).any()
        if set(asked) <= {"add_nodes"}:
            assert after.objective >= found.before.objective
            assert not len(found.differences.stopped) or (after.objective > found.before.objective)
    assert refused < 8
