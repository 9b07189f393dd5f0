"""The store's tables, and how their rows become entities; `migrations/` makes them on disk.

Columns are what is searched for or changed; the rest of an entity is JSON text of `core.wire`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from jupyter_aios.core.entities import (
    Allocation,
    Attempt,
    Failure,
    Job,
    JobId,
    JobSpec,
    Node,
    RankExit,
    Transition,
    UserId,
)
from jupyter_aios.core.ports import AuditRow
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import from_plain, to_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Words(sa.TypeDecorator[str]):
    """Text that any program may have written into an error message.

    Lone surrogates (bytes of a file name that are no UTF-8) cannot be stored by SQLite, NUL not
    by PostgreSQL: both are written as escapes, so that a strange message stops no transition.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Return the text with what cannot be stored escaped."""
        del dialect  # the same everywhere
        if value is None:
            return None
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")


def _of_job() -> sa.ForeignKey:
    return sa.ForeignKey("jobs.id", ondelete="CASCADE")


METADATA = sa.MetaData()

JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", Words, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("submitted_at", sa.Double, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", Words, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("is_stalled", sa.Boolean, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("allocation", sa.Text),
    sa.Index("jobs_by_state", "state", "submitted_at"),
    sa.Index("jobs_by_name", "owner", "name", "submitted_at"),
)

ATTEMPTS = sa.Table(
    "attempts",
    METADATA,
    sa.Column("job_id", sa.Text, _of_job(), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("start", Words, nullable=False),
    sa.Column("resumed_step", sa.BigInteger),
    sa.Column("exits", sa.Text, nullable=False),
    sa.Column("failure", sa.Text),
)

TRANSITIONS = sa.Table(
    "transitions",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.Text, _of_job(), nullable=False),
    sa.Column("old", sa.String(16)),
    sa.Column("new", sa.String(16), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", Words, nullable=False),
    sa.Index("transitions_by_job", "job_id", "id"),
)

NODES = sa.Table(
    "nodes",
    METADATA,
    sa.Column("engine", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("saved_at", sa.Double, nullable=False),
)

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("resource", Words, nullable=False),
    sa.Column("is_allowed", sa.Boolean, nullable=False),
    sa.Column("reason", Words, nullable=False),
)

VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))
"""Alembic's own table, read without Alembic."""


def as_json(value: object) -> str | None:
    """Return an entity as JSON text, None as None."""
    # ASCII: escapes carry lone surrogates (a path that is no UTF-8) safely through any database.
    return None if value is None else json.dumps(to_plain(value), separators=(",", ":"))


def from_json(cls: type[T], text: str | None) -> T | None:
    """Return the entity that `as_json` made `text` of."""
    return None if text is None else from_plain(cls, json.loads(text))


def job_values(job: Job) -> dict[str, Any]:
    """Return the row of a job."""
    return {
        "id": job.id,
        "owner": job.owner,
        "name": job.name,
        "state": job.state.value,
        "priority": job.spec.priority,
        "submitted_at": job.submitted_at,
        "attempt": job.attempt,
        "reason": job.reason,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "is_stalled": job.is_stalled,
        "spec": as_json(job.spec),
        "allocation": as_json(job.allocation),
    }


def job_of(row: sa.RowMapping, attempts: Sequence[Attempt]) -> Job:
    """Return the job of a row."""
    return Job(
        id=JobId(row["id"]),
        owner=UserId(row["owner"]),
        spec=from_plain(JobSpec, json.loads(row["spec"])),
        state=JobState(row["state"]),
        submitted_at=row["submitted_at"],
        attempt=row["attempt"],
        reason=row["reason"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        allocation=from_json(Allocation, row["allocation"]),
        is_stalled=row["is_stalled"],
        attempts=tuple(attempts),
    )


def attempt_values(attempt: Attempt) -> dict[str, Any]:
    """Return the row of an attempt."""
    return {
        "job_id": attempt.job_id,
        "number": attempt.number,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
        "start": attempt.start,
        "resumed_step": attempt.resumed_step,
        "exits": as_json(attempt.exits),
        "failure": as_json(attempt.failure),
    }


def attempt_of(row: sa.RowMapping) -> Attempt:
    """Return the attempt of a row."""
    return Attempt(
        job_id=JobId(row["job_id"]),
        number=row["number"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        outcome=row["outcome"],
        start=row["start"],
        resumed_step=row["resumed_step"],
        exits=tuple(from_plain(RankExit, exit_) for exit_ in json.loads(row["exits"])),
        failure=from_json(Failure, row["failure"]),
    )


def transition_values(step: Transition) -> dict[str, Any]:
    """Return the row of a transition."""
    return {
        "job_id": step.job_id,
        "old": step.old.value if step.old else None,
        "new": step.new.value,
        "at": step.at,
        "attempt": step.attempt,
        "reason": step.reason,
    }


def transition_of(row: sa.RowMapping) -> Transition:
    """Return the transition of a row."""
    return Transition(
        job_id=JobId(row["job_id"]),
        old=JobState(row["old"]) if row["old"] else None,
        new=JobState(row["new"]),
        at=row["at"],
        attempt=row["attempt"],
        reason=row["reason"],
    )


def node_of(row: sa.RowMapping) -> Node:
    """Return the node of a row."""
    return from_plain(Node, json.loads(row["node"]))


def audit_of(row: sa.RowMapping) -> AuditRow:
    """Return the audit row of a row."""
    return AuditRow(
        at=row["at"],
        user=UserId(row["user"]),
        action=row["action"],
        resource=row["resource"],
        is_allowed=row["is_allowed"],
        reason=row["reason"],
    )


def select_jobs(connection: sa.Connection, query: sa.Select[Any]) -> list[Job]:
    """Return the jobs of a query on JOBS, in its order, with their attempts."""
    jobs = [job_of(row, ()) for row in connection.execute(query).mappings()]
    ids = query.with_only_columns(JOBS.c.id) if len(jobs) > 1 else [job.id for job in jobs]
    chosen = sa.select(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ids)).order_by(ATTEMPTS.c.number)
    attempts: dict[JobId, list[Attempt]] = {}
    for row in connection.execute(chosen).mappings():
        attempt = attempt_of(row)
        attempts.setdefault(attempt.job_id, []).append(attempt)
    return [replace(job, attempts=tuple(attempts.get(job.id, ()))) for job in jobs]
