"""How the rows of the store's tables become entities, and back.

Columns are what is searched for or changed; the rest of an entity is JSON text of `core.wire`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select

from jupyter_aios.controller.tables import ATTEMPTS, AUDIT, JOBS
from jupyter_aios.core.audit import AuditHead, AuditRow
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
from jupyter_aios.core.policy import Member, Role, Token
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import from_plain, to_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

T = TypeVar("T")


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


def audit_values(row: AuditRow) -> dict[str, Any]:
    """Return the row of an audit row."""
    return {
        "id": row.seq,
        "at": row.at,
        "user": row.user,
        "action": row.action,
        "resource": row.resource,
        "is_allowed": row.is_allowed,
        "reason": row.reason,
        "mac": row.mac,
        "is_sealed": row.is_sealed,
    }


def audit_of(row: sa.RowMapping) -> AuditRow:
    """Return the audit row of a row."""
    return AuditRow(
        at=row["at"],
        user=UserId(row["user"]),
        action=row["action"],
        resource=row["resource"],
        is_allowed=row["is_allowed"],
        reason=row["reason"],
        seq=row["id"],
        mac=row["mac"],
        is_sealed=row["is_sealed"],
    )


def select_head(connection: sa.Connection) -> AuditHead | None:
    """Return the end of the audit's chain, or None where it has none."""
    query = select(AUDIT.c.id, AUDIT.c.mac).order_by(AUDIT.c.id.desc()).limit(1)
    found = connection.execute(query).first()
    return None if found is None else AuditHead(found.id, found.mac)


def member_values(member: Member) -> dict[str, Any]:
    """Return the row of a person."""
    return {
        "user": member.user,
        "role": member.role.value,
        "groups": json.dumps(member.groups),
    }


def member_of_row(row: sa.RowMapping) -> Member:
    """Return the person of a row."""
    return Member(UserId(row["user"]), Role(row["role"]), tuple(json.loads(row["groups"])))


def token_of(row: sa.RowMapping) -> Token:
    """Return the token of a row."""
    return Token(**{**row, "user": UserId(row["user"])})


def select_jobs(connection: sa.Connection, query: sa.Select[Any]) -> list[Job]:
    """Return the jobs of a query on JOBS, in its order, with their attempts."""
    jobs = [job_of(row, ()) for row in connection.execute(query).mappings()]
    ids = query.with_only_columns(JOBS.c.id) if len(jobs) > 1 else [job.id for job in jobs]
    chosen = select(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ids)).order_by(ATTEMPTS.c.number)
    attempts: dict[JobId, list[Attempt]] = {}
    for row in connection.execute(chosen).mappings():
        attempt = attempt_of(row)
        attempts.setdefault(attempt.job_id, []).append(attempt)
    return [replace(job, attempts=tuple(attempts.get(job.id, ()))) for job in jobs]
