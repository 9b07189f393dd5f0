"""A store without a database, held to the same contract as the real one."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import Job, Transition
from jupyter_aios.core.states import JobState, check_transition
from jupyter_aios.errors import StateError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.core.entities import Attempt, JobId, Node, UserId
    from jupyter_aios.core.ports import AuditRow

_CHANGES = frozenset({"attempt", "started_at", "ended_at", "allocation", "is_stalled"})


class MemoryStore:
    """Implements `core.ports.Store` in memory; entities are frozen, so dicts of them are enough.

    Example:
        >>> from jupyter_aios.testing.examples import example_job
        >>> store = MemoryStore()
        >>> store.add_job(example_job())
        >>> [step.new.value for step in store.history(example_job().id)]
        ['queued']

    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._jobs: dict[JobId, Job] = {}
        self._history: dict[JobId, list[Transition]] = {}
        self._nodes: dict[str, tuple[Node, ...]] = {}
        self._audit: list[AuditRow] = []

    def add_job(self, job: Job) -> None:
        """Remember a new job and its first transition."""
        first = Transition(job.id, None, job.state, job.submitted_at, job.attempt, job.reason)
        with self._lock:
            if job.id in self._jobs:
                raise StateError(f"there is a job {job.id} already", hint="submit it again")
            self._jobs[job.id] = job
            self._history[job.id] = [first]

    def job(self, job_id: JobId) -> Job | None:
        """Return the job with its attempts, oldest first, or None."""
        with self._lock:
            return self._jobs.get(job_id)

    def find_jobs(
        self,
        *,
        owner: UserId | None = None,
        name: str | None = None,
        states: Iterable[JobState] | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the jobs that match, newest first, with their attempts."""
        wanted = frozenset(JobState if states is None else states)
        with self._lock:
            found = [
                job
                for job in self._jobs.values()
                if owner in (None, job.owner) and name in (None, job.name) and job.state in wanted
            ]
        found.sort(key=lambda job: (job.submitted_at, job.id), reverse=True)
        return found[:limit]

    def transition(
        self,
        job_id: JobId,
        new: JobState,
        *,
        at: float,
        reason: str,
        **changes: Any,  # noqa: ANN401 - fields of Job
    ) -> Job:
        """Move a job to `new`, change the named fields of `Job`, and return it."""
        if not changes.keys() <= _CHANGES:
            wrong = ", ".join(sorted(changes.keys() - _CHANGES))
            raise TypeError(f"transition() cannot change {wrong}")
        with self._lock:
            old = self._known(job_id)
            check_transition(old.state, new)
            job = replace(old, state=new, reason=reason, **changes)
            self._jobs[job_id] = job
            self._history[job_id].append(
                Transition(job_id, old.state, new, at, job.attempt, reason)
            )
            return job

    def set_stalled(self, job_id: JobId, *, is_stalled: bool) -> None:
        """Mark or unmark a job as stalled; its state stays."""
        with self._lock:
            self._jobs[job_id] = replace(self._known(job_id), is_stalled=is_stalled)

    def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace an attempt by (job, number)."""
        with self._lock:
            job = self._known(attempt.job_id)
            attempts = {other.number: other for other in job.attempts} | {attempt.number: attempt}
            ordered = tuple(attempts[number] for number in sorted(attempts))
            self._jobs[job.id] = replace(job, attempts=ordered)

    def history(self, job_id: JobId) -> tuple[Transition, ...]:
        """Return the job's transitions, oldest first."""
        with self._lock:
            return tuple(self._history.get(job_id, ()))

    def remove_jobs(self, job_ids: Sequence[JobId]) -> None:
        """Forget jobs with their attempts and transitions; the audit stays."""
        with self._lock:
            for job_id in job_ids:
                self._jobs.pop(job_id, None)
                self._history.pop(job_id, None)

    def save_nodes(self, engine: str, nodes: Sequence[Node]) -> None:
        """Replace the nodes of one engine."""
        with self._lock:
            self._nodes[engine] = tuple(nodes)

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, ordered by id."""
        with self._lock:
            pairs = [(node.id, engine, node) for engine, ns in self._nodes.items() for node in ns]
        return tuple(node for _, _, node in sorted(pairs, key=lambda pair: pair[:2]))

    def add_audit(self, row: AuditRow) -> None:
        """Append to the audit."""
        with self._lock:
            self._audit.append(row)

    def audit(self, limit: int) -> list[AuditRow]:
        """Return the newest rows, newest first."""
        with self._lock:
            return self._audit[::-1][:limit]

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _known(self, job_id: JobId) -> Job:
        if job_id not in self._jobs:
            raise UnknownNameError.among("job", job_id, self._jobs)
        return self._jobs[job_id]
