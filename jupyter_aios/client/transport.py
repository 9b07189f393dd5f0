"""Requests to the controller of a home, which is started, replaced and asked again as needed."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import time
from typing import TYPE_CHECKING, TypeVar

from jupyter_aios.client.replies import raise_error, send
from jupyter_aios.client.starting import START_DEADLINE_S, spawn, wait_for_lock
from jupyter_aios.core.home import LOG_FILE, START_LOCK_FILE
from jupyter_aios.core.wire import VERSION_HEADER
from jupyter_aios.errors import DeniedError, StorageError, UnavailableError
from jupyter_aios.training.peers import peer_uid, read_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

REPLY_DEADLINE_S = 30.0
_TRIES = 3
_PATIENCE_S = 20.0
"""A controller that is lost again and again is given up after this long: bad luck is over by
then, a request that kills it is not."""


class Transport:
    """One home's controller. Each request has a connection of its own, so threads may share this.

    `notice` is told when the two sides are of different versions.
    """

    def __init__(self, home: Path, version: str, notice: Callable[[str], None]) -> None:
        self.home = home
        self.version = version
        self._notice = notice
        self._checked_versions: set[str] = set()

    def is_running(self) -> bool:
        """Return whether a controller answers; starts none."""
        connection = self._connect_running()
        if connection is None:
            return False
        connection.close()
        return True

    def shutdown(self) -> bool:
        """End the controller; jobs go on. False where there was none."""
        connection = self._connect_running()
        if connection is None:
            return False
        with contextlib.closing(_Connection(connection)) as http_connection:
            http_connection.request("POST", "/v1/shutdown", headers={"Connection": "close"})
            raise_error(http_connection.getresponse())
        return True

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Path | None = None,
        *,
        read: Callable[[http.client.HTTPResponse], T],
        wait_s: float = 0.0,
    ) -> T:
        """Send the request until a controller has replied to all of it, and return the reply."""
        if method != "GET" and not self._checked_versions:
            # A newer client's request must not reach an older controller, which would take
            # what it knows of it and drop the rest.
            self.ask("GET", "/v1/hello", read=lambda reply: reply.read())
        tries, patience_ends = 0, time.monotonic() + _PATIENCE_S
        while tries < _TRIES or time.monotonic() < patience_ends:
            tries += 1
            try:
                connected = self._connect()
            except ConnectionError:
                continue  # killed while it started
            with contextlib.closing(_Connection(connected)) as connection:
                connection.sock.settimeout(REPLY_DEADLINE_S + wait_s)
                try:
                    # The reply has the socket by now: half read, it would stay open.
                    with contextlib.closing(send(connection, method, path, body)) as reply:
                        if self._fits(reply.getheader(VERSION_HEADER, "")):
                            raise_error(reply)
                            return read(reply)
                except (ConnectionError, http.client.HTTPException):
                    # Killed in the middle: the next turn starts another one.
                    continue
                except TimeoutError as error:
                    raise self._no_answer() from error
            self._replace()
        raise UnavailableError(
            f"the controller was lost {tries} times while it was asked to {method} {path[:60]}",
            hint=f"see {self.home / LOG_FILE}",
        )

    def _no_answer(self) -> UnavailableError:
        pid = read_lock(self.home).get("pid", "unknown")
        return UnavailableError(
            f"the controller (process {pid}) has not answered for {REPLY_DEADLINE_S:.0f} s",
            hint=f"kill {pid}; jobs go on, and the next call starts another controller",
        )

    def _fits(self, theirs: str) -> bool:
        """Return whether to take a reply from this version; says what a person should know."""
        if theirs in self._checked_versions:
            return True
        if theirs != self.version:
            if _parts(self.version) > _parts(theirs):
                self._notice(
                    f"the controller is version {theirs}, this is {self.version}:"
                    " it is restarted, jobs go on"
                )
                return False
            self._notice(
                f"the controller is version {theirs}, this is {self.version}:"
                " restart the kernel to use the new one"
            )
        self._checked_versions.add(theirs)
        return True

    def _replace(self) -> None:
        """End an older controller; the next call starts one of this version."""
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            self.shutdown()
        deadline = time.monotonic() + START_DEADLINE_S
        while self.is_running():
            if time.monotonic() > deadline:
                raise self._no_answer()
            time.sleep(0.02)

    def _connect(self) -> socket.socket:
        return self._connect_running() or self._start()

    def _connect_running(self) -> socket.socket | None:
        """Return a connection to the controller of this home, or None where none listens."""
        path = read_lock(self.home).get("socket")
        if not isinstance(path, str):
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
            # Code and data go to whoever listens there, so it must be this user.
            uid = peer_uid(connection)
        except OSError:
            connection.close()
            return None
        if uid != os.getuid():
            connection.close()
            raise DeniedError(f"{path} is served by user {uid}, you are {os.getuid()}")
        connection.settimeout(REPLY_DEADLINE_S)
        return connection

    def _start(self) -> socket.socket:
        """Start a controller, unless somebody else just does, and return a connection to it."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self.home / START_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            msg = f"the home folder {self.home} cannot be used: {error.strerror}"
            raise StorageError(msg, hint="set AIOS_HOME=/a/folder/of/yours") from error
        try:
            wait_for_lock(lock, self.home)
            connection = self._connect_running()
            if connection is None:
                spawn(self.home)
                connection = self._connect_running()
        finally:
            os.close(lock)
        if connection is None:
            # It said that it listens and was killed before it was asked: the next one may live.
            raise ConnectionAbortedError("the controller started and ended at once")
        return connection


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = connected


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
