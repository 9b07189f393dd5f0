"""The front over TLS: other people's way in, beside the Unix socket.

It needs the open vault, where the key of its certificate lies, and from then on every launch needs
a permit.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from jupyter_aios.controller.certificates import kept_certificate, server_context
from jupyter_aios.controller.secrets import SYSTEM
from jupyter_aios.controller.tls import serve_tls
from jupyter_aios.core.rights import FrontStatus
from jupyter_aios.core.secrets import SecretClass
from jupyter_aios.errors import InputError, StateError, UnavailableError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import uvicorn
    from fastapi import FastAPI

    from jupyter_aios.controller.keeper import Keeper
    from jupyter_aios.controller.launching import Launching
    from jupyter_aios.core.rights import FrontWish
    from jupyter_aios.core.secrets import Secret

_CERTIFICATE = "tls-certificate"
_START_DEADLINE_S = 10.0
_MAX_PORT = 65535


class Serving:
    """The front, open or not. `app` is set before it is opened."""

    app: FastAPI

    def __init__(self, keeper: Keeper, launching: Launching, clock: Callable[[], float]) -> None:
        self._keeper = keeper
        self._launching = launching
        self._clock = clock
        self._guard = threading.Lock()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._status = FrontStatus(is_open=False)

    @property
    def is_open(self) -> bool:
        """Whether others are served."""
        return self._status.is_open

    def status(self) -> FrontStatus:
        """Return where others find the controller, if they do."""
        return self._status

    def open(self, wish: FrontWish) -> FrontStatus:
        """Listen for others; the same wish again changes nothing.

        Raises:
            LockedError: the vault is locked.
            InputError: the port or a name is none, or the address is not this machine's.
            StateError: it listens elsewhere already.
            UnavailableError: it does not come up.

        """
        with self._guard:
            if self._status.is_open:
                if wish.host == self._status.host and wish.port in (0, self._status.port):
                    return self._status
                raise StateError(f"{self._status.url} is served already", hint="end that first")
            self._join()
            if not 0 <= wish.port <= _MAX_PORT:
                raise InputError(f"--port {wish.port}: 0 to {_MAX_PORT}", hint="--port 8443")
            names = wish.names or _own_names(wish.host)
            certificate = kept_certificate(
                names, load=self._load, keep=self._keep, now=self._clock()
            )
            listener = _listener(wish.host, wish.port)
            port = listener.getsockname()[1]
            server = serve_tls(
                self.app, wish.host, port, server_context(certificate), names=certificate.names
            )
            self.app.state.front = server
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listener]}, name="front", daemon=True
            )
            thread.start()
            _wait_for(server, thread)
            self._server, self._thread = server, thread
            self._launching.permits = True
            self._status = FrontStatus(
                is_open=True,
                host=wish.host,
                port=port,
                url=f"https://{names[0]}:{port}",
                fingerprint=certificate.fingerprint,
                warning=self._keeper.openable_by_jobs(),
            )
            return self._status

    def close(self, *, waits: bool = True) -> FrontStatus:
        """Serve nobody else any more. Idempotent.

        `waits` until requests under way are answered; one that came over the front cannot.
        """
        with self._guard:
            if self._server is not None:
                self._server.should_exit = True
            if waits:
                self._join()
            self._launching.permits = False
            self._status = FrontStatus(is_open=False)
            return self._status

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._server = self._thread = None

    def _load(self) -> Secret | None:
        try:
            return self._keeper.open_vault().get(SYSTEM, _CERTIFICATE)
        except UnknownNameError:
            return None

    def _keep(self, content: Secret) -> None:
        vault = self._keeper.open_vault()
        vault.set(SYSTEM, _CERTIFICATE, content, SecretClass.BROKER, now=self._clock())


def _own_names(host: str) -> Sequence[str]:
    """Return how this machine is called, where nobody says it."""
    if host not in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return (host,)
    return tuple(dict.fromkeys((socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1")))


def _listener(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened at: {error.strerror or error}",
            hint="another --port, or --host 127.0.0.1",
        ) from error


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            server.should_exit = True
            raise UnavailableError("the TLS front does not come up", hint="see controller.log")
        time.sleep(0.01)
