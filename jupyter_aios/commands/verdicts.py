"""`doctor NAME`: what the hang doctor said last of a job, with the stacks of its ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind, output_stream
from jupyter_aios.core.states import JobState
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from jupyter_aios.client import Client
    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.events import Event

_BEHIND_EVERYTHING = 2**62


def show_verdict(client: Client, job: Job) -> Text:
    """Return the last verdict on the job's newest attempt; without one, its ranks' steps."""
    events = _read(client, job)
    verdicts = [event for event in events if event.kind is EventKind.VERDICT and event.data]
    told = next((e for e in reversed(verdicts) if e.data and e.data["state"] == "hang"), None)
    if told is None or told.data is None:
        return Text("\n".join([f"{job.name}: no hang was found", *_steps(job, events)]))
    data = told.data
    lines = [f"{job.name}: {data['text']}"]
    lines += [f"try: {data['hint']}"] if data.get("hint") else []
    if job.state is not JobState.RUNNING:
        lines.append(f"that was while it ran; now it is {job.state.value}")
    elif verdicts[-1] is not told:
        lines.append("that is over: its ranks go on")
    for rank, stack in data.get("stacks", {}).items():
        lines += ["", f"rank {rank}, the newest call first", stack]
    return Text("\n".join(lines))


def _steps(job: Job, events: list[Event]) -> list[str]:
    steps = {e.rank: e.data["step"] for e in events if e.kind is EventKind.STEP and e.data}
    return [
        f"rank {rank}: {steps.get(rank, 0)} optimizer steps" for rank in range(job.spec.world_size)
    ]


def _read(client: Client, job: Job) -> list[Event]:
    """Return the events of the newest attempt, without what its ranks printed."""
    cursor = {
        f"{attempt}/{output_stream(rank)}": _BEHIND_EVERYTHING
        for attempt in range(1, job.attempt + 1)
        for rank in range(job.spec.world_size)
    }
    found: list[Event] = []
    while True:
        batch = client.events(job.id, cursor, limit_bytes=2**22).batch
        if not batch.events:
            return found
        found += [event for event in batch.events if event.attempt == job.attempt]
        cursor = batch.cursor
