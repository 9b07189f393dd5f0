"""Follows one cell in kept ranks: what they print in it, and what each of them makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.cells import CellTicket
from jupyter_aios.core.entities import Job
from jupyter_aios.core.events import OUTPUTS, Event, EventKind, output_stream
from jupyter_aios.widgets.text.transcript import Transcript, value_lines

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class CellTranscript:
    """Turns a job's events into the lines of one cell. Pure.

    A rank's output in the cell is what lies between two offsets: the rank says where it begins,
    the agent where it ends. What lies before belongs to an earlier cell, however it was read.
    """

    job: Job
    ticket: CellTicket
    ranks: Sequence[int]
    outcomes: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Rank → the payload of its last word on the cell."""
    _begins: dict[int, int] = field(default_factory=dict)
    _ends: dict[int, int] = field(default_factory=dict)
    _early: dict[int, list[Event]] = field(default_factory=dict)
    _lines: Transcript = field(default_factory=Transcript)

    def __post_init__(self) -> None:
        self._lines.has_prefix = self.job.spec.world_size > 1

    def lines(self, events: Iterable[Event]) -> list[str]:
        """Return the lines of the cell that end within `events`."""
        kept: list[Event] = []
        for event in events:
            if event.kind is EventKind.CELL:
                kept += self._note(event)
            elif event.kind in {EventKind.NOTICE, EventKind.VERDICT}:
                kept.append(event)
            elif event.kind in OUTPUTS and event.rank is not None and event.rank in self.ranks:
                if event.rank in self._begins:
                    kept += self._own([event])
                else:
                    self._early.setdefault(event.rank, []).append(event)
        return self._lines.lines(kept)

    def _note(self, event: Event) -> list[Event]:
        data = event.data or {}
        if data.get("number") != self.ticket.number:
            return []
        if data["state"] == "over":
            self._ends[data["rank"]] = data["output"]
        elif event.rank is not None and data["state"] == "started":
            self._begins[event.rank] = data["output"]
            return self._own(self._early.pop(event.rank, []))
        elif event.rank is not None:
            self.outcomes[event.rank] = data
        return []

    def _own(self, events: Iterable[Event]) -> list[Event]:
        return [e for e in events if self._begins[e.rank or 0] <= e.offset < self._end(e.rank or 0)]

    def _end(self, rank: int) -> float:
        return self._ends.get(rank, float("inf"))

    def is_over(self, cursor: Mapping[str, int]) -> bool:
        """True when all ranks are done and all that they printed lies before `cursor`."""
        return all(
            rank in self._ends
            and rank in self.outcomes
            and cursor.get(f"{self.job.attempt}/{output_stream(rank)}", 0) >= self._ends[rank]
            for rank in self.ranks
        )

    @property
    def left(self) -> list[int]:
        """Ranks that have not done with the cell."""
        return [rank for rank in self.ranks if rank not in self._ends]

    def rest(self) -> list[str]:
        """Return the lines that never ended, and below all lines the cell's value in each rank.

        A failure has no line: it is raised, with its traceback.
        """
        values = (
            (rank, str(data.get("value", ""))) for rank, data in sorted(self.outcomes.items())
        )
        return self._lines.rest() + [line for one in values for line in value_lines(*one)]

    @property
    def is_waiting(self) -> bool:
        """True while no rank has begun the cell."""
        return not self._begins and not self.outcomes
