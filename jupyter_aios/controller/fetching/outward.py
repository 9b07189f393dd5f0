"""Connections to targets, and all connections of a proxy, so that they can be ended."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from jupyter_aios.controller.fetching.guard import is_forbidden_address
from jupyter_aios.errors import DeniedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.controller.fetching.guard import Target

CONNECT_DEADLINE_S = 10.0
SILENCE_S = 300.0
"""How long a side may take for the next bytes: a model that is asked may think for minutes."""


class LiveSockets:
    """The open sockets of a proxy; after `end` there are none, and none come."""

    def __init__(self) -> None:
        self._sockets: set[socket.socket] = set()
        self._is_ended = False
        self._guard = threading.Lock()

    def add(self, connection: socket.socket) -> None:
        """Remember a socket.

        Raises:
            ConnectionAbortedError: it is too late; the socket is closed.

        """
        with self._guard:
            if not self._is_ended:
                self._sockets.add(connection)
                return
        connection.close()
        raise ConnectionAbortedError("the job has ended")

    def close(self, connection: socket.socket) -> None:
        """Close a socket and forget it."""
        with self._guard:
            self._sockets.discard(connection)
            connection.close()

    def swap(self, old: socket.socket, new: socket.socket) -> None:
        """Remember `new`, which has taken the descriptor of `old` over."""
        with self._guard:
            self._sockets.discard(old)
        self.add(new)

    def end(self) -> None:
        """Wake whoever waits for one of the sockets: they have ended. Their owners close them."""
        with self._guard:
            self._is_ended = True
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    # SSLSocket's own shutdown drops the encryption first: what its thread
                    # is about to send, the value perhaps, would go out as it is.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


class Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already, and over no other."""

    auto_open = 0

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = connected


def connect(target: Target, tls: Callable[[], ssl.SSLContext], live: LiveSockets) -> socket.socket:
    """Return a connection to the target; close it with `live.close`.

    Raises:
        DeniedError: the target's name leads to an address that no target may have.
        UnavailableError: it does not answer, or its certificate is not to be trusted.

    """
    where = target.authority
    try:
        connected = _connect_tcp(target, live)
        if target.is_tls:
            connected = _encrypt(connected, target, tls(), live)
    except ssl.SSLCertVerificationError as error:
        raise UnavailableError(
            f"the certificate of {where} is not trusted: {error.verify_message}",
            hint="export SSL_CERT_FILE=/path/of/your/ca.pem, then %aios restart",
        ) from error
    except TimeoutError as error:
        msg = f"{where} does not answer within {CONNECT_DEADLINE_S:.0f} s"
        raise UnavailableError(msg, hint=f"curl -I https://{where}") from error
    except OSError as error:
        msg = f"{where} cannot be reached: {error.strerror or error}"
        raise UnavailableError(msg, hint=f"curl -I https://{where}") from error
    connected.settimeout(SILENCE_S)
    return connected


def _connect_tcp(target: Target, live: LiveSockets) -> socket.socket:
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    # The addresses that are checked are the ones that are used: a name that is asked for twice
    # may answer differently the second time.
    for *_, address in found:
        if is_forbidden_address(str(address[0]), is_tls=target.is_tls):
            raise DeniedError(
                f"{target.host} has the address {address[0]}, where no secret is sent",
                hint="%aios secret rm NAME, then set it with another --target",
            )
    failure: OSError = ConnectionError("its name has no address")
    for family, kind, protocol, _, address in found:
        connected = socket.socket(family, kind, protocol)
        live.add(connected)
        try:
            connected.settimeout(CONNECT_DEADLINE_S)
            connected.connect(address)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            live.close(connected)
            failure = error
        else:
            return connected
    raise failure


def _encrypt(
    plain: socket.socket, target: Target, context: ssl.SSLContext, live: LiveSockets
) -> ssl.SSLSocket:
    try:
        encrypted = context.wrap_socket(
            plain, server_hostname=target.host, do_handshake_on_connect=False
        )
    except BaseException:
        live.close(plain)
        raise
    live.swap(plain, encrypted)
    try:
        encrypted.do_handshake()
    except BaseException:
        live.close(encrypted)
        raise
    return encrypted
