"""The loop: looks at what runs, places what waits, and carries both out through the engines.

It decides nothing by itself: `verdict` says what a status means, `scheduling.decide` who starts.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jupyter_aios.controller.launching import WAITS
from jupyter_aios.controller.verdict import verdict
from jupyter_aios.core.cells import release_reason
from jupyter_aios.core.entities import Attempt, Failure, StopReason
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, Outcome
from jupyter_aios.core.states import HOLDING, JobState
from jupyter_aios.core.units import format_duration
from jupyter_aios.errors import LockedError, StorageError
from jupyter_aios.scheduling.queue import decide, nodes_for
from jupyter_aios.scheduling.room import launch_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jupyter_aios.controller.launching import Launching
    from jupyter_aios.controller.ledger import Ledger
    from jupyter_aios.core.entities import Allocation, Job, JobId, Node
    from jupyter_aios.core.ports import Engine

log = logging.getLogger(__name__)

ACTIVE_POLL_S = 0.05
"""While a job starts: a person waits for it."""
RUNNING_POLL_S = 0.1
IDLE_POLL_S = 1.0
TROUBLE_POLL_S = 1.0
PATIENCE_S = 30.0
"""How long an engine may fail to tell a job's status before the job is given up: a moment
without file descriptors must not end a day of training."""


class Loop:
    """One thread that moves jobs along. `tick` is one turn, for tests too."""

    def __init__(
        self,
        ledger: Ledger,
        engines: Mapping[str, Engine],
        nodes: Callable[[], tuple[Node, ...]],
        launching: Launching,
    ) -> None:
        self._ledger = ledger
        self._engines = engines
        self._nodes = nodes
        self._launching = launching
        self._adopted: set[AttemptRef] = set()
        self._silent_since: dict[JobId, float] = {}
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    def start(self) -> None:
        """Take over what an earlier controller left, then run until `close`."""
        self.adopt()
        self._thread.start()

    def close(self) -> None:
        """End the thread; jobs go on. Does not return before the turn in hand is over."""
        self._is_closing = True
        self._ledger.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def adopt(self) -> None:
        """Make sure that no launch of an earlier controller is still under way.

        After that an attempt is either claimed, and goes on, or absent for ever, and the job is
        started again: never twice at once.
        """
        for job in self._ledger.live(*HOLDING):
            self._adopted.add(ref_of(job))
            self._guarded(job, partial(self._fence, job))

    def tick(self) -> None:
        """Do one turn: look at all that runs, then place what waits."""
        for job in self._ledger.live(*HOLDING):
            self._guarded(job, partial(self._look_at, job))
        for job in self._ledger.live(JobState.PREEMPTED):
            self._guarded(job, partial(self._move, job, JobState.QUEUED, "waits to go on"))
        self._place_waiting()
        self._launching.reconcile(self._ledger.live(*HOLDING))

    def _run(self) -> None:
        while not self._is_closing:
            try:
                self.tick()
            except Exception:  # the loop is the last to go: a bad turn must not be its end
                log.exception("a turn of the loop failed")
                self._ledger.sleep(TROUBLE_POLL_S)
            self._ledger.sleep(self._pause_s())

    def _pause_s(self) -> float:
        states = {job.state for job in self._ledger.live(*HOLDING)}
        if self._ledger.trouble or not states:
            return IDLE_POLL_S
        return RUNNING_POLL_S if states == {JobState.RUNNING} else ACTIVE_POLL_S

    def _guarded(self, job: Job, act: Callable[[], object]) -> None:
        """Do something for one job so that its trouble stays its own; a later turn repeats it."""
        try:
            act()
        except StorageError:
            # Nothing has changed, so nothing is lost; the ledger has said it once already.
            log.debug("job %s stays as it is for now", job.id, exc_info=True)
        except Exception:  # one job's bug must not stop the others
            log.exception("job %s (%s) stays as it is for now", job.id, job.name)

    # ---------------------------------------------------------------- what runs

    def _look_at(self, seen: Job) -> None:
        try:
            status = self._engine(seen).status(ref_of(seen))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about this job only
            self._note_silence(seen, error)
            return
        self._silent_since.pop(seen.id, None)
        with self._ledger.change:
            job = self._still(seen)
            if job is None:
                return
            result = verdict(
                job,
                status,
                now=self._ledger.clock(),
                is_cancelled=job.id in self._ledger.cancelling,
                is_adopted=ref_of(job) in self._adopted,
            )
            if result.attempt is not None:
                # Before the moves: after a crash in between, the job is still looked at.
                self._ledger.save_attempt(result.attempt)
            for move in result.moves:
                job = self._move(job, move.state, move.reason, **move.changes)
            if job.state is JobState.RUNNING and job.spec.keep_idle_s is not None:
                idle = f"kept, idle; {release_reason(job.spec.keep_idle_s)}"
                self._ledger.explain_idle(job, idle if status.is_idle else "")
            if job.state is JobState.RUNNING and job.is_stalled != status.is_stalled:
                self._ledger.set_stalled(job, is_stalled=status.is_stalled)

    def _note_silence(self, seen: Job, error: Exception) -> None:
        now = self._ledger.clock()
        since = self._silent_since.setdefault(seen.id, now)
        if since == now:
            log.error("no status of job %s (%s)", seen.id, seen.name, exc_info=error)
        if now - since < PATIENCE_S:
            return
        with self._ledger.change:
            job = self._still(seen)
            if job is not None:
                # The nodes are given to others now: do what can be done to empty them.
                self._guarded(job, partial(self._stop, job))
                patience = format_duration(PATIENCE_S)
                reason = f"engine {job.spec.engine!r} told nothing of it for {patience}: {error}"
                self._fail(job, reason, error)
        self._silent_since.pop(seen.id, None)

    def _still(self, seen: Job) -> Job | None:
        """The job as it is now, unless it has left the attempt that was looked at."""
        now = {job.id: job for job in self._ledger.live(*HOLDING)}.get(seen.id)
        return now if now is not None and now.attempt == seen.attempt else None

    def _move(self, job: Job, new: JobState, reason: str, **changes: object) -> Job:
        if new not in HOLDING:
            changes |= {"allocation": None, "is_stalled": False}
        if new is JobState.QUEUED:
            changes |= {"started_at": None}
        if new.is_terminal:
            changes.setdefault("ended_at", self._ledger.clock())
        return self._ledger.move(job, new, reason, **changes)

    # ---------------------------------------------------------------- what waits

    def _place_waiting(self) -> None:
        with self._ledger.change:
            queued = self._ledger.live(JobState.QUEUED)
            locked = {job.id: why for job in queued if (why := self._launching.why_wait(job))}
            # These hold nobody up: whoever could unlock may be asleep.
            queue = [job for job in queued if job.id not in locked]
            nodes = self._nodes() if queue else ()
            decisions = decide(queue, nodes, self._ledger.live(*HOLDING))
            self._ledger.explain_waiting(decisions.waiting | locked)
            jobs = {job.id: job for job in queue}
            for placing in decisions.placings:
                job = jobs[placing.job_id]
                self._guarded(job, partial(self._launch, job, placing.allocation, nodes))

    def _launch(self, job: Job, allocation: Allocation, nodes: Sequence[Node]) -> None:
        wrong = self._faults(job, allocation, nodes)
        if wrong:
            raise RuntimeError(f"a placement was not feasible and is not launched: {wrong}")
        placed = self._ledger.move(
            job,
            JobState.PLACED,
            f"placed on {', '.join(allocation.nodes)}",
            allocation=allocation,
            attempt=job.attempt + 1,
        )
        engine = self._engine(placed)
        try:
            plan = engine.plan(placed, allocation, placed.attempt)
            start = engine.launch(*self._launching.complete(placed, plan))
        except LockedError:
            # Between the look at the queue and here; its turn comes again.
            self._move(placed, JobState.QUEUED, WAITS)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about this job only
            self._refuse(placed, error)
            return
        self._ledger.save_attempt(
            Attempt(placed.id, placed.attempt, started_at=self._ledger.clock(), start=start)
        )
        self._ledger.move(placed, JobState.STARTING, f"handed to an agent, start: {start}")

    def _faults(self, job: Job, allocation: Allocation, nodes: Sequence[Node]) -> list[str]:
        offered = nodes_for(job.spec, nodes)
        return launch_faults(job.spec, offered, self._ledger.live(*HOLDING), allocation)

    def _refuse(self, job: Job, error: Exception) -> None:
        """End a job that could not be handed over; leave one whose agent lives all the same."""
        log.error("job %s (%s) cannot be started", job.id, job.name, exc_info=error)
        engine = self._engine(job)
        engine.fence(ref_of(job))
        if engine.status(ref_of(job)).phase is AttemptPhase.ABSENT:
            self._fail(job, f"it could not be started: {error}", error)

    def _fail(self, job: Job, reason: str, error: Exception) -> None:
        now = self._ledger.clock()
        known = {attempt.number: attempt for attempt in job.attempts}
        before = known.get(job.attempt, Attempt(job.id, job.attempt, started_at=now))
        failure = Failure(rank=None, kind=type(error).__name__, message=str(error))
        self._ledger.save_attempt(
            replace(before, ended_at=now, outcome=Outcome.FAILED.value, failure=failure)
        )
        self._move(job, JobState.FAILED, " ".join(reason.split()))

    def _fence(self, job: Job) -> None:
        self._engine(job).fence(ref_of(job))

    def _stop(self, job: Job) -> None:
        self._engine(job).stop(ref_of(job), StopReason.CANCELLED)

    def _engine(self, job: Job) -> Engine:
        return self._engines[job.spec.engine]


def ref_of(job: Job) -> AttemptRef:
    """Return the name of the job's current attempt."""
    return AttemptRef(job.id, job.attempt)
