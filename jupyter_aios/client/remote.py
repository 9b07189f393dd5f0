"""Requests to a controller elsewhere: HTTPS with a pinned certificate and a bearer token."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import re
import socket
import ssl
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from jupyter_aios.client.replies import raise_error, send
from jupyter_aios.errors import DeniedError, InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_aios.client.login import Login

T = TypeVar("T")

REPLY_DEADLINE_S = 60.0
_TRIES = 3


class RemoteTransport:
    """A controller that is reached over TLS. Each request has a connection of its own."""

    def __init__(self, home: Path, login: Login, version: str) -> None:
        self.home = home
        self.version = version
        self._login = login
        self._host, self._port = _place_of(login.url)
        if not re.fullmatch(r"[\x21-\x7e]+", login.token):
            # A header with it could not be sent; the error of that would repeat it.
            raise InputError("that is no token: aios_…", hint=f"%aios login {login.url}")
        self._context = ssl.create_default_context()
        if login.fingerprint:
            # The fingerprint says more than a name and an authority could.
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def is_running(self) -> bool:
        """Return whether it can be reached."""
        with contextlib.suppress(UnavailableError, OSError):
            self._connect().close()
            return True
        return False

    def shutdown(self) -> bool:
        """End it, where that is allowed."""
        self.ask("POST", "/v1/shutdown", read=lambda reply: reply.read())
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
        """Send the request until it is answered, a few times; return the reply."""
        lost: Exception | None = None
        for _ in range(_TRIES):
            with contextlib.closing(self._connect(wait_s)) as connection:
                try:
                    headers = {"Authorization": f"Bearer {self._login.token}"}
                    # The reply has the socket by now: half read, it would stay open.
                    with contextlib.closing(send(connection, method, path, body, headers)) as reply:
                        raise_error(reply)
                        return read(reply)
                except (ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
                    lost = error
                except TimeoutError as error:
                    lost = error
                    break
        raise UnavailableError(
            f"{self._login.url} did not answer: {lost}", hint="is `jupyter aios serve` running?"
        )

    def _connect(self, wait_s: float = 0.0) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port)
        try:
            plain = socket.create_connection((self._host, self._port), timeout=10)
            try:
                secured = self._context.wrap_socket(plain, server_hostname=self._host)
            except BaseException:
                plain.close()
                raise
        except ssl.SSLCertVerificationError as error:
            raise DeniedError(
                f"no authority vouches for {self._login.url}: {error.verify_message}",
                hint="%aios login URL --fingerprint sha256:… (`jupyter aios serve` prints it)",
            ) from error
        except OSError as error:
            raise UnavailableError(
                f"{self._login.url} cannot be reached: {error}",
                hint="is `jupyter aios serve` running there?",
            ) from error
        self._check_certificate(secured)
        secured.settimeout(REPLY_DEADLINE_S + wait_s)
        connection.sock = secured
        return connection

    def _check_certificate(self, secured: ssl.SSLSocket) -> None:
        """Refuse another certificate before a byte, and the token with it, is sent."""
        if not self._login.fingerprint:
            return
        shown = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(shown, self._login.fingerprint):
            secured.close()
            raise DeniedError(
                f"{self._login.url} shows another certificate than the one you logged in to"
                f" (sha256:{shown[:16]}…)",
                hint="ask who runs it; after a change: %aios login URL --fingerprint sha256:…",
            )


def _place_of(url: str) -> tuple[str, int]:
    """Return the host and the port of an address."""
    try:
        place = urlsplit(url)
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    if host is None or not url.startswith("https://"):
        raise InputError(f"{url!r} is no https:// address", hint="%aios login https://HOST:PORT")
    return host, port or 443
