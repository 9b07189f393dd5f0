"""Commands at a terminal of their own, where somebody types what is not shown."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEADLINE_S = 60


class Terminal:
    """One running command; `said` is all that its terminal has shown."""

    def __init__(self, line: str, environ: Mapping[str, str]) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._screen = io.StringIO()
        self.child = pexpect.spawn(
            # exec: signals that are meant for the command reach it and not the shell.
            "bash",
            ["-c", f"exec {line}"],
            env={**os.environ, "PATH": path, **environ},
            encoding="utf-8",
            timeout=_DEADLINE_S,
            dimensions=(50, 500),
        )
        self.child.logfile_read = self._screen

    @property
    def said(self) -> str:
        """What has been shown up to here, with plain line ends."""
        return self._screen.getvalue().replace("\r\n", "\n")

    def until(self, text: str) -> str:
        """Read up to `text`, and return all that has been shown."""
        self.child.expect_exact(text)
        return self.said

    def answer(self, question: str, typed: str) -> None:
        """Wait for the question, and type the answer into it."""
        self.child.expect_exact(f"{question}: ")
        assert self.child.waitnoecho(_DEADLINE_S), f"{question}: what is typed is shown"
        self.child.sendline(typed)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.child.sendintr()

    def end(self) -> tuple[int, str]:
        """Read to the end; return the exit code, and what has been shown."""
        self.child.expect_exact(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus, self.said.strip()

    def close(self) -> None:
        """End it, if it has not ended."""
        self.child.close(force=True)


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
