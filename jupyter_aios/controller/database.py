"""The database under the store: its connections, transactions, schema, and what its errors mean."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from jupyter_aios.controller import sqlite
from jupyter_aios.controller.migrations import SCHEMA_VERSION, upgrade
from jupyter_aios.controller.tables import VERSION
from jupyter_aios.errors import StorageError, VersionError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SQLITE = "sqlite:///"
_DATABASE = sa.exc.DatabaseError


class Database:
    """What every part of the store stands on. Safe for many threads.

    `url` names the database as SQLAlchemy does; after `sqlite:///` the path is taken as it is,
    whatever characters it holds.

    Raises:
        StorageError: the database cannot be opened, or lies on a network file system.
        VersionError: a newer jupyter_aios wrote it; it is left as it is.

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
