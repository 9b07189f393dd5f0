from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy import POLICIES, place_in_order, sorted_greedy
from jupyter_aios.allocation.greedy.choice import Choice
from jupyter_aios.allocation.greedy.policies import policy_of
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Quota, nodes_of, problem_of
from jupyter_aios.errors import InputError
from tests.allocation.clusters import cluster, with_tasks
from tests.allocation.instances import small_problem

SEEDS = st.integers(0, 2**32 - 1)
NAMES = ("priority", "moves", "fragmentation")


def long() -> Effort:
    """More time than any of these takes."""
    return Effort.of(600.0)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_whatever_a_policy_places_passes_the_check(policy: str, seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=9, most_nodes=4)
    placed = sorted_greedy(problem, NAMES, policy, Effort.of(600.0, seed))
    assert placed is not None
    assert faults(problem, placed.assignment, placed.devices) == []


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_any_order_is_feasible_and_equal_twice(policy: str, seed: int) -> None:
    rng = random.Random(seed)
    problem = small_problem(rng, most_tasks=9, most_nodes=4)
    order = rng.sample(range(len(problem.tasks)), len(problem.tasks))
    first, second = (place_in_order(problem, order, policy, Effort.of(600.0, 7)) for _ in range(2))
    assert faults(problem, first.assignment, first.devices) == []
    assert first.assignment.tolist() == second.assignment.tolist()
    assert first.devices.tolist() == second.devices.tolist()


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_a_task_that_is_left_out_has_no_room_beside_the_others(seed: int) -> None:
    features = frozenset(("shares", "models", "busy", "apart", "quotas"))
    problem = small_problem(random.Random(seed), most_tasks=9, most_nodes=4, features=features)
    placed = sorted_greedy(problem, NAMES, "best-fit", long())
    assert placed is not None
    for task in np.flatnonzero(placed.assignment < 0):
        for node in range(len(problem.nodes)):
            gpus = int(problem.tasks.gpus[task])
            count = int(problem.nodes.device_count[node])
            for bits in (b for b in range(1 << count) if b.bit_count() == gpus):
                assignment, devices = placed.assignment.copy(), placed.devices.copy()
                assignment[task], devices[task] = node, bits
                assert faults(problem, assignment, devices)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_gang_that_does_not_fit_leaves_no_trace(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=8, most_nodes=3)
    state = State(problem)
    choice = Choice(state, policy_of("fgd", problem))
    gangs = [np.flatnonzero(problem.tasks.gang == gang).tolist() for gang in range(3)]
    for unit in filter(None, gangs):
        before = _books(state)
        if not choice.place(unit):
            assert _books(state) == before
        else:
            for task in unit:
                state.give_back(task)
            assert _books(state) == before


def _books(state: State) -> list[object]:
    groups = sorted({*state.together} - {NO})
    tasks = range(len(state.problem.tasks))
    allowed = [None if (ok := state.allowed(i)) is None else ok.tolist() for i in tasks]
    arrays = (*state.free, state.devices, state.gpu_free, state.whole, state.largest)
    books: list[object] = [array.tolist() for array in (*arrays, state.quota_left)]
    return [*books, state.assignment.tolist(), [state.domain_of(g) for g in groups], allowed]


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    gang = np.zeros(3, np.int64)
    asked = [(0, 1, 1000)] * 3
    too_small = with_tasks(cluster([1000], [1000]), *asked, gang=gang)
    enough = with_tasks(cluster([1000], [1000, 1000]), *asked, gang=gang)
    order = range(3)
    assert place_in_order(too_small, order, "fgd", long()).assignment.tolist() == [NO] * 3
    assert sorted(place_in_order(enough, order, "fgd", long()).assignment.tolist()) == [0, 1, 1]


def test_a_gang_that_is_to_be_together_finds_the_domain_that_holds_it() -> None:
    group = np.zeros(2, np.int64)
    problem = with_tasks(
        cluster([1000], [1000, 1000]), (0, 1, 1000), (0, 1, 1000), gang=group, together=group
    )
    # Best fit tries the small node first; only the other one holds both.
    placed = place_in_order(problem, range(2), "best-fit", long())
    assert placed.assignment.tolist() == [1, 1]


def test_a_part_of_a_gang_is_never_placed() -> None:
    problem = with_tasks(cluster([1000]), (0, 0, 0), (0, 0, 0), gang=np.zeros(2, np.int64))
    assert place_in_order(problem, [0], "first-fit", long()).assignment.tolist() == [NO, NO]


def test_what_found_no_room_is_tried_once_more() -> None:
    gang = np.array([NO, 0, 0])
    quotas = np.array([[NO, NO], [0, NO], [0, NO]])
    problem = with_tasks(cluster([1000]), (0, 1, 500), (0, 1, 500), (0, 1, 500), gang=gang)
    tasks = replace(problem.tasks, quotas=quotas)
    limited = replace(problem, tasks=tasks, quotas=(Quota("user ada", tasks=1),))
    placed = place_in_order(limited, [1, 2, 0], "first-fit", long())
    assert placed.assignment.tolist() == [0, NO, NO]


def test_tasks_of_no_weight_come_after_all_others() -> None:
    problem = with_tasks(cluster([1000], cpu=1000), (1000, 0, 0), (1000, 1, 1000))
    heavy = place_in_order(problem, [0, 1], "fgd", long(), weights=weights(problem, "gpu"))
    assert heavy.assignment.tolist() == [NO, 0]
    assert place_in_order(problem, [0, 1], "fgd", long()).assignment.tolist() == [0, NO]


def test_what_the_start_places_stays_there() -> None:
    problem = with_tasks(cluster([1000], [1000]), (0, 1, 1000), (0, 1, 1000))
    start = Placed(np.array([1, NO]), np.array([1, 0]))
    placed = place_in_order(problem, [1, 0], "first-fit", long(), start)
    assert placed.assignment.tolist() == [1, 0]


def test_a_task_in_force_stays_where_it_is_although_another_node_scores_better() -> None:
    problem = with_tasks(
        cluster([1000, 1000], [1000]),
        (0, 1, 1000),
        current=np.array([0]),
        current_devices=np.array([2]),
        is_preemptible=np.array([True]),
    )
    placed = sorted_greedy(problem, NAMES, "best-fit", long())
    assert placed is not None
    assert (placed.assignment.tolist(), placed.devices.tolist()) == ([0], [2])


def test_an_effort_that_is_over_still_keeps_what_must_be_placed() -> None:
    problem = with_tasks(
        cluster([1000]), (0, 1, 400), (0, 1, 400),
        current=np.array([0, NO]), current_devices=np.array([1, 0]),
    )  # fmt: skip
    placed = sorted_greedy(problem, NAMES, "fgd", Effort.of(0.0))
    assert placed is not None
    assert placed.assignment.tolist() == [0, NO]


def test_a_policy_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError) as refused:
        place_in_order(with_tasks(cluster([1000])), [], "worst-fit", long())
    assert "worst-fit" in str(refused.value)
    assert all(policy in str(refused.value.hint) for policy in POLICIES)


@pytest.mark.parametrize(
    ("policy", "node"),
    [("first-fit", 0), ("best-fit", 1), ("dot-product", 1), ("gpu-packing", 2), ("fgd", 0)],
)
def test_each_policy_has_its_own_taste(policy: str, node: int) -> None:
    # n0 is large and free, n1 is small, n2 is free but for a device that is half in use.
    problem = with_tasks(cluster([1000] * 4, [600], [1000, 1000, 500]), (1000, 1, 500))
    placed = place_in_order(problem, [0], policy, long())
    assert placed.assignment.tolist() == [node]


def test_a_share_goes_to_the_fullest_device_and_whole_ones_are_dealt_lowest_first() -> None:
    problem = with_tasks(cluster([1000, 700, 400, 1000]), (0, 1, 300), (0, 2, 1000))
    placed = place_in_order(problem, [0, 1], "best-fit", long())
    assert placed.devices.tolist() == [0b100, 0b1001]


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_kept_scores_choose_as_fresh_ones_do(seed: int) -> None:
    rng = random.Random(seed)
    problem = small_problem(rng, most_tasks=12, most_nodes=5)
    for policy in ("best-fit", "dot-product", "gpu-packing", "fgd"):
        ends = []
        for often in (1, 2):
            state = State(problem)
            choice = Choice(state, policy_of(policy, problem))
            choice.expect(list(range(len(problem.tasks))) * (often - 1) * 2)
            for task in range(len(problem.tasks)):
                if problem.tasks.gang[task] == NO:
                    choice.place([task])
                    if state.assignment[task] != NO and task % 3 == 0:
                        state.give_back(task)
            ends.append((state.assignment.tolist(), state.bits.tolist()))
        assert ends[0] == ends[1]


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_scores_that_are_forgotten_are_made_anew(seed: int) -> None:
    problem = small_problem(random.Random(seed), most_tasks=12, most_nodes=5)
    order = range(len(problem.tasks))
    usual = place_in_order(problem, order, "fgd", long())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyter_aios.allocation.greedy.choice._MOST_CHANGES", 3)
        patch.setattr("jupyter_aios.allocation.greedy.choice._MOST_SCORES", 12)
        forgetful = place_in_order(problem, order, "fgd", long())
    assert forgetful.assignment.tolist() == usual.assignment.tolist()
    assert forgetful.devices.tolist() == usual.devices.tolist()


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_costly_policy_may_look_at_the_tightest_nodes_only(seed: int) -> None:
    features = frozenset(("shares", "models", "busy"))
    problem = small_problem(random.Random(seed), most_tasks=8, most_nodes=6, features=features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyter_aios.allocation.greedy.choice._MOST_SCORED", 1)
        state = State(problem)
        choice = Choice(state, policy_of("fgd", problem))
        for task in range(len(problem.tasks)):
            fits = state.fits(task)
            assert choice.place([task]) == bool(fits.any())
    assert faults(problem, state.assignment, state.bits) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_to_place_and_nowhere_to_place_it_are_no_trouble(policy: str) -> None:
    no_tasks = cluster([1000])
    nodes = nodes_of([], np.zeros((0, 3), np.int64), np.zeros((0, 0), np.int64))
    no_nodes = with_tasks(problem_of(nodes, no_tasks.tasks), (0, 1, 500), (0, 0, 0), (0, 0, 0))
    nothing = sorted_greedy(no_tasks, NAMES, policy, long())
    nowhere = sorted_greedy(no_nodes, NAMES, policy, long())
    assert nothing is not None
    assert nowhere is not None
    assert nothing.assignment.tolist() == []
    assert nowhere.assignment.tolist() == [NO, NO, NO]
