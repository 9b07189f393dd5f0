"""The last lines of every rank, bounded in number and in size, however much a job prints."""

from __future__ import annotations

import textwrap
from collections import deque
from dataclasses import dataclass, field
from heapq import merge
from typing import TYPE_CHECKING

from jupyter_aios.widgets.text.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.core.events import Event

RANK_LINES = 5000
ALL_LINES = 20_000
"""Over all ranks together, so that many ranks are no reason for a large notebook process."""
_FEWEST_LINES = 100
_CHARACTERS = 2_000_000
_NOTE_WIDTH = 110
BATCH_LINES = 500
"""At most so many lines go to the page at once; nobody reads more than 5,000 in a second."""
BATCH_CHARACTERS = 200_000


@dataclass(frozen=True)
class Line:
    """One line: `kind` is "" for what a rank printed, else `note` or `error`."""

    number: int
    rank: int | None
    text: str
    kind: str = ""


@dataclass
class _Tail:
    """The last lines of one rank, at most `most` of them."""

    most: int
    lines: deque[Line] = field(default_factory=deque)
    characters: int = 0

    def append(self, line: Line, most_characters: int) -> None:
        """Add a line and let go of the oldest ones."""
        self.lines.append(line)
        self.characters += len(line.text)
        while len(self.lines) > self.most or self.characters > most_characters:
            self.characters -= len(self.lines.popleft().text)


class Tails:
    """What ranks print, as lines with their ranks."""

    def __init__(self, ranks: int) -> None:
        self.total = 0
        self._ranks = ranks
        self._most = min(RANK_LINES, max(ALL_LINES // max(ranks, 1), _FEWEST_LINES))
        self._transcripts: dict[int | None, Transcript] = {}
        self._tails: dict[int | None, _Tail] = {}
        self._fresh: deque[Line] = deque()
        self._fresh_characters = 0
        self._skipped = 0

    def feed(self, event: Event) -> None:
        """Take what a rank printed."""
        transcript = self._transcripts.get(event.rank)
        if transcript is None:
            transcript = self._transcripts[event.rank] = Transcript()
        for text in transcript.lines([event]):
            self.add(event.rank, text)

    def add(self, rank: int | None, text: str, kind: str = "") -> None:
        """Add lines that nobody printed: a notice, a traceback."""
        line = Line(self.total, rank, text, kind)
        self.total += 1
        tail = self._tails.get(rank)
        if tail is None:
            tail = self._tails[rank] = _Tail(self._most)
        tail.append(line, max(_CHARACTERS // max(self._ranks, 1), 20_000))
        self._fresh.append(line)
        self._fresh_characters += len(text)
        while len(self._fresh) > BATCH_LINES or self._fresh_characters > BATCH_CHARACTERS:
            self._fresh_characters -= len(self._fresh.popleft().text)
            self._skipped += 1

    def note(self, rank: int | None, text: str) -> None:
        """Add a text that nobody printed; it is wrapped, for rows in the page are not."""
        for line in textwrap.wrap(text, _NOTE_WIDTH, subsequent_indent="  "):
            self.add(rank, line, "note")

    def finish(self) -> None:
        """Take what never ended as lines."""
        for rank, transcript in self._transcripts.items():
            for text in transcript.rest():
                self.add(rank, text)

    def news(self) -> tuple[list[Line], int]:
        """Return the lines since the last call, and how many before them were left out."""
        lines, skipped = list(self._fresh), self._skipped
        self._fresh.clear()
        self._fresh_characters = self._skipped = 0
        return lines, skipped

    def lines(self) -> list[Line]:
        """Return all that is kept, in the order in which it came."""
        return list(merge(*(tail.lines for tail in self._tails.values()), key=_number))

    def last(self, count: int) -> list[str]:
        """Return the last lines of all ranks, each with its rank where there are several."""
        return [self._prefixed(line) for line in self.lines()[-count:]]

    def _prefixed(self, line: Line) -> str:
        has_prefix = self._ranks > 1 and line.rank is not None
        return f"[{line.rank}] {line.text}" if has_prefix else line.text

    def partials(self) -> dict[str, str]:
        """Return by rank what has not ended its line: progress bars, mostly."""
        pairs: Iterable[tuple[int | None, Transcript]] = self._transcripts.items()
        return {str(rank): text for rank, one in pairs if (text := one.progress)}


def _number(line: Line) -> int:
    return line.number
