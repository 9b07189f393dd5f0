"""How far the allocation of a whole production trace is from the best that any could be, in 2 s.

The trace's tasks are sampled to 100 % and 130 % of all GPUs; as much GPU, or as much priority ×
size as can be is to be placed. The gap is to a bound that is proven: the certificate is checked
here, and every allocation by the checker that trusts nobody. Peers are the sorted greedy policies
at the full size, and the textbook model (a boolean for each pair) in CP-SAT and HiGHS at sizes that
it can take. `ours` and `peer` are the worst gaps in percent of all cases, `peer` of the better
greedy policy.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._measure import Report
from benchmarks._plain import solve_cp_sat, solve_mip
from benchmarks._traces import Trace, nodes_csv, read_trace, tasks_csv
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.ladder import allocate
from jupyter_aios.allocation.objectives import weights

if TYPE_CHECKING:
    from jupyter_aios.allocation.placed import Placed
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.allocation.result import Allocation

LIMIT_S = 2.0
RATIOS = (1.0, 1.3)
OBJECTIVES = ("gpu", "priority")
POLICIES = ("fgd", "best-fit")
SMALL = (10, 30, 100)
"""Nodes of the problems that are handed to the textbook model too."""


@dataclass(frozen=True)
class Case:
    """The gaps of one problem, in percent of its bound, and the seconds."""

    name: str
    ours: float
    seconds: float
    rung: str
    peers: dict[str, tuple[float, float]]
    """By peer: gap and seconds."""

    @property
    def peer(self) -> float:
        """The best peer's gap."""
        return min(gap for gap, _ in self.peers.values())


def main() -> None:
    """Measure and print."""
    options = _options()
    report = Report("allocation_offline", "%", "lower", options.json)
    workloads = [options.workload] if options.workload else ["default", "gpushare100"]
    nodes = options.nodes_csv or nodes_csv()
    files = {name: options.tasks_csv or tasks_csv(name) for name in workloads}
    absent = [str(path) for path in (nodes, *files.values()) if not path.is_file()]
    if absent:
        report.line(f"skipped: {', '.join(absent)} is absent")
        report.finish({"skipped": f"{', '.join(absent)} is absent"})
        return
    traces = {name: read_trace(nodes, path) for name, path in files.items()}
    # Libraries are loaded before the clock starts.
    allocate(_some_nodes(traces[workloads[0]], 3).sampled(1.3), "gpu", 1.0)
    cases = []
    for seed in (42,) if options.quick else (42, 43, 44):
        for name, trace in traces.items():
            for ratio in RATIOS:
                for objective in OBJECTIVES:
                    label = f"{name}, {ratio:.0%}, {objective}, seed {seed}"
                    cases.append(_large(label, trace.sampled(ratio, seed), objective))
                    _tell(report, cases[-1])
    small = []
    for count in SMALL[:2] if options.quick else SMALL:
        trace = _some_nodes(traces[workloads[0]], count)
        small.append(_small(f"{count} nodes, 130%, priority", trace.sampled(1.3), "priority"))
        _tell(report, small[-1])
    report.extra["cases"] = [_figures(case) for case in cases]
    report.extra["small"] = [_figures(case) for case in small]
    report.finish(
        {
            "ours": round(max(case.ours for case in cases), 4),
            "peer": round(max(case.peer for case in cases), 4),
            "seconds": round(max(case.seconds for case in cases), 3),
            "n": len(cases),
        }
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one sample of each case, under 50 s")
    parser.add_argument("--json", action="store_true", help="print only the last line, JSON")
    parser.add_argument("--workload", metavar="NAME", help="one workload of the reference trace")
    parser.add_argument("--nodes-csv", type=Path, metavar="FILE", help="another cluster")
    parser.add_argument("--tasks-csv", type=Path, metavar="FILE", help="another trace's tasks")
    options = parser.parse_args()
    if options.tasks_csv and not options.workload:
        options.workload = options.tasks_csv.stem
    return options


def _some_nodes(trace: Trace, count: int) -> Trace:
    """Return the trace with a few of its machines, drawn with a seed."""
    chosen = np.random.default_rng(0).choice(len(trace.nodes), count, replace=False)
    return trace.on(np.sort(chosen))


def _large(name: str, problem: Problem, objective: str) -> Case:
    begun = time.monotonic()
    found = allocate(problem, objective, LIMIT_S)
    seconds = time.monotonic() - begun
    bound = _proven(problem, found)
    peers = {}
    for policy in POLICIES:
        begun = time.monotonic()
        placed = sorted_greedy(problem, (objective,), policy, Effort.of(LIMIT_S))
        taken_s = time.monotonic() - begun
        assert placed is not None
        peers[f"sorted {policy}"] = (_gap(_worth(problem, placed, objective), bound), taken_s)
    return Case(name, _gap(found.objective, bound), seconds, found.rung, peers)


def _small(name: str, problem: Problem, objective: str) -> Case:
    case = _large(f"{name}, {len(problem.tasks)} tasks", problem, objective)
    bound = _proven(problem, allocate(problem, objective, LIMIT_S))
    weight = weights(problem, objective)
    for peer, solve in (("plain CP-SAT", solve_cp_sat), ("plain HiGHS", solve_mip)):
        value, seconds = solve(problem, weight, LIMIT_S)
        case.peers[peer] = (_gap(value, bound), seconds)
    return case


def _proven(problem: Problem, found: Allocation) -> int:
    """Return the bound, after both it and the allocation have been checked."""
    wrong = faults(problem, found.assignment, found.devices)
    assert not wrong, wrong
    assert found.bound is not None
    assert found.certificate is not None
    assert found.certificate.check(problem) <= found.certificate.bound
    assert found.objective <= found.bound <= found.certificate.bound
    return found.certificate.bound if found.status != "optimal" else found.bound


def _worth(problem: Problem, placed: Placed, objective: str) -> int:
    assert not faults(problem, placed.assignment, placed.devices)
    return int(weights(problem, objective)[placed.assignment >= 0].sum())


def _gap(value: int, bound: int) -> float:
    return 100.0 * (bound - value) / max(bound, 1)


def _tell(report: Report, case: Case) -> None:
    peers = "   ".join(f"{name} {gap:.3f} % {s:.2f} s" for name, (gap, s) in case.peers.items())
    report.line(f"{case.name:<44} ours {case.ours:.3f} % {case.seconds:.2f} s   {peers}")


def _figures(case: Case) -> dict[str, object]:
    peers = {name: [round(gap, 4), round(s, 3)] for name, (gap, s) in case.peers.items()}
    return {
        "case": case.name, "ours": round(case.ours, 4), "seconds": round(case.seconds, 3),
        "rung": case.rung, "peers": peers,
    }  # fmt: skip


if __name__ == "__main__":
    main()
