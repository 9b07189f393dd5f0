from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from jupyter_aios.allocation.columns.diving import Generator
from jupyter_aios.allocation.columns.kinds import Classes, Types, claim, classify, type_nodes
from jupyter_aios.allocation.columns.pricing import Pricer, main_unit, share_unit
from jupyter_aios.allocation.columns.room import Room
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import NO, Ints, nodes_of, problem_of, tasks_of

PLENTY = 99


def drawn_classes(rng: random.Random, count: int) -> Classes:
    kinds = [(0, 0), (1, 250), (1, 500), (1, 750), (1, 1000), (2, 1000)]
    chosen = [rng.choice(kinds) for _ in range(count)]
    cpu = np.array([rng.randint(0 if gpus else 1, 5) for gpus, _ in chosen], np.int64)
    none = np.zeros(count, np.int64)
    return Classes(
        demand=np.column_stack([cpu, none, none]),
        gpus=np.array([gpus for gpus, _ in chosen], np.int64),
        milli=np.array([milli for _, milli in chosen], np.int64),
        zone=none,
        count=none + PLENTY,
        most=none + PLENTY,
        weight=none + 1,
        has_must=none > 0,
        of_task=none,
    )


def one_type(cpu: int, devices: list[int], count: int) -> Types:
    return Types(
        free=np.array([[cpu, 0, 0]], np.int64),
        devices=np.array([sorted(devices, reverse=True)], np.int64).reshape(1, -1),
        market=np.zeros(1, np.int64),
        allowed=np.ones((1, count), bool),
        count=np.ones(1, np.int64),
        of_node=np.zeros(1, np.int64),
    )


def best_by_trying(classes: Classes, profit: list[int], cpu: int, devices: tuple[int, ...]) -> int:
    """Return the most that any content pays: every task, on every choice of devices."""

    @cache
    def best(left: int, free: tuple[int, ...]) -> int:
        most = 0
        for one in range(len(classes)):
            rest = left - int(classes.demand[one, 0])
            gpus, milli = int(classes.gpus[one]), int(classes.milli[one])
            if rest < 0:
                continue
            if not gpus:
                most = max(most, profit[one] + best(rest, free))
            elif gpus == 1:
                for at in range(len(free)):
                    if free[at] >= milli:
                        after = tuple(sorted((*free[:at], free[at] - milli, *free[at + 1 :])))
                        most = max(most, profit[one] + best(rest, after))
            else:
                whole = [at for at, room in enumerate(free) if room == 1000]
                if len(whole) >= gpus:
                    after = tuple(x for at, x in enumerate(free) if at not in whole[:gpus])
                    most = max(most, profit[one] + best(rest, after))
        return most

    return best(cpu, tuple(sorted(devices)))


@pytest.mark.parametrize("seed", range(40))
def test_contents_pay_as_much_as_the_best_that_trying_everything_finds(seed: int) -> None:
    rng = random.Random(seed)
    classes = drawn_classes(rng, rng.randint(1, 6))
    profit = [rng.randint(0, 9) for _ in range(len(classes))]
    devices = [rng.choice((1000, 1000, 500, 750, 0)) for _ in range(rng.randint(0, 3))]
    cpu = rng.randint(1, 9)
    types = one_type(cpu, devices, len(classes))
    pricer = Pricer(classes, types, 0, 100)
    found = pricer.best(
        0, np.array(profit, float), classes.count, np.zeros(3), np.array([0], np.int64)
    )
    slots, lacks = found[0]
    assert not lacks
    value = sum(profit[one] for one, _ in slots)
    assert value == best_by_trying(classes, profit, cpu, tuple(devices))
    check_fits(classes, types, slots)


def check_fits(classes: Classes, types: Types, slots: tuple[tuple[int, int], ...]) -> None:
    left, devices = types.free[0].copy(), types.devices[0].copy()
    for one, bits in slots:
        left -= classes.demand[one]
        held = [d for d in range(len(devices)) if bits >> d & 1]
        assert len(held) == classes.gpus[one]
        devices[held] -= classes.milli[one]
    assert (left >= 0).all()
    assert (devices >= 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_contents_obey_memory_supply_and_coarse_units(seed: int) -> None:
    rng = random.Random(seed)
    classes = drawn_classes(rng, 5)
    demand = classes.demand * 997
    demand[:, 1] = [rng.randint(0, 2**48) for _ in range(5)]
    supply = np.array([rng.randint(0, 3) for _ in range(5)], np.int64)
    classes = Classes(**{**vars(classes), "demand": demand})
    types = one_type(9 * 997, [1000, 1000, 750], 5)
    types.free[0, 1] = 2**49
    profit = np.array([rng.randint(1, 9) for _ in range(5)], float)
    pricer = Pricer(classes, types, 0, 7)
    slots, _ = pricer.best(0, profit, supply, np.zeros(3), np.array([0], np.int64))[0]
    check_fits(classes, types, slots)
    counts = np.bincount([one for one, _ in slots], minlength=5)
    assert (counts <= supply).all()


def test_shares_are_counted_exactly_where_that_takes_few_levels() -> None:
    assert share_unit(np.array([250, 500, 750])) == 250
    assert share_unit(np.array([460, 230])) == 10
    # Eight eighths fill a device: a unit of 10 would round them up to seven.
    assert share_unit(np.array([125, 125, 40])) == 5
    assert share_unit(np.array([], np.int64)) == 1000
    assert 5 <= share_unit(np.array([333, 127])) <= 10


def test_the_main_resource_is_counted_in_what_loses_least() -> None:
    classes = drawn_classes(random.Random(0), 2)
    classes.demand[:, 0] = [3000, 9000]
    types = one_type(128_000, [1000], 2)
    unit = main_unit(classes, types, 0, 64)
    assert unit >= 2000
    assert 3000 % unit == 0


def waiting(count: int, gang: list[int], priority: list[int], gpus: list[int]) -> Room:
    nodes = nodes_of(["n0"], np.array([[9, 9, 9]], np.int64), np.full((1, 4), 1000, np.int64))
    tasks = tasks_of(
        [f"t{i}" for i in range(count)],
        np.ones((count, 3), np.int64),
        gpus=np.array(gpus, np.int64),
        milli=np.where(np.array(gpus) > 0, 1000, 0),
        gang=np.array(gang, np.int64),
        priority=np.array(priority, np.int64),
    )
    return Room(problem_of(nodes, tasks))


def test_tasks_that_need_the_same_are_one_class_and_claim_by_what_they_count() -> None:
    room = waiting(6, [NO, NO, 0, 0, 1, 1], [1, 2, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0])
    problem = room.problem
    weight: Ints = weights(problem, "priority")
    classes = classify(problem, weight, room.zone, np.ones(6, bool))
    claims = claim(problem, weight, classes)
    assert sorted(classes.count.tolist()) == [1, 5]
    # The gang of two that are alike claims like single tasks; the mixed one claims as a whole.
    assert claims.of_task[0] == claims.of_task[2] == claims.of_task[3]
    assert claims.of_task[4] == claims.of_task[5] != claims.of_task[0]
    assert claims.size[claims.of_task[4]] == 2
    assert max(claims.count(np.ones(6, bool)).tolist()) == 3


def test_nodes_with_the_same_free_devices_in_another_order_are_of_one_type() -> None:
    devices = np.array([[1000, 300], [300, 1000], [1000, 1000]], np.int64)
    nodes = nodes_of(["a", "b", "c"], np.full((3, 3), 9, np.int64), devices)
    tasks = tasks_of(["t"], np.ones((1, 3), np.int64))
    room = Room(problem_of(nodes, tasks))
    classes = classify(room.problem, np.ones(1, np.int64), room.zone, np.ones(1, bool))
    types = type_nodes(room, classes)
    assert sorted(types.count.tolist()) == [1, 2]
    assert types.of_node[0] == types.of_node[1] != types.of_node[2]


def test_columns_are_found_beyond_those_that_it_starts_with() -> None:
    # Greedy contents take the dearest tasks; the best mix needs prices.
    gpus = [1] * 12 + [3] * 4
    room = waiting(16, [NO] * 16, [4] * 12 + [5] * 4, gpus)
    nodes = nodes_of(
        [f"n{j}" for j in range(6)], np.full((6, 3), 4, np.int64), np.full((6, 4), 1000, np.int64)
    )
    problem = problem_of(nodes, room.problem.tasks)
    room = Room(problem)
    weight = weights(problem, "gpu")
    classes = classify(problem, weight, room.zone, weight > 0)
    types = type_nodes(room, classes)
    generator = Generator(classes, claim(problem, weight, classes), types, room.quotas_left)
    chosen = generator.run(Effort.of(10.0))
    placed = sum(
        times * count * int(classes.weight[one])
        for pattern, times in chosen
        for one, count in pattern.counts
    )
    # 24 GPUs are there, as many are asked for, and each node can be filled to the last.
    assert placed == 24_000
