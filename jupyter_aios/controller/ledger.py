"""The jobs as the store holds them; those that are not over also in memory.

Only this process writes the store, so the memory is never behind it. Twenty looks a second at
the running jobs then cost no query.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.core.states import JobState
from jupyter_aios.errors import StorageError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_aios.core.entities import Attempt, Job, JobId, UserId
    from jupyter_aios.core.policy import Member
    from jupyter_aios.core.ports import Store

log = logging.getLogger(__name__)

KNOWN_NAMES = 200
"""How many of a person's newest jobs are looked through for a name to offer or to number."""

_ACTIVE = tuple(state for state in JobState if not state.is_terminal)


class Ledger:
    """Every change of a job goes through here.

    `change` is held from the moment a job is looked at until what follows is stored, launch
    included: so a cancel meets a job that is queued or one that an engine can stop, nothing
    in between.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self.clock = clock
        self.change = threading.RLock()
        self.trouble = ""
        """Why the last write failed; empty after one that did not."""
        self.cancelling: set[JobId] = set()
        """Jobs whose engine was told to stop; the engine remembers it beyond this process."""
        self._live = {job.id: job for job in store.find_jobs(states=_ACTIVE)}
        self._waiting: dict[JobId, str] = {}
        self._idle: dict[JobId, str] = {}
        self._is_awake = threading.Event()

    def live(self, *states: JobState) -> list[Job]:
        """Return the jobs that are not over, or those of them in one of `states`."""
        jobs = list(self._live.values())
        return [job for job in jobs if not states or job.state in states]

    def job(self, job_id: JobId) -> Job | None:
        """Return the job as it is now; a waiting one says what it waits for."""
        job = self._live.get(job_id) or self.store.job(job_id)
        return None if job is None else self.with_reason(job)

    def with_reason(self, job: Job) -> Job:
        """Return the job with what it, or whoever kept its ranks, waits for at this moment."""
        if job.state is JobState.QUEUED and job.id in self._waiting:
            return replace(job, reason=self._waiting[job.id])
        if job.state is JobState.RUNNING and job.id in self._idle:
            return replace(job, reason=self._idle[job.id], is_idle=True)
        return job

    def explain_waiting(self, waiting: dict[JobId, str]) -> None:
        """Remember why each waiting job waits; this is worked out anew, so it is not stored."""
        self._waiting = waiting

    def explain_idle(self, job: Job, reason: str) -> None:
        """Remember that a running job's ranks have nothing to do, or with "" that they have."""
        if reason:
            self._idle[job.id] = reason
        else:
            self._idle.pop(job.id, None)

    def add(self, job: Job, member: Member) -> None:
        """Store a new job within the quotas of a member, and wake the loop.

        Raises:
            DeniedError: a quota does not allow it; nothing was stored.

        """
        with self.change, self._noting_trouble():
            self.store.add_job(job, member)
            self._live[job.id] = job
        self.wake()

    def move(self, job: Job, new: JobState, reason: str, **changes: object) -> Job:
        """Store one transition and return the job after it."""
        with self.change, self._noting_trouble():
            moved = self.store.transition(job.id, new, at=self.clock(), reason=reason, **changes)
            if moved.state.is_terminal:
                self._live.pop(job.id, None)
                self.cancelling.discard(job.id)
                self._idle.pop(job.id, None)
            else:
                self._live[job.id] = moved
        log.info("job %s (%s): %s: %s", job.id, job.name, new.value, reason)
        return moved

    def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace an attempt by (job, number)."""
        with self.change, self._noting_trouble():
            self.store.save_attempt(attempt)
            self._reload(attempt.job_id)

    def set_stalled(self, job: Job, *, is_stalled: bool) -> None:
        """Mark or unmark a job as stalled."""
        with self.change, self._noting_trouble():
            self.store.set_stalled(job.id, is_stalled=is_stalled)
            self._reload(job.id)

    def _reload(self, job_id: JobId) -> None:
        job = self.store.job(job_id)
        if job is not None and job_id in self._live:
            self._live[job_id] = job

    def wake(self) -> None:
        """Have the loop look now instead of at its next turn."""
        self._is_awake.set()

    def sleep(self, seconds: float) -> None:
        """Wait for `wake`, at most this long."""
        self._is_awake.wait(seconds)
        self._is_awake.clear()

    @contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        """Keep `trouble` true about the last write."""
        try:
            yield
        except StorageError as error:
            if not self.trouble:
                log.exception("the store cannot be written; trying again")
            self.trouble = error.message
            raise
        if self.trouble:
            log.info("the store can be written again")
        self.trouble = ""


def no_such_job(store: Store, key: str, owner: UserId) -> UnknownNameError:
    """Return the error for a job that is not there, or not there for `owner`: it is the same."""
    known = store.find_jobs(owner=owner, limit=KNOWN_NAMES)
    return UnknownNameError.among("job", key, (job.name for job in known))
