"""An SSH agent on a socket of its own for one job: the job uses keys that it never has.

A job finds the socket in `SSH_AUTH_SOCK`, so `ssh`, `git`, `rsync` and asyncssh work as they are;
the keys stay in the controller. What is signed, and what is not, is told in `ssh_agent`. A thread
per broker serves all its connections, and none of them can make it wait.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.controller.ssh_agent import Client, SshAgent
from jupyter_aios.controller.ssh_keys import SigningKey, parse_private_key, public_line, string
from jupyter_aios.core.home import MAX_SOCKET_PATH_BYTES
from jupyter_aios.errors import UnavailableError
from jupyter_aios.training.peers import peer_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jupyter_aios.controller.ssh_agent import Witness
    from jupyter_aios.controller.ssh_keys import PrivateKey

__all__ = ["SshBroker", "parse_private_key", "public_line"]

log = logging.getLogger(__name__)

SOCKET_FILE = "agent.sock"
MAX_MESSAGE_BYTES = 256 * 1024
MAX_CONNECTIONS = 128
"""Of one job at once; one more ends the connection that has been silent for longest."""
MAX_REFUSALS = 1000
"""After so many the job has lost its broker: it is trying something, and fills the audit."""


@dataclass
class _Connection:
    """One client's socket."""

    socket: socket.socket
    used_at: float
    client: Client = field(default_factory=Client)
    unread: bytearray = field(default_factory=bytearray)


class SshBroker:
    """Serves keys to one job until it is closed."""

    def __init__(
        self,
        folder: Path,
        keys: Mapping[str, PrivateKey],
        *,
        may_use: Callable[[str], bool],
        on_use: Witness,
    ) -> None:
        """Listen at `folder/agent.sock`; the folder is the broker's own and goes with it.

        Args:
            folder: made here with the mode 0700, or left by a controller that was killed.
            keys: by name; what the job may use at all.
            may_use: asked by name before each signature. Called in the broker's thread.
            on_use: told of each use, before the signature leaves. Called in the broker's thread.

        Raises:
            UnavailableError: the folder is not this user's alone, or its path is too long.

        """
        self.path = folder / SOCKET_FILE
        self._agent = SshAgent(
            {name: SigningKey.of(key) for name, key in keys.items()}, may_use=may_use, on_use=on_use
        )
        self._connections: dict[socket.socket, _Connection] = {}
        self._listener = _listen(self.path)
        self._ours, self._theirs = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for one in (self._listener, self._theirs):
            one.settimeout(0)
            self._selector.register(one, selectors.EVENT_READ)
        # A daemon: a broker that was forgotten must not keep the controller from ending.
        self._thread = threading.Thread(target=self._serve, name="ssh-broker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections and remove the socket. Idempotent."""
        with contextlib.suppress(OSError):
            self._ours.send(b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._ours.close()

    def _serve(self) -> None:
        try:
            while self._agent.refusals < MAX_REFUSALS:
                for ready, _ in self._selector.select():
                    if ready.fileobj is self._theirs:
                        return
                    if ready.fileobj is self._listener:
                        self._accept()
                    elif (one := self._connections.get(ready.fileobj)) is not None:  # type: ignore[call-overload]
                        self._read(one)
            log.warning("the broker %s has refused %d requests and ends", self.path, MAX_REFUSALS)
        finally:
            for one in list(self._connections.values()):
                self._drop(one)
            self._selector.close()
            self._listener.close()
            self._theirs.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
                self.path.parent.rmdir()

    # -------------------------------------------------------------------- connections

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            # It has gone again, or there are no descriptors left: then somebody's must go.
            if self._connections:
                self._drop(self._longest_silent())
            return
        try:
            is_ours = peer_uid(accepted) == os.geteuid()
        except OSError:
            is_ours = False
        if not is_ours:
            accepted.close()
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            self._drop(self._longest_silent())
        accepted.settimeout(0)
        self._connections[accepted] = _Connection(accepted, time.monotonic())
        self._selector.register(accepted, selectors.EVENT_READ)

    def _longest_silent(self) -> _Connection:
        return min(self._connections.values(), key=lambda one: one.used_at)

    def _drop(self, one: _Connection) -> None:
        self._connections.pop(one.socket, None)
        self._selector.unregister(one.socket)
        one.socket.close()

    def _read(self, one: _Connection) -> None:
        """Take what has arrived and answer whole messages; half a one waits without a thread."""
        one.used_at = time.monotonic()
        try:
            chunk = one.socket.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._drop(one)
            return
        one.unread += chunk
        while len(one.unread) >= 4:  # noqa: PLR2004 - the length before each message
            length = int.from_bytes(one.unread[:4], "big")
            if not 0 < length <= MAX_MESSAGE_BYTES:
                # Where the next message begins is not known any more.
                self._drop(one)
                return
            if len(one.unread) < 4 + length:
                return
            message = bytes(one.unread[4 : 4 + length])
            del one.unread[: 4 + length]
            if not self._answer(one, message):
                return

    def _answer(self, one: _Connection, message: bytes) -> bool:
        """Send the reply; who does not read it is dropped rather than waited for."""
        try:
            reply = string(self._agent.answer(one.client, message))
            is_sent = one.socket.send(reply) == len(reply)
        except OSError:
            is_sent = False
        except Exception:
            # The other clients of the job have done nothing wrong.
            log.exception("a request to the broker %s cannot be answered", self.path)
            is_sent = False
        if not is_sent:
            self._drop(one)
        return is_sent


def _listen(path: Path) -> socket.socket:
    """Return a listening socket in a folder of its own that only this user can enter."""
    folder = path.parent
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        msg = f"the path of {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes"
        raise UnavailableError(msg, hint="set XDG_RUNTIME_DIR=/a/shorter/path")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        _insist_on_private(folder)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        msg = f"no SSH agent can be served at {path}: {error.strerror}"
        raise UnavailableError(msg, hint="set XDG_RUNTIME_DIR=/a/folder/of/yours") from error
    except UnavailableError:
        listener.close()
        raise
    return listener


def _insist_on_private(folder: Path) -> None:
    # Left by a killed controller, or made by somebody who would like to hold the socket.
    status = folder.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not is_private or status.st_uid != os.geteuid():
        msg = f"{folder} is not a folder of this user's alone ({stat.filemode(status.st_mode)})"
        raise UnavailableError(msg, hint=f"chmod 700 '{folder}'")
