"""Where a growing text goes: a notebook's output, a terminal, or a file."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
import uuid
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_REFRESH_S = 0.25
"""Between two changes of a status line; more often nobody can read it."""
_RARE_S = 30.0
"""Between two status lines of the same state in a file."""


class Screen(Protocol):
    """Takes lines, and a status line that is always the newest."""

    def write(self, lines: list[str]) -> None:
        """Add lines below those before."""

    def status(self, text: str, *, is_news: bool = False) -> None:
        """Show the status; `is_news` shows it even if the last change was just now."""

    def close(self) -> None:
        """Leave the last status standing."""


class NotebookScreen:
    """The status is an output of its own that is updated in place; lines follow below it."""

    def __init__(self, display: Callable[..., Any], out: TextIO) -> None:
        self._display = display
        self._out = out
        self._id = uuid.uuid4().hex
        self._shown = ""
        self._next = 0.0

    def write(self, lines: list[str]) -> None:
        """Add lines below those before."""
        if lines:
            self._out.write("\n".join(lines) + "\n")
            self._out.flush()

    def status(self, text: str, *, is_news: bool = False) -> None:
        """Show the status, unless the last change was just now."""
        now = time.monotonic()
        if text == self._shown or (now < self._next and not is_news):
            return
        bundle = {"text/plain": text}
        self._display(bundle, raw=True, display_id=self._id, update=bool(self._shown))
        self._shown, self._next = text, now + _REFRESH_S

    def close(self) -> None:
        """Leave the last status standing."""
        self._out.flush()


class TerminalScreen:
    """The status is the last line of the terminal, redrawn after every line above it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = ""
        self._next = 0.0

    def write(self, lines: list[str]) -> None:
        """Add lines below those before."""
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            self._out.write(f"\r\x1b[K{text}{self._shown}")
            self._out.flush()

    def status(self, text: str, *, is_news: bool = False) -> None:
        """Show the status, unless the last change was just now."""
        now = time.monotonic()
        if now < self._next and not is_news:
            return
        self._shown, self._next = fitted(text, self._width()), now + _REFRESH_S
        self._out.write(f"\r\x1b[K{self._shown}")
        self._out.flush()

    def _width(self) -> int:
        try:
            return max(os.get_terminal_size(self._out.fileno()).columns - 1, 20)
        except (OSError, ValueError):
            return 79

    def close(self) -> None:
        """Leave the last status standing."""
        if self._shown:
            self._out.write("\n")
            self._out.flush()
        self._shown = ""


class PipeScreen:
    """The status is a line like others, written at news and otherwise rarely."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = ""
        self._next = 0.0

    def write(self, lines: list[str]) -> None:
        """Add lines below those before."""
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()

    def status(self, text: str, *, is_news: bool = False) -> None:
        """Show the status, unless the last change was just now."""
        now = time.monotonic()
        if text != self._shown and (is_news or now >= self._next):
            self._out.write(f"{text}\n")
            self._out.flush()
            self._shown, self._next = text, now + _RARE_S

    def close(self) -> None:
        """Leave the last status standing."""
        self._out.flush()


def fitted(text: str, width: int) -> str:
    """Return the text cut to `width` columns; a wide character takes two.

    Example:
        >>> fitted("mnist · running", 8)
        'mnist ·…'

    """
    taken = kept = 0
    for index, char in enumerate(text):
        taken += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if taken > width:
            return text[:kept] + "…"
        if taken < width:
            kept = index + 1
    return text


def kernel_shell() -> Any:  # noqa: ANN401 - IPython's shell
    """Return the shell of the kernel that this process is, or None where it is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def is_kernel_ending(within_s: float = 0.5) -> bool:
    """Return whether the interrupt that just came was the first half of the kernel's end.

    Jupyter interrupts a kernel before it asks it to restart or to shut down, and asks at once.
    """
    shell = kernel_shell()
    end = time.monotonic() + within_s
    while shell is not None and not shell.exit_now and time.monotonic() < end:
        time.sleep(0.01)
    return shell is not None and bool(shell.exit_now)


def choose_screen(out: TextIO | None = None) -> Screen:
    """Return the screen for where this process shows things."""
    out = sys.stdout if out is None else out
    if kernel_shell() is not None:
        from IPython.display import display

        return NotebookScreen(display, out)
    return TerminalScreen(out) if out.isatty() else PipeScreen(out)
