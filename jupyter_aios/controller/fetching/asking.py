"""What a job asks, read strictly: one HTTP/1.1 request (RFC 9112) per connection.

Two parsers that take the same bytes for different requests are how requests are smuggled. So what
the RFC only tolerates (folded headers, bare line feeds, two lengths) is refused, and what is sent
on is written anew from the parts.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.errors import CapacityError, InputError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 2**30
HEAD_DEADLINE_S = 30.0
PIECE_BYTES = 64 * 1024

_HINT = "see RFC 9112; curl and http.client do it right"
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Asked:
    """The head of a request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    is_old: bool
    """HTTP/1.0: it knows no chunks."""
    length_bytes: int | None
    """None where nothing was said of it."""
    is_chunked: bool
    awaits_word: bool
    """It sends its body when it is told to (Expect: 100-continue)."""


class Reader:
    """A connection's bytes. What the other side takes too long for is a TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def head(self) -> bytes:
        """Return what comes before the first empty line; its time is limited as a whole.

        Raises:
            InputError: it does not end within 64 KiB.
            ConnectionError: the other side has gone.

        """
        deadline = time.monotonic() + HEAD_DEADLINE_S
        before = self._connection.gettimeout()
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise InputError(f"the head has more than {MAX_HEAD_BYTES} bytes", hint=_HINT)
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            self._receive()
        self._connection.settimeout(before)
        if end > MAX_HEAD_BYTES:
            raise InputError(f"the head has {end} bytes, at most {MAX_HEAD_BYTES}", hint=_HINT)
        return self._take(end + 4)[:-4]

    def some(self, most_bytes: int) -> bytes:
        """Return at least one byte, and at most so many.

        Raises:
            ConnectionError: the other side has gone.

        """
        if not self._buffer:
            self._receive()
        return self._take(most_bytes)

    def line(self) -> bytes:
        """Return a line without its end.

        Raises:
            InputError: it is too long.
            ConnectionError: the other side has gone.

        """
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise InputError("a chunk's line has no end", hint=_HINT)
            self._receive()
        return self._take(end + 2)[:-2]

    def _receive(self) -> None:
        received = self._connection.recv(PIECE_BYTES)
        if not received:
            raise ConnectionResetError("the job has hung up")
        self._buffer += received

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def parse_head(head: bytes) -> Asked:
    """Return what a request's head says.

    Raises:
        InputError: it is not plainly one request.
        CapacityError: its body is longer than 1 GiB.

    """
    first, *lines = head.split(b"\r\n")
    request = _REQUEST.fullmatch(first)
    if request is None:
        raise InputError("the first line is no request", hint=_HINT)
    headers = tuple(_header(line) for line in lines)
    method, target, minor = (part.decode("ascii") for part in request.groups())
    length, is_chunked = _framing(headers, is_old=minor == "0")
    if length is not None and length > MAX_BODY_BYTES:
        raise _too_long()
    expected = _values(headers, "expect")
    return Asked(
        method=method,
        target=target,
        headers=headers,
        is_old=minor == "0",
        length_bytes=length,
        is_chunked=is_chunked,
        awaits_word=minor == "1" and [each.lower() for each in expected] == ["100-continue"],
    )


def body(asked: Asked, reader: Reader) -> Iterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        InputError: its chunks are none.
        CapacityError: it becomes longer than 1 GiB.
        ConnectionError: it ends too early.

    """
    if not asked.is_chunked:
        yield from _exactly(asked.length_bytes or 0, reader)
        return
    total = 0
    while size := _chunk_size(reader):
        total += size
        if total > MAX_BODY_BYTES:
            raise _too_long()
        yield from _exactly(size, reader)
        if reader.line():
            raise InputError("a chunk is longer than it says", hint=_HINT)
    # Trailers are headers that came late: they are dropped, and there are few.
    for _ in range(16):
        if not reader.line():
            return
    raise InputError("more than 16 trailers", hint=_HINT)


def _exactly(count: int, reader: Reader) -> Iterator[bytes]:
    while count:
        piece = reader.some(min(count, PIECE_BYTES))
        count -= len(piece)
        yield piece


def _chunk_size(reader: Reader) -> int:
    found = _CHUNK.fullmatch(reader.line())
    if found is None:
        raise InputError("a chunk has no size", hint=_HINT)
    return int(found[1], 16)


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        raise InputError(f"the header {name[:40]!r} is malformed", hint=_HINT)
    return name.decode("ascii"), value.strip(b" \t").decode("latin-1")


def _framing(headers: tuple[tuple[str, str], ...], *, is_old: bool) -> tuple[int | None, bool]:
    """Return the body's length where it is told, and whether it comes in chunks."""
    lengths = _values(headers, "content-length")
    codings = _values(headers, "transfer-encoding")
    if codings and (is_old or lengths or [each.lower() for each in codings] != ["chunked"]):
        raise InputError("Transfer-Encoding is 'chunked', alone, or absent", hint=_HINT)
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(each) for each in lengths):
        raise InputError("Content-Length is one number", hint=_HINT)
    return (int(lengths[0]) if lengths else None), bool(codings)


def _values(headers: tuple[tuple[str, str], ...], wanted: str) -> list[str]:
    # As the guard does: what a server behind CGI takes for the same header is the same header.
    return [value for name, value in headers if name.lower().replace("_", "-") == wanted]


def _too_long() -> CapacityError:
    return CapacityError("the body is longer than 1 GiB", hint="send it in parts")
