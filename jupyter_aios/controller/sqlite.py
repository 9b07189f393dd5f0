"""SQLite under the store: its file, its settings, and what its errors mean to a person.

Nothing else of the store knows which database it speaks to.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from jupyter_aios.controller.filesystem import (
    MAKE_ROOM,
    MOVE_HOME,
    disk_errors,
    make_private_folder,
    refuse_network_filesystem,
    storage_error,
)
from jupyter_aios.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

WRITES = "aios_writes"
"""Execution option of connections whose transactions write."""

BUSY_TIMEOUT_MS = 20_000
MAX_PATH_BYTES = 504
"""os_unix.c: MAX_PATHNAME is 512, and the longest suffix, `-journal`, must fit too."""

_HINTS = {
    "readonly": MOVE_HOME,
    "unable to open": MOVE_HOME,
    "locked": "another process uses the file: end it, then try again",
    "not a database": "move the file away; the jobs' own folders stay beside it",
    "malformed": "move the file away; the jobs' own folders stay beside it",
}


def prepare_file(path: Path) -> None:
    """Make sure that the database's file is there, 0600, in a folder of its own, 0700.

    SQLite gives its -wal and -shm the mode of the file.

    Raises:
        StorageError: the place is on a network, too long, full, read-only or forbidden.

    """
    refuse_network_filesystem(path)
    length = len(os.fsencode(path.absolute()))
    if length > MAX_PATH_BYTES:
        msg = f"SQLite opens paths of at most {MAX_PATH_BYTES} bytes; this has {length}: {path}"
        raise StorageError(msg, hint="set AIOS_HOME=/a/shorter/folder")
    with disk_errors(path):
        make_private_folder(path.parent)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            # Not opened here: closing any descriptor of a file drops all of the process's POSIX
            # locks on it, those of another store object included.
            if stat.S_IMODE(path.stat().st_mode) != 0o600:  # noqa: PLR2004 - a mode
                path.chmod(0o600)


def tune(engine: sa.Engine) -> None:
    """Give every connection of `engine` the settings that the store counts on."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - DBAPI
        # Python's module would begin transactions only at the first write; on_begin does it.
        connection.isolation_level = None
        for setting in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",  # first: the next one may have to wait
            "journal_mode=WAL",
            "synchronous=NORMAL",  # a power cut may lose the last commits, never damage the file
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        # A writer takes the lock at once: one that had read before it waited for the lock would
        # be refused, because what it read may be old by then.
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def meaning_of(error: sa.exc.DBAPIError, path: Path) -> StorageError:
    """Return what SQLite's error means to a person: the file, the cause, the room, a hint."""
    cause = str(error.orig)
    hint = next((hint for words, hint in _HINTS.items() if words in cause), MAKE_ROOM)
    return storage_error(path, cause, hint=hint)
