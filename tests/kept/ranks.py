"""Ranks that stay, driven through the engine as the controller does it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.cells import Cell
from jupyter_aios.core.entities import Code, CodeKind, ManifestEntry, SourceFile, StopReason
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, AttemptRef
from tests.launching import Launchpad, eventually

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Kept:
    """One attempt whose ranks stay."""

    pad: Launchpad
    ref: AttemptRef
    world_size: int = 2

    def begin(
        self, source: str, ranks: Sequence[int] = (0, 1), *, brings: bytes = b"", **cell: Any
    ) -> int:
        """Order a cell and return its number; `brings` is a pickle of values."""
        blobs, cell_id = self.pad.blobs, cell.pop("id", secrets.token_hex(8))
        file = SourceFile("001-cell.py", blobs.put(source.encode()), "Cell In[7]")
        manifest = tuple(ManifestEntry(name, "value", 0, "") for name in cell.pop("names", ()))
        values = blobs.put(brings) if brings else None
        code = Code(CodeKind.CELL, (file,), values=values, manifest=manifest)
        ordered = Cell(id=cell_id, code=code, ranks=tuple(ranks), **cell)
        return self.pad.engine.run_cell(self.ref, ordered).number

    def run(self, source: str, ranks: Sequence[int] = (0, 1), **cell: Any) -> dict[int, Any]:
        """Run a cell to its end and return what each rank told of it."""
        number = self.begin(source, ranks, **cell)
        return self.wait(number, len(ranks))

    def wait(self, number: int, ranks: int = 2) -> dict[int, Any]:
        """Return what each of so many ranks told of a cell, when it is over."""
        eventually(lambda: len(self.over(number)) == ranks or self.has_ended(), f"cell {number}")
        assert not self.has_ended(), "the ranks have ended"
        return self.told(number)

    def has_ended(self) -> bool:
        """True once no rank is there any more."""
        return self.pad.engine.status(self.ref).phase is AttemptPhase.ENDED

    def values(self, source: str, ranks: Sequence[int] = (0, 1)) -> list[str]:
        """Run a cell and return its value in each rank, as text."""
        return [told.get("value", told["state"]) for told in self.run(source, ranks).values()]

    def told(self, number: int) -> dict[int, Any]:
        """Return rank → its last word on a cell."""
        words = [e for e in self._words(number) if e.rank is not None]
        told = {e.rank: e.data for e in words if e.data["state"] != "started"}
        return dict(sorted(told.items()))

    def over(self, number: int) -> set[int]:
        """Return the ranks with which the agent says the cell is over."""
        return {e.data["rank"] for e in self._words(number) if e.data["state"] == "over"}

    def is_inside(self, number: int) -> bool:
        """True once both ranks have begun a cell."""
        begun = {e.rank for e in self._words(number) if e.data["state"] == "started"}
        return len(begun) == self.world_size

    def _words(self, number: int) -> list[Any]:
        return [e for e in self.events() if e.kind is EventKind.CELL and e.data["number"] == number]

    def events(self) -> list[Any]:
        """Return all events of the job."""
        return list(self.pad.events(self.ref))

    def pids(self) -> dict[int, int]:
        """Return rank → its process, once all have started."""
        found: dict[int, int] = {}

        def have_started() -> bool:
            for event in self.events():
                if event.kind is EventKind.PHASE and event.data["phase"] == "started":
                    found[event.rank] = event.data["pid"]
            return len(found) == self.world_size

        eventually(have_started, "the ranks start")
        return found

    def is_idle(self) -> bool:
        """True while nothing is to do."""
        return self.pad.engine.status(self.ref).is_idle

    def wait_idle(self) -> None:
        """Return when nothing is to do."""
        eventually(self.is_idle, "the ranks are idle")

    def end(self) -> None:
        """Have the ranks end, however they are."""
        self.pad.engine.stop(self.ref, StopReason.CANCELLED)
        self.pad.wait(self.ref, AttemptPhase.ENDED)
