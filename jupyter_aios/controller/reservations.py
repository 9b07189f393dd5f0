"""What jobs take of quotas, within the transactions that add and end them.

A holder's row in SPENDING is locked before its reservations are summed: SQLite has one writer
anyway, other databases let two transactions see the same sum.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from jupyter_aios.controller.rows import attempt_of
from jupyter_aios.controller.tables import ATTEMPTS, QUOTAS, RESERVATIONS, SPENDING
from jupyter_aios.core.quotas import (
    HOUR_S,
    Demand,
    Quota,
    Usage,
    held_gpu_s,
    limits_of,
    refuse_excess,
    run_s,
)
from jupyter_aios.core.wire import from_plain

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.policy import Member

_IF_MISSING = sa.text(
    "INSERT INTO spending (holder, gpu_s) VALUES (:holder, 0) ON CONFLICT (holder) DO NOTHING"
)


def reserve(connection: sa.Connection, job: Job, member: Member) -> None:
    """Reserve what a job asks for, for its owner and their groups.

    Raises:
        DeniedError: a quota does not allow it.

    """
    demand = Demand.of(job.spec)
    limits = limits_of(member, select_quotas(connection))
    # In one order, so that two submissions never wait for each other.
    holders = sorted(limit.holder for limit in limits)
    connection.execute(_IF_MISSING, [{"holder": holder} for holder in holders])
    lock = sa.select(SPENDING.c.holder).where(SPENDING.c.holder.in_(holders))
    connection.execute(lock.order_by(SPENDING.c.holder).with_for_update()).all()
    refuse_excess(
        ((limit, usage_of(connection, limit.holder, job.submitted_at)) for limit in limits), demand
    )
    row = {
        "job_id": job.id,
        "ranks": demand.ranks,
        "gpu_milli": demand.gpu_milli,
        "gpu_s": demand.gpu_s,
        "disk_bytes": demand.disk_bytes,
    }
    connection.execute(RESERVATIONS.insert(), [row | {"holder": holder} for holder in holders])


def release(connection: sa.Connection, job: Job, at: float) -> None:
    """End a job's reservations and charge the GPU-hours that it ran. Idempotent."""
    of_job = RESERVATIONS.c.job_id == job.id
    held = connection.execute(
        sa.select(RESERVATIONS.c.holder, RESERVATIONS.c.gpu_milli)
        .where(of_job)
        .order_by(RESERVATIONS.c.holder)
    ).all()
    for holder, gpu_milli in held:
        spent = gpu_milli / 1000 * run_s(job.attempts, at)
        connection.execute(
            SPENDING.update()
            .where(SPENDING.c.holder == holder)
            .values(gpu_s=SPENDING.c.gpu_s + spent)
        )
    connection.execute(RESERVATIONS.delete().where(of_job))


def usage_of(connection: sa.Connection, holder: str, at: float) -> Usage:
    """Return what a holder has and has used up at this moment."""
    held = RESERVATIONS.c.holder == holder
    amounts = connection.execute(
        sa.select(
            sa.func.count().label("jobs"),
            sa.func.coalesce(sa.func.sum(RESERVATIONS.c.ranks), 0).label("ranks"),
            sa.func.coalesce(sa.func.sum(RESERVATIONS.c.disk_bytes), 0).label("disk_bytes"),
        ).where(held)
    ).one()
    spent = connection.scalar(sa.select(SPENDING.c.gpu_s).where(SPENDING.c.holder == holder)) or 0.0
    gpu_s = spent + _held_gpu_s(connection, held, at)
    return Usage(
        ranks=int(amounts.ranks),
        gpu_hours=gpu_s / HOUR_S,
        jobs=int(amounts.jobs),
        disk_bytes=int(amounts.disk_bytes),
    )


def _held_gpu_s(connection: sa.Connection, held: sa.ColumnElement[bool], at: float) -> float:
    columns = (RESERVATIONS.c.job_id, RESERVATIONS.c.gpu_milli, RESERVATIONS.c.gpu_s)
    query = sa.select(*columns).where(held, RESERVATIONS.c.gpu_milli > 0)
    jobs = connection.execute(query).all()
    if not jobs:
        return 0.0
    ids = query.with_only_columns(RESERVATIONS.c.job_id)
    attempts: dict[str, list[Any]] = {}
    for row in connection.execute(sa.select(ATTEMPTS).where(ATTEMPTS.c.job_id.in_(ids))).mappings():
        attempts.setdefault(row["job_id"], []).append(attempt_of(row))
    return sum(
        held_gpu_s(job.gpu_s, job.gpu_milli, run_s(attempts.get(job.job_id, ()), at))
        for job in jobs
    )


def select_quotas(connection: sa.Connection) -> dict[str, Quota]:
    """Return the quotas that were set, by holder."""
    rows = connection.execute(sa.select(QUOTAS).order_by(QUOTAS.c.holder))
    return {row.holder: from_plain(Quota, json.loads(row.quota)) for row in rows}
