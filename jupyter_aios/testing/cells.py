"""Kept ranks without processes: what they would tell of their cells."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
from jupyter_aios.core.events import AGENT_STREAM, EventKind, encode_json, output_stream
from jupyter_aios.core.ports import AttemptRef, CellRef, Outcome, Result
from jupyter_aios.errors import StateError, UnknownNameError
from jupyter_aios.testing import programs

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.testing.attempts import FakeAttempt

_LOOP = programs.KEPT_LOOP.encode()


class FakeCells:
    """The cells of one attempt. Each runs at once, except one that was told to loop."""

    def __init__(self, attempt: FakeAttempt) -> None:
        self._attempt = attempt
        self._orders: dict[int, tuple[Cell, CellTicket]] = {}
        self._interrupted: set[int] = set()
        self._names: tuple[str, ...] = ()
        self._answers: dict[int, int] = {}
        self._left: dict[CellRef, Result] = {}
        self._next = 1
        self._is_kept = False
        self.release_at: float | None = None

    @property
    def waiting(self) -> bool:
        """True while the next cell can run."""
        if not self._is_kept or self._next not in self._orders:
            return False
        cell, _ = self._orders[self._next]
        return not _loops(cell) or self._next in self._interrupted

    def begin(self, names: tuple[str, ...]) -> None:
        """Have done with the attempt's own code."""
        self._is_kept, self._names = True, names
        self._answers = dict.fromkeys(self._attempt.ranks, 42)
        for rank in self._attempt.ranks:
            self._tell(0, rank, "done")
        self._rest()

    def order(self, cell: Cell) -> CellTicket:
        """Put a cell in line."""
        for known, ticket in self._orders.values():
            if known.id == cell.id:
                return ticket
        if self._attempt.status.outcome is not None:
            raise StateError("its ranks have been released", hint="start it again with --keep")
        cursor = {stream: len(content) for stream, content in self._attempt.streams.items()}
        ticket = CellTicket(len(self._orders) + 1, cursor)
        self._orders[ticket.number] = cell, ticket
        self._set_idle(is_idle=False)
        return ticket

    def interrupt(self, number: int) -> None:
        """Have a cell end, or not begin."""
        if number not in self._orders:
            raise UnknownNameError(f"there is no cell {number}")
        self._interrupted.add(number)

    def play(self) -> None:
        """Run the next cell."""
        number, (cell, _) = self._next, self._orders[self._next]
        self._next += 1
        for rank in cell.ranks:
            stream = f"{self._attempt.plan.attempt}/{output_stream(rank)}"
            output = len(self._attempt.streams.get(stream, b""))
            self._attempt.record(
                rank, EventKind.CELL, number=number, state="started", output=output
            )
            if number in self._interrupted:
                self._tell(number, rank, "interrupted")
                continue
            self._answers[rank] += 1
            self._leave(number, rank, cell)
            self._tell(number, rank, "done")
        if self._next not in self._orders:
            self._rest()

    def release(self) -> None:
        """End the ranks: nothing came for so long."""
        self.release_at = None
        self._attempt.end(Outcome.SUCCEEDED, is_idle=False)

    def status(self) -> KeptStatus:
        """Return what the ranks have and are at."""
        first = () if self._is_kept else (0,)
        names = (dict.fromkeys(self._names, ""),) * len(self._attempt.ranks)
        return KeptStatus(names, (*first, *range(self._next, len(self._orders) + 1)))

    def results(self, ref: CellRef) -> tuple[Result, ...]:
        """Return what a rank left in a cell."""
        return (self._left[ref],) if ref in self._left else ()

    def result_path(self, ref: CellRef, name: str) -> Path:
        """Return where it lies."""
        return self._attempt.result_path(f"{name}-{ref.number}-{ref.rank}", "pickle")

    def _leave(self, number: int, rank: int, cell: Cell) -> None:
        plan = self._attempt.plan
        ref = CellRef(AttemptRef(plan.job_id, plan.attempt), number, rank)
        for name in cell.pull:
            content = pickle.dumps(self._answers[rank])
            path = self.result_path(ref, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self._left[ref] = Result(name, "pickle", len(content))

    def _tell(self, number: int, rank: int, state: str) -> None:
        stream = f"{self._attempt.plan.attempt}/{output_stream(rank)}"
        output = len(self._attempt.streams.get(stream, b""))
        self._attempt.record(rank, EventKind.CELL, number=number, state=state)
        over = {"number": number, "state": "over", "rank": rank, "output": output}
        stream = f"{self._attempt.plan.attempt}/{AGENT_STREAM}"
        self._attempt.streams[stream] += encode_json(EventKind.CELL, self._attempt.now, **over)

    def _rest(self) -> None:
        self._set_idle(is_idle=True)
        self.release_at = self._attempt.now + (self._attempt.plan.keep_idle_s or 0.0)

    def _set_idle(self, *, is_idle: bool) -> None:
        if not is_idle:
            self.release_at = None
        if self._attempt.status.is_idle != is_idle:
            self._attempt.status = replace(self._attempt.status, is_idle=is_idle)
            self._attempt.tell(state="idle" if is_idle else "busy")


def _loops(cell: Cell) -> bool:
    """True for the contract's endless cell: a fake cannot run it, but knows its hash."""
    return cell.code.files[-1].blob == hashlib.sha256(_LOOP).hexdigest()
