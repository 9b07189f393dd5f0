"""The controller's memory: jobs, attempts, transitions, nodes and the audit in one database."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from jupyter_aios.controller import sqlite
from jupyter_aios.controller.migrations import SCHEMA_VERSION, upgrade
from jupyter_aios.controller.tables import (
    ATTEMPTS,
    AUDIT,
    JOBS,
    NODES,
    TRANSITIONS,
    VERSION,
    as_json,
    attempt_values,
    audit_of,
    job_values,
    node_of,
    select_jobs,
    transition_of,
    transition_values,
)
from jupyter_aios.core.entities import Job, JobId, Transition
from jupyter_aios.core.states import JobState, check_transition
from jupyter_aios.errors import StateError, StorageError, UnknownNameError, VersionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jupyter_aios.core.entities import Attempt, Node, UserId
    from jupyter_aios.core.ports import AuditRow

_SQLITE = "sqlite:///"


class SqlStore:
    """Implements `core.ports.Store` with SQLAlchemy Core. Safe for many threads.

    `url` names the database as SQLAlchemy does; after `sqlite:///` the path is taken as it is,
    whatever characters it holds.

    Raises:
        StorageError: the database cannot be opened, or lies on a network file system.
        VersionError: a newer jupyter_aios wrote it; it is left as it is.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = SqlStore(f"sqlite:///{folder.name}/store.sqlite")
        >>> store.find_jobs()
        []
        >>> store.close(); folder.cleanup()

    """

    def __init__(self, url: str) -> None:
        self._path: Path | None = None
        if url.startswith(_SQLITE):
            self._path = Path(url[len(_SQLITE) :])
            sqlite.prepare_file(self._path)
            # More threads than pooled connections open another one instead of waiting.
            self._engine = sa.create_engine(
                sa.URL.create("sqlite", database=str(self._path)), max_overflow=-1
            )
            sqlite.tune(self._engine)
        else:
            self._engine = sa.create_engine(url, max_overflow=-1)
        self._writer = self._engine.execution_options(**{sqlite.WRITES: True})
        try:
            self.ensure_schema()
        except BaseException:
            self.close()
            raise

    def ensure_schema(self) -> None:
        """Bring the database to the schema of this code; cheap where it is there already.

        Raises:
            VersionError: the database has a newer schema; nothing was changed.
            StorageError: it cannot be read or written.

        """
        with self._reading() as connection:
            found = None
            if sa.inspect(connection).has_table(VERSION.name):
                found = connection.scalar(sa.select(sa.func.max(VERSION.c.version_num)))
        if found == SCHEMA_VERSION:
            return
        if found is not None and found > SCHEMA_VERSION:
            msg = (
                f"{self._place} was written by a newer jupyter_aios: its schema is {found},"
                f" this version knows up to {SCHEMA_VERSION}"
            )
            raise VersionError(
                msg, hint="pip install --upgrade jupyter-aios, or set AIOS_HOME=/another/folder"
            )
        with self._writing() as connection:
            upgrade(connection)

    def add_job(self, job: Job) -> None:
        """Remember a new job and its first transition (None → its state).

        Raises:
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
        Of many callers that ask for the same move, one succeeds.

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

    def add_audit(self, row: AuditRow) -> None:
        """Append to the audit."""
        with self._writing() as connection:
            connection.execute(AUDIT.insert(), vars(row))

    def audit(self, limit: int) -> list[AuditRow]:
        """Return the newest rows, newest first."""
        query = sa.select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return list(map(audit_of, connection.execute(query).mappings()))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @property
    def _place(self) -> str:
        return str(self._path or self._engine.url.render_as_string(hide_password=True))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            # The exact class DatabaseError is SQLite's word for a damaged file; its other
            # subclasses are faults of this code and stay what they are.
            if not (isinstance(error, sa.exc.OperationalError) or type(error) is _DATABASE):
                raise
            if self._path is None:
                msg = f"{self._place} does not answer: {error.orig}"
                raise StorageError(msg, hint="look at the database server") from error
            raise sqlite.meaning_of(error, self._path) from error

    def _unknown(self, connection: sa.Connection, job_id: JobId) -> UnknownNameError:
        newest = sa.select(JOBS.c.id).order_by(JOBS.c.submitted_at.desc()).limit(100)
        return UnknownNameError.among("job", job_id, connection.scalars(newest))


_DATABASE = sa.exc.DatabaseError
_CHANGES = frozenset({"attempt", "started_at", "ended_at", "allocation", "is_stalled"})


def _columns(changes: dict[str, object]) -> dict[str, Any]:
    if not changes.keys() <= _CHANGES:
        wrong = ", ".join(sorted(changes.keys() - _CHANGES))
        raise TypeError(f"transition() cannot change {wrong}")
    if "allocation" in changes:
        return {**changes, "allocation": as_json(changes["allocation"])}
    return dict(changes)
