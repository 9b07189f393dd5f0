"""Commands at a terminal of their own, where somebody types what is not shown."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from pexpect import EOF  # type: ignore[import-untyped]
from pexpect.fdpexpect import fdspawn  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEADLINE_S = 60
_CTRL_C = "\x03"


class Terminal:
    """One running command; `said` is all that its terminal has shown."""

    def __init__(self, line: str, environ: Mapping[str, str]) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._screen = io.StringIO()
        self._master, slave = pty.openpty()
        # Wide enough that no line is wrapped.
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 500, 0, 0))
        try:
            self._process = subprocess.Popen(
                # Not pty.fork: a test's process has threads. exec: signals that are meant for the
                # command reach it and not the shell.
                ["setsid", "--ctty", "bash", "-c", f"exec {line}"],
                env={**os.environ, "PATH": path, **environ},
                stdin=slave,
                stdout=slave,
                stderr=slave,
            )
        finally:
            os.close(slave)
        self._child = fdspawn(self._master, encoding="utf-8", timeout=_DEADLINE_S)
        self._child.logfile_read = self._screen

    @property
    def pid(self) -> int:
        """The command's process."""
        return self._process.pid

    @property
    def said(self) -> str:
        """What has been shown up to here, with plain line ends."""
        return self._screen.getvalue().replace("\r\n", "\n")

    def until(self, text: str) -> str:
        """Read up to `text`, and return all that has been shown."""
        self._child.expect_exact(text)
        return self.said

    def answer(self, question: str, typed: str) -> None:
        """Wait for the question, and type the answer into it."""
        self._child.expect_exact(f"{question}: ")
        flags = termios.tcgetattr(self._master)[3]
        assert not flags & termios.ECHO, f"{question}: what is typed is shown"
        self._child.sendline(typed)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.send(_CTRL_C)

    def end(self) -> tuple[int, str]:
        """Read to the end; return the exit code, and what has been shown."""
        self._child.expect_exact(EOF)
        return self._process.wait(timeout=_DEADLINE_S), self.said.strip()

    def close(self) -> None:
        """End it, if it has not ended. Harmless the second time."""
        self._process.kill()
        self._process.wait()
        if self._child.child_fd >= 0:
            self._child.close()


@contextlib.contextmanager
def terminal(line: str, **environ: str) -> Iterator[Terminal]:
    """Run a line at a terminal; the block ends with the command gone."""
    with contextlib.closing(Terminal(line, environ)) as opened:
        yield opened


def typed(line: str, *answers: tuple[str, str], code: int = 0, **environ: str) -> str:
    """Run a line to its end, answering what it asks; return what was shown."""
    with terminal(line, **environ) as one:
        for question, answer in answers:
            one.answer(question, answer)
        ended, said = one.end()
    assert ended == code, said
    for _, answer in answers:
        assert answer not in said
    return said
