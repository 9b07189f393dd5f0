"""The events of a job, read from its files by offsets."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from jupyter_aios.core.events import MAX_FRAME_BYTES, OUTPUTS, Event, EventKind, decode, stream_rank
from jupyter_aios.core.ports import EventBatch
from jupyter_aios.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jupyter_aios.core.entities import JobId

_STREAM_CHUNK_BYTES = 2**18


def read(jobs: Path, job_id: JobId, cursor: Mapping[str, int], limit_bytes: int) -> EventBatch:
    """Return events of all attempts after `cursor`, oldest first within the batch."""
    events: list[Event] = []
    offsets = dict(cursor)
    streams = list(_streams(jobs / job_id / "attempts"))
    # An equal share for each: a chatty rank must not keep the others from being read.
    size = min(_STREAM_CHUNK_BYTES, max(1, limit_bytes // max(1, len(streams))))
    for number, path in streams:
        stream = f"{number}/{path.name}"
        begin = offsets.get(stream, 0)
        try:
            chunk = _read_chunk(path, begin, size)
            taken, end = _events_of(chunk, begin, number, stream)
            if end == begin and len(chunk) == size:
                # The next event alone is larger: a reader must get past it all the same.
                chunk = _read_chunk(path, begin, MAX_FRAME_BYTES)
                taken, end = _first(_events_of(chunk, begin, number, stream))
        except StorageError as error:
            taken, end = [_damage(error, path, begin, number, stream)], path.stat().st_size
        events += taken
        offsets[stream] = end
    events.sort(key=lambda event: (event.attempt, event.at))
    return EventBatch(tuple(events), offsets)


def _streams(attempts: Path) -> Iterator[tuple[int, Path]]:
    with contextlib.suppress(FileNotFoundError):
        numbers = sorted(int(name) for name in os.listdir(attempts) if name.isdigit())
        for number in numbers:
            folder = attempts / str(number)
            names = sorted(n for n in os.listdir(folder) if n.endswith((".events", ".output")))
            yield from ((number, folder / name) for name in names)


def _read_chunk(path: Path, begin: int, size: int) -> bytes:
    with path.open("rb") as file:
        # A reader may skip a stream by an offset behind it; beyond what the file system could ever
        # hold (16 TiB on ext4), seeking there would fail.
        if begin >= os.fstat(file.fileno()).st_size:
            return b""
        file.seek(begin)
        return file.read(size)


def _damage(error: StorageError, path: Path, begin: int, attempt: int, stream: str) -> Event:
    """Return what a reader is told instead of the rest of a damaged file."""
    text = f"{stream} is damaged, the rest of it cannot be shown: {error.message}"
    return Event(
        attempt=attempt,
        stream=stream,
        offset=begin,
        at=path.stat().st_mtime,
        kind=EventKind.NOTICE,
        rank=stream_rank(stream),
        data={"text": text},
    )


def _first(taken: tuple[list[Event], int]) -> tuple[list[Event], int]:
    """Return only the first event of what was taken, and the offset after it."""
    events, end = taken
    return (events, end) if len(events) < 2 else (events[:1], events[1].offset)  # noqa: PLR2004


def _events_of(chunk: bytes, begin: int, attempt: int, stream: str) -> tuple[list[Event], int]:
    """Return the whole events of a chunk and the offset after them."""
    events: list[Event] = []
    end, rank = begin, stream_rank(stream)
    for frame in decode(chunk, begin):
        is_output = frame.kind in OUTPUTS
        events.append(
            Event(
                attempt=attempt,
                stream=stream,
                offset=frame.offset,
                at=frame.at,
                kind=frame.kind,
                rank=rank,
                text=frame.payload.decode(errors="replace") if is_output else "",
                data=None if is_output else frame.json(),
            )
        )
        end = frame.end
    return events, end
