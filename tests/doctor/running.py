"""Many jobs at once, and what became of each."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import StopReason
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_aios.core.events import Event
    from jupyter_aios.core.ports import AttemptRef
    from tests.doctor.programs import Hang
    from tests.launching import Launchpad

PATIENCE_S = 90.0
"""From the launch; on a busy machine the start alone takes its time."""
PROMISE_S = 15.0


@dataclass(frozen=True)
class Seen:
    """What was told of a job."""

    verdict: dict[str, Any] | None = None
    seconds: float = 0.0
    """From the rank's word that it begins until the verdict."""
    failure: str = ""
    outcome: Outcome | None = None
    is_over: bool = True
    """Of a hang that the test itself ended: whether that was told too."""
    printed: str = ""


def run_all(jobs: Sequence[Callable[[], Seen]], at_once: int) -> list[Seen]:
    """Run jobs, some at once, and return what was seen of each in their order."""
    with ThreadPoolExecutor(at_once) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def watch_hang(pad: Launchpad, hang: Hang) -> Seen:
    """Run a job that hangs or fails; return when something is said of it, and end it."""
    ref = pad.run(hang.source, nodes=hang.world)
    end = time.monotonic() + PATIENCE_S
    has_stopped = False
    while time.monotonic() < end:
        events = pad.events(ref)
        if hang.fault.is_stopped and not has_stopped and _said_now(events):
            os.kill(_pid(events, hang.culprit), signal.SIGSTOP)
            has_stopped = True
        verdict = _verdict(events)
        status = pad.engine.status(ref)
        if verdict is not None or status.phase is AttemptPhase.ENDED:
            break
        time.sleep(0.2)
    is_over = not has_stopped or _goes_on(pad, ref, _pid(events, hang.culprit))
    pad.engine.stop(ref, StopReason.CANCELLED)
    pad.wait(ref)
    if verdict is not None:
        begun = _said_now(events) or verdict.at
        seconds = verdict.at - begun
        return Seen(verdict=dict(verdict.data or {}), seconds=seconds, is_over=is_over)
    failure = status.failure.message if status.failure else ""
    return Seen(failure=failure, outcome=status.outcome)


def watch_healthy(pad: Launchpad, source: str, world: int) -> Seen:
    """Run a job that is only slow to its end."""
    ref = pad.run(source, nodes=world)
    status = pad.wait(ref, deadline_s=2 * PATIENCE_S)
    events = pad.events(ref)
    verdict = _verdict(events)
    return Seen(
        verdict=dict(verdict.data or {}) if verdict else None,
        failure=f"{status.failure.message}\n{status.failure.traceback}" if status.failure else "",
        outcome=status.outcome,
        printed="".join(event.text for event in events),
    )


def fault_of(hang: Hang, seen: Seen) -> str:
    """Return what is wrong with what was said of a hang; nothing where it is right."""
    told = seen.verdict
    if hang.fault.fails:
        # gloo may hang instead, and then there is a verdict.
        text = seen.failure if told is None else str(told["text"])
        wanted = [f"rank {hang.culprit} holds the others up", hang.line]
        missing = [words for words in wanted if words not in text]
        return f"{missing} not in {text!r}" if missing else ""
    if told is None:
        return f"no verdict: {seen.outcome or 'it goes on'} {seen.failure}"
    faults = []
    if told["kind"] not in hang.fault.kinds or told["rank"] != hang.culprit:
        faults.append(f"{told['kind']} of rank {told['rank']}, not of {hang.culprit}")
    if hang.line not in told["text"]:
        faults.append(f"{hang.line} is not named")
    if hang.fault.is_stopped and not any(place in told["text"] for place in hang.seen):
        faults.append("where it was last seen is not named")
    if not seen.is_over:
        faults.append("its end was not told")
    if seen.seconds > PROMISE_S:
        faults.append(f"after {seen.seconds:.1f} s")
    return f"{'; '.join(faults)}: {told['text']}" if faults else ""


def _goes_on(pad: Launchpad, ref: AttemptRef, pid: int) -> bool:
    """Let a stopped rank go on; return whether the end of the hang was told."""
    os.kill(pid, signal.SIGCONT)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if _verdict(pad.events(ref), "over") is not None:
            return True
        time.sleep(0.2)
    return False


def _verdict(events: Sequence[Event], state: str = "hang") -> Event | None:
    told = (event for event in events if event.kind is EventKind.VERDICT and event.data)
    return next((event for event in told if event.data and event.data["state"] == state), None)


def _said_now(events: Sequence[Event]) -> float:
    return next((event.at for event in events if "now" in event.text), 0.0)


def _pid(events: Sequence[Event], rank: int) -> int:
    return next(
        int(event.data["pid"])
        for event in events
        if event.kind is EventKind.PHASE and event.rank == rank and event.data
    )
