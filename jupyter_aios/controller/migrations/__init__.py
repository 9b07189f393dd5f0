"""The store's schema, step by step: one file in `versions/` per change, run by Alembic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

SCHEMA_VERSION = "0002"
"""The newest revision in `versions/`: four digits, so that texts compare as numbers."""


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema to `SCHEMA_VERSION` within the connection's open transaction.

    Imports Alembic, which takes a while: call it only when something is to be done.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    # As a package, not as a path: a path may hold a % that Alembic would interpolate.
    config.set_main_option("script_location", "jupyter_aios.controller:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
