"""Append-only files of frames: one writer each, readable at any moment by anybody."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.events import EventKind, Frame, decode, encode, encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_aios.core.redaction import Redaction

_CHUNK_BYTES = 2**20
CLAIM_FILE, PLAN_FILE, STOP_FILE = "agent.json", "plan.json", "stop.json"
"""What lies in an attempt's folder beside the journals."""


class Journal:
    """The writer of one event file. A frame is written whole or not at all."""

    def __init__(self, path: Path, redaction: Redaction | None = None) -> None:
        self._redaction = redaction
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        self.size = os.fstat(self._fd).st_size

    def append(self, kind: EventKind, payload: bytes) -> None:
        """Append one frame.

        Raises:
            OSError: the disk did not take all of it; what it took has been cut off again.

        """
        self._write(encode(kind, time.time(), payload))

    def record(self, kind: EventKind, /, **data: object) -> bool:
        """Append one frame with a JSON object in it; False where a full disk lost it.

        Training goes on without its diary rather than not at all. Secrets in its texts are
        replaced.
        """
        if self._redaction is not None:
            data = self._redaction.redact_data(data)
        try:
            self._write(encode_json(kind, time.time(), **data))
        except OSError:
            return False
        return True

    def _write(self, frame: bytes) -> None:
        written = 0
        try:
            written = os.write(self._fd, frame)
            if written < len(frame):
                written += os.write(self._fd, frame[written:])
        except OSError:
            # Half a frame would hide all later ones from every reader.
            os.ftruncate(self._fd, self.size)
            raise
        if written < len(frame):
            os.ftruncate(self._fd, self.size)
            raise OSError(28, "no space left on the device")
        self.size += written

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class JournalReader:
    """A reader that yields the frames which came since it last looked."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self) -> Iterator[Frame]:
        """Yield new whole frames; none where the file does not exist yet."""
        try:
            if self.path.stat().st_size <= self.offset:
                return
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            while True:
                file.seek(self.offset)
                chunk = file.read(_CHUNK_BYTES)
                before = self.offset
                for frame in decode(chunk, self.offset):
                    self.offset = frame.end
                    yield frame
                if self.offset == before and len(chunk) == _CHUNK_BYTES:
                    # One frame larger than the chunk: read it whole.
                    file.seek(self.offset)
                    for frame in decode(file.read(32 * _CHUNK_BYTES), self.offset):
                        self.offset = frame.end
                        yield frame
                if self.offset == before:
                    return


def write_json(path: Path, value: object) -> None:
    """Write a small JSON file so that a reader sees the old one, the new one, or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(value, file)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path) -> Any:  # noqa: ANN401 - parsed JSON
    """Return what a JSON file holds, or None where it does not exist."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def claim(path: Path, value: object) -> bool:
    """Create `path` with `value` in it unless it exists; True for the one who did.

    The file appears whole: it is written aside and linked, and a link never replaces.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    write_json(temporary, value)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True
