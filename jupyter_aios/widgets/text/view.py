"""Follows a job until it ends: its lines as they come, and one line on how it stands."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.core.snapshot import job_row
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import TrainingError
from jupyter_aios.widgets.text.screen import is_kernel_ending
from jupyter_aios.widgets.text.transcript import Bounded, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_aios.client import Client
    from jupyter_aios.core.entities import Job
    from jupyter_aios.widgets.text.screen import Screen

_WAIT_S = 1.0
"""A long poll ends at least as often, so that the elapsed time moves."""
_SHOWN_METRICS = 4
_SHOWN_PROGRESS = 60


class FollowInterrupt(KeyboardInterrupt):
    """The person interrupted; says what that did to the job, and ends the cell."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def _render_traceback_(self) -> list[str]:
        """Give IPython two lines: where in our code the interrupt struck says nothing."""
        return [f"Interrupted: {self.message}", f"hint: {self.hint}"]


def follow(
    client: Client,
    job: Job,
    screen: Screen,
    *,
    on_interrupt: str = "cancel",
    prefix: str = "%aios",
    only_rank: int | None = None,
) -> Job:
    """Show a job from its first line on, and return it when it has ended.

    Args:
        client: whom to ask.
        job: which.
        screen: where to show it.
        on_interrupt: `cancel` the job at Ctrl-C or the kernel's interrupt, or `detach` from it.
        prefix: what commands are typed after.
        only_rank: leave out what other ranks print.

    Raises:
        FollowInterrupt: the person interrupted. While the job is being cancelled, the next
            interrupt returns at once.

    """
    view = _View(client, job, screen, prefix, only_rank)
    try:
        return attend(
            client,
            job,
            view.run,
            lambda text: screen.write([text]),
            on_interrupt=on_interrupt,
            prefix=prefix,
        )
    finally:
        screen.close()


def attend(
    client: Client,
    job: Job,
    run: Callable[[], Job],
    tell: Callable[[str], None],
    *,
    on_interrupt: str,
    prefix: str,
) -> Job:
    """Return what `run` returns: the job at its end. An interrupt does what was asked for.

    Raises:
        FollowInterrupt: the person interrupted. While the job is being cancelled, the next
            interrupt returns at once.

    """
    try:
        return run()
    except KeyboardInterrupt:
        name = job.name
        if on_interrupt == "detach":
            message, hint = f"{name} goes on without this cell", f"{prefix} attach {name}"
            raise FollowInterrupt(message, f"{hint}, or {prefix} cancel {name}") from None
        try:
            is_kernel_to_end = is_kernel_ending()
            if not is_kernel_to_end:
                client.cancel(job.id)
                tell(f"interrupted: {name} is being cancelled (again: do not wait for it)")
                job = run()
        except KeyboardInterrupt:
            client.cancel(job.id)  # harmless the second time; the first may not have been sent yet
            message = f"{name} is being cancelled"
            raise FollowInterrupt(message, f"{prefix} attach {name}") from None
        if is_kernel_to_end:
            message = f"{name} goes on without this kernel"
            raise FollowInterrupt(message, f"{prefix} attach {name}") from None
        state, reason = job.state.value, job.reason
        message = f"{name} is {state}" if reason == state else f"{name} is {state}: {reason}"
        raise FollowInterrupt(message, f"{prefix} logs {name}") from None


class _View:
    def __init__(
        self, client: Client, job: Job, screen: Screen, prefix: str, only_rank: int | None
    ) -> None:
        self._client = client
        self._job = job
        self._screen = screen
        self._transcript = Transcript(job.spec.world_size > 1, only_rank)
        self._bounded = Bounded(f"{prefix} logs {job.name}")
        self._cursor: dict[str, int] = {}
        self._seen: tuple[JobState, int] | None = None
        self._attempt = 0
        self._unwritten: list[str] = []

    def run(self) -> Job:
        """Show everything from where it stopped before; return the job at its end."""
        while True:
            state = self._seen[0] if self._seen else None
            reply = self._client.events(
                self._job.id,
                self._cursor,
                wait_s=0.0 if state is None or self._is_kept(state) else _WAIT_S,
                state=state,
            )
            job = self._job = reply.job
            self._unwritten += self._restart(job)
            lines = self._transcript.lines(reply.batch.events)
            self._cursor = reply.batch.cursor
            self._unwritten += self._bounded.admit(lines)
            is_over = job.state.is_terminal or self._is_kept(job.state)
            is_over = is_over and not reply.batch.events
            if is_over:
                self._unwritten += self._bounded.admit(self._transcript.rest())
                self._unwritten += self._bounded.end()
            if self._seen is None:
                self._screen.status(self.status(), is_news=True)  # a notebook keeps it on top
            # An interrupt in the middle of writing loses nothing: the next run writes it again.
            self._screen.write(self._unwritten)
            self._unwritten = []
            news = (job.state, job.attempt)
            is_news = is_over or self._seen not in {None, news}
            self._screen.status(self.status(), is_news=is_news)
            self._seen = news
            if is_over:
                return job

    def _is_kept(self, state: JobState) -> bool:
        """True where the ranks are kept and idle, and the controller knows that they run."""
        return self._transcript.is_idle and state is JobState.RUNNING

    def _restart(self, job: Job) -> list[str]:
        before, self._attempt = self._attempt, max(job.attempt, self._attempt)
        return [restart_note(self._client, job, before)] if 0 < before < job.attempt else []

    def status(self) -> str:
        """Return the job in one line."""
        told = self._transcript
        job = replace(self._job, is_idle=self._job.is_idle or told.is_idle)
        return status_line(job, time.time(), told.step, told.metrics, told.progress)


def restart_note(client: Client, job: Job, before: int) -> str:
    """Return why a job began its current attempt; `before` is the last one that was seen."""
    reasons = [
        step.reason
        for step in client.history(job.id)
        if step.new is JobState.QUEUED and before <= step.attempt < job.attempt
    ]
    return f"attempt {job.attempt}: {reasons[-1] if reasons else 'starting again'}"


def status_line(
    job: Job, now: float, step: int, metrics: Mapping[str, float], progress: str
) -> str:
    """Return a job in one line."""
    row = job_row(job, now)
    state = "stalled" if row.is_stalled else "kept, idle" if row.is_idle else row.state
    parts = [row.name, state]
    if row.where:
        ranks = "1 rank" if row.ranks == 1 else f"{row.ranks} ranks"
        parts.append(f"{ranks} on {row.where}")
    if row.attempt > 1:
        parts.append(f"attempt {row.attempt}")
    parts.append(row.elapsed)
    if step:
        parts.append(f"step {step}")
    shown = list(metrics.items())[:_SHOWN_METRICS]
    parts += [f"{name} {float(value):.4g}" for name, value in shown]
    if row.state != JobState.RUNNING.value and row.reason:
        parts.append(row.reason.partition("\n")[0])
    elif progress:
        parts.append(progress[:_SHOWN_PROGRESS])
    return " · ".join(parts)


def raise_failure(job: Job) -> None:
    """Return where the job did not fail.

    Raises:
        TrainingError: it failed; with the traceback of the first rank that did.

    """
    if job.state is not JobState.FAILED:
        return
    failure = job.attempts[-1].failure if job.attempts else None
    message = f"{job.name} failed: {job.reason or 'no reason is known'}"
    if failure is not None:
        told, _, hint = failure.message.partition("\nhint: ")
        # Of a rank's exception the reason may be a part; of an agent's end it says everything.
        if failure.rank is not None and told.partition("\n")[0] not in message:
            message += f"\nrank {failure.rank}: {told}"
        if failure.traceback:
            message += f"\n{failure.traceback}"
        raise TrainingError(message, hint=hint)
    raise TrainingError(message)
