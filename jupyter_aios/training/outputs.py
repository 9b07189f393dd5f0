"""What the ranks print, whoever prints it: Python, C++, a child process, a rank killed by -9.

The ranks' descriptors 1 and 2 are pipes to the agent, so what was written before a kill is still
there to be read after it. The agent appends it to `rank-NNNN.output`, cut between characters,
never within one, and without the job's secrets, whoever printed them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import termios
import time
from array import array
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind, output_stream
from jupyter_aios.core.redaction import Redaction
from jupyter_aios.core.units import format_bytes
from jupyter_aios.training.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_aios.core.redaction import Redactor

_READ_BYTES = 2**17
_PIPE_BYTES = 2**20
_TAIL_BYTES = 2**16
"""Of an output beyond its limit, this much of its end is kept: a crash speaks last."""
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)


class _Channel:
    """One descriptor of one rank."""

    def __init__(self, fd: int, kind: EventKind, output: _RankOutput, redactor: Redactor) -> None:
        self.fd = fd
        self.kind = kind
        self.output = output
        self.redactor = redactor

    def read(self) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            chunk = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return True
        self._take(self.redactor.feed(chunk) if chunk else self.redactor.flush())
        return bool(chunk)

    def settle(self) -> None:
        """Give out what might have become a secret; see `Redactor.settle`."""
        self._take(self.redactor.settle())

    def close(self) -> None:
        self._take(self.redactor.flush())
        os.close(self.fd)

    def _take(self, shown: bytes) -> None:
        if shown:
            self.output.take(self.kind, shown)


class _RankOutput:
    """The output file of one rank, with its limit."""

    def __init__(
        self, path: Path, rank: int, limit_bytes: int, notice: Callable[[str], None]
    ) -> None:
        self.journal = Journal(path)
        self.rank = rank
        self.limit_bytes = limit_bytes
        self.notice = notice
        self.left_out_bytes = 0
        self.tail: list[tuple[EventKind, bytes]] = []
        self.tail_bytes = 0

    def take(self, kind: EventKind, data: bytes) -> None:
        if not self.left_out_bytes and self.journal.size + len(data) <= self.limit_bytes:
            try:
                self.journal.append(kind, data)
            except OSError as error:
                self._announce(os.strerror(error.errno or 0))
            else:
                return
        elif not self.left_out_bytes:
            self._announce(f"it is larger than --log-limit {format_bytes(self.limit_bytes)}")
        self._leave_out(kind, data)

    def _announce(self, reason: str) -> None:
        self.notice(
            f"output of rank {self.rank} is left out from here on, except its end: {reason}"
        )

    def _leave_out(self, kind: EventKind, data: bytes) -> None:
        self.left_out_bytes += len(data)
        self.tail.append((kind, data))
        self.tail_bytes += len(data)
        # To the byte: on a full disk there is only the ballast's room for it.
        while (over := self.tail_bytes - _TAIL_BYTES) > 0:
            first, oldest = self.tail.pop(0)
            cut = min(over, len(oldest))
            while cut < len(oldest) and oldest[cut] & 0xC0 == 0x80:  # noqa: PLR2004 - not within a character
                cut += 1
            self.tail_bytes -= cut
            if cut < len(oldest):
                self.tail.insert(0, (first, oldest[cut:]))

    def close(self) -> None:
        if self.left_out_bytes > self.tail_bytes:
            gap = self.left_out_bytes - self.tail_bytes
            self.notice(f"rank {self.rank}: {format_bytes(gap)} of output were left out here")
        with contextlib.suppress(OSError):  # a full disk has been announced already
            for kind, data in self.tail:
                self.journal.append(kind, data)
        self.journal.close()


class Outputs:
    """All output of an attempt's ranks on this machine."""

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        notice: Callable[[str], None],
        redaction: Redaction | None = None,
    ) -> None:
        self.folder = folder
        self.redaction = redaction or Redaction()
        self.limit_bytes = limit_bytes
        self.notice = notice
        self.moved_at = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._outputs: dict[int, _RankOutput] = {}
        self._fifos: list[Path] = []

    def _add(self, rank: int, kind: EventKind, fd: int) -> None:
        os.set_blocking(fd, False)
        if _SET_PIPE_SIZE is not None:
            with contextlib.suppress(OSError):  # above the user's limit: the default will do
                fcntl.fcntl(fd, _SET_PIPE_SIZE, _PIPE_BYTES)
        if rank not in self._outputs:
            path = self.folder / output_stream(rank)
            self._outputs[rank] = _RankOutput(path, rank, self.limit_bytes, self.notice)
        channel = _Channel(fd, kind, self._outputs[rank], self.redaction.stream())
        self._selector.register(fd, selectors.EVENT_READ, channel)

    def open_pipes(self, rank: int) -> tuple[int, int]:
        """Return the write ends for stdout and stderr of a rank that will be forked."""
        write_ends = []
        for kind in (EventKind.STDOUT, EventKind.STDERR):
            read_end, write_end = os.pipe()
            self._add(rank, kind, read_end)
            write_ends.append(write_end)
        return write_ends[0], write_ends[1]

    def open_fifos(self, rank: int) -> None:
        """Make named pipes for a rank that somebody else starts: see `fifo_path`."""
        for kind in (EventKind.STDOUT, EventKind.STDERR):
            path = fifo_path(self.folder, rank, kind)
            os.mkfifo(path, 0o600)
            self._fifos.append(path)
            # Held for writing too, so that it neither blocks nor ends before the rank opens it.
            self._add(rank, kind, os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    def forget_in_child(self) -> None:
        """Close the agent's descriptors in a freshly forked rank."""
        for key in self._selector.get_map().values():
            os.close(key.fd)
        for output in self._outputs.values():
            output.journal.close()
        self._selector.close()

    def pump(self, timeout_s: float) -> None:
        """Take what the ranks printed, waiting at most `timeout_s` for the first of it."""
        if not self._selector.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in self._selector.select(timeout_s):
            self.moved_at = time.monotonic()
            if not key.data.read():
                self._selector.unregister(key.fd)
                key.data.close()

    def settle(self, rank: int) -> int:
        """Take all that `rank` has written so far; return where its next output will stand."""
        channels = [key.data for key in self._selector.get_map().values()]
        for channel in (one for one in channels if one.output.rank == rank):
            waiting = array("i", [0])
            fcntl.ioctl(channel.fd, termios.FIONREAD, waiting)
            # Only what is there now: somebody may go on writing for ever.
            for _ in range(0, waiting[0], _READ_BYTES):
                channel.read()
            channel.settle()
        output = self._outputs.get(rank)
        return 0 if output is None else output.journal.size

    def drain(self) -> None:
        """Take the rest when all ranks have ended, and close the files."""
        while ready := self._selector.select(0):
            for key, _ in ready:
                if not key.data.read():
                    self._selector.unregister(key.fd)
                    key.data.close()
        for key in list(self._selector.get_map().values()):
            key.data.close()
        self._selector.close()
        for output in self._outputs.values():
            output.close()
        for fifo in self._fifos:
            fifo.unlink(missing_ok=True)


def fifo_path(folder: Path, rank: int, kind: EventKind) -> Path:
    """Return the named pipe of one stream of a rank."""
    return folder / f"rank-{rank:04d}.{kind.name.lower()}"
