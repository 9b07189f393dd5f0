"""How far from the best known cost assignments are that were found in ten seconds on two cores.

The generalized assignment problem: gap1 to gap12 (60 instances of Cattrysse, Salomon and Van
Wassenhove 1994), types a to d of Chu and Beasley (1997), types c and d with 400 tasks of Yagiura,
Ibaraki and Glover (2004). Ours and both peers have the same limit and the same machine, one after
the other: CP-SAT on the plain model with two workers, and HiGHS's branch and cut on the same ILP.
Every assignment of ours is checked anew, and so is the certificate of every bound.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._measure import Report
from jupyter_aios.allocation.assignment import (
    AssignmentProblem,
    faults,
    read_assignment,
    solve_assignment,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 10.0
QUICK_LIMIT_S = 3.5
QUICK = ("gap12-0", "c20200", "d20100", "d20200", "d40400")


@dataclass(frozen=True)
class Found:
    """What one solver found; None where it found nothing."""

    objective: int | None
    seconds: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five instances, under 50 s")
    parser.add_argument("--json", action="store_true", help="print only the last line, JSON")
    parser.add_argument("--instance", type=Path, help="any instance in OR-Library's format")
    parser.add_argument("--time-limit", type=float, help="seconds for each solver")
    options = parser.parse_args()
    report = Report("allocation_gap", "%", "lower", options.json)
    limit_s = options.time_limit or (QUICK_LIMIT_S if options.quick else LIMIT_S)
    report.extra["limit_s"] = limit_s
    report.extra["peers"] = {name: version(name) for name in ("ortools", "highspy")}
    if options.instance is not None:
        report.finish(_own_instance(report, options.instance, limit_s))
    else:
        report.finish(_reference(report, limit_s, is_quick=options.quick))


def _reference(report: Report, limit_s: float, *, is_quick: bool) -> dict[str, object]:
    """Solve the reference instances; the peers have a go at types c and d."""
    known = best_known()
    gaps: dict[str, list[float]] = {"ours": [], "CP-SAT": [], "HiGHS": [], "peer": []}
    seconds: list[float] = []
    easy: list[bool] = []
    missed: list[str] = []
    _head(report)
    for path, best in known.items():
        if is_quick and path.name not in QUICK:
            continue
        problem = read_assignment(path.read_text())
        is_hard = path.name[0] in "cd"
        ours, gap = _ours(report, path.name, problem, best, limit_s)
        if not is_hard:
            easy.append(gap == 0.0)
            missed += [] if easy[-1] else [path.name]
            continue
        peers = [
            _peer(report, name, solver(problem, limit_s), best) for name, solver in PEERS.items()
        ]
        gaps["ours"].append(gap)
        seconds.append(ours.seconds)
        for name, other in zip(PEERS, peers, strict=True):
            gaps[name].append(other)
        gaps["peer"].append(min(peers))
    report.line(f"{sum(easy)} of {len(easy)} instances of the easy sets at the best known cost")
    for name, ones in gaps.items():
        what = "the better peer" if name == "peer" else name
        report.line(
            f"{what:<16} worst {max(ones):7.3f} %   mean {np.mean(ones):7.3f} %   n={len(ones)}"
        )
    report.extra["easy"] = {"at_best_known": sum(easy), "of": len(easy), "missed": missed}
    report.extra["mean"] = {name: _number(float(np.mean(ones))) for name, ones in gaps.items()}
    report.extra["worst"] = {name: _number(max(ones)) for name, ones in gaps.items()}
    return {
        "ours": _number(max(gaps["ours"])),
        "peer": _number(max(gaps["peer"])),
        "seconds": round(max(seconds), 2),
        "n": len(gaps["ours"]),
    }


def _own_instance(report: Report, path: Path, limit_s: float) -> dict[str, object]:
    """Solve one instance; without a best known cost, gaps are to our own proven bound."""
    problem = read_assignment(path.read_text())
    best = {known.resolve(): cost for known, cost in best_known().items()}.get(path.resolve())
    _head(report)
    ours, gap = _ours(report, path.name, problem, best, limit_s)
    if best is None:
        best = _bound(problem, limit_s)
        report.line("no best known cost: the peers' gaps are to our proven bound too")
    peers = {
        name: _peer(report, name, solver(problem, limit_s), best) for name, solver in PEERS.items()
    }
    report.extra["worst"] = {name: _number(one) for name, one in peers.items()}
    return {
        "ours": _number(gap),
        "peer": _number(min(peers.values())),
        "seconds": round(ours.seconds, 2),
        "n": 1,
    }


def _bound(problem: AssignmentProblem, limit_s: float) -> int:
    return math.ceil(solve_assignment(problem, time_limit_s=limit_s).bound)


def _ours(
    report: Report, name: str, problem: AssignmentProblem, best: int | None, limit_s: float
) -> tuple[Found, float]:
    """Solve, check, print, and return the gap in percent."""
    begun = time.perf_counter()
    solution = solve_assignment(problem, time_limit_s=limit_s)
    seconds = time.perf_counter() - begun
    if solution.assignment is not None:
        assert faults(problem, solution.assignment) == []
        tasks = np.arange(len(solution.assignment))
        assert problem.costs[tasks, solution.assignment].sum() == solution.objective
    certified = "no certificate"
    if solution.certificate is not None:
        assert solution.certificate.check(problem) == []
        certified = f"certified {solution.certificate.bound:.2f}"
    reference = math.ceil(solution.bound) if best is None else best
    gap = _gap(solution.objective, reference)
    report.line(
        f"{name:<10} {reference:>6}  {'ours':<8} {_text(solution.objective)} {gap:8.3f} %"
        f" {seconds:6.2f} s  {solution.status}, {solution.rung}, {certified}"
    )
    return Found(solution.objective, seconds), gap


def _peer(report: Report, name: str, found: Found, best: int) -> float:
    gap = _gap(found.objective, best)
    report.line(
        f"{'':<10} {'':>6}  {name:<8} {_text(found.objective)} {gap:8.3f} % {found.seconds:6.2f} s"
    )
    return gap


def _head(report: Report) -> None:
    report.line(f"{'instance':<10} {'best':>6}  {'solver':<8} {'found':>6} {'gap':>10} {'time':>8}")


def _text(objective: int | None) -> str:
    return f"{'none' if objective is None else objective:>6}"


def _gap(objective: int | None, best: int) -> float:
    return math.inf if objective is None else 100.0 * (objective - best) / best


def _number(gap: float) -> float | None:
    """Return a figure that JSON has; None where nothing was found."""
    return round(gap, 4) if math.isfinite(gap) else None


def best_known() -> dict[Path, int]:
    """Return the instances of the reference data with the best known cost of each."""
    usual = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("AIOS_REFERENCE_DATA", usual)) / "gap"
    if not folder.is_dir():
        raise SystemExit(f"no reference data in {folder}; AIOS_REFERENCE_DATA names the folder")
    with (folder / "best_known.csv").open() as lines:
        return {
            folder / row["Path"]: int(row["Best known solution value"])
            for row in csv.DictReader(lines)
        }


def cp_sat(problem: AssignmentProblem, limit_s: float) -> Found:
    """Solve the plain model: one boolean for each pair, two workers."""
    from ortools.sat.python import cp_model

    begun = time.perf_counter()
    tasks, nodes = problem.size
    model = cp_model.CpModel()
    pairs = [[model.new_bool_var("") for _ in range(nodes)] for _ in range(tasks)]
    for row in pairs:
        model.add_exactly_one(row)
    for node in range(nodes):
        column = [row[node] for row in pairs]
        load = cp_model.LinearExpr.weighted_sum(column, problem.demands[:, node].tolist())
        model.add(load <= int(problem.capacities[node]))
    every = [pair for row in pairs for pair in row]
    model.minimize(cp_model.LinearExpr.weighted_sum(every, problem.costs.ravel().tolist()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    solver.parameters.max_time_in_seconds = limit_s
    status = solver.solve(model)
    has_one = status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
    seconds = time.perf_counter() - begun
    return Found(round(solver.objective_value) if has_one else None, seconds)


def highs(problem: AssignmentProblem, limit_s: float) -> Found:
    """Solve the ILP by branch and cut."""
    import highspy

    begun = time.perf_counter()
    tasks, nodes = problem.size
    cells = tasks * nodes
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = cells, tasks + nodes
    program.col_cost_ = problem.costs.ravel().astype(float)
    program.col_lower_, program.col_upper_ = np.zeros(cells), np.ones(cells)
    program.integrality_ = [highspy.HighsVarType.kInteger] * cells
    program.row_lower_ = np.concatenate([np.ones(tasks), np.full(nodes, -np.inf)])
    program.row_upper_ = np.concatenate([np.ones(tasks), problem.capacities.astype(float)])
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.arange(0, 2 * cells + 1, 2)
    rows = np.column_stack(
        [np.repeat(np.arange(tasks), nodes), tasks + np.tile(np.arange(nodes), tasks)]
    )
    program.a_matrix_.index_ = rows.ravel()
    program.a_matrix_.value_ = np.column_stack(
        [np.ones(cells), problem.demands.ravel().astype(float)]
    ).ravel()
    solver = highspy.Highs()  # type: ignore[no-untyped-call]  # it is published so
    solver.setOptionValue("output_flag", False)  # noqa: FBT003 - its only form
    solver.setOptionValue("time_limit", limit_s)
    solver.passModel(program)
    solver.run()
    info = solver.getInfo()
    has_one = info.primal_solution_status == 2  # feasible
    seconds = time.perf_counter() - begun
    return Found(round(info.objective_function_value) if has_one else None, seconds)


PEERS: dict[str, Callable[[AssignmentProblem, float], Found]] = {"CP-SAT": cp_sat, "HiGHS": highs}


if __name__ == "__main__":
    main()
