"""The front for people elsewhere: TLS with a certificate of its own, and a token per request.

Who comes this way is no peer of the Unix socket: the scope's client is `("tls:ADDRESS", port)`, and
nothing but a token says who it is. The certificate vouches for itself: clients know it by its
fingerprint, which `jupyter aios serve` prints. Browsers have no business here, so a request with
an Origin is refused, and so is one for a host that the certificate does not name.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jupyter_aios.controller.certificates import normal_name
from jupyter_aios.controller.routes import reply
from jupyter_aios.controller.tokens import TLS_PREFIX, WRONG_TOKEN, WrongTokens, bearer, token_hash
from jupyter_aios.core import version
from jupyter_aios.core.wire import VERSION_HEADER, ErrorBody
from jupyter_aios.errors import DeniedError

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_CONNECTIONS = 1000

_FORBIDDEN, _UNAUTHORIZED, _MISDIRECTED, _TOO_MANY = 403, 401, 421, 429
_USE_CLIENT = "%aios login URL, in a notebook"


def serve_tls(
    app: ASGIApp,
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    names: Collection[str],
    wrong_tokens: WrongTokens | None = None,
) -> uvicorn.Server:
    """Return a server that listens when it is run; port 0 is any that is free.

    Args:
        app: behind `Front`; it finds out whose a token is by `tokens.bearer`, and tells of one
            that is nobody's by `tokens.wrong_token`.
        host: the address to listen at.
        port: the port.
        context: from `certificates.server_context`.
        names: that a request's Host header may have; the certificate's.
        wrong_tokens: who shows wrong tokens; one that begins empty where it is left out.

    """
    front = Front(app, names=names, wrong_tokens=wrong_tokens or WrongTokens(time.monotonic))
    config = _TlsConfig(
        front,
        host=host,
        port=port,
        http=TlsProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Else a header could say who asks.
        proxy_headers=False,
        headers=[(VERSION_HEADER, version.__version__)],
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
    config.context = context
    return uvicorn.Server(config)


class _TlsConfig(uvicorn.Config):
    """A configuration that takes a context rather than the names of files."""

    context: ssl.SSLContext

    def load(self) -> None:
        """Load everything else."""
        super().load()
        self.ssl = self.context


class TlsProtocol(H11Protocol):
    """uvicorn's HTTP, which marks its clients as no peers of the Unix socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note where the connection comes from before a byte is read."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.client = (f"{TLS_PREFIX}{peer[0]}", int(peer[1])) if peer else (TLS_PREFIX, 0)


class Front:
    """What a request passes before the application: no browser, a known host, a token at all."""

    def __init__(self, app: ASGIApp, *, names: Collection[str], wrong_tokens: WrongTokens) -> None:
        self._app = app
        self._names = frozenset(map(normal_name, names))
        self._wrong_tokens = wrong_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on, or answer it with the reason why not."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, error = refusal
        response = reply(ErrorBody(type(error).__name__, error.message, error.hint), status)
        if status == _UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, DeniedError] | None:
        address = scope["client"][0].removeprefix(TLS_PREFIX)
        wait_s = self._wrong_tokens.wait_s(address)
        if wait_s:
            msg = f"too many wrong tokens came from {address}"
            return _TOO_MANY, DeniedError(msg, hint=f"try again in {wait_s:.0f} s")
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if any(name == b"origin" for name, _ in headers):
            return _FORBIDDEN, DeniedError("this address is not for web pages", hint=_USE_CLIENT)
        host = _host_of(headers)
        if host not in self._names:
            known = ", ".join(sorted(self._names))
            msg = f"the request is for the host {host[:80]!r}, here is {known}"
            return _MISDIRECTED, DeniedError(msg, hint=f"%aios login https://{known.split(',')[0]}")
        try:
            hashed = token_hash(bearer(headers))
        except DeniedError as error:
            self._wrong_tokens.note(address, _shown(headers))
            return _UNAUTHORIZED, error
        scope[WRONG_TOKEN] = lambda: self._wrong_tokens.note(address, hashed)
        return None


def _host_of(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the host that a request is for, without its port; empty where it is not clear."""
    found = [value for name, value in headers if name == b"host"]
    if len(found) != 1:
        return ""
    text = found[0].decode("latin-1").lower()
    host = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    return normal_name(host)


def _shown(headers: list[tuple[bytes, bytes]]) -> str:
    """Return a hash of what was shown instead of a token, so that the same again counts once."""
    shown = b"\0".join(value for name, value in headers if name == b"authorization")
    return hashlib.sha256(shown).hexdigest() if shown else ""
