"""What a rank is in at this moment, in a small file that rank and agent have both mapped.

A rank writes some hundred bytes per collective and one number per optimizer step: no system call,
no thread. Whatever happens to the rank afterwards (stopped, killed, aborted), the file still says
it.

An entry begins and ends with the number of the call: where the two differ it was being written.
A whole entry is one call into C, so the rank's own threads cannot mix theirs.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OPERATIONS = (
    "none", "init_process_group", "new_group", "all_reduce", "all_reduce_coalesced", "reduce",
    "broadcast", "all_gather", "all_gather_coalesced", "all_gather_into_tensor",
    "all_gather_single", "gather", "scatter", "reduce_scatter", "reduce_scatter_tensor",
    "reduce_scatter_single", "all_to_all", "all_to_all_single", "barrier", "monitored_barrier",
    "all_gather_object", "broadcast_object_list", "gather_object", "scatter_object_list", "send",
    "recv", "isend", "irecv", "send_object_list", "recv_object_list", "batch_isend_irecv",
)  # fmt: skip
"""Their numbers are in the file, so rank and agent agree on this list."""

MAX_GROUPS, MAX_FILES, HISTORY = 32, 64, 64
MAX_RANKS = 1024
NOBODY = -1
PAIRWISE = " p2p"
"""Ends the name under which a group's point-to-point calls are counted."""
_MAGIC = 0x41494F5356310002
_HISTORY_AT = 16
"""Numbers of the words (8 bytes each) of the head."""
_STEP, _BEGUN, _DONE, _RAISED, _GROUPS, _FILES, _STEP_PLACE, _STEP_AFTER = range(1, 9)
_GROUPS_AT = 8 * (_HISTORY_AT + HISTORY)
_NAME_BYTES, _FILE_BYTES, _WHAT_BYTES = 64, 256, 96
_ENTRY = struct.Struct(f"<QQQIHBi{_WHAT_BYTES}sQ")
_ENTRY_AT = _NAME_BYTES + MAX_RANKS // 8
_GROUP_BYTES = _ENTRY_AT + 160
_FILES_AT = _GROUPS_AT + MAX_GROUPS * _GROUP_BYTES
SIZE = _FILES_AT + MAX_FILES * _FILE_BYTES


def vitals_name(rank: int) -> str:
    """Return the file's name in the attempt's folder."""
    return f"rank-{rank:04d}.vitals"


@dataclass(frozen=True)
class Line:
    """A line of code; nowhere where it is not known."""

    file: str = ""
    number: int = 0


@dataclass(frozen=True)
class Call:
    """One call of a collective: which, the how many-th of its group, with what, from where."""

    operation: str
    group: str
    members: frozenset[int]
    number: int
    """Of the group's collectives, from 1. Point-to-point calls are counted by themselves."""
    what: str
    """Type and shape, where all ranks have to agree on them."""
    line: Line
    since_ns: int
    """CLOCK_MONOTONIC."""
    peer: int = NOBODY
    """For point-to-point calls: the other end, where it is known."""

    @property
    def is_pairwise(self) -> bool:
        """True for a point-to-point call: its number counts for this rank alone."""
        return self.group.endswith(PAIRWISE)


@dataclass(frozen=True)
class Vitals:
    """What a rank was in when its file was read."""

    step: int
    stepped: Line
    """Where the newest optimizer step was made."""
    has_stepped_since: bool
    """No call was begun after that step."""
    begun: int
    """Calls begun so far."""
    current: Call | None
    """The call that it is in, or that raised."""
    has_raised: bool
    entered: tuple[Call, ...]
    """The newest call of each group."""
    history: tuple[tuple[str, Line], ...]
    """Operations and lines, oldest first, the newest last."""


class VitalsWriter:
    """The rank's end of the file."""

    def __init__(self, path: Path) -> None:
        """Make the file.

        Raises:
            OSError: the disk has no room for it. (A mapped file with holes would kill the rank
                at the first write into one.)

        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
            self._map = mmap.mmap(descriptor, SIZE)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("Q")
        self._begun = 0
        self._numbers: list[int] = []
        self._files: dict[str, int] = {"": 0}
        self.words[_FILES] = 1
        self.words[0] = _MAGIC

    def count_step(self, step: int, place: int) -> None:
        """Tell the number of optimizer steps so far, and where the last was made."""
        words = self.words
        words[_STEP], words[_STEP_PLACE], words[_STEP_AFTER] = step, place, self._begun

    def add_group(self, name: str, members: frozenset[int]) -> int:
        """Return the number of a new group, or NOBODY where there is no room for another."""
        index = len(self._numbers)
        if index == MAX_GROUPS:
            return NOBODY
        at = _GROUPS_AT + index * _GROUP_BYTES
        self._map[at : at + _NAME_BYTES] = _padded(name, _NAME_BYTES)
        bits = bytearray(MAX_RANKS // 8)
        for rank in members:
            if rank < MAX_RANKS:
                bits[rank // 8] |= 1 << rank % 8
        self._map[at + _NAME_BYTES : at + _ENTRY_AT] = bytes(bits)
        self._numbers.append(0)
        self.words[_GROUPS] = index + 1
        return index

    def _file_number(self, name: str) -> int:
        """Return the number of a source file; 0 where there is no room for another."""
        number = self._files.get(name)
        if number is None:
            number = len(self._files)
            if number == MAX_FILES:
                return 0
            self._files[name] = number
            at = _FILES_AT + number * _FILE_BYTES
            self._map[at : at + _FILE_BYTES] = _padded(name, _FILE_BYTES)
            self.words[_FILES] = number + 1
        return number

    def enter(self, operation: int, group: int, what: bytes, place: int, peer: int) -> int:
        """Tell that a call begins, and return its number. `place` is from `place`."""
        self._numbers[group] += 1
        return self.wait(operation, group, what, place, peer)

    def wait(self, operation: int, group: int, what: bytes, place: int, peer: int) -> int:
        """Tell that the rank waits for the call begun last; return the number of the wait."""
        begun = self._begun = self._begun + 1
        words = self.words
        words[_HISTORY_AT + begun % HISTORY] = operation << 56 | group << 48 | place
        _ENTRY.pack_into(
            self._map, _GROUPS_AT + group * _GROUP_BYTES + _ENTRY_AT,
            begun, self._numbers[group], monotonic_ns(), place & 0xFFFFFFFF, place >> 32,
            operation, peer, what, begun,
        )  # fmt: skip
        words[_BEGUN] = begun
        return begun

    def place(self, file: str, line: int) -> int:
        """Return a line of a source file as a number."""
        return self._file_number(file) << 32 | line

    def leave(self, number: int) -> None:
        """Tell that the call of this number has returned."""
        self.words[_DONE] = number

    def leave_raised(self, number: int) -> None:
        """Tell that the call of this number raised: it stays the current one."""
        self.words[_RAISED] = number


def _padded(text: str, size: int) -> bytes:
    # The end of a path tells more than its beginning.
    return text.encode(errors="replace")[-size:].ljust(size, b"\0")


class VitalsReader:
    """The agent's end of one rank's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None

    def _open(self) -> mmap.mmap | None:
        if self._map is None:
            try:
                with self.path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ)
            except (OSError, ValueError):
                return None  # not there yet, or of a rank that had no room for it
            if struct.unpack_from("<Q", mapped)[0] != _MAGIC:
                mapped.close()
                return None
            self._map = mapped
        return self._map

    def mark(self) -> tuple[int, ...]:
        """Return numbers that change whenever the rank moves; cheap."""
        mapped = self._open()
        return struct.unpack_from("<4Q", mapped, 8 * _STEP) if mapped else ()

    def read(self) -> Vitals | None:
        """Return what the rank is in; None where it has no file or is just moving on."""
        mapped = self._open()
        if mapped is None:
            return None
        data = mapped[:]
        words = memoryview(data)[: 8 * (_HISTORY_AT + HISTORY)].cast("Q")
        begun, done = words[_BEGUN], words[_DONE]
        lines = _Lines(data, words[_FILES])
        entered, current = [], None
        for index in range(min(words[_GROUPS], MAX_GROUPS)):
            found = _call(data, index, lines)
            if found is None:
                continue
            number, call = found
            entered.append(call)
            if number == begun != done:
                current = call
        if begun != done and current is None:
            return None  # the entry was being written
        return Vitals(
            step=words[_STEP],
            stepped=lines.at(words[_STEP_PLACE]),
            has_stepped_since=words[_STEP] > 0 and words[_STEP_AFTER] == begun,
            begun=begun,
            current=current,
            has_raised=words[_RAISED] == begun != 0,
            entered=tuple(entered),
            history=tuple(
                (OPERATIONS[word >> 56], lines.at(word & 0xFFFFFFFFFFFF))
                for count in range(max(1, begun - HISTORY + 1), begun + 1)
                if (word := words[_HISTORY_AT + count % HISTORY]) >> 56 < len(OPERATIONS)
            ),
        )

    def close(self) -> None:
        """Unmap the file."""
        if self._map is not None:
            self._map.close()
            self._map = None


class _Lines:
    """The source files of one reading."""

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self._count = min(count, MAX_FILES)

    def at(self, place: int) -> Line:
        """Return the line of a place, as `VitalsWriter.place` gave it."""
        return self.line(place >> 32, place & 0xFFFFFFFF)

    def line(self, file: int, number: int) -> Line:
        if not 0 < file < self._count:
            return Line()
        at = _FILES_AT + file * _FILE_BYTES
        return Line(_text(self._data[at : at + _FILE_BYTES]), number)


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="replace")


def _call(data: bytes, index: int, lines: _Lines) -> tuple[int, Call] | None:
    """Return the newest call of a group with its number, or None while it is being written."""
    at = _GROUPS_AT + index * _GROUP_BYTES
    begin, number, since_ns, line, file, operation, peer, what, end = _ENTRY.unpack_from(
        data, at + _ENTRY_AT
    )
    if begin != end or begin == 0 or operation >= len(OPERATIONS):
        return None
    bits = int.from_bytes(data[at + _NAME_BYTES : at + _ENTRY_AT], "little")
    call = Call(
        operation=OPERATIONS[operation],
        group=_text(data[at : at + _NAME_BYTES]),
        members=frozenset(rank for rank in range(bits.bit_length()) if bits >> rank & 1),
        number=number,
        what=_text(what),
        line=lines.line(file, line),
        since_ns=since_ns,
        peer=peer,
    )
    return begin, call
