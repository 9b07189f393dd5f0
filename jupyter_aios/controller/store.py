"""The controller's memory in one database: jobs, attempts, transitions, nodes, people, audit.

What knows people is in `controller.people`, how quotas are kept in `controller.reservations`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from jupyter_aios.controller.people import SqlAccessStore
from jupyter_aios.controller.reservations import release, reserve
from jupyter_aios.controller.rows import (
    as_json,
    attempt_values,
    job_values,
    node_of,
    select_jobs,
    transition_of,
    transition_values,
)
from jupyter_aios.controller.tables import ATTEMPTS, JOBS, NODES, TRANSITIONS
from jupyter_aios.core.entities import Job, JobId, Transition
from jupyter_aios.core.states import JobState, check_transition
from jupyter_aios.errors import StateError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.core.entities import Attempt, Node, UserId
    from jupyter_aios.core.policy import Member


class SqlStore(SqlAccessStore):
    """Implements `core.ports.Store` with SQLAlchemy Core; `Database` says what `url` may be.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = SqlStore(f"sqlite:///{folder.name}/store.sqlite")
        >>> store.find_jobs()
        []
        >>> store.close(); folder.cleanup()

    """

    def add_job(self, job: Job, member: Member | None = None) -> None:
        """Remember a new job and its first transition (None → its state).

        What it takes of the quotas of `member` and of their groups is reserved in the same
        transaction; None reserves nothing and asks nobody.

        Raises:
            DeniedError: a quota does not allow it; nothing was stored.
            StateError: there is a job of that id.
            StorageError: the disk is full; nothing was stored.

        """
        first = Transition(job.id, None, job.state, job.submitted_at, job.attempt, job.reason)
        with self._writing() as connection:
            if connection.scalar(sa.select(JOBS.c.id).where(JOBS.c.id == job.id)):
                raise StateError(f"there is a job {job.id} already", hint="submit it again")
            connection.execute(JOBS.insert(), job_values(job))
            connection.execute(TRANSITIONS.insert(), transition_values(first))
            if job.attempts:
                connection.execute(ATTEMPTS.insert(), [*map(attempt_values, job.attempts)])
            if member is not None:
                reserve(connection, job, member)

    def job(self, job_id: JobId) -> Job | None:
        """Return the job with its attempts, oldest first, or None."""
        with self._reading() as connection:
            found = select_jobs(connection, sa.select(JOBS).where(JOBS.c.id == job_id))
        return found[0] if found else None

    def find_jobs(
        self,
        *,
        owner: UserId | None = None,
        name: str | None = None,
        states: Iterable[JobState] | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the jobs that match, newest first, with their attempts."""
        query = sa.select(JOBS).order_by(JOBS.c.submitted_at.desc(), JOBS.c.id.desc())
        if owner is not None:
            query = query.where(JOBS.c.owner == owner)
        if name is not None:
            query = query.where(JOBS.c.name == name)
        if states is not None:
            query = query.where(JOBS.c.state.in_([state.value for state in states]))
        with self._reading() as connection:
            return select_jobs(connection, query.limit(limit))

    def transition(
        self, job_id: JobId, new: JobState, *, at: float, reason: str, **changes: object
    ) -> Job:
        """Move a job to `new`, change the named fields of `Job`, and return it.

        `changes` are fields of Job among attempt, started_at, ended_at, allocation, is_stalled.
        Of many callers that ask for the same move, one succeeds. In a terminal state the
        GPU-hours that it ran are charged and its reservations end.

        Raises:
            StateError: core.states does not allow it from the state the store holds.
            UnknownNameError: there is no such job.

        """
        values = _columns(changes) | {"state": new.value, "reason": reason}
        # FOR UPDATE and SQLite's write lock do the same: nobody moves the job in between.
        query = sa.select(JOBS).where(JOBS.c.id == job_id).with_for_update()
        with self._writing() as connection:
            found = select_jobs(connection, query)
            if not found:
                raise self._unknown(connection, job_id)
            before = found[0]
            check_transition(before.state, new)
            connection.execute(JOBS.update().where(JOBS.c.id == job_id), values)
            # What was bound, not what was asked: the two differ where text had to be escaped.
            after = select_jobs(connection, sa.select(JOBS).where(JOBS.c.id == job_id))[0]
            step = Transition(job_id, before.state, new, at, after.attempt, reason)
            connection.execute(TRANSITIONS.insert(), transition_values(step))
            if new.is_terminal:
                release(connection, after, at)
        return after

    def set_stalled(self, job_id: JobId, *, is_stalled: bool) -> None:
        """Mark or unmark a job as stalled; its state stays.

        Raises:
            UnknownNameError: there is no such job.

        """
        update = JOBS.update().where(JOBS.c.id == job_id).values(is_stalled=is_stalled)
        with self._writing() as connection:
            if connection.execute(update).rowcount == 0:
                raise self._unknown(connection, job_id)

    def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace an attempt by (job, number).

        Raises:
            UnknownNameError: there is no such job.

        """
        values = attempt_values(attempt)
        same = (ATTEMPTS.c.job_id == attempt.job_id) & (ATTEMPTS.c.number == attempt.number)
        with self._writing() as connection:
            if not connection.scalar(sa.select(JOBS.c.id).where(JOBS.c.id == attempt.job_id)):
                raise self._unknown(connection, attempt.job_id)
            if connection.execute(ATTEMPTS.update().where(same), values).rowcount == 0:
                connection.execute(ATTEMPTS.insert(), values)

    def history(self, job_id: JobId) -> tuple[Transition, ...]:
        """Return the job's transitions, oldest first."""
        query = sa.select(TRANSITIONS).where(TRANSITIONS.c.job_id == job_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(TRANSITIONS.c.id)).mappings()
            return tuple(map(transition_of, rows))

    def remove_jobs(self, job_ids: Sequence[JobId]) -> None:
        """Forget jobs with their attempts and transitions; the audit stays."""
        with self._writing() as connection:
            for job_id in job_ids:
                connection.execute(JOBS.delete().where(JOBS.c.id == job_id))

    def save_nodes(self, engine: str, nodes: Sequence[Node]) -> None:
        """Replace the nodes of one engine."""
        now = time.time()
        rows = [
            {"engine": engine, "id": node.id, "node": as_json(node), "saved_at": now}
            for node in nodes
        ]
        with self._writing() as connection:
            connection.execute(NODES.delete().where(NODES.c.engine == engine))
            if rows:
                connection.execute(NODES.insert(), rows)

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, ordered by id."""
        query = sa.select(NODES).order_by(NODES.c.id, NODES.c.engine)
        with self._reading() as connection:
            return tuple(map(node_of, connection.execute(query).mappings()))

    def _unknown(self, connection: sa.Connection, job_id: JobId) -> UnknownNameError:
        newest = sa.select(JOBS.c.id).order_by(JOBS.c.submitted_at.desc()).limit(100)
        return UnknownNameError.among("job", job_id, connection.scalars(newest))


_CHANGES = frozenset({"attempt", "started_at", "ended_at", "allocation", "is_stalled"})


def _columns(changes: dict[str, object]) -> dict[str, Any]:
    if not changes.keys() <= _CHANGES:
        wrong = ", ".join(sorted(changes.keys() - _CHANGES))
        raise TypeError(f"transition() cannot change {wrong}")
    if "allocation" in changes:
        return {**changes, "allocation": as_json(changes["allocation"])}
    return dict(changes)
