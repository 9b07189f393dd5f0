from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks._traces import nodes_csv, read_trace, tasks_csv
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.columns import columns, count_kinds
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.problem import (
    NO,
    Problem,
    Quota,
    nodes_of,
    problem_of,
    tasks_of,
)
from tests.allocation.instances import small_problem
from tests.allocation.oracle_cp_sat import most_weight

if TYPE_CHECKING:
    from jupyter_aios.allocation.placed import Placed

GIB = 2**30
NAMES = ("priority", "moves")


@dataclass(frozen=True)
class CpuEffort(Effort):
    """An effort in seconds of this process, whatever else the machine does meanwhile."""

    def left_s(self) -> float:
        return max(self.ends_at - time.process_time(), 0.0)

    def share(self, part: float, most_s: float = float("inf")) -> Effort:
        return CpuEffort(time.process_time() + min(self.left_s() * part, most_s), self.seed)


def solved(problem: Problem, *names: str, limit_s: float = 20.0) -> Placed:
    placed = columns(problem, names or NAMES, CpuEffort(time.process_time() + limit_s))
    assert placed is not None
    wrong = faults(problem, placed.assignment, placed.devices)
    assert not wrong, wrong
    return placed


def worth(problem: Problem, placed: Placed, name: str = "priority") -> int:
    return int(weights(problem, name)[placed.assignment >= 0].sum())


def cluster(count: int, gpus: int = 8, cpu: int = 64_000, memory: int = 512 * GIB) -> Problem:
    free = np.tile(np.array([[cpu, memory, 0]], np.int64), (count, 1))
    devices = np.full((count, gpus), 1000, np.int64)
    nodes = nodes_of([f"n{j}" for j in range(count)], free, devices)
    return problem_of(nodes, tasks_of([], np.zeros((0, 3), np.int64)))


def with_tasks(problem: Problem, rows: list[tuple[int, int, int, int]], **more: object) -> Problem:
    """Rows are (how many, CPUs, GPUs, milli of each)."""
    kinds = [row for row in rows for _ in range(row[0])]
    demand = np.array([[cpu * 1000, GIB, 0] for _, cpu, _, _ in kinds], np.int64)
    groups = {"quotas", "zones", "zone_names"} & set(more) if "of_quota" in more else set()
    own = {key: value for key, value in more.items() if key in groups}
    columns = {key: value for key, value in more.items() if key not in groups}
    if "of_quota" in columns:
        columns["quotas"] = columns.pop("of_quota")
    tasks = tasks_of(
        [f"t{i}" for i in range(len(kinds))],
        demand.reshape(-1, 3),
        gpus=np.array([gpus for *_, gpus, _ in kinds], np.int64),
        milli=np.array([milli for *_, milli in kinds], np.int64),
        **columns,
    )
    return problem_of(problem.nodes, tasks, **own)


@pytest.mark.parametrize("name", ["priority", "gpu"])
def test_what_is_proposed_is_feasible_whatever_binds(name: str) -> None:
    found = 0
    for seed in range(60):
        problem = small_problem(random.Random(seed), most_tasks=14, most_nodes=5)
        placed = columns(problem, (name, "moves"), CpuEffort(time.process_time() + 0.1))
        if placed is not None:
            found += 1
            assert not faults(problem, placed.assignment, placed.devices), seed
    assert found == 60


def test_small_problems_are_solved_as_well_as_can_be() -> None:
    best = 0
    for seed in range(40):
        problem = small_problem(random.Random(seed), most_tasks=6, most_nodes=3)
        known = most_weight(problem, weights(problem, "priority"), 20.0)
        assert known is not None
        value = worth(problem, solved(problem, limit_s=0.3))
        assert value <= known[1], seed
        best += value == known[0]
    assert best >= 38


def test_problems_of_some_dozens_of_tasks_are_solved_nearly_as_well_as_can_be() -> None:
    total, most = 0, 0
    for seed in range(10):
        problem = small_problem(random.Random(1000 + seed), most_tasks=36, most_nodes=8)
        known = most_weight(problem, weights(problem, "priority"), 10.0)
        assert known is not None
        value = worth(problem, solved(problem, limit_s=1.0))
        assert value <= known[1], seed
        total, most = total + value, most + known[0]
    assert total >= 0.98 * most


def test_the_same_seed_gives_the_same_allocation() -> None:
    for seed in range(4):
        problem = small_problem(random.Random(seed), most_tasks=30, most_nodes=6)
        once, again = solved(problem), solved(problem)
        assert (once.assignment == again.assignment).all()
        assert (once.devices == again.devices).all()


def test_shares_and_whole_gpus_are_combined_without_a_rest() -> None:
    # 3 of 4 thirds fill a device; the pairs need the other devices. Only mixed nodes place all.
    rows = [(60, 1, 1, 330), (40, 1, 2, 1000), (60, 2, 1, 340), (60, 1, 1, 330)]
    problem = with_tasks(cluster(18), rows)
    placed = solved(problem, "gpu")
    assert worth(problem, placed, "gpu") == int(weights(problem, "gpu").sum())


def test_mixed_gangs_are_placed_as_long_as_all_of_a_gang_fit() -> None:
    # One member of each gang needs 8 GPUs on one node: 5 of 9 gangs can be placed, no more.
    gang = np.repeat(np.arange(9), 3)
    kinds = [(1, 4, 8, 1000), (1, 4, 1, 1000), (1, 4, 1, 500)] * 9
    problem = with_tasks(cluster(6), kinds, gang=gang)
    placed = solved(problem)
    there = (placed.assignment >= 0).reshape(9, 3)
    assert (there.all(axis=1) | ~there.any(axis=1)).all()
    assert there.all(axis=1).sum() == 5


def test_a_quota_leaves_the_place_to_others() -> None:
    # Ada's tasks weigh more, but she may have 4 GPUs only.
    of_quota = np.array([[0, NO]] * 16 + [[NO, NO]] * 16)
    problem = with_tasks(
        cluster(2),
        [(16, 1, 1, 1000), (16, 1, 1, 1000)],
        of_quota=of_quota,
        priority=np.array([9] * 16 + [1] * 16),
        quotas=(Quota("user ada", gpu_milli=4000),),
    )
    placed = solved(problem)
    assert (placed.assignment[:16] >= 0).sum() == 4
    assert (placed.assignment[16:] >= 0).sum() == 12


def test_tasks_to_be_apart_are_spread_and_those_together_share_a_node() -> None:
    apart = np.array([0] * 4 + [NO] * 8)
    together = np.array([NO] * 4 + [0] * 8)
    problem = with_tasks(
        cluster(5), [(4, 1, 1, 1000), (8, 1, 1, 1000)], apart=apart, together=together
    )
    placed = solved(problem)
    assert (placed.assignment >= 0).all()
    assert len(set(placed.assignment[:4].tolist())) == 4
    assert len(set(placed.assignment[4:].tolist())) == 1


def in_force(problem: Problem, node: list[int], bits: list[int], **columns: object) -> Problem:
    n = len(problem.tasks)
    current = np.array(node + [NO] * (n - len(node)), np.int64)
    devices = np.array(bits + [0] * (n - len(bits)), np.int64)
    tasks = replace(problem.tasks, current=current, current_devices=devices, **columns)  # type: ignore[arg-type]
    return replace(problem, tasks=tasks)


def test_nothing_moves_where_all_is_placed_without() -> None:
    problem = with_tasks(cluster(3), [(3, 1, 4, 1000), (3, 1, 4, 1000)])
    problem = in_force(problem, [0, 1, 2], [15 << 4, 15, 15 << 2])
    placed = solved(problem)
    assert (placed.assignment >= 0).all()
    assert placed.assignment[:3].tolist() == [0, 1, 2]
    assert placed.devices[:3].tolist() == [15 << 4, 15, 15 << 2]


def test_tasks_in_force_move_where_that_makes_room() -> None:
    # Two half-full nodes; a task of 8 GPUs comes. One of the two in force has to move.
    problem = with_tasks(cluster(2), [(2, 1, 4, 1000), (1, 1, 8, 1000)])
    problem = in_force(problem, [0, 1], [15, 15])
    placed = solved(problem)
    assert (placed.assignment >= 0).all()
    assert (placed.assignment[:2] != [0, 1]).sum() == 1


def test_what_may_be_stopped_gives_way_to_what_weighs_more_and_only_that() -> None:
    problem = with_tasks(
        cluster(2), [(2, 1, 8, 1000), (1, 1, 8, 1000)], priority=np.array([1, 1, 5])
    )
    stops = np.array([False, True, False])
    moves = np.array([False, False, True])
    problem = in_force(problem, [0, 1], [255, 255], is_preemptible=stops, is_movable=moves | ~stops)
    placed = solved(problem)
    assert placed.assignment.tolist() in ([0, NO, 1], [1, NO, 0])
    heavier = replace(problem.tasks, priority=np.array([1, 9, 5]))
    placed = solved(replace(problem, tasks=heavier))
    assert placed.assignment[1] == 1
    assert placed.assignment[2] == NO


@pytest.mark.parametrize("polls", [0, 1, 5, 20, 80, 300])
def test_it_can_be_stopped_at_any_time(polls: int) -> None:
    problem = small_problem(random.Random(7), most_tasks=40, most_nodes=8)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > polls

    placed = columns(problem, NAMES, Effort.of(60.0, stop=stop))
    assert placed is None or not faults(problem, placed.assignment, placed.devices)
    assert asked < polls + 2000


def test_no_tasks_no_nodes_and_no_gpus_are_no_trouble() -> None:
    assert solved(cluster(3)).assignment.tolist() == []
    nothing = with_tasks(cluster(0), [(3, 1, 1, 1000)])
    assert solved(nothing).assignment.tolist() == [NO] * 3
    bare = with_tasks(cluster(3, gpus=0), [(200, 1, 0, 0), (2, 1, 1, 1000)])
    assert (solved(bare).assignment >= 0).sum() == 192
    free = np.array([[4000, GIB, 0]], np.int64)
    no_columns = nodes_of(["n0"], free, np.zeros((1, 0), np.int64))
    tasks = tasks_of(["t0"], np.array([[1000, 0, 0]], np.int64))
    assert solved(problem_of(no_columns, tasks)).assignment.tolist() == [0]


def test_tasks_without_weight_are_placed_where_nothing_is_lost() -> None:
    problem = with_tasks(cluster(2), [(16, 1, 1, 1000), (40, 1, 0, 0)])
    placed = solved(problem, "gpu")
    assert (placed.assignment >= 0).all()
    weightless = replace(problem.tasks, priority=np.zeros(56, np.int64))
    assert (solved(replace(problem, tasks=weightless)).assignment >= 0).all()


def test_huge_amounts_of_memory_are_counted_exactly() -> None:
    problem = with_tasks(cluster(4, memory=2**50), [(40, 1, 1, 1000)])
    demand = problem.tasks.demand.copy()
    demand[:, 1] = 2**50 // 4
    demand[:4, 1] += 1
    tasks = replace(problem.tasks, demand=demand)
    placed = solved(replace(problem, tasks=tasks), "gpu")
    assert (placed.assignment >= 0).sum() == 16
    # Where memory is what lacks, it is what the tables count in.
    assert (placed.assignment[:4] >= 0).sum() == 0


def test_demands_of_nothing_at_all_fit_everywhere() -> None:
    problem = with_tasks(cluster(2), [(1000, 0, 0, 0)])
    demand = np.zeros((1000, 3), np.int64)
    tasks = replace(problem.tasks, demand=demand)
    assert (solved(replace(problem, tasks=tasks)).assignment >= 0).all()


def test_kinds_are_counted() -> None:
    problem = with_tasks(cluster(5), [(3, 1, 1, 1000), (4, 1, 1, 500)])
    assert count_kinds(problem) == (2, 1)


@pytest.mark.parametrize(("workload", "name"), [("default", "priority"), ("gpushare100", "gpu")])
def test_a_production_trace_is_placed_within_one_percent_of_the_bound(
    workload: str, name: str
) -> None:
    files = nodes_csv(), tasks_csv(workload)
    if not all(path.is_file() for path in files):
        pytest.skip(f"the reference data are absent: {files[1]}")
    problem = read_trace(*files).sampled(1.3)
    bound = solve_prices(problem, (name,), Effort.of(60.0)).bound
    placed = columns(problem, (name,), CpuEffort(time.process_time() + 2.5))
    assert placed is not None
    assert not faults(problem, placed.assignment, placed.devices)
    assert 0.99 * bound <= worth(problem, placed, name) <= bound
