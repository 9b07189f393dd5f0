from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jupyter_aios.core.entities import Attempt, Failure, JobId, Resources, Transition
from jupyter_aios.core.snapshot import (
    job_detail,
    job_row,
    node_rows,
    status,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import Hello, from_plain, to_plain
from tests.fake_client import job, node


@pytest.mark.parametrize(
    ("state", "times", "elapsed"),
    [
        (JobState.QUEUED, {}, "20 s"),
        (JobState.QUEUED, {"started_at": 1005.0}, "20 s"),
        (JobState.STARTING, {"started_at": None}, "20 s"),
        (JobState.RUNNING, {"started_at": 1005.0}, "15 s"),
        (JobState.SUCCEEDED, {"started_at": 1005.0, "ended_at": 1012.0}, "7.0 s"),
        (JobState.CANCELLED, {"ended_at": 1003.0}, "3.0 s"),
    ],
)
def test_elapsed_is_how_long_a_job_waits_runs_or_ran(
    state: JobState, times: dict[str, float | None], elapsed: str
) -> None:
    assert job_row(job(state, **times), now=1020.0).elapsed == elapsed


def test_a_clock_that_went_back_shows_no_negative_time() -> None:
    assert job_row(job(JobState.QUEUED), now=0.0).elapsed_s == 0


def test_few_nodes_are_named_and_many_are_counted() -> None:
    assert job_row(job(nodes=2), 1020.0).where == "v0, v1"
    assert job_row(job(nodes=16), 1020.0).where == "v0 … v15 (16 nodes)"


def test_a_job_that_is_over_is_not_stalled() -> None:
    assert job_row(job(is_stalled=True), 1020.0).is_stalled
    assert not job_row(job(JobState.FAILED, is_stalled=True), 1020.0).is_stalled


def test_nodes_show_what_running_jobs_leave() -> None:
    nodes = [node("v0", gpu_milli=2000), node("v1")]
    running = job(resources=Resources(cpu_milli=500, memory_bytes=2**31, gpu_milli=500))
    over = job(JobState.SUCCEEDED, allocation=running.allocation)
    first, second = node_rows(nodes, [running, over])
    assert (first.cpus, first.memory, first.gpus) == ("1.5 of 2", "2 GiB of 4 GiB", "1.5 of 2")
    assert (first.jobs, second.jobs) == (("mnist",), ())
    assert (second.cpus, second.gpus) == ("2 of 2", "")
    assert first.label == "v0 (virtual)"


def test_a_detail_tells_attempts_and_history_from_the_submission_on() -> None:
    key = JobId("x")
    failure = Failure(2, "ValueError", "bad\nmore", "Traceback")
    attempts = (
        Attempt(key, 1, 1005.0, 1009.0, "failed", "warm", None, (), failure),
        Attempt(key, 2, 1010.0, start="warm", resumed_step=16),
    )
    history = [Transition(key, None, JobState.QUEUED, 1000.0, 0, "submitted")]
    history.append(Transition(key, JobState.QUEUED, JobState.PLACED, 1004.0, 1, "placed on v0"))
    detail = job_detail(job(attempts=attempts), history, 1020.0)
    assert [row.failure for row in detail.attempts] == ["rank 2: bad", ""]
    assert [row.outcome for row in detail.attempts] == ["failed", "under way"]
    assert [row.resumed for row in detail.attempts] == ["", "step 16"]
    assert [row.after for row in detail.history] == ["0.0 s", "4.0 s"]


def test_the_status_counts_nodes_that_are_free() -> None:
    hello = Hello("0.1.0", 7, 1000.0, "/home", "ada", 1, 0, (), 2**30)
    seen = status(hello, [node("v0"), node("v1", gpu_milli=1000)], [job()], 1060.0)
    assert seen.nodes == "2 nodes (2 virtual), 1 free, no GPU"
    assert seen.counts == "1 running, 0 waiting"
    assert "up 1 min 00 s" in seen.controller


def test_rows_are_json_and_come_back() -> None:
    row = job_row(job(nodes=2), 1020.0)
    assert from_plain(type(row), json.loads(json.dumps(to_plain(row)))) == row
    again = job_row(replace(job(nodes=2)), 1020.0)
    assert again == row
