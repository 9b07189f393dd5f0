"""`%aios` without a verb: where one is, and what to type next. `status` has the details."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jupyter_aios.core.snapshot import job_row
from jupyter_aios.core.states import HOLDING, JobState
from jupyter_aios.core.units import format_bytes, format_duration
from jupyter_aios.widgets.text.table import Text, aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.entities import Job, Node
    from jupyter_aios.core.wire import Hello

_LIVE = tuple(state for state in JobState if not state.is_terminal)
_OVER = tuple(state for state in JobState if state.is_terminal)
_SHOWN_JOBS = 5
_SHOWN_WORDS = 60
_LOW_DISK_BYTES = 2**30

Line = list[str]
"""What, how it is, and what to type."""


def show_here(place: Place) -> Text:
    """Return at most a dozen lines: nodes, jobs with the command for each, what to begin with."""
    place.warm_up()
    client = place.client
    hello, nodes = client.hello(), client.nodes()
    live, over = client.jobs(states=_LIVE), client.jobs(states=_OVER, limit=1)
    now, prefix = time.time(), place.prefix
    is_notebook = place.namespace is not None
    # A name means the newest job of that name, so the last one is offered only by its own.
    last = [job for job in over if job.name not in {other.name for other in live}]
    lines = [
        ["nodes", _nodes(nodes, live), ""],
        *_running(live, now, prefix, is_notebook=is_notebook),
        *[["last", _ended(job, now), _after(job, prefix)] for job in last],
        ["next", *_next(nodes, live, prefix, is_notebook=is_notebook, is_first=not live + over)],
        *[["trouble", *one] for one in _trouble(hello, prefix)],
    ]
    shown = aligned([["", "", ""], *lines]).lstrip("\n")
    return Text(f"{shown}\n\n{prefix} status says more, {prefix} -h lists what can be typed")


def _nodes(nodes: Sequence[Node], live: Sequence[Job]) -> str:
    busy = _busy(live)
    free = sum(node.id not in busy for node in nodes)
    kind = " virtual" if nodes and all(node.is_virtual for node in nodes) else ""
    gpus = sum(len(node.devices) for node in nodes)
    return f"{free} of {len(nodes)}{kind} nodes free, {f'{gpus} GPUs' if gpus else 'no GPU'}"


def _busy(live: Sequence[Job]) -> set[str]:
    return {node for job in live if job.allocation for node in job.allocation.nodes}


def _running(live: Sequence[Job], now: float, prefix: str, *, is_notebook: bool) -> Iterator[Line]:
    # What holds nodes first: it is what one waits for.
    for job in sorted(live, key=lambda job: job.state not in HOLDING)[:_SHOWN_JOBS]:
        row = job_row(job, now)
        state = "stalled" if row.is_stalled else "kept" if row.is_idle else row.state
        words = f"{row.name} is {state}"
        words += f" for {row.elapsed}" + (f" on {row.where}" if row.where else "")
        if job.state not in HOLDING:
            words += f": {row.reason.partition(chr(10))[0][:_SHOWN_WORDS]}"
        look = f"%%aios_train --on {row.name}" if row.is_idle and is_notebook else ""
        yield ["job", words, look or f"{prefix} attach {row.name}"]
    if len(live) > _SHOWN_JOBS:
        yield ["", f"and {len(live) - _SHOWN_JOBS} more", f"{prefix} jobs"]


def _ended(job: Job, now: float) -> str:
    ago = format_duration(now - (job.ended_at or now))
    words = f"{job.name} {'was ' * (job.state is JobState.CANCELLED)}{job.state.value} {ago} ago"
    if job.state is JobState.FAILED:
        words += f": {job.reason.partition(chr(10))[0][:_SHOWN_WORDS]}"
    return words


def _after(job: Job, prefix: str) -> str:
    verbs = {
        JobState.SUCCEEDED: ("pull", "rerun") if job.spec.pull else ("attach", "rerun"),
        JobState.FAILED: ("attach",),
    }.get(job.state, ("attach", "rerun"))
    return " · ".join(f"{prefix} {verb} {job.name}" for verb in verbs)


def _next(
    nodes: Sequence[Node], live: Sequence[Job], prefix: str, *, is_notebook: bool, is_first: bool
) -> tuple[str, str]:
    busy = _busy(live)
    count = sum(node.id not in busy for node in nodes) or len(nodes)
    name = " --name first" if is_first else ""
    if is_notebook:
        return "begin a cell that trains with", f"%%aios_train --nodes {count}{name}"
    return "run a script on ranks with", f"{prefix} submit train.py --nodes {count}{name}"


def _trouble(hello: Hello, prefix: str) -> Iterator[tuple[str, str]]:
    if hello.trouble:
        yield hello.trouble.partition("\n")[0], f"{prefix} doctor"
    if hello.free_bytes < _LOW_DISK_BYTES:
        left = f"{format_bytes(hello.free_bytes)} are free at {hello.home}"
        yield left, f"{prefix} prune --older-than 7d"
    if any(": failed" in line for line in hello.warm):
        yield "a warm process could not start", f"{prefix} doctor"
