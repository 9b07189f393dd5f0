"""Alembic runs this file for every command; the connection comes from `migrations.upgrade`."""

from __future__ import annotations

from alembic import context

# The caller's open transaction holds the whole upgrade, the version included: a full disk or a
# kill in the middle leaves the old schema. Hence no begin_transaction() here.
context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
