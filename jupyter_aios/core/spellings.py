"""The ways in which a secret gets into an output by accident.

Left out are: secrets and lines of less than 6 bytes, separators between the bytes (`ab:cd`), other
bases (32, 58, 85), hexadecimal in columns, a text that was wrapped or shortened, an encoding of an
encoding, anything compressed or encrypted.
"""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_BYTES = 6
"""A shorter secret is part of too many words to be taken out of all of them."""
_LINE = re.compile(rb"\\r\\n|\\n|[\r\n]+")
"""Also as it stands in JSON: a service account's file holds a PEM in one line."""
_PUBLIC = re.compile(rb"-----(BEGIN|END)[A-Z0-9 ]*-----")
_WRAPS = (76, 64)
"""Columns of MIME (`base64.encodebytes`, the `base64` command) and of PEM."""


def spellings(value: bytes) -> tuple[bytes, ...]:
    """Return the ways in which a secret may be printed, each once; none shorter than 6 bytes.

    Space around the value does not count: a file's last newline is printed by few.

    Example:
        >>> [text.decode() for text in spellings(b"hunter2")][:3]
        ['hunter2', 'aHVudGVyM', 'h1bnRlcj']

    """
    core = value.strip()
    if len(core) < MIN_BYTES:
        return ()
    found = [core, *_lines(core), *_base64(core), core.hex().encode(), core.hex().upper().encode()]
    found += _percent(core)
    found += _reprs(repr(core)[2:-1])
    found += _text_spellings(core)
    return tuple(dict.fromkeys(one for one in found if len(one) >= MIN_BYTES))


def _lines(core: bytes) -> Iterator[bytes]:
    """Yield the lines by themselves: a log may begin each with something of its own."""
    for line in _LINE.split(core):
        # The armour of a PEM is no secret, and would be missed in every public certificate.
        if not _PUBLIC.fullmatch(line.strip()):
            yield line.strip()


def _base64(core: bytes) -> Iterator[bytes]:
    for offset in range(3):  # of the value in what was encoded, such as `user:password`
        encoded = base64.b64encode(bytes(offset) + core)
        # The first and last character may depend on what stands around the value.
        begin, rest = (0, 2, 3)[offset], (offset + len(core)) % 3
        middle = encoded[begin : len(encoded) - (0, 3, 2)[rest]]
        yield from (middle, middle.translate(_URL_SAFE))
    whole = base64.b64encode(core).rstrip(b"=")
    yield from (whole, whole.translate(_URL_SAFE))
    for width in _WRAPS:
        if len(whole) > width:
            yield from (whole[at : at + width] for at in range(0, len(whole), width))


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _percent(core: bytes) -> Iterator[bytes]:
    strict = quote(core, safe="")
    # As Python, a query, and a browser's encodeURIComponent escape; and in lower case.
    texts = (strict, quote(core), quote_plus(core), quote(core, safe="!'()*"))
    yield from (text.encode() for text in texts)
    yield re.sub(r"%..", lambda escape: escape[0].lower(), strict).encode()


def _reprs(body: str) -> Iterator[bytes]:
    """Yield a repr's inside as it stands between either quotes."""
    # Escape by escape: a quote after an escaped backslash is none.
    plain = re.sub(r"\\(.)", lambda one: "'" if one[1] == "'" else one[0], body)
    yield from (plain.encode(), plain.replace("'", "\\'").encode())
    yield plain.replace('"', '\\"').encode()


def _text_spellings(core: bytes) -> Iterator[bytes]:
    try:
        text = core.decode()
    except UnicodeDecodeError:
        # In a variable of the environment, and read as if it were Latin.
        yield core.decode(errors="surrogateescape").encode(errors="backslashreplace")
        yield core.decode("latin-1").encode()
        return
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield from _reprs(repr(text)[1:-1])
    yield from _reprs(ascii(text)[1:-1])
    yield from (html.escape(text).encode(), html.escape(text, quote=False).encode())
    yield from (text.encode("utf-16-le"), text.encode("utf-16-be"))
