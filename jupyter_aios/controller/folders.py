"""The controller's places on disk: home, lock, log and socket, and who may touch them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import time
from typing import TYPE_CHECKING

from jupyter_aios.core.home import LOCK_FILE, LOG_FILE, socket_candidates
from jupyter_aios.errors import InputError, StorageError, UnavailableError
from jupyter_aios.training.peers import read_lock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG_LIMIT_BYTES = 5 * 2**20
LOCK_PATIENCE_S = 10.0
MAX_HOME_BYTES = 480
"""SQLite opens no path longer than 512."""


class AlreadyRunningError(Exception):
    """Another controller answers already; `socket` is where."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.socket = path


def prepare_home(home: Path, uid: int) -> None:
    """Make the home folder, 0700, and refuse one that others can write to.

    Raises:
        StorageError: it cannot be made, belongs to somebody else, or its path is too long.

    """
    if len(os.fsencode(home)) > MAX_HOME_BYTES:
        msg = f"the path of {home} is longer than {MAX_HOME_BYTES} bytes, which SQLite cannot open"
        raise StorageError(msg, hint="set AIOS_HOME=/a/shorter/path")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = home.stat()
    except OSError as error:
        msg = f"the home folder {home} cannot be made: {error.strerror}"
        raise StorageError(msg, hint="set AIOS_HOME=/a/folder/of/yours") from error
    if status.st_uid != uid:
        msg = f"{home} belongs to user {status.st_uid}, you are {uid}"
        raise StorageError(msg, hint="set AIOS_HOME=/a/folder/of/yours")
    if status.st_mode & 0o022:
        msg = f"others can write to {home} ({stat.filemode(status.st_mode)})"
        raise StorageError(msg, hint=f"chmod 700 '{home}'")


def open_log(home: Path) -> None:
    """Send this process's stdout and stderr to the log; a large one is moved aside first."""
    path = home / LOG_FILE
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(LOG_FILE + ".1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    finally:
        os.close(descriptor)


class Lock:
    """controller.lock, held for as long as this object lives; its content says by whom."""

    def __init__(self, home: Path, patience_s: float = LOCK_PATIENCE_S) -> None:
        """Take the lock, or wait for a controller that is just ending.

        Raises:
            AlreadyRunningError: another controller has it and answers.
            UnavailableError: another one has it and does not answer.

        """
        self._path = home / LOCK_FILE
        deadline = time.monotonic() + patience_s
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if _try_lock(self._fd) and self.is_current():
                return
            os.close(self._fd)
            holder = read_lock(home)
            if answers(holder.get("socket", "")):
                raise AlreadyRunningError(holder["socket"])
            if time.monotonic() > deadline:
                pid = holder.get("pid", "unknown")
                msg = f"another controller (process {pid}) holds {self._path} and does not answer"
                raise UnavailableError(msg, hint=f"kill {pid}; its jobs go on")
            time.sleep(0.02)

    def is_current(self) -> bool:
        """True while the file of this name is the one that is locked."""
        try:
            there, here = self._path.stat(), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def describe(self, **facts: object) -> None:
        """Write who holds the lock; what a dead controller left in it is replaced."""
        # In place: a renamed file would be another lock.
        text = json.dumps(facts).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text, 0)

    def release(self) -> None:
        """Give the lock to whoever waits."""
        os.close(self._fd)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def answers(path: str) -> bool:
    """Return whether somebody listens on this Unix socket."""
    if not path:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def listen(home: Path, environ: Mapping[str, str], uid: int) -> tuple[socket.socket, Path]:
    """Return a listening socket that only this user can reach, and its path.

    Raises:
        UnavailableError: no folder is safe: somebody else made it, or could change it.

    """
    refusals = []
    for path in socket_candidates(home, environ, uid):
        found = _listen_at(path, uid)
        if isinstance(found, socket.socket):
            return found, path
        refusals.append(found)
    hint = "remove that folder, or set XDG_RUNTIME_DIR=/a/folder/of/yours"
    raise UnavailableError("; ".join(refusals) or "no place for the socket", hint=hint)


def _listen_at(path: Path, uid: int) -> socket.socket | str:
    """Return the listening socket, or why this place is no good."""
    try:
        for folder in (path.parent.parent, path.parent):
            _make_private(folder, uid)
        return _bind(path)
    except (OSError, InputError) as error:
        return str(error)


def _make_private(folder: Path, uid: int) -> None:
    """Make `folder`, or insist that it is a folder of this user's that nobody else can enter.

    In /tmp anybody can make our folder first, or a link in its place, and would then own the
    socket that jobs are sent to.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise InputError(f"{folder} is not a folder")
    if status.st_uid != uid:
        raise InputError(f"{folder} belongs to user {status.st_uid}, you are {uid}")
    if status.st_mode & 0o077:
        raise InputError(f"others can enter {folder} ({stat.filemode(status.st_mode)})")


def _bind(path: Path) -> socket.socket:
    # Whoever left a socket here is gone: the lock is ours.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        # From here on callers wait for their answer instead of being turned away.
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.ENAMETOOLONG:  # pragma: no cover - candidates are short
            raise InputError(f"{path} is too long for a socket") from error
        raise
    return listener
