"""Events: what a rank or an agent appends to its own file, and how a reader finds it again.

One process writes a file, so an event's offset in it is its sequence number: a reader that
remembers offsets gets every event once, whoever was killed in between.

A frame is `length u32 | crc32 u32 | time f64 | kind u8 | payload`, little endian; the checksum
covers everything after itself. A frame that is not yet whole is left for the next read.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from jupyter_aios.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = struct.Struct("<II")
_BODY = struct.Struct("<dB")
MAX_PAYLOAD_BYTES = 16 * 2**20
"""Longer records are split by their writers; a reader takes a longer length as damage."""

MAX_FRAME_BYTES = MAX_PAYLOAD_BYTES + _PREFIX.size + _BODY.size


class EventKind(IntEnum):
    """What a frame holds; the payload of all but the outputs is a JSON object."""

    STDOUT = 1
    STDERR = 2
    PHASE = 3
    """A rank: {"phase": "started" | "ending", "code": int}."""
    STEP = 4
    """A rank: {"step": int}: optimizer steps since the attempt's start."""
    METRICS = 5
    """A rank: {"step": int, "metrics": {name: float}}."""
    ERROR = 6
    """A rank: {"kind": its type, "message": str, "traceback": str}."""
    NOTICE = 7
    """Anybody: {"text": str}: something that a person should know."""
    CHECKPOINT = 8
    """A rank: {"step": int, "seconds": float}."""
    AGENT = 9
    """An agent: {"state": "started" | "running" | "stalled" | "moving" | "ended", …}.

    Of ranks that are kept also "idle", when all that was ordered is over, and "busy" after it.
    """
    CURVE = 10
    """A rank: {"series": [{"name": str, "how": str, "steps": [int], "values": [number]}]}.

    What was seen in an unmodified loop; `how` says from what a value was inferred. A value that is
    not finite is text ("nan", "inf"), as in METRICS.
    """
    PROGRESS = 11
    """A rank: {"total": int, "how": str}: optimizer steps that there will be, and from what that
    was inferred; a total of 0 is unknown, and `how` says why."""
    CELL = 12
    """A kept rank: {"number": int, "state": "started" | "done" | "failed" | "interrupted", …}.

    `started` has `output`, where in the rank's output the cell's begins; `done` may have `value`,
    the repr of the cell's last expression; the others have what ERROR has. Number 0 is the job's
    own code. Its agent: {"number": int, "state": "over", "rank": int, "output": int}, when all that
    the rank printed in the cell is in its output, which it ends.
    """
    VERDICT = 13
    """An agent's hang doctor: {"state": "hang" | "over", "rank": int | None, "kind": str,
    "text": str, "hint": str, …}."""
    BATCHES = 14
    """A rank of several: {"fingerprints": [str]} of its first batches, for the agent to compare."""


OUTPUTS = frozenset({EventKind.STDOUT, EventKind.STDERR})


@dataclass(frozen=True)
class Frame:
    """One record of a file; `offset` is where it begins, `end` where the next one does."""

    offset: int
    end: int
    at: float
    kind: EventKind
    payload: bytes

    def json(self) -> dict[str, Any]:
        """Return the payload of a frame that is not output."""
        value: dict[str, Any] = json.loads(self.payload)
        return value


@dataclass(frozen=True)
class Event:
    """A frame as clients see it: where it comes from, and its text or its data."""

    attempt: int
    stream: str
    offset: int
    at: float
    kind: EventKind
    rank: int | None = None
    text: str = ""
    data: Mapping[str, Any] | None = None


def encode(kind: EventKind, at: float, payload: bytes) -> bytes:
    """Return the bytes of one frame."""
    body = _BODY.pack(at, kind) + payload
    return _PREFIX.pack(len(payload), zlib.crc32(body)) + body


def encode_json(kind: EventKind, at: float, /, **data: object) -> bytes:
    """Return the bytes of one frame with a JSON object in it."""
    return encode(kind, at, json.dumps(data, separators=(",", ":")).encode())


def decode(buffer: bytes, base: int = 0) -> Iterator[Frame]:
    """Yield the whole frames of `buffer`, which begins at offset `base` of its file.

    Raises:
        StorageError: a frame is damaged; frames before it have been yielded.

    """
    head, position = _PREFIX.size + _BODY.size, 0
    while position + head <= len(buffer):
        length, checksum = _PREFIX.unpack_from(buffer, position)
        end = position + head + length
        if length > MAX_PAYLOAD_BYTES:
            raise _damaged(base + position)
        if end > len(buffer):
            return
        if zlib.crc32(memoryview(buffer)[position + _PREFIX.size : end]) != checksum:
            raise _damaged(base + position)
        at, kind = _BODY.unpack_from(buffer, position + _PREFIX.size)
        yield Frame(base + position, base + end, at, EventKind(kind), buffer[position + head : end])
        position = end


def _damaged(offset: int) -> StorageError:
    return StorageError(
        f"the event file is damaged at byte {offset}",
        hint="events before it are whole; check the disk",
    )


# A stream's name is its path below the job's attempts: "1/rank-0002.output".
AGENT_STREAM = "agent.events"


def output_stream(rank: int) -> str:
    """Return the file, written by the agent, that holds what `rank` printed."""
    return f"rank-{rank:04d}.output"


def event_stream(rank: int) -> str:
    """Return the file, written by `rank` itself, that holds its metrics and phases."""
    return f"rank-{rank:04d}.events"


def stream_rank(stream: str) -> int | None:
    """Return the rank that a stream belongs to, or None for the agent's."""
    name = stream.rpartition("/")[2]
    return int(name[5:].partition(".")[0]) if name.startswith("rank-") else None
