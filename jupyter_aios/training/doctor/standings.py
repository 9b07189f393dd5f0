"""What the judgement is made of, and what it says: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from jupyter_aios.training.doctor.vitals import Call, Line

EXCHANGE = "exchange"
"""The operation of a wait that the vitals do not know: torch's own call in C++."""


class Condition(Enum):
    """What can be said of a rank apart from collectives."""

    HOPE = "hope"
    FROZEN = "frozen"
    ENDED = "ended"
    IDLE = "idle"
    """Kept, and no cell runs in it."""
    STILL = "still"


class Kind(str, Enum):
    """Kinds of verdicts."""

    FROZEN = "frozen"
    ENDED = "ended"
    LOADER = "loader"
    LOCK = "lock"
    MISMATCH = "mismatch"
    SHAPES = "shapes"
    ORDER = "order"


@dataclass(frozen=True)
class Waiting:
    """A rank waits for others: in `call`, or where that is None in a call of torch's own."""

    line: Line
    call: Call | None = None

    @property
    def operation(self) -> str:
        """Return what it is in."""
        return self.call.operation if self.call else EXCHANGE

    @property
    def position(self) -> tuple[str, Line]:
        """Operation and line: what ranks that run the same program have in common."""
        return self.operation, self.line


@dataclass(frozen=True)
class Worker:
    """A DataLoader's worker, or another child, that does not move."""

    pid: int
    line: Line
    is_stopped: bool = False


@dataclass(frozen=True)
class Standing:
    """One rank as it stands."""

    rank: int
    condition: Condition
    step: int = 0
    waiting: Waiting | None = None
    line: Line = field(default_factory=Line)
    """Where it is, or was last seen."""
    doing: str = ""
    """For a lock: the library's function that the line waits in."""
    is_at_loader: bool = False
    is_unknown: bool = False
    """It does not move, but no stack says where it is."""
    worker: Worker | None = None
    entered: Mapping[str, Call] = field(default_factory=dict)
    """Group → newest call of it."""
    history: tuple[tuple[str, Line], ...] = ()

    @property
    def position(self) -> tuple[str, Line] | None:
        """Return operation and line of what it waits in."""
        return None if self.waiting is None else self.waiting.position


@dataclass(frozen=True)
class Verdict:
    """Who holds whom up, and how."""

    kind: Kind
    ranks: tuple[int, ...]
    """The culprits; where nobody can be told from the others, all that are involved."""
    waiting: tuple[int, ...] = ()
    is_tie: bool = False
    """`ranks` disagree, and nothing tells who is wrong."""
    skipped: tuple[str, Line] | None = None
    """What the culprit went past."""
