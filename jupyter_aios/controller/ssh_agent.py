"""What the SSH agent of a job answers: a login signed, or nothing. Bytes in, bytes out.

The protocol is that of `ssh-agent` (draft-miller-ssh-agent). Three things set this one apart:

- It signs nothing but requests to log in (RFC 4252, section 7, and OpenSSH's host-bound form): a
  key that signs anything would sign releases, certificates and other people's contracts.
- Before each signature it asks whether the key may still be used, and has the use written down;
  what cannot be written down is not signed.
- It does not sign what was forwarded: another machine is not the job. OpenSSH tells it which
  session a connection is for (`session-bind@openssh.com`); once told, it signs for no other.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jupyter_aios.controller.ssh_keys import Damaged, Fields, fingerprint, is_signed, string

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_aios.controller.ssh_keys import SigningKey

log = logging.getLogger(__name__)

MAX_SIGNATURES = 600
"""Within `WINDOW_S`; a job that needs more logins than that keeps its connections open."""
WINDOW_S = 60.0

_FAILURE, _SUCCESS = b"\x05", b"\x06"
_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, b"\x0c"
_SIGN_REQUEST, _SIGN_RESPONSE = 13, b"\x0e"
_EXTENSION = 27
_SESSION_BIND = b"session-bind@openssh.com"
_USERAUTH_REQUEST = 50
_HOST_BOUND = b"publickey-hostbound-v00@openssh.com"
_SESSION_ID_BYTES = frozenset({20, 32, 48, 64})
"""A session's id is the hash of its key exchange: SHA-1 to SHA-512."""
_MAX_SHOWN = 64


class Witness(Protocol):
    """Who is told of each use of a key before it is done, and of each that was refused."""

    def __call__(self, name: str, detail: str, *, is_allowed: bool) -> None:
        """Write it down.

        Raises:
            AiosError: it cannot be written down; then nothing is signed.

        """


@dataclass(frozen=True)
class Login:
    """What somebody asks to sign: a request to log in to a machine."""

    session_id: bytes
    user: str
    algorithm: str
    key: bytes
    host_key: bytes | None
    """Where the request names the machine's key."""


def read_login(data: bytes) -> Login:
    """Return the login that `data` asks for.

    Raises:
        Damaged: it is anything else.

    """
    fields = Fields(data)
    session_id = fields.string()
    if len(session_id) not in _SESSION_ID_BYTES:
        raise Damaged(f"a session's id of {len(session_id)} bytes")
    if fields.byte() != _USERAUTH_REQUEST:
        raise Damaged("no request to log in")
    user, service, method = fields.string(), fields.string(), fields.string()
    if service != b"ssh-connection" or method not in (b"publickey", _HOST_BOUND):
        raise Damaged(f"the service {service[:_MAX_SHOWN]!r} by {method[:_MAX_SHOWN]!r}")
    if fields.byte() != 1:
        raise Damaged("no signature is wanted")
    algorithm, key = fields.string(), fields.string()
    host_key = fields.string() if method == _HOST_BOUND else None
    fields.end()
    shown = user.decode("utf-8", "backslashreplace"), algorithm.decode("ascii", "backslashreplace")
    return Login(session_id, *shown, key, host_key)


@dataclass
class Client:
    """What one connection has told of itself."""

    session: tuple[bytes, bytes] | None = None
    """Id and host key of the session that it is bound to."""
    is_spoilt: bool = False
    """It tried to bind to what it may not: it gets no signature any more."""


class SshAgent:
    """Answers the requests of one job's clients."""

    def __init__(
        self, keys: Mapping[str, SigningKey], *, may_use: Callable[[str], bool], on_use: Witness
    ) -> None:
        self.refusals = 0
        self._keys = dict(keys)
        self._names = {key.blob: name for name, key in keys.items()}
        self._may_use = may_use
        self._on_use = on_use
        self._signed_at: list[float] = []
        self._left_out: set[str] = set()

    def answer(self, client: Client, message: bytes) -> bytes:
        """Return the reply to a message of at least one byte."""
        kind, fields = message[0], Fields(message[1:])
        try:
            if kind == _REQUEST_IDENTITIES:
                fields.end()
                listed = [string(key.blob) + string(name.encode()) for name, key in self._allowed()]
                return _IDENTITIES_ANSWER + len(listed).to_bytes(4, "big") + b"".join(listed)
            if kind == _SIGN_REQUEST:
                blob, data, flags = fields.string(), fields.string(), fields.number()
                fields.end()
                return self._sign(client, blob, data, flags)
            if kind == _EXTENSION and fields.string() == _SESSION_BIND:
                return self._bind(client, fields)
        except Damaged as error:
            self._refuse("", f"a damaged request: {error}")
            return _FAILURE
        # Keys to add or remove, locking: what a broker has is decided elsewhere.
        self.refusals += 1
        return _FAILURE

    def _allowed(self) -> list[tuple[str, SigningKey]]:
        allowed = [(name, key) for name, key in self._keys.items() if self._is_allowed(name)]
        left_out = self._keys.keys() - dict(allowed)
        # ssh asks for the keys first, and ends where there is none: that is how a login is refused.
        # Said once, until the key may be used again: a job that goes on trying fills no audit.
        for name in sorted(left_out - self._left_out):
            self._witness(name, "wants to log in: the key may not be used now", is_allowed=False)
        self._left_out = left_out
        return allowed

    def _is_allowed(self, name: str) -> bool:
        try:
            return self._may_use(name)
        except Exception:
            log.exception("whether %s may be used cannot be told", name)
            return False

    def _sign(self, client: Client, blob: bytes, data: bytes, flags: int) -> bytes:
        name = self._names.get(blob, "")
        if not name:
            return self._refuse("", "asked to sign with a key that this job does not have")
        key = self._keys[name]
        try:
            login = read_login(data)
            host_key = _host_of(client, login)
            is_for_key = login.key == blob and login.algorithm == key.algorithm(flags)
        except Damaged as error:
            return self._refuse(name, f"asked to sign what is no login here: {error}")
        detail = f"a login as {login.user[:_MAX_SHOWN]!r}"
        detail += f" to the host with the key {fingerprint(host_key)}" if host_key else ""
        if not is_for_key:
            return self._refuse(name, f"{detail}: with another key or algorithm")
        if not self._is_allowed(name):
            return self._refuse(name, f"{detail}: the key may not be used any more")
        if not self._is_in_budget():
            told = f"more than {MAX_SIGNATURES} logins within {WINDOW_S:.0f} s"
            return self._refuse(name, f"{detail}: {told}")
        is_written = self._witness(name, detail, is_allowed=True)
        return _SIGN_RESPONSE + string(key.sign(data, login.algorithm)) if is_written else _FAILURE

    def _bind(self, client: Client, fields: Fields) -> bytes:
        host_key, session_id, signature = fields.string(), fields.string(), fields.string()
        is_forwarded = fields.byte() != 0
        fields.end()
        session = (session_id, host_key)
        is_genuine = is_signed(host_key, signature, session_id)
        if is_forwarded or not is_genuine or client.session not in (None, session):
            client.is_spoilt = True
            why = "forwarded" if is_forwarded else "another" if is_genuine else "forged"
            return self._refuse("", f"bound to a session that is {why}")
        client.session = session
        return _SUCCESS

    def _is_in_budget(self) -> bool:
        now = time.monotonic()
        self._signed_at = [at for at in self._signed_at if now - at < WINDOW_S]
        if len(self._signed_at) >= MAX_SIGNATURES:
            return False
        self._signed_at.append(now)
        return True

    def _refuse(self, name: str, detail: str) -> bytes:
        self.refusals += 1
        self._witness(name, detail, is_allowed=False)
        return _FAILURE

    def _witness(self, name: str, detail: str, *, is_allowed: bool) -> bool:
        """Have it written down; False where that failed, whatever the reason."""
        try:
            self._on_use(name, detail, is_allowed=is_allowed)
        except Exception:
            log.exception("the use of %s cannot be written down: %s", name or "a key", detail)
            return False
        return True


def _host_of(client: Client, login: Login) -> bytes | None:
    """Return the host key of the login, where it is known.

    Raises:
        Damaged: the connection is bound to another session.

    """
    if client.is_spoilt:
        raise Damaged("for a session that it must not be bound to")
    if client.session is None:
        return login.host_key
    session_id, host_key = client.session
    if login.session_id != session_id or login.host_key not in (None, host_key):
        raise Damaged("for another session than the one it is bound to")
    return host_key
