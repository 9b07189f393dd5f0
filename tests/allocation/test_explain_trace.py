"""Explanations and questions of "what if" at the size of a production cluster."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks import _traces
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.explain import apply, explain, explain_all, what_if
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.prices import solve_prices
from jupyter_aios.allocation.problem import NO
from jupyter_aios.allocation.result import Allocation, Level

LEVELS = ("priority", "moves")
pytestmark = pytest.mark.skipif(
    not _traces.nodes_csv().exists(), reason="the reference data are not here"
)


@cache
def allocation() -> Allocation:
    """Return a greedy placement of the whole trace with the prices of a bound."""
    trace = _traces.read_trace(_traces.nodes_csv(), _traces.tasks_csv("default"))
    problem = trace.problem(np.arange(len(trace.gpus)))
    placed = sorted_greedy(problem, LEVELS, "best-fit", Effort.of(60.0))
    assert placed is not None
    values = evaluate(problem, placed.assignment, placed.devices, LEVELS)
    prices = solve_prices(problem, LEVELS, Effort.of(60.0))
    levels = tuple(Level(name, value, None) for name, value in zip(LEVELS, values, strict=True))
    return Allocation(
        problem, placed.assignment, placed.devices, levels, "best-fit", 0.0, certificate=prices
    )


def test_every_left_out_task_is_in_one_group_and_has_verified_fixes() -> None:
    found = allocation()
    groups = explain_all(found, most=1000)
    assert sorted(i for group in groups for i in group.tasks) == found.unplaced.tolist()
    for group in groups[:6]:
        one = explain(found, group.tasks[0])
        assert one.sentence.startswith(group.explanation.sentence)
        assert one.fixes
        for fix in one.fixes:
            changed = apply(found.problem, fix.change)
            assert not faults(changed, fix.placed.assignment, fix.placed.devices)
            assert fix.placed.assignment[group.tasks[0]] != NO


def test_more_nodes_are_worth_what_runs_on_them_and_at_most_what_is_said() -> None:
    found = allocation()
    answer = what_if(found, add_nodes={"G2": 4}, time_limit_s=30.0)
    after = answer.after
    assert not faults(after.problem, after.assignment, after.devices)
    gained = np.flatnonzero(after.assignment >= len(found.problem.nodes))
    assert len(gained)
    assert after.bound is not None
    assert found.certificate is not None
    assert found.objective < after.objective <= after.bound
    # Prices know what four more nodes can be worth, not only what all tasks are.
    assert after.bound < found.certificate.bound * 1.01
