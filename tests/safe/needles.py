"""Many secret values, looked for in a lot of bytes at once, in every way that people write them."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

MIN_BYTES = 8
_BITS = 20
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_PIECE_BYTES = 2**24


def ways(value: bytes) -> Iterator[bytes]:
    """Yield a value as it is, by line, and as it is usually encoded.

    Written apart from the product. Of base64 only what does not depend on the bytes around it.
    """
    core = value.strip()
    yield from (core, repr(core)[2:-1].encode(), core.hex().encode(), core.hex().upper().encode())
    yield from (line.strip() for line in core.splitlines() if b"-----" not in line)
    for skipped in range(3):
        whole = core[skipped : skipped + (len(core) - skipped) // 3 * 3]
        yield from (base64.b64encode(whole), base64.urlsafe_b64encode(whole))
    yield quote(core, safe="").encode()
    with contextlib.suppress(UnicodeDecodeError):
        text = core.decode()
        yield from (json.dumps(text)[1:-1].encode(), repr(text)[1:-1].encode())
        yield from (ascii(text)[1:-1].encode(), html.escape(text).encode())
        yield text.encode("utf-16-le")


class Needles:
    """Finds values in bytes; its cost hardly depends on how many there are.

    The first eight bytes of each way are looked up at every place of the bytes.
    """

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._names: dict[bytes, str] = {}
        for name, value in values.items():
            for way in ways(value):
                if len(way) >= MIN_BYTES:
                    self._names.setdefault(way, name)
        self._by_head: dict[int, list[bytes]] = {}
        for way in self._names:
            self._by_head.setdefault(int.from_bytes(way[:8], "little"), []).append(way)
        self._longest = max(map(len, self._names))
        self._may_be = np.zeros(2**_BITS, dtype=bool)
        self._may_be[_slots(np.array(list(self._by_head), dtype=np.uint64))] = True

    def in_bytes(self, content: bytes | bytearray) -> set[str]:
        """Return the names of the values that stand in the bytes, however they are written."""
        found = set()
        for begin in range(0, len(content), _PIECE_BYTES):
            # A value on the border stands in one of two pieces as a whole.
            found |= self._in_piece(bytes(content[begin : begin + _PIECE_BYTES + self._longest]))
        return found

    def _in_piece(self, piece: bytes) -> set[str]:
        found: set[str] = set()
        for shift in range(8):
            heads = np.frombuffer(
                piece, "<u8", max((len(piece) - shift) // 8, 0), min(shift, len(piece))
            )
            for at in np.flatnonzero(self._may_be[_slots(heads)]):
                place = shift + 8 * int(at)
                found.update(
                    self._names[way]
                    for way in self._by_head.get(int(heads[at]), ())
                    if piece.startswith(way, place)
                )
        return found

    def in_files(self, *roots: Path) -> dict[str, set[str]]:
        """Return path → names, of every file below the roots that holds one."""
        told = ((str(path), path.read_bytes()) for path in files_below(*roots))
        return {path: names for path, content in told if (names := self.in_bytes(content))}

    def in_processes(self, pids: Iterable[int]) -> dict[str, set[str]]:
        """Return what the arguments and the environments of processes hold."""
        found = {}
        for pid in pids:
            for what in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    names = self.in_bytes(Path(f"/proc/{pid}/{what}").read_bytes())
                    if names:
                        found[f"{what} of {pid}"] = names
        return found


def files_below(*roots: Path) -> Iterator[Path]:
    """Yield every regular file below the folders; what goes away meanwhile is left out."""
    for root in roots:
        for folder, _, names in os.walk(root):
            for path in (Path(folder, name) for name in names):
                if path.is_file() and not path.is_symlink():
                    yield path


def _slots(heads: NDArray[np.uint64]) -> NDArray[np.uint64]:
    slots: NDArray[np.uint64] = np.right_shift(heads * _SPREAD, np.uint64(64 - _BITS))
    return slots
