from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.problem import (
    NO,
    Problem,
    Quota,
    bits_of,
    nodes_of,
    problem_of,
    tasks_of,
)

NODES = nodes_of(
    ["a", "b"],
    np.array([[4000, 8, 10], [4000, 8, 10]]),
    np.array([[1000, 1000, NO], [1000, 300, 1000]]),
)
"""Two devices on a; on b three, one of which others have most of."""


def ints(*numbers: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


def problem(**columns: Any) -> Problem:
    """Return three tasks: two whole GPUs, a share, and none."""
    others = {key: columns.pop(key) for key in ("quotas_of_all", "zones") if key in columns}
    tasks = tasks_of(
        ["whole", "share", "none"],
        np.array([[1000, 4, 0], [1000, 4, 0], [1000, 4, 0]]),
        gpus=ints(2, 1, 0),
        milli=ints(1000, 300, 0),
    )
    made = problem_of(NODES, replace(tasks, **columns))
    return replace(
        made,
        quotas=others.get("quotas_of_all", ()),
        zones=others.get("zones", made.zones),
        zone_names=("", "T4")[: len(others.get("zones", made.zones))],
    )


WHERE, DEVICES = ints(0, 1, 1), ints(bits_of([0, 1]), bits_of([1]), 0)


def test_a_feasible_allocation_has_no_faults() -> None:
    assert faults(problem(), WHERE, DEVICES) == []
    assert faults(problem(), ints(NO, NO, NO), ints(0, 0, 0)) == []


@pytest.mark.parametrize(
    ("where", "devices", "fault"),
    [
        (ints(2, 1, 1), DEVICES, "there is no node number 2"),
        (ints(0, 1), DEVICES[:2], "3 tasks have 2 nodes"),
        (WHERE, ints(1, 2, 0), "whole needs 2 devices and got 1"),
        (WHERE, ints(3, 2, 1), "none needs 0 devices and got 1"),
        (WHERE, ints(bits_of([0, 2]), 2, 0), "a has no device 2"),
        (WHERE, ints(bits_of([0, 7]), 2, 0), "a has no device 7"),
        (ints(NO, 1, 1), DEVICES, "whole is not placed and has devices"),
        (ints(1, 1, 1), ints(bits_of([0, 1]), 4, 0), "device 1 of b would give 1000 of 300 milli"),
        (ints(1, 1, 1), ints(bits_of([0, 2]), 2, 0), "b would give 12 memory_bytes and has 8"),
        (
            ints(1, 1, NO),
            ints(bits_of([0, 2]), 1, 0),
            "device 0 of b would give 1300 of 1000 milli",
        ),
    ],
)
def test_what_a_node_does_not_have_is_found(where: Any, devices: Any, fault: str) -> None:
    assert fault in faults(problem(), where, devices)


def test_a_node_outside_the_zone_is_found() -> None:
    zones = np.array([[True, True], [False, True]])
    zoned = problem(zone=ints(1, 0, 0), zones=zones)
    assert faults(zoned, WHERE, DEVICES) == ["whole may only be on T4, and is on a"]
    stays = problem(zone=ints(1, 0, 0), zones=zones, current=ints(0, NO, NO))
    stays = replace(stays, tasks=replace(stays.tasks, current_devices=ints(3, 0, 0)))
    assert faults(stays, WHERE, DEVICES) == []


def test_a_gang_in_part_is_found() -> None:
    gang = problem(gang=ints(0, 0, NO))
    assert faults(gang, ints(0, NO, 1), ints(3, 0, 0)) == ["gang 0 has 1 of its 2 tasks placed"]
    assert faults(gang, ints(NO, NO, 1), ints(0, 0, 0)) == []


def test_tasks_that_are_to_be_apart_are_found_on_one_node() -> None:
    apart = problem(apart=ints(NO, 5, 5))
    assert faults(apart, WHERE, DEVICES) == [
        "share shares b with a task it is to be apart from",
    ]
    assert faults(apart, ints(0, 1, 0), DEVICES) == []


def test_tasks_that_are_to_be_together_are_found_spread() -> None:
    together = problem(together=ints(0, 0, NO))
    found = faults(together, WHERE, DEVICES)
    assert found == ["share is on b, not with its tasks together"]
    one_rack = replace(together, domains=np.array([[0, 1], [3, 3]]), together_domain=ints(1))
    assert faults(one_rack, WHERE, DEVICES) == []
    no_rack = replace(one_rack, domains=np.array([[0, 1], [3, NO]]))
    assert faults(no_rack, WHERE, DEVICES) == ["share is on b, not with its tasks together"]


@pytest.mark.parametrize(
    ("quota", "fault"),
    [
        (Quota("user ada", gpu_milli=2299), "user ada would have 2300 gpu_milli of 2299"),
        (Quota("user ada", gpu_milli=2300, tasks=3), None),
        (Quota("user ada", tasks=2), "user ada would have 3 tasks of 2"),
        (Quota("user ada", cpu_milli=2999), "user ada would have 3000 cpu_milli of 2999"),
    ],
)
def test_a_quota_that_is_exceeded_is_found(quota: Quota, fault: str | None) -> None:
    columns = np.array([[0, NO], [NO, 0], [0, NO]])
    limited = problem(quotas=columns, quotas_of_all=(quota,))
    assert faults(limited, WHERE, DEVICES) == ([fault] if fault else [])


def test_what_is_in_force_is_not_moved_or_stopped_against_its_will() -> None:
    held = {"current": ints(0, NO, NO), "current_devices": ints(3, 0, 0)}
    bound = problem(**held, is_movable=np.zeros(3, bool))
    assert faults(bound, WHERE, DEVICES) == []
    assert faults(bound, ints(1, 0, 0), ints(5, 1, 0)) == ["whole may not be moved and is"]
    assert faults(bound, ints(NO, 1, 1), ints(0, 2, 0)) == [
        "whole is in force, may not be stopped, and has no place",
    ]
    stoppable = problem(**held, is_preemptible=np.ones(3, bool))
    assert faults(stoppable, ints(NO, 1, 1), ints(0, 2, 0)) == []


def test_a_capacity_that_others_have_taken_is_found_exceeded() -> None:
    taken = replace(NODES, free=np.array([[4000, 8, 10], [1999, 8, 10]]))
    assert faults(replace(problem(), nodes=taken), WHERE, DEVICES) == [
        "b would give 2000 cpu_milli and has 1999",
    ]


def test_a_device_that_another_holds_is_found_given_twice() -> None:
    taken = replace(NODES, devices=np.array([[1000, 999, NO], [1000, 300, 1000]]))
    assert faults(replace(problem(), nodes=taken), WHERE, DEVICES) == [
        "device 1 of a would give 1000 of 999 milli",
    ]
