from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import combinations, islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.explain import apply, explain, explain_all
from jupyter_aios.allocation.explain.limits import kinds_of
from jupyter_aios.allocation.explain.room import LACKS, Room
from jupyter_aios.allocation.explain.seats import seat, unit_of
from jupyter_aios.allocation.ladder import allocate
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.problem import (
    NO,
    QUOTA_COLUMNS,
    Problem,
    Quota,
    bits_of,
    nodes_of,
    problem_of,
    tasks_of,
)
from jupyter_aios.allocation.reading import read_text
from jupyter_aios.allocation.reduction import pinned, reduce
from jupyter_aios.allocation.result import Allocation, Level
from jupyter_aios.errors import InputError
from tests.allocation.enumeration import all_units, can_place, most_members, most_placed
from tests.allocation.instances import small_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.allocation.explain import Change, Explanation, Fix
    from jupyter_aios.allocation.problem import Ints

CHUNKS, EACH = 10, 50
PRICED = (0, 4, 8)
"""Chunks in which allocations come with a certificate."""
CROWDED = frozenset(("gangs", "shares", "apart", "together", "in-force"))
"""Features that leave most tasks somewhere to be: what is left out there is for want of room."""
BOUND = frozenset(("shares", "apart", "together", "busy"))
"""Features in which it matters where the other tasks are."""


def allocations(chunk: int) -> Iterator[Allocation]:
    """Yield placements of problems of which not every task can be placed, by enumeration."""
    for number in range(100_000):
        rng = random.Random(chunk * 100_000 + number)
        problem = (
            small_problem(rng, pinned=True),
            small_problem(rng, most_tasks=7, features=CROWDED),
            small_problem(rng, most_tasks=7, features=BOUND),
        )[chunk % 3]
        allocation = some_allocation(problem, rng)
        units = all_units(problem)
        if len(allocation.unplaced) and most_placed(problem, units) < len(units):
            yield priced(allocation) if chunk in PRICED else allocation


def some_allocation(problem: Problem, rng: random.Random) -> Allocation:
    """Place in a random order what fits; now and then something is forgotten or was stopped."""
    tasks = problem.tasks
    n = len(tasks)
    stays = tasks.must_be_placed | (tasks.is_in_force & (rng.random() < 0.7))
    stays |= (tasks.gang != NO) & np.isin(tasks.gang, tasks.gang[stays])
    node = np.where(stays, tasks.current, NO)
    room = Room.of(problem, node, np.where(stays, tasks.current_devices, np.zeros(n, np.int64)))
    order = all_units(problem)
    rng.shuffle(order)
    for unit in order:
        if room.assignment[unit[0]] == NO and rng.random() < 0.93:
            seats = seat(room, unit)
            places = seats.places if seats.is_whole else ()
            if len(unit) == 1 and places and rng.random() < 0.5:
                places = (anywhere(room, unit[0], rng),)
            for place in places:
                room.put(*place)
    assert not faults(problem, room.assignment, room.devices)
    value = int(weights(problem, "priority")[room.assignment != NO].sum())
    level = Level("priority", value, None)
    return Allocation(problem, room.assignment, room.devices, (level,), "random", 0.0)


def priced(allocation: Allocation) -> Allocation:
    """Return the allocation with the prices of a bound."""
    open_part = reduce(allocation.problem).problem
    return replace(allocation, certificate=solve_prices(open_part, ("priority",), Effort.of(5.0)))


def anywhere(room: Room, task: int, rng: random.Random) -> tuple[int, int, int]:
    """Return a place for the task that is not the best one."""
    node = rng.choice(np.flatnonzero(~room.lacks(task).any(axis=1)).tolist())
    tasks = room.problem.tasks
    if node == tasks.current[task]:
        return task, node, room.choose(task, node)
    has = np.flatnonzero(room.left[node] >= max(int(tasks.milli[task]), 1)).tolist()
    return task, node, bits_of(rng.sample(has, int(tasks.gpus[task])))


@cache
def explained(chunk: int) -> list[tuple[Allocation, tuple[int, ...], Explanation]]:
    """Return an explanation of every unit that is left out of fifty infeasible problems."""
    found = []
    for allocation in islice(allocations(chunk), EACH):
        units = {unit_of(allocation.problem, int(i)) for i in allocation.unplaced}
        found += [(allocation, unit, explain(allocation, unit[0])) for unit in sorted(units)]
    return found


def without(problem: Problem, unit: tuple[int, ...], lacking: tuple[str, ...]) -> Problem:
    """Return the problem in which some constraints do not count for the tasks of a unit."""
    members = list(unit)
    tasks = problem.tasks
    columns = {
        key: getattr(tasks, key).copy()
        for key in (
            "gpus", "milli", "demand", "apart", "together", "zone", "current", "quotas",
            "current_devices",
        )
    }  # fmt: skip
    if "quota" in lacking:
        columns["quotas"][members] = NO
    elif {"gpus", "cpu", "memory", "disk"} & set(lacking):
        # The quotas count what the tasks really ask for: what a member no longer takes is booked.
        problem = booked(problem, unit)
        columns["quotas"][members] = NO
    if "gpus" in lacking:
        columns["gpus"][members] = columns["milli"][members] = 0
        columns["current_devices"][members] = 0
    for number, name in enumerate(("cpu", "memory", "disk")):
        if name in lacking:
            columns["demand"][members, number] = 0
    for name in ("apart", "together"):
        if name in lacking:
            columns[name][members] = NO
    if "zone" in lacking:
        columns["zone"][members] = len(problem.zones)
        columns["current"][members] = NO
        zones = np.vstack([problem.zones, np.ones((1, len(problem.nodes)), bool)])
        problem = replace(problem, zones=zones, zone_names=(*problem.zone_names, ""))
    return replace(problem, tasks=replace(tasks, **columns))


def booked(problem: Problem, unit: tuple[int, ...]) -> Problem:
    tasks = problem.tasks
    quotas = []
    for number, quota in enumerate(problem.quotas):
        used = np.zeros(5, np.int64)
        for i in unit:
            if number in tasks.quotas[i].tolist():
                used = used + np.append(
                    np.append(tasks.demand[i], tasks.gpus[i] * tasks.milli[i]), 1
                )
        limits = {
            column: None if limit is None else limit - int(amount)
            for column, limit, amount in zip(QUOTA_COLUMNS, quota.limits, used, strict=True)
        }
        quotas.append(Quota(quota.name, **limits))
    return replace(problem, quotas=tuple(quotas))


def base(allocation: Allocation, unit: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Return where what can neither move nor stop is."""
    tasks = allocation.problem.tasks
    stays = pinned(tasks)
    stays[list(unit)] = False
    return np.where(stays, tasks.current, NO), np.where(stays, tasks.current_devices, 0)


def free_base(problem: Problem, unit: tuple[int, ...]) -> Problem:
    """Return the problem in which nothing must be placed beside the unit but what is pinned."""
    tasks = problem.tasks
    held = pinned(tasks)
    rest = ~held & (tasks.gang == NO) | ~held
    gang = np.where(rest & ~np.isin(np.arange(len(tasks)), unit), NO, tasks.gang)
    return replace(
        problem,
        tasks=replace(tasks, is_preemptible=tasks.is_preemptible | ~held, gang=gang),
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_schedule_places_more_of_a_kind_than_the_bound_says(chunk: int) -> None:
    tight = 0
    for allocation, unit, found in explained(chunk):
        kinds = kinds_of(allocation.problem)
        alike = [
            other
            for other in all_units(allocation.problem)
            if kinds.unit_kind[other[0]] == kinds.unit_kind[unit[0]]
        ]
        assert found.bound.of == len(alike)
        most = most_placed(allocation.problem, alike)
        assert most <= found.bound.most, found.sentence
        tight += most == found.bound.most
    assert tight > 0.7 * len(explained(chunk))


@pytest.mark.parametrize("chunk", PRICED)
def test_no_schedule_worth_as_much_has_more_of_a_kind_than_is_said(chunk: int) -> None:
    for allocation, unit, found in explained(chunk):
        if found.as_good is None:
            continue
        worth = weights(allocation.problem, "priority")
        kinds = kinds_of(allocation.problem)
        alike = kinds.unit_kind == kinds.unit_kind[unit[0]]
        # What is worth as much, and then has most of this kind: one weight that no other outdoes.
        units = all_units(allocation.problem)
        counts = np.zeros(len(worth), np.int64)
        counts[[one[0] for one in units if alike[one[0]]]] = 1
        best = most_placed_of_as_good(allocation, units, worth, counts)
        assert best <= found.as_good, found.sentence


def most_placed_of_as_good(
    allocation: Allocation, units: list[tuple[int, ...]], worth: Ints, counts: Ints
) -> int:
    """Return the most of a kind in any schedule that is worth as much as the allocation."""
    problem = allocation.problem
    for number in range(int(counts.sum()), -1, -1):
        chosen = [one for one in units if counts[one[0]]]
        rest = [one for one in units if not counts[one[0]]]
        for some in combinations(chosen, number):
            value = most_placed(problem, [*some, *rest], worth, must_place=some)
            if value >= allocation.objective:
                return number
    return 0


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_without_what_is_named_as_lacking_the_task_fits_and_with_any_of_it_not(chunk: int) -> None:
    for allocation, unit, found in explained(chunk):
        reason, problem = found.reason, allocation.problem
        where = (allocation.assignment, allocation.devices)
        if reason.is_static:
            where, problem = base(allocation, unit), free_base(problem, unit)
        if "fits" in reason.values:
            assert can_place(problem, *where, unit)
            continue
        assert reason.is_proven
        assert reason.lacking
        assert can_place(without(problem, unit, reason.lacking), *where, unit), found.sentence
        sizes = range(len(reason.lacking)) if len(reason.lacking) <= 2 else [0, 1]
        for size in sizes:
            for fewer in combinations(LACKS, size):
                assert not can_place(without(problem, unit, fewer), *where, unit), found.sentence
        for one in reason.lacking:
            fewer = tuple(other for other in reason.lacking if other != one)
            assert not can_place(without(problem, unit, fewer), *where, unit), found.sentence


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_of_a_gang_as_many_tasks_fit_as_is_said(chunk: int) -> None:
    for allocation, unit, found in explained(chunk):
        if found.reason.kind != "gang":
            continue
        problem, where = allocation.problem, (allocation.assignment, allocation.devices)
        if found.reason.is_static:
            where, problem = base(allocation, unit), free_base(problem, unit)
        assert found.reason.values["fit"] == most_members(problem, *where, unit)


def stoppable(allocation: Allocation, unit: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the placed units, one of which may be in force and not be stoppable."""
    units = all_units(allocation.problem)
    return [one for one in units if allocation.assignment[one[0]] != NO and one != unit]


def stopped(allocation: Allocation, gone: tuple[int, ...]) -> tuple[Problem, tuple[Ints, Ints]]:
    tasks = allocation.problem.tasks
    may_stop = tasks.is_preemptible.copy()
    node, devices = allocation.assignment.copy(), allocation.devices.copy()
    may_stop[list(gone)], node[list(gone)], devices[list(gone)] = True, NO, 0
    return replace(allocation.problem, tasks=replace(tasks, is_preemptible=may_stop)), (
        node,
        devices,
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_outbid_is_who_could_only_take_the_place_of_as_much(chunk: int) -> None:
    for allocation, unit, found in explained(chunk):
        is_said = {"outbid": True, "undecided": False}.get(found.reason.kind)
        if is_said is None or "fits" in found.reason.values:
            continue
        worth = weights(allocation.problem, "priority")
        must = allocation.problem.tasks.must_be_placed
        units = [one for one in stoppable(allocation, unit) if not must[list(one)].any()]
        lost = [
            int(worth[list(gone)].sum())
            for size in range(1, len(units) + 1)
            for chosen in combinations(units, size)
            for gone in [tuple(i for one in chosen for i in one)]
            if can_place(*_flat(stopped(allocation, gone)), unit)
        ]
        assert (min(lost) >= worth[unit[0]]) == is_said, found.sentence


def _flat(pair: tuple[Problem, tuple[Ints, Ints]]) -> tuple[Problem, Ints, Ints]:
    return pair[0], *pair[1]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_fix_places_the_task_and_leaves_the_others_where_they_are(chunk: int) -> None:
    for allocation, unit, found in explained(chunk):
        for fix in found.fixes:
            assert fix.is_verified
            changed = apply(allocation.problem, fix.change)
            assert not faults(changed, fix.placed.assignment, fix.placed.devices), fix.sentence
            assert (fix.placed.assignment[list(unit)] != NO).all()
            others = np.flatnonzero(allocation.assignment != NO)
            named = {*fix.change.stop, *(task for task, _, _ in fix.change.moves)}
            for i in set(others.tolist()) - named:
                assert fix.placed.assignment[i] == allocation.assignment[i]
                assert fix.placed.devices[i] == allocation.devices[i]
            for i, node, bits in fix.change.moves:
                assert (fix.placed.assignment[i], fix.placed.devices[i]) == (node, bits)
            if fix.kind == "priority":
                after = weights(changed, "priority")[fix.placed.assignment != NO].sum()
                before = weights(changed, "priority")[allocation.assignment != NO].sum()
                assert after > before
            else:
                assert not fix.change.priorities


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_fix_is_called_smallest_only_where_no_smaller_one_does(chunk: int) -> None:
    for allocation, unit, found in explained(chunk):
        for fix in found.fixes:
            if fix.is_smallest:
                assert not smaller_does(allocation, unit, fix), fix.sentence


def smaller_does(allocation: Allocation, unit: tuple[int, ...], fix: Fix) -> bool:
    problem, where = allocation.problem, (allocation.assignment, allocation.devices)
    if fix.kind == "free":
        units = stoppable(allocation, unit)
        return any(
            can_place(*_flat(stopped(allocation, gone)), unit)
            for size in range(len(units) + 1)
            for chosen in combinations(units, size)
            for gone in [tuple(i for one in chosen for i in one)]
            if len(gone) < fix.size
        )
    if fix.kind == "moves":
        placed = set(np.flatnonzero(allocation.assignment != NO).tolist()) - set(unit)
        return any(
            can_move(allocation, moved, unit)
            for size in range(fix.size)
            for moved in combinations(sorted(placed), size)
        )
    if fix.kind == "add-nodes":
        fewer = apply(problem, replace(fix.change, add_nodes=fix.change.add_nodes[1:]))
        return can_place(fewer, *where, unit)
    if fix.kind == "less":
        return can_place(apply(problem, a_little_more(problem, fix)), *where, unit)
    if fix.kind == "quota":
        return any(
            can_place(apply(problem, replace(fix.change, quotas=limits)), *where, unit)
            for number in range(len(fix.change.quotas))
            for limits in [
                tuple(
                    (quota, column, limit - (at == number))
                    for at, (quota, column, limit) in enumerate(fix.change.quotas)
                )
            ]
        )
    assert fix.kind == "place"
    return False


def can_move(allocation: Allocation, moved: tuple[int, ...], unit: tuple[int, ...]) -> bool:
    node, devices = allocation.assignment.copy(), allocation.devices.copy()
    node[list(moved)], devices[list(moved)] = NO, 0
    return can_place(allocation.problem, node, devices, (*moved, *unit))


def a_little_more(problem: Problem, fix: Fix) -> Change:
    demands = []
    for task, demand in fix.change.demands:
        was = (problem.tasks.gpus[task], problem.tasks.milli[task], *problem.tasks.demand[task])
        now = [demand.gpus, demand.milli, *demand.amounts]
        (at,) = [number for number in range(5) if was[number] != now[number]]
        now[at] += 1
        demands.append(
            (task, replace(demand, gpus=now[0], milli=now[1], amounts=(now[2], now[3], now[4])))
        )
    return replace(fix.change, demands=tuple(demands))


def test_each_kind_of_reason_and_of_fix_occurs() -> None:
    found = [one for chunk in range(CHUNKS) for _, _, one in explained(chunk)]
    reasons = Counter(one.reason.kind for one in found)
    fixes = Counter(fix.kind for one in found for fix in one.fixes)
    smallest = Counter(fix.kind for one in found for fix in one.fixes if fix.is_smallest)
    for kind in (
        "too-large", "no-node", "fragmented", "full", "exhausted", "quota", "apart", "together",
        "several", "gang", "outbid", "undecided",
    ):  # fmt: skip
        assert reasons[kind] >= 2, reasons
    for kind in ("place", "moves", "free", "quota", "add-nodes", "less", "zone", "priority"):
        assert fixes[kind] >= 5, fixes
    for kind in ("moves", "free", "quota", "add-nodes", "less"):
        assert smallest[kind] >= 5, smallest


def test_left_out_tasks_that_are_alike_are_one_group() -> None:
    for allocation, _, _ in explained(0):
        groups = explain_all(allocation)
        tasks = [i for group in groups for i in group.tasks]
        assert sorted(tasks) == allocation.unplaced.tolist()


def pairs_and_singles() -> Problem:
    """Return one node of four GPUs for three tasks of two GPUs, and four of one worth less."""
    wide, single = np.full(3, 2), np.ones(4, np.int64)
    tasks = tasks_of(
        ["w0", "w1", "w2", "s0", "s1", "s2", "s3"],
        np.zeros((7, 3), np.int64),
        gpus=np.append(wide, single),
        milli=np.full(7, 1000),
        priority=np.append(wide + 1, single),
    )
    room = np.full((1, 3), 1000, np.int64)
    return problem_of(nodes_of(["n0"], room, np.full((1, 4), 1000, np.int64)), tasks)


def test_who_is_outbid_is_told_how_many_of_its_kind_a_schedule_as_good_has() -> None:
    problem = pairs_and_singles()
    node = np.array([0, 0, NO, NO, NO, NO, NO])
    devices = np.array([0b0011, 0b1100, 0, 0, 0, 0, 0])
    level = Level("priority", 12_000, 12_000)
    found = explain(priced(Allocation(problem, node, devices, (level,), "hand", 0.0)), 3)
    assert (found.bound.most, found.as_good, found.reason.kind) == (4, 0, "outbid")
    assert found.sentence == (
        "1 whole GPU: what would have to stop for it is worth 3000 or more, and it is worth 1000 "
        "(the least found: w0 on n0); no schedule that is worth as much places more than 0 of 4"
    )
    assert [fix.sentence for fix in found.fixes] == [
        "free 2 GPUs on n0: stop w0",
        "raise the priority above 6: it is then worth more than w0",
        "add 1 node like n0 (GPU)",
    ]


def test_where_all_are_to_be_placed_the_reason_is_what_is_left_not_what_is_worth_more() -> None:
    found = allocate(read_text("r: [3, 5, 2]\nc: [6, 4]"), "feasible")
    told = explain(found, int(found.unplaced[0]))
    assert told.reason.kind == "exhausted"
    assert told.sentence.startswith("2 CPUs: its nodes have at most 1 CPU left")


def test_a_number_that_no_task_has_is_refused() -> None:
    allocation = next(allocations(0))
    with pytest.raises(InputError, match="there is no task number 99"):
        explain(allocation, 99)
