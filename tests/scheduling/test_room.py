from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.core.entities import Allocation, NodeId, Placement, Resources
from jupyter_aios.scheduling.room import Room, launch_faults
from jupyter_aios.testing.examples import example_spec
from tests.scheduling.gangs import Case, cases, held, is_possible, node

SPEC = example_spec(nodes=2, resources=Resources(cpu_milli=500, memory_bytes=4, gpu_milli=2000))
NODES = (node("a", gpus=2), node("b", gpus=3), node("c", gpus=2, drained=True))
GOOD = (Placement(0, NodeId("a"), (1, 3)), Placement(1, NodeId("b"), (1, 5)))


@given(cases())
def test_what_is_placed_passes_the_check(case: Case) -> None:
    allocation = Room(case.nodes, case.taken).place(case.spec)
    if allocation is not None:
        assert launch_faults(case.spec, case.nodes, case.holding, allocation) == []


@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_gang_is_placed_exactly_where_brute_force_finds_a_way(case: Case) -> None:
    placed = Room(case.nodes, case.taken).place(case.spec)
    assert (placed is not None) == is_possible(case)


@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_changes_nothing(case: Case, random: Any) -> None:
    nodes = list(case.nodes)
    random.shuffle(nodes)
    assert Room(nodes, case.taken).place(case.spec) == Room(case.nodes, case.taken).place(case.spec)


@pytest.mark.parametrize(
    ("placements", "fault"),
    [
        (GOOD, None),
        (GOOD[:1], "1 tasks are placed, 2 are asked for"),
        ((GOOD[0], replace(GOOD[1], task=0)), "2 tasks are placed, 2 are asked for"),
        ((replace(GOOD[0], node=NodeId("b")), GOOD[1]), "shares b with a task"),
        ((GOOD[0], replace(GOOD[1], node=NodeId("x"))), "there is no node x"),
        ((GOOD[0], Placement(1, NodeId("c"), (1, 3))), "not drained, and is on c"),
        ((GOOD[0], replace(GOOD[1], devices=(1, 1))), "task 1 holds a device of b twice"),
        ((GOOD[0], replace(GOOD[1], devices=(1,))), "needs 2 devices and got 1"),
        ((GOOD[0], replace(GOOD[1], devices=(1, 7))), "b has no device 7"),
    ],
)
def test_every_fault_of_a_launch_is_found(
    placements: tuple[Placement, ...], fault: str | None
) -> None:
    found = launch_faults(SPEC, NODES, (), Allocation(placements))
    assert any(fault in one for one in found) if fault else found == []


def test_a_launch_that_needs_what_others_hold_is_found() -> None:
    def beside(demand: Resources, *devices: int) -> list[str]:
        other = held(example_spec(resources=demand), Placement(0, NodeId("b"), devices))
        return launch_faults(SPEC, NODES, (other,), Allocation(GOOD))

    assert beside(Resources(cpu_milli=500)) == []
    assert beside(Resources(cpu_milli=501)) == ["b would give 1001 cpu_milli and has 1000"]
    assert beside(Resources(memory_bytes=5)) == ["b would give 9 memory_bytes and has 8"]
    assert beside(Resources(gpu_milli=1000), 3) == []
    assert beside(Resources(gpu_milli=250), 5) == ["device 2 of b would give 1250 of 1000 milli"]


def test_whole_gpus_are_dealt_as_device_indexes_that_nobody_holds() -> None:
    other = held(example_spec(resources=Resources(gpu_milli=1000)), Placement(0, NodeId("a"), (3,)))
    case = Case(
        example_spec(nodes=1, resources=Resources(gpu_milli=2000)), (node("a", gpus=4),), (other,)
    )
    allocation = Room(case.nodes, case.taken).place(case.spec)
    assert allocation is not None
    assert allocation.placements[0].devices == (1, 5)


def test_a_share_of_a_gpu_goes_where_the_least_is_left() -> None:
    half = example_spec(nodes=1, resources=Resources(gpu_milli=500))
    case = Case(half, (node("a", gpus=2),), (held(half, Placement(0, NodeId("a"), (3,))),))
    allocation = Room(case.nodes, case.taken).place(case.spec)
    assert allocation is not None
    assert allocation.placements[0].devices == (3,)


def test_a_task_without_gpus_keeps_off_the_nodes_that_have_some() -> None:
    allocation = Room((node("a", gpus=1), node("b"))).place(example_spec(nodes=1))
    assert allocation is not None
    assert allocation.nodes == ("b",)


def test_a_task_goes_to_the_node_that_it_fills_best() -> None:
    spec = example_spec(nodes=1, resources=Resources(cpu_milli=1000))
    nodes = (node("a", cpu_milli=4000), node("b", cpu_milli=1000))
    allocation = Room(nodes).place(spec)
    assert allocation is not None
    assert allocation.nodes == ("b",)
