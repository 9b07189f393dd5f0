from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.allocation import Claim, Gang, Problem, allocate, faults
from jupyter_aios.core.entities import NodeId, Placement, Resources
from tests.allocation.problems import is_possible, node, problems


@given(problems())
def test_the_check_accepts_whatever_greedy_gives(problem: Problem) -> None:
    allocation = allocate(problem)
    assert allocation is None or faults(problem, allocation) == []


@given(problems())
def test_greedy_finds_a_placement_exactly_where_brute_force_does(problem: Problem) -> None:
    assert (allocate(problem) is not None) == is_possible(problem)


@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_changes_nothing(problem: Problem, random: object) -> None:
    nodes = list(problem.nodes)
    random.shuffle(nodes)  # type: ignore[attr-defined]
    assert allocate(Problem(problem.gang, tuple(nodes), problem.taken)) == allocate(problem)


def test_whole_gpus_are_dealt_as_device_indexes_that_nobody_holds() -> None:
    nodes = (node("a", gpus=4),)
    demand = Resources(gpu_milli=2000)
    held = Claim(Placement(0, NodeId("a"), (1,)), Resources(gpu_milli=1000))
    allocation = allocate(Problem(Gang(1, demand), nodes, (held,)))
    assert allocation is not None
    assert allocation.placements[0].devices == (0, 2)


def test_a_share_of_a_gpu_goes_where_the_least_is_left() -> None:
    nodes = (node("a", gpus=2),)
    held = Claim(Placement(0, NodeId("a"), (1,)), Resources(gpu_milli=500))
    allocation = allocate(Problem(Gang(1, Resources(gpu_milli=500)), nodes, (held,)))
    assert allocation is not None
    assert allocation.placements[0].devices == (1,)


def test_a_task_without_gpus_keeps_off_the_nodes_that_have_some() -> None:
    nodes = (node("a", gpus=1), node("b"))
    allocation = allocate(Problem(Gang(1, Resources(cpu_milli=500)), nodes))
    assert allocation is not None
    assert allocation.nodes == ("b",)


def test_a_task_goes_to_the_node_that_it_fills_best() -> None:
    nodes = (node("a", cpu_milli=4000), node("b", cpu_milli=1000))
    allocation = allocate(Problem(Gang(1, Resources(cpu_milli=1000)), nodes))
    assert allocation is not None
    assert allocation.nodes == ("b",)
