from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.greedy import POLICIES
from jupyter_aios.allocation.objectives import sizes
from jupyter_aios.allocation.online import Placer, place_gang
from jupyter_aios.allocation.problem import (
    NO,
    TASK_COLUMNS,
    Problem,
    bits_of,
    problem_of,
    tasks_of,
)
from jupyter_aios.errors import InputError
from tests.allocation.clusters import cluster, with_tasks
from tests.allocation.instances import small_problem

SEEDS = st.integers(0, 2**32 - 1)
ALL = (*POLICIES, "outlook")


def units(problem: Problem) -> list[list[int]]:
    """The problem's tasks, gangs as one."""
    found: dict[int, list[int]] = {}
    for i, gang in enumerate(problem.tasks.gang.tolist()):
        found.setdefault(gang if gang != NO else -2 - i, []).append(i)
    return list(found.values())


def fresh(problem: Problem) -> Problem:
    """The problem with nothing in force."""
    n = len(problem.tasks)
    none, nothing = np.full(n, NO), np.zeros(n, np.int64)
    never = np.zeros(n, bool)
    tasks = replace(
        problem.tasks, current=none, current_devices=nothing, is_preemptible=never,
        is_movable=~never,
    )  # fmt: skip
    return replace(problem, tasks=tasks)


def wrong(placer: Placer, problem: Problem | None = None) -> list[str]:
    """The faults of what is placed, or of what of a problem's tasks is."""
    now = placer.placed()
    return faults(fresh(problem or placer.problem), now.assignment, now.devices)


# ---------------------------------------------------------------------------- events


@pytest.mark.parametrize("policy", ALL)
@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_after_any_events_what_is_placed_passes_the_check(policy: str, seed: int) -> None:
    rng = random.Random(seed)
    problem = fresh(small_problem(rng, most_tasks=10, most_nodes=4))
    placer = Placer(problem, policy, seed=seed)
    for _ in range(25):
        unit = rng.choice(units(problem))
        if placer.placed().assignment[unit[0]] == NO:
            before = placer.placed()
            admitted = placer.submit(unit, most_moves=rng.choice((0, 0, 1, 3)))
            if admitted is None:
                assert placer.placed().assignment.tolist() == before.assignment.tolist()
                assert placer.placed().devices.tolist() == before.devices.tolist()
            else:
                assert [place.task for place in admitted.places] == unit
        elif rng.random() < 0.7:
            for task in unit:
                placer.finish(task)
        assert wrong(placer) == []
        now = placer.placed()
        free = problem.nodes.free.copy()
        held = np.flatnonzero(now.assignment >= 0)
        np.subtract.at(free, now.assignment[held], problem.tasks.demand[held])
        assert placer.free().tolist() == free.tolist()


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_when_all_have_finished_everything_is_free_again(seed: int) -> None:
    problem = fresh(small_problem(random.Random(seed), most_tasks=9))
    placer = Placer(problem)
    for unit in units(problem):
        placer.submit(unit)
    for task in range(len(problem.tasks)):
        placer.finish(task)
        placer.finish(task)
    assert placer.free().tolist() == problem.nodes.free.tolist()
    assert placer.free_devices().tolist() == problem.nodes.devices.tolist()


def test_a_node_that_is_drained_takes_nothing_until_it_is_back() -> None:
    problem = with_tasks(cluster([1000], [1000]), (0, 1, 500), (0, 1, 1000), (0, 1, 500))
    placer = Placer(problem, "best-fit")
    assert placer.submit([0]) is not None
    assert placer.drain(0).tolist() == [0]
    assert placer.drain(0).tolist() == [0]
    second = placer.submit([1])
    assert second is not None
    assert second.places[0].node == 1
    assert placer.submit([2]) is None
    placer.undrain(0)
    placer.undrain(0)
    third = placer.submit([2])
    assert third is not None
    assert third.places[0].node == 0


def test_what_is_in_force_is_placed_when_it_begins() -> None:
    problem = with_tasks(
        cluster([1000]), (0, 1, 700), (0, 1, 700),
        current=np.array([0, NO]), current_devices=np.array([1, 0]),
    )  # fmt: skip
    placer = Placer(problem)
    assert placer.free_devices().tolist() == [[300]]
    assert placer.submit([1]) is None
    placer.finish(0)
    assert placer.submit([1]) is not None


def test_a_task_cannot_be_placed_twice_nor_without_its_gang() -> None:
    problem = with_tasks(cluster([1000]), *[(0, 0, 0)] * 3, gang=np.array([NO, 0, 0]))
    placer = Placer(problem)
    placer.submit([0])
    with pytest.raises(InputError, match="t0 is on n0 already"):
        placer.submit([0])
    with pytest.raises(InputError, match="t2 is missing from its gang"):
        placer.submit([1])
    assert placer.submit([1, 2]) is not None


def test_tasks_that_were_not_known_can_be_added() -> None:
    problem = with_tasks(cluster([1000], [1000]), (0, 1, 600))
    placer = Placer(problem)
    placer.submit([0])
    new = with_tasks(cluster([1000]), (0, 1, 600), (0, 1, 300), together=np.zeros(2, np.int64))
    added = placer.add(new.tasks)
    assert list(added) == [1, 2]
    admitted = placer.submit(added)
    assert admitted is not None
    assert [place.node for place in admitted.places] == [1, 1]
    assert wrong(placer) == []


def test_an_event_stream_ends_the_same_twice() -> None:
    problem = fresh(small_problem(random.Random(5), most_tasks=12, most_nodes=4))
    ends = []
    for _ in range(2):
        placer = Placer(problem, "random", seed=3)
        for unit in units(problem):
            placer.submit(unit)
        ends.append(placer.placed().assignment.tolist())
    assert ends[0] == ends[1]


# ---------------------------------------------------------------------------- moves


def test_others_move_so_that_a_task_on_many_gpus_fits() -> None:
    problem = with_tasks(
        cluster([1000, 1000], [1000, 1000]), (0, 1, 300), (0, 1, 300), (0, 2, 1000)
    )
    placer = Placer(problem, "best-fit")
    placer.drain(1)
    placer.submit([0])
    placer.undrain(1)
    placer.drain(0)
    placer.submit([1])
    placer.undrain(0)
    assert placer.submit([2]) is None
    admitted = placer.submit([2], most_moves=1)
    assert admitted is not None
    assert len(admitted.moved) == 1
    assert wrong(placer) == []


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_never_more_tasks_move_than_may_and_none_that_may_not(seed: int) -> None:
    rng = random.Random(seed)
    problem = fresh(small_problem(rng, most_tasks=12, most_nodes=4))
    stays = np.array([rng.random() < 0.7 for _ in range(len(problem.tasks))])
    problem = replace(problem, tasks=replace(problem.tasks, is_movable=stays))
    placer = Placer(problem)
    for unit in units(problem):
        before = placer.placed()
        admitted = placer.submit(unit, most_moves=2)
        now = placer.placed()
        differs = (now.assignment != before.assignment) | (now.devices != before.devices)
        differs[unit] = False
        moved = np.flatnonzero(differs)
        assert len(moved) <= 2
        assert stays[moved].all()
        assert (now.assignment[moved] >= 0).all()
        told = {place.task for place in admitted.moved} if admitted else set()
        assert set(moved.tolist()) <= told


# ---------------------------------------------------------------------------- preemption


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_preemption_stops_only_what_may_be_stopped_and_nothing_in_vain(seed: int) -> None:
    rng = random.Random(seed)
    problem, placer, unit = _full_cluster(rng)
    before = placer.placed()
    admitted = placer.preempt(unit)
    if admitted is None:
        assert placer.placed().assignment.tolist() == before.assignment.tolist()
        assert placer.placed().devices.tolist() == before.devices.tolist()
        return
    assert wrong(placer) == []
    tasks, now = problem.tasks, placer.placed()
    gone = np.flatnonzero((before.assignment >= 0) & (now.assignment < 0))
    assert sorted(admitted.stopped) == gone.tolist()
    assert tasks.is_preemptible[gone].all()
    assert (tasks.priority[gone] < tasks.priority[unit].min()).all()
    # Each unit that was stopped would be in the way where it was.
    for stopped in units(problem):
        if stopped[0] in admitted.stopped:
            assignment, devices = now.assignment.copy(), now.devices.copy()
            assignment[stopped] = before.assignment[stopped]
            devices[stopped] = before.devices[stopped]
            assert faults(fresh(problem), assignment, devices)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_preemption_finds_a_way_exactly_where_brute_force_does(seed: int) -> None:
    rng = random.Random(seed)
    problem, placer, unit = _full_cluster(rng, tasks_alone=True)
    fewest = _fewest_by_brute_force(problem, placer, unit[0])
    admitted = placer.preempt(unit)
    assert (admitted is None) == (fewest is None)
    if admitted is not None:
        assert (len(admitted.stopped), _worth(problem, admitted.stopped)) == fewest


def _full_cluster(
    rng: random.Random, *, tasks_alone: bool = False
) -> tuple[Problem, Placer, list[int]]:
    features = frozenset(("shares", "models", "busy", "quotas", "gangs", "apart", "together"))
    if tasks_alone:
        features -= {"gangs", "quotas", "apart", "together"}
    problem = fresh(small_problem(rng, most_tasks=9, most_nodes=3, features=features))
    stops = np.array([rng.random() < 0.7 for _ in range(len(problem.tasks))])
    problem = replace(problem, tasks=replace(problem.tasks, is_preemptible=stops))
    placer = Placer(problem)
    last = max(units(problem), key=lambda unit: problem.tasks.priority[unit].min())
    for unit in units(problem):
        if unit != last:
            placer.submit(unit)
    return problem, placer, last


def _fewest_by_brute_force(problem: Problem, placer: Placer, task: int) -> tuple[int, int] | None:
    """The least (count, worth) of tasks without which the task fits somewhere."""
    now, tasks = placer.placed(), problem.tasks
    may = (now.assignment >= 0) & tasks.is_preemptible
    may &= tasks.priority < tasks.priority[task]
    gpus = int(tasks.gpus[task])
    places = [
        (node, bits_of(devices))
        for node in range(len(problem.nodes))
        for devices in combinations(range(int(problem.nodes.device_count[node])), gpus)
    ]
    candidates = np.flatnonzero(may).tolist()
    for count in range(len(candidates) + 1):
        ways = []
        for stopped, (node, bits) in product(combinations(candidates, count), places):
            assignment, devices = now.assignment.copy(), now.devices.copy()
            assignment[list(stopped)], devices[list(stopped)] = NO, 0
            assignment[task], devices[task] = node, bits
            if not faults(problem, assignment, devices):
                ways.append((count, _worth(problem, stopped)))
        if ways:
            return min(ways)
    return None


def _worth(problem: Problem, tasks: tuple[int, ...]) -> int:
    return int((problem.tasks.priority * sizes(problem))[list(tasks)].sum())


# ---------------------------------------------------------------------------- one gang


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(1, 4))
def test_a_gang_of_equal_tasks_is_placed_exactly_where_there_are_enough_nodes(
    seed: int, size: int
) -> None:
    rng = random.Random(seed)
    features = frozenset(("shares", "models", "busy", "drained"))
    problem = small_problem(rng, most_tasks=1, most_nodes=5, features=features)
    alike: dict[str, Any] = {
        key: np.repeat(getattr(problem.tasks, key), size, axis=0) for key in TASK_COLUMNS
    }
    group = np.zeros(size, np.int64)
    names = [f"t{number}" for number in range(size)]
    tasks = replace(problem.tasks, names=names, **{**alike, "gang": group, "apart": group})
    gang = replace(problem, tasks=tasks)
    placed = place_gang(gang)
    assert (placed is not None) == (int(gang.may_hold(0).sum()) >= size)
    if placed is not None:
        assert faults(gang, placed.assignment, placed.devices) == []


def test_a_task_without_gpus_keeps_off_the_nodes_that_have_some() -> None:
    placed = place_gang(with_tasks(cluster([1000], []), (500, 0, 0)))
    assert placed is not None
    assert placed.assignment.tolist() == [1]


def test_ties_between_nodes_go_to_the_first_name() -> None:
    nodes = cluster([1000], [1000]).nodes
    problem = with_tasks(problem_of(replace(nodes, names=["b", "a"]), tasks_of([], nodes.free[:0])),
                         (500, 1, 1000))  # fmt: skip
    placed = place_gang(problem)
    assert placed is not None
    assert (placed.assignment.tolist(), placed.devices.tolist()) == ([1], [1])


def test_tasks_that_differ_are_placed_as_a_whole_or_not_at_all() -> None:
    gang = np.zeros(2, np.int64)
    fits = with_tasks(cluster([1000, 1000]), (0, 1, 1000), (0, 1, 400), gang=gang)
    placed = place_gang(fits)
    assert placed is not None
    assert placed.devices.tolist() == [1, 2]
    assert place_gang(with_tasks(cluster([1000]), (0, 1, 1000), (0, 1, 400), gang=gang)) is None
    assert place_gang(cluster([1000])) is not None
