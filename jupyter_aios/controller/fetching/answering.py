"""What goes back to a job: what is the job's of a target's answer, or why there is none."""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import re
import socket
import time
from typing import TYPE_CHECKING

from jupyter_aios import errors
from jupyter_aios.controller.fetching.asking import MAX_HEAD_BYTES, PIECE_BYTES
from jupyter_aios.controller.fetching.guard import reply_headers
from jupyter_aios.core.wire import ErrorBody, to_plain
from jupyter_aios.training.fetching import ERROR_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.controller.fetching.asking import Asked
    from jupyter_aios.core.redaction import Redaction
    from jupyter_aios.errors import AiosError

STATUS = {
    errors.UnknownNameError: 404,
    errors.InputError: 400,
    errors.CapacityError: 413,
    errors.DeniedError: 403,
    errors.LockedError: 423,
    errors.StateError: 409,
    errors.UnavailableError: 502,
}

_WITHOUT_BODY = (204, 304)
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LINGER_S = 5.0


def check_reply(reply: http.client.HTTPResponse, where: str) -> None:
    """Refuse what cannot be handed back.

    Raises:
        UnavailableError: it is no final answer, its head is too long, or its body is packed.

    """
    hint = "tell whoever runs that server"
    if not 200 <= reply.status <= 599:  # noqa: PLR2004 - RFC 9110: final answers
        raise errors.UnavailableError(f"{where} answered with {reply.status}", hint=hint)
    size = sum(len(name) + len(value) + 4 for name, value in reply.getheaders())
    if size > MAX_HEAD_BYTES:
        msg = f"{where} answered with {size} bytes of headers, at most {MAX_HEAD_BYTES}"
        raise errors.UnavailableError(msg, hint=hint)
    for name, plain in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        coding = reply.getheader(name, plain)
        if coding.strip().lower() != plain:
            # It could not be searched for the value.
            msg = f"{where} answered with {name}: {coding[:40]!r}, which nobody asked for"
            raise errors.UnavailableError(msg, hint=hint)


def write_reply_head(
    connection: socket.socket, asked: Asked, reply: http.client.HTTPResponse, redaction: Redaction
) -> None:
    """Write the status and the headers that are for the job."""
    lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
    for name, value in reply_headers(reply.getheaders()):
        line = redaction.redact(f"{name}: {value}".encode("latin-1")).decode("latin-1")
        if line.startswith(f"{name}: ") and _LINE.fullmatch(line):
            lines.append(line)
    length = reply.getheader("Content-Length", "")
    if _has_body(asked, reply):
        # The length changes with what is taken out; and a last chunk tells that all is there.
        lines += [] if asked.is_old else ["Transfer-Encoding: chunked"]
    elif length.isdecimal() and length.isascii():
        lines.append(f"Content-Length: {length}")
    connection.sendall(_head(lines))


def write_reply_body(
    connection: socket.socket, asked: Asked, reply: http.client.HTTPResponse, redaction: Redaction
) -> None:
    """Write the body as it arrives; one that breaks off has no last chunk.

    Raises:
        HTTPException, OSError: it broke off, or the job has gone.

    """
    if not _has_body(asked, reply):
        return
    redactor = redaction.stream()
    for piece in _pieces(reply):
        _write(connection, redactor.feed(piece), in_chunks=not asked.is_old)
    _write(connection, redactor.flush(), in_chunks=not asked.is_old)
    if not asked.is_old:
        connection.sendall(chunk(b""))


def write_error(connection: socket.socket, error: AiosError, *, is_head: bool) -> None:
    """Write an error, which `aios.fetch` raises again as the same class.

    Raises:
        OSError: the job has gone.

    """
    kind = type(error).__name__
    status = next((code for cls, code in STATUS.items() if isinstance(error, cls)), 500)
    content = json.dumps(to_plain(ErrorBody(kind, error.message, error.hint))).encode()
    head = _head([
        f"HTTP/1.1 {status} {_phrase(status)}",
        f"{ERROR_HEADER}: {kind}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ])  # fmt: skip
    connection.sendall(head if is_head else head + content)


def linger(connection: socket.socket) -> None:
    """Take the rest of a body that nobody wants: its sender reads the answer when it has sent."""
    deadline = time.monotonic() + _LINGER_S
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left_s := deadline - time.monotonic()) > 0:
            connection.settimeout(left_s)
            if not connection.recv(PIECE_BYTES):
                return


def chunk(data: bytes) -> bytes:
    """Return a chunk of the chunked coding; an empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _has_body(asked: Asked, reply: http.client.HTTPResponse) -> bool:
    return asked.method != "HEAD" and reply.status not in _WITHOUT_BODY


def _write(connection: socket.socket, data: bytes, *, in_chunks: bool) -> None:
    if data:
        connection.sendall(chunk(data) if in_chunks else data)


def _pieces(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    left = reply.length
    while left != 0:
        # As soon as there is something: an answer may be a conversation.
        piece = reply.read1(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
        if not piece:
            if left:
                raise http.client.IncompleteRead(b"", left)
            return
        left = None if left is None else left - len(piece)
        yield piece


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Answered"
