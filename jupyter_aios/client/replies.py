"""One request over a connection, and what its reply means; for either transport."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.core.wire import ErrorBody, from_plain
from jupyter_aios.errors import AiosError

if TYPE_CHECKING:
    import http.client
    from collections.abc import Mapping


def send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Path | None,
    extra: Mapping[str, str] = {},
) -> http.client.HTTPResponse:
    """Send a request and return the reply, whose body has not been read."""
    headers = {"Connection": "close", **extra}
    if body is not None:
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        headers |= {"Content-Length": str(size), "Content-Type": "application/json"}
    with contextlib.ExitStack() as stack:
        payload = stack.enter_context(body.open("rb")) if isinstance(body, Path) else body
        # A controller that refuses the bytes replies and closes while they are still being
        # sent: what it said can be read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body=payload, headers=headers)
    return connection.getresponse()


def raise_error(reply: http.client.HTTPResponse) -> None:
    """Return where the reply is a success.

    Raises:
        AiosError: what the controller raised, as the same class.

    """
    if reply.status < 300:  # noqa: PLR2004 - HTTP's successes
        return
    try:
        told = from_plain(ErrorBody, json.loads(reply.read()))
    except (ValueError, AiosError):
        told = ErrorBody("AiosError", f"the controller replied {reply.status}", "")
    raise AiosError.from_kind(told.kind, told.message, told.hint)
