"""One request of a job: asked of policy, sent on with the secret, and its answer handed back."""

from __future__ import annotations

import contextlib
import http.client
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.controller.fetching import answering, asking
from jupyter_aios.controller.fetching.guard import (
    METHODS,
    Target,
    request_headers,
    split_request_target,
)
from jupyter_aios.controller.fetching.outward import Connection, connect
from jupyter_aios.core.redaction import Redaction
from jupyter_aios.core.secrets import Secret, SecretInfo
from jupyter_aios.errors import (
    AiosError,
    DeniedError,
    InputError,
    StateError,
    UnavailableError,
    UnknownNameError,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from jupyter_aios.controller.fetching.outward import LiveSockets

log = logging.getLogger(__name__)

_HEADER_VALUE = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_MAX_AUDITED_PATH = 200


@dataclass(frozen=True)
class Access:
    """What the proxy is told from outside: which secrets, and whom to ask."""

    secrets: Mapping[str, tuple[SecretInfo, Target]]
    value_of: Callable[[SecretInfo], Secret]
    may_use: Callable[[SecretInfo], bool]
    on_use: Callable[[SecretInfo, str], None]
    tls: Callable[[], ssl.SSLContext]


class Exchange:
    """A job's connection and its one request."""

    def __init__(self, connection: socket.socket, access: Access, live: LiveSockets) -> None:
        self._connection = connection
        self._reader = asking.Reader(connection)
        self._access = access
        self._live = live
        self._method = ""
        self._has_replied = False
        self._has_unread = True

    def run(self) -> None:
        """Answer the request; what goes wrong is an answer too, as long as none has begun."""
        try:
            self._answer(asking.parse_head(self._reader.head()))
        except AiosError as error:
            self._refuse(error)
        except (_JobHasGoneError, OSError, http.client.HTTPException) as error:
            # One of the two sides is gone in the middle, or all of it is over.
            log.debug("a request of a job ended early: %s", type(error).__name__)
        except Exception as error:
            log.exception("a request of a job failed")
            told = f"internal error in the controller ({type(error).__name__})"
            self._refuse(AiosError(told, hint="see controller.log in the home folder"))
        if self._has_unread:
            answering.linger(self._connection)

    def _answer(self, asked: asking.Asked) -> None:
        self._method = asked.method
        self._has_unread = asked.is_chunked or bool(asked.length_bytes)
        if asked.method not in METHODS:
            raise InputError(f"the method {asked.method}", hint=f"one of {', '.join(METHODS)}")
        name, below, query = split_request_target(asked.target)
        if name not in self._access.secrets:
            raise UnknownNameError.among("secret to fetch with", name, self._access.secrets)
        info, target = self._access.secrets[name]
        # Now, not when the job began: who lost the right since then has lost it.
        if not self._access.may_use(info):
            hint = f"ask {info.owner}, whose secret it is"
            raise DeniedError(f"{info.owner}/{name} is not for this job any more", hint=hint)
        value = _header_value(name, self._access.value_of(info))
        redaction = _redaction(name, value)
        with contextlib.ExitStack() as stack:
            connected = connect(target, self._access.tls, self._live)
            stack.callback(self._live.close, connected)
            note = f"{asked.method} {target.authority}{target.place(below)[:_MAX_AUDITED_PATH]}"
            outcome = "no answer"
            try:
                reply = self._send(asked, connected, target, target.place(below) + query, value)
                stack.enter_context(reply)
                outcome = str(reply.status)
            finally:
                # Before a byte of the answer goes on; and also where none came: it was sent.
                # Without the query, which may hold tokens of its own.
                self._access.on_use(info, f"{note} → {outcome}")
            answering.check_reply(reply, target.authority)
            self._has_replied = True
            answering.write_reply_head(self._connection, asked, reply, redaction)
            answering.write_reply_body(self._connection, asked, reply, redaction)

    def _send(
        self,
        asked: asking.Asked,
        connected: socket.socket,
        target: Target,
        path: str,
        value: Secret,
    ) -> http.client.HTTPResponse:
        """Send the request with the secret, and return the head of what is answered.

        Raises:
            UnavailableError: nothing is answered.

        """
        connection = Connection(connected)
        connection.putrequest(asked.method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", target.authority)
        for name, header in request_headers(asked.headers):
            connection.putheader(name, header)
        connection.putheader("Authorization", b"Bearer " + value.reveal())
        # What is packed could not be searched for the value.
        connection.putheader("Accept-Encoding", "identity")
        connection.putheader("Connection", "close")
        if asked.is_chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif asked.length_bytes is not None:
            connection.putheader("Content-Length", str(asked.length_bytes))
        try:
            # Who refuses a body answers before all of it is sent, and the answer can be read.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                connection.endheaders()
                for piece in self._body(asked):
                    connected.sendall(answering.chunk(piece) if asked.is_chunked else piece)
                if asked.is_chunked:
                    connected.sendall(answering.chunk(b""))
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"{target.authority} closed without an answer ({type(error).__name__})",
                hint="try again",
            ) from None

    def _body(self, asked: asking.Asked) -> Iterator[bytes]:
        try:
            if asked.awaits_word:
                self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            yield from asking.body(asked, self._reader)
            self._has_unread = False
        except OSError as error:
            raise _JobHasGoneError(str(error)) from error

    def _refuse(self, error: AiosError) -> None:
        if not self._has_replied:
            with contextlib.suppress(OSError):
                answering.write_error(self._connection, error, is_head=self._method == "HEAD")


class _JobHasGoneError(Exception):
    """The job's side broke off in its own body, not the target's."""


def _header_value(name: str, secret: Secret) -> Secret:
    """Return the secret as a header carries it: without the line end that files end with.

    Raises:
        StateError: it is none; one with a line end inside could add headers of its own.

    """
    value = secret.reveal().strip()
    if not _HEADER_VALUE.fullmatch(value):
        raise StateError(
            f"{name} holds characters that no header can carry, such as line ends",
            hint=f"%aios secret rotate {name}",
        )
    return Secret(value)


def _redaction(name: str, value: Secret) -> Redaction:
    """Return what takes the secret out of an answer.

    Raises:
        StateError: it is so short that it would stay in.

    """
    redaction = Redaction([(name, value)])
    if redaction.too_short:
        raise StateError(
            f"{name} has {len(value)} bytes: a server that echoes it would tell it to the job",
            hint=f"%aios secret rotate {name}",
        )
    return redaction
