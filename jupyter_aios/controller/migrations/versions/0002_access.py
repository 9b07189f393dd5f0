"""People, tokens, quotas and what is reserved of them; the audit becomes a chain."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from jupyter_aios.core.audit import START, AuditHead, AuditRow, chain
from jupyter_aios.core.entities import UserId

revision = "0002"
down_revision = "0001"

_BATCH_ROWS = 1000


def upgrade() -> None:
    """Create the tables of access, and chain the rows that are there."""
    op.create_table(
        "members",
        sa.Column("user", sa.Text, primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "quotas",
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("quota", sa.Text, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column(
            "job_id", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("ranks", sa.Integer, nullable=False),
        sa.Column("gpu_milli", sa.BigInteger, nullable=False),
        sa.Column("gpu_s", sa.Double, nullable=False),
        sa.Column("disk_bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("reservations_by_job", "reservations", ["job_id"])
    op.create_table(
        "spending",
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("gpu_s", sa.Double, nullable=False),
    )
    # A column without a default cannot join rows that are there; it is overwritten at once.
    op.add_column("audit", sa.Column("mac", sa.String(64), nullable=False, server_default=""))
    op.add_column(
        "audit", sa.Column("is_sealed", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_index("audit_by_action", "audit", ["action", "id"])
    _chain_rows(op.get_bind())


def _chain_rows(connection: sa.Connection) -> None:
    """Give every old row its MAC, with the public key: there was no vault."""
    audit = sa.table(
        "audit",
        *map(sa.column, ("id", "at", "user", "action", "resource", "is_allowed", "reason", "mac")),
    )
    update = (
        audit.update()
        .where(audit.c.id == sa.bindparam("old"))
        .values(id=sa.bindparam("seq"), mac=sa.bindparam("sealed"))
    )
    head, last = START, 0
    while True:
        query = sa.select(audit).where(audit.c.id > last).order_by(audit.c.id).limit(_BATCH_ROWS)
        rows = connection.execute(query).all()
        if not rows:
            return
        changes: list[dict[str, Any]] = []
        for row in rows:
            chained = chain(
                AuditRow(
                    at=row.at,
                    user=UserId(row.user),
                    action=row.action,
                    resource=row.resource,
                    is_allowed=bool(row.is_allowed),
                    reason=row.reason,
                ),
                head,
                None,
            )
            changes.append({"old": row.id, "seq": chained.seq, "sealed": chained.mac})
            head, last = AuditHead(chained.seq, chained.mac), row.id
        connection.execute(update, changes)
