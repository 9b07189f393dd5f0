"""What ranks print, as lines: joined from pieces, with progress bars in their last state.

Pure: events in, lines out. A line is given out when it ends; what has not ended is `progress`.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.core.events import OUTPUTS, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.core.events import Event

MAX_LINES = 2000
"""After as many, a notebook gets only every `THINNED`th: a flood freezes the browser."""
THINNED = 100
LAST_LINES = 20
_MAX_LINE_LENGTH = 2000
_CURSOR_UP = re.compile(r"\x1b\[[0-9]*[ABCDJK]")


class Notice(str):
    """A line that no rank printed: rare, and never left out."""

    __slots__ = ()


@dataclass
class Transcript:
    """Turns events into lines, and remembers the newest step and metrics.

    With `has_prefix`, a line says which rank printed it.
    """

    has_prefix: bool = False
    only_rank: int | None = None
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    is_idle: bool = False
    """Whether the ranks are kept and have nothing to do."""
    _partial: dict[tuple[int, int | None, EventKind], str] = field(default_factory=dict)
    _attempt: int = 0

    def lines(self, events: Iterable[Event]) -> list[str]:
        """Return the lines that end within `events`."""
        found: list[str] = []
        for event in events:
            if event.attempt > self._attempt:
                found += self.rest()
                self._attempt, self.step, self.metrics = event.attempt, 0, {}
            if event.kind in OUTPUTS:
                if self.only_rank is None or event.rank == self.only_rank:
                    found += self._output(event)
            else:
                found += self._other(event)
        return found

    def _output(self, event: Event) -> list[str]:
        key = (event.attempt, event.rank, event.kind)
        text = self._partial.pop(key, "") + event.text
        *whole, rest = text.replace("\r\n", "\n").split("\n")
        if rest:
            # Only the last state of an unfinished bar is kept, however long it runs.
            returned = "\r" if rest.endswith("\r") else ""
            self._partial[key] = last_state(rest)[: 10 * _MAX_LINE_LENGTH] + returned
        return [self._prefixed(event.rank, line) for line in whole]

    def _other(self, event: Event) -> list[str]:
        data = event.data or {}
        if event.kind is EventKind.NOTICE and self.only_rank is None:
            return [Notice(f"notice: {data.get('text', '')}")]
        if event.kind is EventKind.AGENT and data.get("state") in {"idle", "busy", "ended"}:
            self.is_idle = data["state"] == "idle"
        if event.kind is EventKind.CELL:
            return cell_lines(event) if self.only_rank in {None, event.rank} else []
        if event.kind in {EventKind.STEP, EventKind.METRICS}:
            self.step = max(self.step, int(data.get("step", 0)))
        if event.kind is EventKind.METRICS and event.rank in {0, None}:
            self.metrics |= data.get("metrics", {})
        return []

    def _prefixed(self, rank: int | None, line: str) -> str:
        shown = last_state(line)
        if len(shown) > _MAX_LINE_LENGTH:
            shown = f"{shown[:_MAX_LINE_LENGTH]}… ({len(shown)} characters)"
        return f"[{rank}] {shown}" if self.has_prefix and rank is not None else shown

    @property
    def progress(self) -> str:
        """What rank 0, or else any rank, has printed without ending the line."""
        lines = sorted(self._partial.items(), key=lambda item: (item[0][1] or 0, item[0][2]))
        return next((state for _, text in lines if (state := last_state(text).strip())), "")

    def rest(self) -> list[str]:
        """Return the lines that never ended, and forget them."""
        lines = [self._prefixed(key[1], text) for key, text in self._partial.items()]
        self._partial.clear()
        return [line for line in lines if line.strip()]


def cell_lines(event: Event) -> list[str]:
    """Return how a cell went in a kept rank, where that is not silence: its value, or its fault."""
    data = event.data or {}
    if data.get("state") == "interrupted":
        return [Notice(f"[{event.rank}] interrupted")]
    if data.get("state") == "failed":
        message = str(data.get("message", "")).partition("\n")[0]
        return [Notice(f"[{event.rank}] {data.get('kind', 'error')}: {message}")]
    return value_lines(event.rank or 0, str(data.get("value", "")))


def value_lines(rank: int, value: str) -> list[str]:
    """Return what a cell's last expression was in a rank, as a notebook shows it.

    Example:
        >>> value_lines(2, "[1, 2]")
        ['Out[2]: [1, 2]']

    """
    text = f"Out[{rank}]: " + "\n" * ("\n" in value) + value
    return [Notice(line) for line in text.split("\n")] if value else []


def last_state(line: str) -> str:
    r"""Return what is left of a line after its carriage returns, as a terminal shows it.

    Example:
        >>> last_state(" 10%\r 50%\r100%")
        '100%'

    """
    plain = _CURSOR_UP.sub("", line)
    states = [state for state in plain.split("\r") if state]
    return states[-1] if states else ""


@dataclass
class Bounded:
    """Thins lines out after the first `MAX_LINES`, and keeps the last ones for the end."""

    whole_log: str
    """What to type for all of it."""
    limit: int = MAX_LINES
    shown: int = 0
    left_out: int = 0
    _last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    def admit(self, lines: list[str]) -> list[str]:
        """Return those of `lines` that are shown now."""
        admitted = []
        for line in lines:
            if isinstance(line, Notice) or self.shown < self.limit:
                admitted.append(line)
                self.shown += not isinstance(line, Notice)
                continue
            if self.left_out == 0:
                admitted.append(
                    f"… {self.limit} lines are shown, from here every {THINNED}th;"
                    f" all of them: {self.whole_log}"
                )
            self.left_out += 1
            if self.left_out % THINNED == 0:
                admitted.append(line)
                self._last.clear()
            else:
                self._last.append(line)
        return admitted

    def end(self) -> list[str]:
        """Return the last lines, where they were left out."""
        if not self._last:
            return []
        return [f"… the last of {self.shown + self.left_out} lines:", *self._last]
