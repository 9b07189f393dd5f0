"""Cells for kept ranks: what is ordered, what the order got, and what is known of the ranks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from jupyter_aios.core.entities import MIB, Code
from jupyter_aios.core.units import format_duration

_ID = re.compile(r"[0-9a-f]{8,32}")


@dataclass(frozen=True)
class Cell:
    """One more cell for ranks that were kept with their variables.

    What `code` brings of the notebook is for names that a rank does not have; its own variables
    stay as they are, except those that `push` names. A cell without a line of code pushes, pulls.
    """

    id: str
    """Drawn by the client: the same cell again is not run again."""
    code: Code
    ranks: tuple[int, ...]
    push: tuple[str, ...] = ()
    """Names that the notebook's values replace, whether a rank has them or not."""
    pull: tuple[str, ...] = ()
    """Variables that each rank leaves to be fetched when the cell is done."""
    pull_limit_bytes: int = 2048 * MIB


@dataclass(frozen=True)
class CellTicket:
    """The place of a cell among those of its job; cells run in the order of their numbers."""

    number: int
    cursor: dict[str, int]
    """All events of the cell come after it."""


@dataclass(frozen=True)
class KeptStatus:
    """What kept ranks have, and what they are at."""

    names: tuple[dict[str, str], ...]
    """Of each rank: its global names after its last cell, none while its first code runs; with the
    fingerprint of what is a function or class of the notebook's."""
    under_way: tuple[int, ...]
    """Numbers of the cells that wait or run; 0 is the job's own code."""


def release_reason(keep_idle_s: float) -> str:
    """Return why kept ranks are released.

    Example:
        >>> release_reason(600)
        'released after 10 min without a cell'

    """
    limit = format_duration(keep_idle_s).removesuffix(" 00 s").removesuffix(" 00 min")
    return f"released after {limit} without a cell"


def cell_faults(cell: Cell, world_size: int) -> list[str]:
    """Return every fault of an order as far as its data can tell; code has its own check."""
    faults = [] if _ID.fullmatch(cell.id) else [f"{cell.id!r} is not a cell's id"]
    faults += [] if cell.ranks else ["no rank is named"]
    faults += [
        f"there is no rank {rank}: ranks are 0 to {world_size - 1}"
        for rank in cell.ranks
        if not 0 <= rank < world_size
    ]
    # The files of results are called by them.
    wrong = [name for name in (*cell.push, *cell.pull) if not name.isidentifier()]
    return faults + [f"{name!r} is not a variable's name" for name in wrong]
