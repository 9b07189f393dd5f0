"""Tokens: what a person elsewhere shows instead of a user id, and who shows wrong ones.

A token is `aios_` and 40 characters of base32: 20 random bytes and 5 that are their checksum. So a
scanner of repositories finds a token that was committed, and a typo is told apart from a token
that nobody has. The controller keeps SHA-256 hashes only. A token has 160 random bits, so a fast
hash is enough, and looking one up by its hash tells by its time nothing of any token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import DeniedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PREFIX = "aios_"
MAX_WRONG = 10
"""Different wrong tokens from one address within `WINDOW_S`; the same again counts once, so that
one client with an old token in a loop does not lock out the room that shares its address."""
WINDOW_S = 60.0
TLS_PREFIX = "tls:"
"""Before the address of a client that is no peer of the Unix socket."""
WRONG_TOKEN = "aios.wrong_token"  # noqa: S105 - a key of the ASGI scope
"""Where a front that counts wrong tokens leaves the function to count one by."""

_RANDOM_BYTES, _CHECKSUM_BYTES = 20, 5
_MAX_ADDRESSES = 10_000
_HINT = "%aios login URL"


def new_token() -> Secret:
    """Return a token that nobody has; it is shown once."""
    body = secrets.token_bytes(_RANDOM_BYTES)
    return Secret(PREFIX + base64.b32encode(body + _checksum(body)).decode().lower())


def token_hash(text: str) -> str:
    """Return what is kept of a token, and looked up: its SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the token of a request's headers, as ASGI has them; somebody may have it or nobody.

    Raises:
        DeniedError: there is none, or what is there cannot be one. The message repeats nothing.

    """
    found = [value for name, value in headers if name.lower() == b"authorization"]
    if not found:
        raise DeniedError("no token came with the request", hint=_HINT)
    if len(found) > 1:
        raise DeniedError(f"{len(found)} Authorization headers came with the request", hint=_HINT)
    scheme, _, rest = found[0].partition(b" ")
    if scheme.lower() != b"bearer":
        raise DeniedError("the Authorization header holds no bearer token", hint=_HINT)
    text = rest.decode("latin-1")
    body = text.removeprefix(PREFIX)
    try:
        data = base64.b32decode(body.upper().encode("ascii"))
    except (binascii.Error, ValueError):
        data = b""
    is_long_enough = len(data) == _RANDOM_BYTES + _CHECKSUM_BYTES
    if body == text or body != body.lower() or not is_long_enough:
        raise DeniedError("what came with the request is no token: aios_…", hint=_HINT)
    if not hmac.compare_digest(_checksum(data[:_RANDOM_BYTES]), data[_RANDOM_BYTES:]):
        raise DeniedError("the token is mistyped: its checksum does not fit", hint=_HINT)
    return text


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:_CHECKSUM_BYTES]


def wrong_token(scope: Mapping[str, Any], why: str) -> DeniedError:
    """Return the error for a token that lets nobody in, and count it where that is done."""
    count: Callable[[], None] | None = scope.get(WRONG_TOKEN)
    if count is not None:
        count()
    return DeniedError(why, hint=_HINT)


class WrongTokens:
    """Which addresses show wrong tokens. Safe for many threads; its memory is bounded."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, dict[str, float]] = OrderedDict()
        """Address → hash of a wrong token → when it came last."""

    def note(self, address: str, hashed: str) -> None:
        """Count a wrong token; `hashed` is empty for a request without one."""
        network = _network(address)
        with self._lock:
            seen = self._seen.setdefault(network, {})
            self._seen.move_to_end(network)
            if len(seen) < MAX_WRONG or hashed in seen:
                seen[hashed] = self._clock()
            if len(self._seen) > _MAX_ADDRESSES:
                self._seen.popitem(last=False)

    def wait_s(self, address: str) -> float:
        """Return for how long this address is not listened to; 0 where it is."""
        network, now = _network(address), self._clock()
        with self._lock:
            seen = self._seen.get(network)
            if seen is None:
                return 0.0
            for hashed in [one for one, at in seen.items() if now - at >= WINDOW_S]:
                del seen[hashed]
            if not seen:
                del self._seen[network]
            return WINDOW_S - (now - min(seen.values())) if len(seen) >= MAX_WRONG else 0.0


def _network(address: str) -> str:
    """Return whom an address stands for: a host of IPv6 has a whole /64 to change through."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return address
