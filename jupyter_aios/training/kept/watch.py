"""The agent's eye on kept ranks: who is in which cell, when all are idle and for how long."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from jupyter_aios.core.cells import release_reason
from jupyter_aios.core.events import EventKind
from jupyter_aios.training.journal import claim
from jupyter_aios.training.kept import orders
from jupyter_aios.training.kept.orders import FIRST_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from jupyter_aios.training.outputs import Outputs
    from jupyter_aios.training.ranks import Ranks


class KeptWatch:
    """Looks at orders and ranks; the agent's loop calls it at each turn."""

    def __init__(
        self,
        folder: Path,
        ranks: set[int],
        idle_s: float,
        record: Callable[..., None],
    ) -> None:
        self._folder = folder
        self._idle_s = idle_s
        self._record = record
        self._newest = FIRST_CODE
        self._left: dict[int, set[int]] = {FIRST_CODE: set(ranks)}
        """Cell → the ranks that have not done with it."""
        self._inside: set[tuple[int, int]] = set()
        """(cell, rank) where the rank has begun and not ended the cell."""
        self._interrupted: dict[tuple[int, int], int] = {}
        self._idle_since: float | None = None
        self.is_released = False

    @property
    def is_idle(self) -> bool:
        """True while no rank has anything to do."""
        return self._idle_since is not None

    def note(self, rank: int, data: Mapping[str, Any], outputs: Outputs) -> None:
        """Take a rank's word on a cell, and answer the end of one with the agent's own.

        Whoever waits for a cell needs both: what the rank printed in it is in the rank's output
        when the agent says so, and where it ends there.
        """
        number = data["number"]
        self._read_orders()  # a rank may have seen a new one first, and be done with it
        if data["state"] == "started":
            self._inside.add((number, rank))
            return
        self._inside.discard((number, rank))
        self._left.get(number, set()).discard(rank)
        self._record(
            EventKind.CELL, number=number, state="over", rank=rank, output=outputs.settle(rank)
        )

    def look(self, ranks: Ranks, now: float) -> None:
        """Read new orders, carry interrupts out, and release ranks that were idle for long."""
        self._read_orders()
        self._left = {number: left for number, left in self._left.items() if left}
        self._interrupt(ranks)
        if self._left:
            self._set_idle(None)
        elif self._idle_since is None:
            self._set_idle(now)
        elif now - self._idle_since > self._idle_s and not self.is_released:
            self._release()

    def _read_orders(self) -> None:
        while (order := orders.read_order(self._folder, self._newest + 1)) is not None:
            self._newest += 1
            if "cell" in order:
                self._left[self._newest] = set(order["cell"]["ranks"])

    def _interrupt(self, ranks: Ranks) -> None:
        """Signal ranks inside a cell that is to be interrupted; the others would be the wrong ones.

        A rank looks at the order itself before it begins a cell, and when a signal reaches it:
        one that has left the cell meanwhile goes on.
        """
        for number, left in self._left.items():
            with contextlib.suppress(FileNotFoundError):
                ordered = orders.interrupt_path(self._folder, number).stat().st_mtime_ns
                for rank in left:
                    key = (number, rank)
                    if key in self._inside and self._interrupted.get(key) != ordered:
                        self._interrupted[key] = ordered
                        ranks.signal(signal.SIGINT, only=rank)

    def _set_idle(self, since: float | None) -> None:
        if (self._idle_since is None) != (since is None):
            self._record(EventKind.AGENT, state="busy" if since is None else "idle")
        self._idle_since = since

    def _release(self) -> None:
        """Order the end, unless a cell has just taken its number."""
        path = orders.order_path(self._folder, self._newest + 1)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self.is_released = claim(path, {"end": release_reason(self._idle_s)})
