"""Requests to a controller elsewhere: HTTPS with a pinned certificate and a bearer token."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from jupyter_aios.client.replies import raise_error, send
from jupyter_aios.errors import DeniedError, InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

LOGIN_FILE = "login.json"
REPLY_DEADLINE_S = 60.0
_TRIES = 3
_FINGERPRINT = re.compile(r"(?:sha256:)?((?:[0-9a-f]{2}:?){32})", re.IGNORECASE)


@dataclass(frozen=True)
class Login:
    """Where a controller is, how it is known again, and what it lets in."""

    url: str
    fingerprint: str
    """SHA-256 of its certificate in hexadecimal; empty: an authority of this machine vouches."""
    token: str

    def __repr__(self) -> str:
        return f"Login({self.url!r}, …)"


def read_login(home: Path) -> Login | None:
    """Return the login that a home keeps, if it has one."""
    try:
        data = json.loads((home / LOGIN_FILE).read_text())
        return Login(str(data["url"]), str(data["fingerprint"]), str(data["token"]))
    except (FileNotFoundError, NotADirectoryError):
        return None  # what else is wrong with the home, its user says
    except (OSError, ValueError, LookupError, TypeError) as error:
        # Not from the error: its own text may hold what stands in the file, the token too.
        why = error.strerror if isinstance(error, OSError) else "it is no login"
        msg = f"{home / LOGIN_FILE} cannot be read: {why}"
        raise InputError(msg, hint="%aios login URL") from None


def save_login(home: Path, login: Login) -> Path:
    """Keep a login for later sessions, for this user only; return where."""
    path = home / LOGIN_FILE
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = home / f".{LOGIN_FILE}.{os.getpid()}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(vars(login), file)
    part.replace(path)
    return path


def forget_login(home: Path) -> bool:
    """Forget a home's login; False where there was none."""
    with contextlib.suppress(FileNotFoundError):
        (home / LOGIN_FILE).unlink()
        return True
    return False


def read_fingerprint(text: str) -> str:
    """Return a certificate's fingerprint as lower hexadecimal.

    Raises:
        InputError: it is none.

    Example:
        >>> read_fingerprint("sha256:" + "AB" * 32)[:4]
        'abab'

    """
    found = _FINGERPRINT.fullmatch(text.strip())
    if found is None:
        raise InputError(
            f"--fingerprint {text[:80]!r} is no SHA-256 fingerprint",
            hint="the line that `jupyter aios serve` prints has it",
        )
    return found[1].replace(":", "").lower()


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
                    reply = send(connection, method, path, body, headers)
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
