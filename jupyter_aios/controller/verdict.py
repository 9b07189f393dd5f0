"""What an attempt's status means for its job: a pure function from both to the next states."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jupyter_aios.core.cells import release_reason
from jupyter_aios.core.entities import Attempt, Failure, StopReason
from jupyter_aios.core.ports import AttemptPhase, Outcome
from jupyter_aios.core.states import JobState
from jupyter_aios.core.units import format_duration

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job, RankExit
    from jupyter_aios.core.ports import AttemptStatus

ABSENT = "absent"
"""Outcome of an attempt that no agent ever claimed: the job's code did not run."""
FENCED = "fenced"
"""The same, because the controller ended while it handed the attempt over."""
MAX_ABSENT = 3
_OF_THE_AGENT = frozenset({"Signal", "Exit", "Deadline", "Denied", "StartFailed"})
"""Kinds of failure whose message is a sentence already; the others are exceptions of a rank."""


@dataclass(frozen=True)
class Move:
    """One transition, and the fields of the job that change with it."""

    state: JobState
    reason: str
    changes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The transitions to make, in order, and the attempt's record where that has changed."""

    moves: tuple[Move, ...] = ()
    attempt: Attempt | None = None


def verdict(
    job: Job, status: AttemptStatus, *, now: float, is_cancelled: bool, is_adopted: bool
) -> Verdict:
    """Return what follows for a job that holds nodes from what its engine knows.

    `is_adopted`: an earlier controller has launched the attempt, or was about to.
    Applied again after a crash in the middle it leads to the same end.
    """
    if status.phase is AttemptPhase.ABSENT:
        attempt = replace(
            _record(job, status, ended_at=now), outcome=FENCED if is_adopted else ABSENT
        )
        is_cancelled = is_cancelled or status.stopped_for is StopReason.CANCELLED
        return Verdict((_begin_again(job, attempt, is_cancelled=is_cancelled),), attempt)
    moves: list[Move] = []
    if job.state is JobState.PLACED:
        moves.append(Move(JobState.STARTING, "an agent has the attempt"))
    has_run = status.phase is AttemptPhase.RUNNING or status.running_since is not None
    if has_run and job.state is not JobState.RUNNING:
        ranks = "the rank runs" if job.spec.world_size == 1 else "all ranks run"
        since = status.running_since or now
        moves.append(Move(JobState.RUNNING, ranks, {"started_at": since}))
    if status.phase is not AttemptPhase.ENDED:
        return Verdict(tuple(moves), _record(job, status) if moves else None)
    ended_at = status.ended_at or now
    attempt = _record(job, status, ended_at=ended_at)
    end = _end(job, status, is_cancelled=is_cancelled)
    moves.append(replace(end, changes={"ended_at": ended_at}) if end.state.is_terminal else end)
    return Verdict(tuple(moves), attempt)


def failure_sentence(status: AttemptStatus) -> str:
    """Return what went wrong first, in one line."""
    if status.outcome is Outcome.LOST:
        return "its agent was killed, and its ranks ended with it"
    if status.failure is not None:
        return _failure(status.failure)
    killed = next((item for item in status.exits if item.code != 0), None)
    return _exit(killed) if killed else "it failed without a word"


def may_restart(job: Job) -> bool:
    """Return whether one more failure is covered by --max-restarts."""
    ended = {attempt.number: attempt.outcome for attempt in job.attempts}
    # The attempt in hand counts whether its record has been stored already or not.
    ended[job.attempt] = Outcome.FAILED.value
    failures = sum(outcome in _FAILURES for outcome in ended.values())
    return failures <= job.spec.max_restarts


_FAILURES = frozenset({Outcome.FAILED.value, Outcome.LOST.value})


def _begin_again(job: Job, attempt: Attempt, *, is_cancelled: bool) -> Move:
    if is_cancelled:
        return Move(JobState.CANCELLED, "cancelled before a rank started")
    outcomes = {known.number: known.outcome for known in job.attempts}
    outcomes[attempt.number] = attempt.outcome
    absences = sum(outcome == ABSENT for outcome in outcomes.values())
    if absences >= MAX_ABSENT:
        return Move(JobState.FAILED, f"{absences} times no agent took the job; see controller.log")
    return Move(JobState.QUEUED, f"attempt {job.attempt} was never begun; starting again")


def _end(job: Job, status: AttemptStatus, *, is_cancelled: bool) -> Move:
    if status.outcome is Outcome.SUCCEEDED:
        return Move(JobState.SUCCEEDED, _success(job))
    if is_cancelled or status.stopped_for is StopReason.CANCELLED:
        return Move(JobState.CANCELLED, "cancelled")
    if status.stopped_for is StopReason.TIMEOUT:
        limit = format_duration(job.spec.timeout_s or 0)
        return Move(JobState.FAILED, f"it ran longer than --timeout allows ({limit})")
    if status.stopped_for is StopReason.PREEMPTED:
        return Move(JobState.PREEMPTED, "made room for a job of higher priority")
    sentence = failure_sentence(status)
    if may_restart(job):
        last = status.checkpoint_step
        step = "step 0: it has no checkpoint" if last is None else f"step {last + 1}"
        return Move(
            JobState.QUEUED, f"attempt {job.attempt} failed: {sentence}; restarting from {step}"
        )
    return Move(JobState.FAILED, sentence)


def _record(job: Job, status: AttemptStatus, ended_at: float | None = None) -> Attempt:
    known = {attempt.number: attempt for attempt in job.attempts}
    before = known.get(job.attempt)
    begun = before.started_at if before else (status.running_since or ended_at or job.submitted_at)
    return Attempt(
        job_id=job.id,
        number=job.attempt,
        started_at=begun,
        ended_at=ended_at,
        outcome=status.outcome.value if status.outcome else "",
        start=status.start or (before.start if before else ""),
        resumed_step=status.resumed_step,
        exits=status.exits,
        failure=status.failure,
    )


def _success(job: Job) -> str:
    ranks = job.spec.world_size
    if job.spec.keep_idle_s is not None:
        return release_reason(job.spec.keep_idle_s)
    return "the rank ended well" if ranks == 1 else f"all {ranks} ranks ended well"


def _failure(failure: Failure) -> str:
    line = next(iter(failure.message.strip().splitlines()), "")
    if failure.kind in _OF_THE_AGENT and line:
        return line
    who = "a rank" if failure.rank is None else f"rank {failure.rank}"
    return f"{who} raised {failure.kind}: {line}" if line else f"{who} raised {failure.kind}"


def _exit(killed: RankExit) -> str:
    if killed.code > 0:
        return f"rank {killed.rank} exited with code {killed.code}"
    try:
        name = signal.Signals(-killed.code).name
    except ValueError:
        name = f"signal {-killed.code}"
    cause = f" ({killed.cause})" if killed.cause else ""
    return f"rank {killed.rank} was killed by {name}{cause}"
