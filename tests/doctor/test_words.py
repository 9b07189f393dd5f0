"""What is said of a verdict, and what a failure's message gets from the comparison of the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import Allocation, Failure, NodeId, Placement
from jupyter_aios.training.doctor.explaining import explain
from jupyter_aios.training.doctor.places import Places
from jupyter_aios.training.doctor.standings import (
    Condition,
    Kind,
    Standing,
    Verdict,
    Waiting,
    Worker,
)
from jupyter_aios.training.doctor.vitals import NOBODY, Call, Line, Vitals
from jupyter_aios.training.doctor.words import tell
from tests.launching import Launchpad

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """\
for step in range(10):
    if dist.get_rank() == 0:
        dist.barrier()
    dist.all_reduce(x)
    loss.backward()
    for batch in loader: pass
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    pad = Launchpad(tmp_path)
    places = Allocation((Placement(0, NodeId("v0")), Placement(1, NodeId("v1"))))
    plan = pad.engine.plan(pad.job(SOURCE, nodes=2), places, 1)
    code = tmp_path / "jobs" / plan.job_id / "code"
    code.mkdir(parents=True)
    (code / "cell.py").write_text(SOURCE)
    return Places(plan, tmp_path / "jobs" / plan.job_id / "attempts" / "1")


def line(places: Places, number: int) -> Line:
    return Line(next(iter(places._origins)), number)  # noqa: SLF001 - its one file


def call(operation: str, at: Line, number: int = 5, what: str = "") -> Call:
    return Call(operation, "0", frozenset({0, 1}), number, what, at, 0, NOBODY)


def in_call(rank: int, one: Call) -> Standing:
    return Standing(rank, Condition.STILL, waiting=Waiting(one.line, one), entered={"0": one})


def test_a_place_is_named_by_cell_line_and_text(places: Places) -> None:
    assert places.show(line(places, 5)) == "Cell In[3], line 5 (`loss.backward()`)"
    assert places.show(Line()) == "an unknown line"
    assert places.show(Line("/elsewhere/train.py", 5)) == "/elsewhere/train.py, line 5"


def test_the_condition_around_a_call_is_told(places: Places) -> None:
    standings = {
        0: in_call(0, call("barrier", line(places, 3))),
        1: in_call(1, call("all_reduce", line(places, 4))),
    }
    told = tell(Verdict(Kind.MISMATCH, (0,), (1,)), standings, places)
    assert told.text == (
        "rank 0 holds the others up: it is in barrier at Cell In[3], line 3 (`dist.barrier()`),"
        " while rank 1 is in all_reduce at Cell In[3], line 4 (`dist.all_reduce(x)`)"
    )
    assert "line 3 stands under `if dist.get_rank() == 0`" in told.hint


def test_a_stopped_rank_is_told_with_the_line_where_it_was_last_seen(places: Places) -> None:
    waiting = in_call(1, call("all_reduce", line(places, 4)))
    frozen = Standing(0, Condition.FROZEN, step=7, line=line(places, 5))
    told = tell(Verdict(Kind.FROZEN, (0,), (1,)), {0: frozen, 1: waiting}, places)
    assert told.text.startswith(
        "rank 0 holds the others up: it is stopped (SIGSTOP) after step 7, last seen at Cell In[3],"
        " line 5 (`loss.backward()`); rank 1 waits in all_reduce at Cell In[3], line 4"
    )
    assert told.where == "Cell In[3], line 5 (`loss.backward()`)"
    unseen = Standing(0, Condition.FROZEN)
    told = tell(Verdict(Kind.FROZEN, (0,), (1,)), {0: unseen, 1: waiting}, places)
    assert told.where == "Cell In[3], line 4 (`dist.all_reduce(x)`)"


def test_a_loader_is_told_with_its_workers_line(places: Places) -> None:
    starved = Standing(
        0, Condition.STILL, line=line(places, 6), is_at_loader=True,
        worker=Worker(77, line(places, 5)),
    )  # fmt: skip
    told = tell(Verdict(Kind.LOADER, (0,)), {0: starved}, places)
    assert told.text.startswith("rank 0: it waits for its DataLoader at Cell In[3], line 6")
    assert "(process 77) waits for a lock" in told.text
    assert "line 5" in told.text


def vitals(current: Call | None, step: int = 3) -> Vitals:
    entered = (current,) if current else ()
    return Vitals(
        step, Line(), has_stepped_since=False, begun=5, current=current, has_raised=True,
        entered=entered, history=(),
    )  # fmt: skip


ABORTED = Failure(rank=0, kind="Signal", message="rank 0 was killed by SIGABRT")
CLOSED = Failure(rank=0, kind="RuntimeError", message="[gloo] Connection closed by peer [::1]:5")


def test_a_crash_that_came_of_different_shapes_says_which(places: Places) -> None:
    at = line(places, 4)
    ranks = {
        0: vitals(call("all_reduce", at, what="float32 [10]")),
        1: vitals(call("all_reduce", at, what="float32 [5]")),
        2: vitals(call("all_reduce", at, what="float32 [10]")),
    }
    told = explain(ABORTED, ranks, (), places)
    assert told is not None
    assert "rank 1 holds the others up: it is in all_reduce of float32 [5] at" in told.text
    assert "same shape" in told.hint


def test_a_lost_connection_names_the_rank_that_had_ended(places: Places) -> None:
    told = explain(CLOSED, {0: vitals(None), 1: vitals(None, step=9)}, (1,), places)
    assert told is not None
    assert "rank 1 holds the others up: it has ended its work after step 9" in told.text


@pytest.mark.parametrize(
    "failure",
    [
        Failure(rank=0, kind="ValueError", message="bad batch"),
        Failure(rank=None, kind="Deadline", message="rank 1 did not start"),
    ],
)
def test_a_failure_with_another_cause_is_left_as_it_is(places: Places, failure: Failure) -> None:
    assert explain(failure, {0: vitals(None), 1: vitals(None)}, (1,), places) is None


def test_ranks_in_the_same_call_explain_nothing(places: Places) -> None:
    one = vitals(call("all_reduce", line(places, 4)))
    assert explain(CLOSED, {0: one, 1: one}, (), places) is None
