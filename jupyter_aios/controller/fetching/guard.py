"""Where a secret may go, which requests stay there, and which headers pass; all of it pure."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from jupyter_aios.core.secrets import SECRET_NAME
from jupyter_aios.errors import InputError
from jupyter_aios.training.fetching import ERROR_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Headers = Sequence[tuple[str, str]]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""TRACE is not among them: its answer is the request, and the value stands in that."""

_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.(?!-)[a-z0-9-]{1,63})*")
_PRINTABLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
"""RFC 3986, section 3.3."""
_QUERY = re.compile(r"[\x21\x22\x24-\x7e]*")
_MAX_LAYERS = 8

_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_OURS = _HOP_BY_HOP | {
    "authorization", "cookie", "cookie2", "host", "content-length", "expect",
    # An answer that is packed could not be searched for the value.
    "accept-encoding",
    # Who asks, and for what: a server that believes these would be asked for something that
    # neither the guard nor the audit has seen.
    "forwarded", "x-real-ip", "x-http-method", "x-http-method-override", "x-method-override",
}  # fmt: skip
_OURS_PREFIXES = ("proxy-", "x-forwarded-", "x-original-", "x-rewrite-")
_NOT_FOR_JOBS = _HOP_BY_HOP | {
    "set-cookie", "set-cookie2", "www-authenticate", "authentication-info", "content-length",
    "alt-svc", ERROR_HEADER.lower(),
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Where a secret may be sent: one server, and there a path and what is below it."""

    is_tls: bool
    host: str
    port: int
    path: str
    """Begins with a slash and ends with none; empty for the whole server."""

    @property
    def authority(self) -> str:
        """The host as URLs have it, with the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    def place(self, below: str) -> str:
        """Return the server's path of what lies `below` the target."""
        return self.path + below or "/"


def parse_target(url: str) -> Target:
    """Return the target that a URL prefix names.

    Raises:
        InputError: nothing may be sent there; all faults at once.

    Example:
        >>> parse_target("https://hub.school/api/").place("/models/x.bin")
        '/api/models/x.bin'

    """
    hint = "--target https://hub.school/api"
    # First of all: urlsplit drops line ends and tabs in silence.
    if not _PRINTABLE.fullmatch(url):
        raise InputError("the target holds characters that no URL has", hint=hint)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"the target is no URL: {error}", hint=hint) from None
    is_tls = parts.scheme == "https"
    checks = [
        (
            is_tls or (parts.scheme == "http" and host in _LOOPBACK_HOSTS),
            f"{parts.scheme or 'no scheme'} to {host!r}: only https, or http to 127.0.0.1",
        ),
        # Not repeated: it may be a password.
        ("@" not in parts.netloc, "a name or password before the host"),
        (_is_host(host), f"{host[:80]!r} is no host"),
        (port is None or port > 0, f"port {port}"),
        ("?" not in url and "#" not in url, "a query or a fragment: a prefix ends with its path"),
        (not parts.path or _stays_below(parts.path), f"the path {parts.path[:80]!r}"),
    ]
    faults = [f"the target: {fault}" for is_good, fault in checks if not is_good]
    if faults:
        raise InputError.of_faults(faults, hint=hint)
    return Target(is_tls, host, port or (443 if is_tls else 80), parts.path.rstrip("/"))


def split_request_target(asked: str) -> tuple[str, str, str]:
    """Return the secret's name, the path below its target, and "" or "?" and the query.

    Raises:
        InputError: it would leave the target, on this server or on a less careful one.

    Example:
        >>> split_request_target("/HUB/models/x.bin?rev=2")
        ('HUB', '/models/x.bin', '?rev=2')

    """
    hint = "ask for /NAME/path/below/the/target"
    if not asked.startswith("/"):
        raise InputError("the request's target begins with no slash", hint=hint)
    path, mark, query = asked.partition("?")
    if not _QUERY.fullmatch(query):
        raise InputError("the query holds characters that no URL has", hint=hint)
    if not _stays_below(path):
        raise InputError(f"{path[:80]!r} is no path below a target", hint=hint)
    name, slash, below = path[1:].partition("/")
    if not SECRET_NAME.fullmatch(name):
        raise InputError(f"{name[:80]!r} is no secret's name", hint=hint)
    return name, slash + below, mark + query


def request_headers(headers: Headers) -> list[tuple[str, str]]:
    """Return what a target gets to see of a job's headers."""
    named = _named_by_connection(headers)
    return [
        (name, value)
        for name, value in headers
        # CGI and WSGI make one of X-A and X_A.
        for plain in [name.lower().replace("_", "-")]
        if plain not in _OURS | named and not plain.startswith(_OURS_PREFIXES)
    ]


def reply_headers(headers: Headers) -> list[tuple[str, str]]:
    """Return what a job gets to see of a target's headers."""
    named = _named_by_connection(headers)
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _NOT_FOR_JOBS | named and not name.lower().startswith("proxy-")
    ]


def is_forbidden_address(text: str, *, is_tls: bool) -> bool:
    """Return whether no target may have this address.

    A cloud tells its machines their credentials at link-local addresses; and without TLS the
    value must not leave this machine, whatever a name resolves to.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # RFC 6052's prefix: a translator would make of it the IPv4 address at its end.
        is_translated = address in ipaddress.IPv6Network("64:ff9b::/96")
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if is_translated else None
        address = address.ipv4_mapped or inner or address
    if not is_tls:
        return not address.is_loopback
    return address.is_link_local or address.is_multicast or address.is_unspecified


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> set[str]:
    """Return the headers that are for the next hop only, because Connection says so."""
    values = [value for name, value in headers if name.lower() == "connection"]
    return {part.strip().lower() for value in values for part in value.split(",")}


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return len(host) < 254 and _HOST.fullmatch(host) is not None  # noqa: PLR2004 - RFC 1035
    return "%" not in host


def _stays_below(path: str) -> bool:
    """Return whether a path goes down only, however often a server decodes it."""
    if not _PATH.fullmatch(path):
        return False
    plain = _decoded(path)
    if plain is None or "\\" in plain or any(unicodedata.category(c) == "Cc" for c in plain):
        return False
    segments = plain[1:].split("/")
    # The last may be empty: a folder's own path ends with a slash.
    if not all(segments[:-1]):
        return False
    # Tomcat reads "..;x" as "..", Windows ".. " too.
    return all(segment.partition(";")[0].strip() not in {".", ".."} for segment in segments)


def _decoded(path: str) -> str | None:
    """Return the path with nothing left to decode, or None where that is no text."""
    for _ in range(_MAX_LAYERS):
        try:
            # Strictly: in overlong UTF-8 (%c0%ae) some servers see a dot, and in U+FF0E, which
            # is a dot in NFKC.
            plain = unicodedata.normalize("NFKC", unquote(path, errors="strict"))
        except UnicodeDecodeError:
            return None
        if plain == path:
            return path
        path = plain
    return None
