"""`doctor NAME`: the last verdict with all stacks, or that there is none."""

from __future__ import annotations

from typing import Any

from jupyter_aios.commands.verdicts import show_verdict
from jupyter_aios.core.events import Event, EventKind
from jupyter_aios.core.states import JobState
from tests.fake_client import FakeClient, job, record

HANG: dict[str, Any] = {
    "state": "hang", "kind": "lock", "rank": 1, "text": "rank 1 holds the others up: …",
    "hint": "give the wait a timeout", "stacks": {"0": "  File A", "1": "  File B"},
}  # fmt: skip


def verdict(**data: Any) -> Event:
    return Event(1, "1/agent.events", 0, 0.0, EventKind.VERDICT, data=data)


def shown(*events: Event, state: JobState = JobState.RUNNING) -> str:
    one = job(state, attempt=1, nodes=2)
    return repr(show_verdict(FakeClient(jobs_here=[one], replies=[(one, list(events))]), one))


def test_a_verdict_is_shown_with_the_stacks_of_all_ranks() -> None:
    assert shown(verdict(**HANG)).splitlines() == [
        "mnist: rank 1 holds the others up: …",
        "try: give the wait a timeout",
        "",
        "rank 0, the newest call first",
        "  File A",
        "",
        "rank 1, the newest call first",
        "  File B",
    ]


def test_a_verdict_that_is_over_says_so() -> None:
    over = verdict(state="over", kind="lock", rank=1, text="rank 1 goes on")
    text = shown(verdict(**HANG), over)
    assert "that is over: its ranks go on" in text
    text = shown(verdict(**HANG), state=JobState.FAILED)
    assert "now it is failed" in text


def test_without_a_verdict_the_ranks_steps_are_shown() -> None:
    assert shown(record(EventKind.STEP, step=5), record(EventKind.STEP, step=7)).splitlines() == [
        "mnist: no hang was found",
        "rank 0: 7 optimizer steps",
        "rank 1: 0 optimizer steps",
    ]
