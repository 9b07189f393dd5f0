from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_aios.allocation import Claim, Gang, Problem, faults
from jupyter_aios.core.entities import Allocation, NodeId, Placement, Resources
from tests.allocation.problems import node

DEMAND = Resources(cpu_milli=500, memory_bytes=4, gpu_milli=2000)
NODES = (node("a", gpus=2), node("b", gpus=3), node("c", gpus=2, drained=True))
PROBLEM = Problem(Gang(2, DEMAND), NODES)
GOOD = (Placement(0, NodeId("a"), (0, 1)), Placement(1, NodeId("b"), (0, 2)))


def test_a_feasible_allocation_has_no_faults() -> None:
    assert faults(PROBLEM, Allocation(GOOD)) == []


@pytest.mark.parametrize(
    ("placements", "fault"),
    [
        (GOOD[:1], "tasks [0] are placed, 0 to 1 are asked for"),
        ((GOOD[0], replace(GOOD[1], task=0)), "tasks [0, 0] are placed, 0 to 1 are asked for"),
        ((replace(GOOD[0], node=NodeId("b")), GOOD[1]), "two tasks of the gang share a node"),
        ((GOOD[0], replace(GOOD[1], node=NodeId("x"))), "there is no node x"),
        ((GOOD[0], Placement(1, NodeId("c"), (0, 1))), "c is drained"),
        ((GOOD[0], replace(GOOD[1], devices=(0, 0))), "task 1 holds a device of b twice"),
        ((GOOD[0], replace(GOOD[1], devices=(0,))), "task 1 needs 2 devices and got 1"),
        ((GOOD[0], replace(GOOD[1], devices=(0, 3))), "b has no device 3"),
    ],
)
def test_every_fault_is_found(placements: tuple[Placement, ...], fault: str) -> None:
    assert fault in faults(PROBLEM, Allocation(placements))


def _beside(demand: Resources, devices: tuple[int, ...] = ()) -> list[str]:
    held = Claim(Placement(0, NodeId("b"), devices), demand)
    return faults(replace(PROBLEM, taken=(held,)), Allocation(GOOD))


def test_a_capacity_that_others_have_taken_is_found_exceeded() -> None:
    assert _beside(Resources(cpu_milli=500)) == []
    assert _beside(Resources(cpu_milli=501)) == ["b would give 1001 cpu_milli and has 1000"]
    assert _beside(Resources(memory_bytes=5)) == ["b would give 9 memory_bytes and has 8"]


def test_a_device_that_another_holds_is_found_given_twice() -> None:
    assert _beside(Resources(gpu_milli=1000), (1,)) == []
    assert "device 2 of b would give 1250 of 1000 milli" in _beside(Resources(gpu_milli=250), (2,))
