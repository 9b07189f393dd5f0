"""The socket of an attempt at which its requests are answered."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import socket
import ssl
import stat
import threading
import time
from typing import TYPE_CHECKING

from jupyter_aios.controller.fetching.exchange import Access, Exchange
from jupyter_aios.controller.fetching.guard import parse_target
from jupyter_aios.controller.fetching.outward import SILENCE_S, LiveSockets
from jupyter_aios.core.home import MAX_SOCKET_PATH_BYTES
from jupyter_aios.errors import InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jupyter_aios.core.secrets import Secret, SecretInfo

log = logging.getLogger(__name__)

MAX_REQUESTS = 64
"""At once; the next ones wait until one of them is done."""
_CLOSE_DEADLINE_S = 5.0
_PAUSE_S = 0.2


class FetchProxy:
    """Answers an attempt's requests at the Unix socket `path`, each in a thread of its own.

    `value_of` gives a secret's value, `may_use` says whether the job may still use it, and
    `on_use(info, "GET host/path → 200")` is called before an answer is handed on. All three are
    called by many threads at once, and once per request; what they raise of AiosError is the
    answer.

    Raises:
        InputError: a secret's target is none, or the path is too long for a socket.

    """

    def __init__(
        self,
        path: Path,
        secrets: Mapping[str, SecretInfo],
        *,
        value_of: Callable[[SecretInfo], Secret],
        may_use: Callable[[SecretInfo], bool],
        on_use: Callable[[SecretInfo, str], None],
    ) -> None:
        size = len(os.fsencode(path))
        if size > MAX_SOCKET_PATH_BYTES:
            msg = f"{path} has {size} bytes, a socket's path at most {MAX_SOCKET_PATH_BYTES}"
            raise InputError(msg, hint="export XDG_RUNTIME_DIR=/a/short/folder")
        self.path = path
        self._access = Access(
            {name: (info, parse_target(info.target)) for name, info in secrets.items()},
            value_of,
            may_use,
            on_use,
            # Read when it is first needed, which takes 20 ms: the system's roots.
            functools.cache(_tls),
        )
        self._live = LiveSockets()
        self._slots = threading.Semaphore(MAX_REQUESTS)
        self._threads: set[threading.Thread] = set()
        self._guard = threading.Lock()
        self._listener: socket.socket | None = None
        self._wake, self._woken = socket.socketpair()
        self._is_closed = False

    def start(self) -> None:
        """Listen, and answer until `close`. What a killed controller left there is replaced.

        Raises:
            StorageError: the socket cannot be made, or others can enter its folder.

        """
        try:
            _make_private(self.path.parent)
            self.path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener = listener
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            # Whoever finds all slots taken waits here.
            listener.listen(1024)
            listener.settimeout(0)
        except OSError as error:
            self.close()
            msg = f"no socket for requests at {self.path}: {error.strerror or error}"
            raise StorageError(msg, hint="export XDG_RUNTIME_DIR=/a/short/folder") from error
        except BaseException:
            self.close()
            raise
        self._start_thread(self._accept, listener)

    def close(self) -> None:
        """End all requests and remove the socket. Idempotent; takes 5 s at most.

        A thread that waits for a name to be resolved ends later: nothing can wake it, and it
        finds that all is over.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
        # The accepting thread waits for the one or the other.
        self._wake.close()
        self._slots.release()
        self._live.end()
        deadline = time.monotonic() + _CLOSE_DEADLINE_S
        with self._guard:
            threads = tuple(self._threads)
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if self._listener is not None:
            self._listener.close()
        self._woken.close()

    def _accept(self, listener: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                self._slots.acquire()
                connection = self._next(listener, selector)
                if connection is None:
                    return
                try:
                    self._start_thread(self._serve, connection)
                except RuntimeError:
                    # The system has no more threads for us; those that are there go on.
                    log.warning("a request of a job was turned away: no thread for it")
                    connection.close()
                    self._slots.release()

    def _next(
        self, listener: socket.socket, selector: selectors.BaseSelector
    ) -> socket.socket | None:
        """Return the next connection, or None when it is over."""
        while True:
            if any(key.fileobj is self._woken for key, _ in selector.select()):
                return None
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                continue  # whoever called has gone again
            except OSError as error:
                log.warning("no request can be taken: %s", error.strerror)
                # Too many open files: they will be fewer, and until then this must not spin.
                selector.unregister(listener)
                selector.select(_PAUSE_S)
                selector.register(listener, selectors.EVENT_READ)
                continue
            connection.settimeout(SILENCE_S)
            return connection

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._live.add(connection)
            try:
                Exchange(connection, self._access, self._live).run()
            finally:
                self._live.close(connection)
        except ConnectionAbortedError:
            log.debug("a request came when the job had ended")
        finally:
            self._slots.release()

    def _start_thread(self, work: Callable[[socket.socket], None], of: socket.socket) -> None:
        def run() -> None:
            try:
                work(of)
            finally:
                with self._guard:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"aios-fetch-{self.path.name}", daemon=True)
        with self._guard:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            with self._guard:
                self._threads.discard(thread)
            raise


def _make_private(folder: Path) -> None:
    """Make `folder`, or insist that it is a folder of this user's that nobody else can enter.

    Raises:
        StorageError: it is a link, somebody else's, or open to others.

    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_ours or status.st_mode & 0o077:
        raise StorageError(
            f"{folder} is not this user's alone ({stat.filemode(status.st_mode)},"
            f" user {status.st_uid})",
            hint=f"chmod 700 '{folder}'",
        )


def _tls() -> ssl.SSLContext:
    """Return what certificates are checked with: the system's roots, or those of SSL_CERT_FILE."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
