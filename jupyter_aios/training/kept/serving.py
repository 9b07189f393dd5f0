"""The rank that stays: it takes cells one after the other and runs them in its `__main__`."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.cells import Cell
from jupyter_aios.core.events import AGENT_STREAM, EventKind, output_stream
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training import context, loading, results, secrets
from jupyter_aios.training.journal import STOP_FILE, JournalReader, write_json
from jupyter_aios.training.kept import orders
from jupyter_aios.training.kept.fingerprints import fingerprint
from jupyter_aios.training.kept.orders import FIRST_CODE

if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_aios.core.entities import Code
    from jupyter_aios.training.context import RankContext

    Describe = Callable[[BaseException, Code, Path], dict[str, str]]

POLL_S = (0.02, 0.1)
"""Between two looks for an order: soon after the last one, and later."""
SOON_S = 30.0
_ANSWER_S = 2.0
_VALUE_LENGTH = 20_000


class KeptRank:
    """One rank that was kept. `describe` tells an error as the person should see it."""

    def __init__(
        self,
        folder: Path,
        rank: RankContext,
        main: types.ModuleType,
        shipped: frozenset[str],
        describe: Describe,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._main = main
        self._shipped = shipped
        self._describe = describe
        self._agent = JournalReader(folder / AGENT_STREAM)
        self._answered = FIRST_CODE - 1
        self._last = FIRST_CODE
        self._inside: int | None = None
        """The cell whose code runs at this moment: only then an interrupt means anything."""

    def serve(self) -> None:
        """Run cells until the ranks are released.

        Raises:
            KeyboardInterrupt: the attempt is told to stop.

        """
        signal.signal(signal.SIGINT, self._on_interrupt)
        (self._folder / orders.FOLDER).mkdir(mode=0o700, exist_ok=True)
        self._done(FIRST_CODE, {"state": "done"})
        number = FIRST_CODE + 1
        while True:
            order = self._next_order(number)
            if "end" in order:
                return
            cell = from_plain(Cell, order["cell"])
            if self._rank.rank in cell.ranks:
                self._take(number, cell)
            number += 1

    def _on_interrupt(self, _number: int, _frame: object) -> None:
        # A signal may come late, when its cell is over and nothing or another cell runs.
        if self._inside is not None and (
            orders.interrupt_path(self._folder, self._inside).exists() or self._is_stopped()
        ):
            raise KeyboardInterrupt

    def _is_stopped(self) -> bool:
        return (self._folder / STOP_FILE).exists()

    def _next_order(self, number: int) -> dict[str, Any]:
        since = time.monotonic()
        while True:
            if self._is_stopped():
                raise KeyboardInterrupt
            order = orders.read_order(self._folder, number)
            if order is not None:
                return order
            time.sleep(POLL_S[time.monotonic() - since > SOON_S])

    def _take(self, number: int, cell: Cell) -> None:
        self._await_answer()
        printed = self._folder / output_stream(self._rank.rank)
        begin = printed.stat().st_size if printed.exists() else 0
        self._record(number, state="started", output=begin)
        outcome = self._run(number, cell)
        self._shipped |= {entry.name for entry in cell.code.manifest}
        if outcome["state"] == "done" and cell.pull:
            folder = orders.result_folder(self._folder, cell.id, self._rank.rank)
            folder.mkdir(mode=0o700, exist_ok=True)
            values = {name: vars(self._main).get(name, results.MISSING) for name in cell.pull}
            results.save(folder, values, self._shipped, cell.pull_limit_bytes, _say_nothing)
        context.record_so_far()
        self._done(number, outcome)

    def _run(self, number: int, cell: Cell) -> dict[str, str]:
        """Run the cell and return how that went; nothing that it does ends the rank."""
        home = orders.cell_folder(self._folder, cell.id)
        names = vars(self._main)
        brought = {entry.name for entry in cell.code.manifest} - set(cell.push)
        own = {name: names[name] for name in brought if name in names}
        try:
            try:
                self._inside = number
                if orders.interrupt_path(self._folder, number).exists():
                    raise KeyboardInterrupt  # while it waited for its turn
                value = loading.run(cell.code, home, self._main, own=own, wants_value=True)
                # Redacted here, where it is whole; it may be cut below.
                shown = "" if value is None else secrets.redactor()(repr(value))
            finally:
                # Before anything is told of how it ended: an interrupt that comes now is too late.
                self._inside = None
        except KeyboardInterrupt as error:
            self._inside = None  # it came in the line above
            return {"state": "interrupted", **self._describe(error, cell.code, home)}
        except SystemExit as stop:
            if stop.code in (None, 0):
                return {"state": "done"}
            return {"state": "failed", **self._describe(stop, cell.code, home)}
        except BaseException as error:  # noqa: BLE001 - whatever the person's code raised
            return {"state": "failed", **self._describe(error, cell.code, home)}
        if len(shown) > _VALUE_LENGTH:
            shown = f"{shown[:_VALUE_LENGTH]}… ({len(shown)} characters)"
        return {"state": "done", "value": shown}

    def _done(self, number: int, outcome: dict[str, str]) -> None:
        values = dict(vars(self._main))
        names = {n: fingerprint(values[n]) for n in sorted(values) if not n.startswith("__")}
        with contextlib.suppress(OSError):  # a full disk: the client sends more than it had to
            write_json(orders.names_path(self._folder, self._rank.rank), names)
        with contextlib.suppress(Exception):  # the streams may be the person's own by now
            sys.stdout.flush()
            sys.stderr.flush()
        self._last = number
        self._record(number, **outcome)

    def _record(self, number: int, /, **data: object) -> None:
        self._rank.journal.record(EventKind.CELL, number=number, **data)

    def _await_answer(self) -> None:
        """Return when the agent has all output of the last cell: what comes now is the next's.

        Not for ever: an agent with a full disk cannot say so.
        """
        end = time.monotonic() + _ANSWER_S
        while self._answered < self._last and time.monotonic() < end:
            for frame in self._agent.read():
                if frame.kind is EventKind.CELL:
                    data = frame.json()
                    if data["rank"] == self._rank.rank:
                        self._answered = data["number"]
            if self._answered < self._last:
                time.sleep(POLL_S[0] / 4)


def _say_nothing(_text: str) -> None:
    """Results say themselves what is wrong with them, to whoever asked for them."""
