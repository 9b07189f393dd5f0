"""The store's tables; `migrations/` makes them on disk, `rows` makes entities of them."""

from __future__ import annotations

import sqlalchemy as sa


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
        return None if value is None else storable(value)


def storable(text: str) -> str:
    r"""Return the text as it comes back from any database.

    Example:
        >>> storable("a\0b")
        'a\\x00b'

    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")


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
    sa.Column("mac", sa.String(64), nullable=False),
    sa.Column("is_sealed", sa.Boolean, nullable=False),
    sa.Index("audit_by_action", "action", "id"),
)
"""`id` is the place in the chain."""

MEMBERS = sa.Table(
    "members",
    METADATA,
    sa.Column("user", sa.Text, primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("groups", sa.Text, nullable=False),
)

TOKENS = sa.Table(
    "tokens",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
    sa.Column("note", Words, nullable=False),
)

QUOTAS = sa.Table(
    "quotas",
    METADATA,
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("quota", sa.Text, nullable=False),
)

RESERVATIONS = sa.Table(
    "reservations",
    METADATA,
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, _of_job(), primary_key=True),
    sa.Column("ranks", sa.Integer, nullable=False),
    sa.Column("gpu_milli", sa.BigInteger, nullable=False),
    sa.Column("gpu_s", sa.Double, nullable=False),
    sa.Column("disk_bytes", sa.BigInteger, nullable=False),
    sa.Index("reservations_by_job", "job_id"),
)
"""What live jobs take of quotas: one row for each holder on whose account a job goes."""

SPENDING = sa.Table(
    "spending",
    METADATA,
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("gpu_s", sa.Double, nullable=False),
)
"""GPU-seconds of jobs that are over. The row of a holder is what its reservations lock."""

VERSION = sa.table("alembic_version", sa.column("version_num", sa.String))
"""Alembic's own table, read without Alembic."""
