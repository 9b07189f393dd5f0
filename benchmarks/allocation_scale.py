"""How far from a proven bound 100,000 tasks on 12,000 nodes are placed when no two are alike.

Tasks are those of a production trace over and over, every demand perturbed by up to ±20 %; nodes
are the trace's, and about half of their GPUs are taken at random before. Some tasks are gangs, some
of them have to be apart, users and groups have quotas. The gap is to a bound whose certificate was
checked here, and every allocation is checked by the checker that trusts nobody. The peers are the
greedy policies over the same tasks in their best order. `ours` and `peer` are the worst gaps in
percent over the objectives, `ours` with the longer of the time limits.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._measure import Report
from benchmarks._traces import Trace, nodes_csv, read_trace, tasks_csv
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.ladder import allocate
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import NO, Ints, Nodes, Problem, Quota, problem_of, tasks_of
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.result import Allocation

LIMITS_S = (10.0, 60.0)
PEER_LIMIT_S = 300.0
POLICIES = ("fgd", "best-fit")
OBJECTIVES = ("gpu", "priority")
FULL_SIZE, QUICK_SIZE = (100_000, 12_000), (10_000, 1_200)
SPREAD = 0.2
"""How far a demand is from the trace's at most."""
GANG_PART = 0.05
APART_PART = 0.3
"""Of the gangs."""
GANG_SIZES = (2, 9)
USERS, GROUPS = 200, 10
TIGHT = 0.2
"""The part of users, and of groups, whose quota binds."""
FULL = 0.5


@dataclass(frozen=True)
class Case:
    """The gaps of one objective in percent of its bound, and the seconds."""

    objective: str
    ours: dict[float, tuple[float, float, str]]
    """By time limit: gap, seconds, and the rung that found it."""
    peers: dict[str, tuple[float, float]]
    """By policy: gap and seconds."""
    peak_bytes: int
    """The most memory this process has had when ours was done."""


def main() -> None:
    """Measure and print."""
    options = _options()
    report = Report("allocation_scale", "%", "lower", options.json)
    nodes = options.nodes_csv or nodes_csv()
    tasks = options.tasks_csv or tasks_csv(options.workload)
    absent = [str(path) for path in (nodes, tasks) if not path.is_file()]
    if absent:
        report.line(f"skipped: {', '.join(absent)} is absent")
        report.finish({"skipped": f"{', '.join(absent)} is absent"})
        return
    trace = read_trace(nodes, tasks)
    size = QUICK_SIZE if options.quick else FULL_SIZE
    problem = scale_problem(trace, *size)
    # Libraries are loaded before the clock starts.
    allocate(scale_problem(trace, 200, 20), "gpu", 1.0)
    report.line(f"{size[0]:,} tasks, {size[1]:,} nodes")
    limits = LIMITS_S[:1] if options.quick else LIMITS_S
    cases = [_case(problem, objective, limits) for objective in OBJECTIVES]
    for case in cases:
        _tell(report, case)
    longest = max(limits)
    report.extra["cases"] = [_figures(case) for case in cases]
    report.extra["peak_bytes"] = cases[0].peak_bytes
    report.finish(
        {
            "ours": round(max(case.ours[longest][0] for case in cases), 4),
            "peer": round(max(min(gap for gap, _ in case.peers.values()) for case in cases), 4),
            "seconds": round(max(case.ours[longest][1] for case in cases), 3),
            "n": len(cases),
        }
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, 10 s")
    parser.add_argument("--json", action="store_true", help="print only the last line, JSON")
    parser.add_argument("--workload", metavar="NAME", default="default", help="of the trace")
    parser.add_argument("--nodes-csv", type=Path, metavar="FILE", help="another cluster")
    parser.add_argument("--tasks-csv", type=Path, metavar="FILE", help="another trace's tasks")
    return parser.parse_args()


def _case(problem: Problem, objective: str, limits: tuple[float, ...]) -> Case:
    found: dict[float, tuple[Allocation, float]] = {}
    for limit_s in limits:
        begun = time.monotonic()
        allocation = allocate(problem, objective, limit_s)
        found[limit_s] = (allocation, time.monotonic() - begun)
    # Any checked certificate is a proof for all of them.
    bound = min(_proven(problem, allocation) for allocation, _ in found.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    weight = weights(problem, objective)
    peers = {}
    for policy in POLICIES:
        begun = time.monotonic()
        placed = sorted_greedy(problem, (objective,), policy, Effort.of(PEER_LIMIT_S))
        assert placed is not None
        value = int(weight[placed.assignment >= 0].sum())
        peers[f"sorted {policy}"] = (_gap(value, bound), time.monotonic() - begun)
    ours = {
        limit_s: (_gap(allocation.objective, bound), seconds, allocation.rung)
        for limit_s, (allocation, seconds) in found.items()
    }
    return Case(objective, ours, peers, peak)


def _proven(problem: Problem, found: Allocation) -> int:
    """Return the bound, after both it and the allocation have been checked."""
    wrong = faults(problem, found.assignment, found.devices)
    assert not wrong, wrong
    assert found.bound is not None
    assert found.certificate is not None
    found.certificate.check(problem)
    assert found.objective <= found.bound <= found.certificate.bound
    return found.bound


def _gap(value: int, bound: int) -> float:
    return 100.0 * (bound - value) / max(bound, 1)


def _tell(report: Report, case: Case) -> None:
    for limit_s, (gap, seconds, rung) in case.ours.items():
        what = f"{case.objective}, {limit_s:.0f} s"
        report.line(f"{what:<24} gap {gap:8.4f} %   {seconds:7.2f} s   {rung}")
    for name, (gap, seconds) in case.peers.items():
        report.line(f"{case.objective + ', ' + name:<24} gap {gap:8.4f} %   {seconds:7.2f} s")
    report.line(f"{'peak memory':<24} {case.peak_bytes / 2**20:8.0f} MiB")


def _figures(case: Case) -> dict[str, Any]:
    return {
        "objective": case.objective,
        "ours": {
            f"{limit_s:.0f}": {"gap": round(gap, 4), "seconds": round(seconds, 3), "rung": rung}
            for limit_s, (gap, seconds, rung) in case.ours.items()
        },
        "peers": {
            name: {"gap": round(gap, 4), "seconds": round(seconds, 3)}
            for name, (gap, seconds) in case.peers.items()
        },
    }


def scale_problem(trace: Trace, tasks: int, nodes: int, seed: int = 0) -> Problem:
    """Return a problem of so many tasks and nodes, all different; equal seeds give equal ones."""
    rng = np.random.default_rng(seed)
    machines = _fill(_repeat(trace.nodes, nodes), trace, rng)
    gang = _gangs(tasks, rng)
    # The tasks of a gang come from one task of the trace, each perturbed on its own.
    source = rng.integers(len(trace.gpus), size=tasks)
    user = _users(tasks, rng)
    priority_of = np.arange(tasks)
    members = np.flatnonzero(gang >= 0)
    first = np.zeros(int(gang.max(initial=0)) + 1, np.int64)
    first[gang[members[::-1]]] = members[::-1]
    priority_of[members] = first[gang[members]]
    source, user = source[priority_of], user[priority_of]
    demand, milli = _perturb(trace, source, rng)
    is_apart = rng.random(len(first)) < APART_PART
    drawn = trace.problem(source)
    zones = drawn.zones[:, np.arange(nodes) % len(trace.nodes)]
    placed = tasks_of(
        [f"task-{i}" for i in range(tasks)],
        demand,
        gpus=trace.gpus[source],
        milli=milli,
        priority=trace.priority[source],
        zone=drawn.tasks.zone,
        gang=gang,
        apart=np.where((gang >= 0) & is_apart[gang], gang, NO),
        quotas=np.column_stack([user, USERS + user % GROUPS]),
        user=user,
        user_names=tuple(f"user-{u}" for u in range(USERS)),
        gang_names=tuple(f"gang-{g}" for g in range(len(first))),
    )
    quotas = _quotas(user, placed.gpu_milli, rng)
    return problem_of(machines, placed, zones=zones, zone_names=drawn.zone_names, quotas=quotas)


def _repeat(nodes: Nodes, count: int) -> Nodes:
    at = np.arange(count) % len(nodes)
    return replace(
        nodes,
        names=[f"{nodes.names[j]}-{k}" for k, j in enumerate(at.tolist())],
        free=nodes.free[at],
        devices=nodes.devices[at],
        capacity=nodes.capacity[at],
        models=nodes.models[at],
        is_drained=np.zeros(count, bool),
    )


def _perturb(trace: Trace, source: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return demands (n × 3) and milli per device (n), each up to ±20 % from the trace's."""
    factor = 1 + SPREAD * (2 * rng.random((len(source), 4)) - 1)
    demand = np.rint(trace.demand[source] * factor[:, :3]).astype(np.int64)
    milli = trace.milli[source]
    is_share = (trace.gpus[source] == 1) & (milli < MILLI)
    drawn = np.clip(np.rint(milli * factor[:, 3]), 1, MILLI - 1).astype(np.int64)
    return demand, np.where(is_share, drawn, milli)


def _fill(nodes: Nodes, trace: Trace, rng: np.random.Generator) -> Nodes:
    """Return the nodes after perturbed tasks took half of the GPUs, each on a node at random."""
    free, devices = nodes.free.copy(), nodes.devices.copy()
    wanted = int(FULL * nodes.device_count.sum()) * MILLI
    taken = 0
    while taken < wanted:
        source = rng.integers(len(trace.gpus), size=10_000)
        demand, milli = _perturb(trace, source, rng)
        hosts = rng.integers(len(nodes), size=len(source))
        for i, j in enumerate(hosts.tolist()):
            gpus = int(trace.gpus[source[i]])
            fitting = np.flatnonzero(devices[j] >= max(int(milli[i]), 1))
            if taken >= wanted or len(fitting) < gpus or (free[j] < demand[i]).any():
                continue
            free[j] -= demand[i]
            devices[j, rng.permutation(fitting)[:gpus]] -= milli[i]
            taken += gpus * int(milli[i])
    return replace(nodes, free=free, devices=devices)


def _gangs(tasks: int, rng: np.random.Generator) -> Ints:
    gang = np.full(tasks, NO, np.int64)
    at = number = 0
    while at < GANG_PART * tasks:
        size = int(rng.integers(*GANG_SIZES))
        gang[at : at + size] = number
        at, number = at + size, number + 1
    return gang


def _users(tasks: int, rng: np.random.Generator) -> Ints:
    """Few users have most of the tasks."""
    drawn: Ints = rng.zipf(1.3, size=tasks) % USERS
    return drawn


def _quotas(user: Ints, gpu_milli: Ints, rng: np.random.Generator) -> tuple[Quota, ...]:
    """Some get a tenth of what they ask for, the others nearly all of it."""
    asked = np.bincount(user, gpu_milli, USERS)
    of_group = np.bincount(user % GROUPS, gpu_milli, GROUPS)
    names = [f"user user-{u}" for u in range(USERS)] + [f"group group-{g}" for g in range(GROUPS)]
    amounts = np.concatenate([asked, of_group])
    part = np.where(rng.random(len(amounts)) < TIGHT, 0.1, 0.9)
    return tuple(
        Quota(name, gpu_milli=int(amount * share))
        for name, amount, share in zip(names, amounts.tolist(), part.tolist(), strict=True)
    )


if __name__ == "__main__":
    main()
