"""Cells for kept ranks: their files in the attempt's folder, and what the ranks wrote of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.core.cells import CellTicket, KeptStatus
from jupyter_aios.core.events import AGENT_STREAM, EventKind
from jupyter_aios.core.wire import to_plain
from jupyter_aios.errors import StateError, StorageError, UnknownNameError
from jupyter_aios.training.journal import PLAN_FILE, JournalReader, read_json, write_json
from jupyter_aios.training.kept import orders
from jupyter_aios.training.kept.orders import FIRST_CODE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_aios.core.cells import Cell
    from jupyter_aios.core.entities import Code
    from jupyter_aios.core.ports import CellRef


def order_cell(attempt: Path, cell: Cell, lay_out: Callable[[Path, Code], None]) -> CellTicket:
    """Leave a cell for the ranks of an attempt; `lay_out` writes code and values to a folder.

    Raises:
        StateError: the ranks have been released.
        StorageError: the disk does not take it.

    """
    home = orders.cell_folder(attempt, cell.id)
    try:
        if home.exists():
            known = _order_of(attempt, cell.id)
            if known is not None:
                return known
        lay_out(home, cell.code)
        # Before the order: no event of the cell can come earlier.
        cursor = {
            f"{attempt.name}/{path.name}": path.stat().st_size
            for path in attempt.iterdir()
            if path.suffix in {".events", ".output"}
        }
        number = orders.place(attempt, {"cell": to_plain(cell), "cursor": cursor})
    except OSError as error:
        msg = f"the cell cannot be written to {home}: {error.strerror}"
        raise StorageError(msg, hint="make room: %aios prune") from error
    if number is None:
        raise StateError("its ranks have been released", hint="start it again with --keep")
    return CellTicket(number, cursor)


def _order_of(attempt: Path, cell_id: str) -> CellTicket | None:
    for number, order in orders.read_orders(attempt).items():
        if "cell" in order and order["cell"]["id"] == cell_id:
            return CellTicket(number, order["cursor"])
    return None


def interrupt(attempt: Path, number: int) -> None:
    """Order the interrupt of a cell; the agent and the ranks see it."""
    if orders.read_order(attempt, number) is None:
        raise UnknownNameError(f"there is no cell {number}")
    write_json(orders.interrupt_path(attempt, number), {})


def kept_status(attempt: Path) -> KeptStatus:
    """Return what the ranks of an attempt have, and which cells are not over."""
    plan = read_json(attempt / PLAN_FILE)
    ranks = [rank["rank"] for rank in plan["ranks"]] if plan else []
    names = (read_json(orders.names_path(attempt, rank)) or {} for rank in ranks)
    left = {FIRST_CODE: set(ranks)}
    for number, order in orders.read_orders(attempt).items():
        if "cell" in order:
            left[number] = set(order["cell"]["ranks"])
    for frame in JournalReader(attempt / AGENT_STREAM).read():
        if frame.kind is EventKind.CELL:
            data = frame.json()
            left.get(data["number"], set()).discard(data["rank"])
    under_way = tuple(number for number, ranks_left in left.items() if ranks_left)
    return KeptStatus(tuple(names), under_way)


def results_of(attempt: Path, ref: CellRef) -> Path:
    """Return the folder that holds what a rank left in a cell.

    Raises:
        UnknownNameError: there is no such cell.

    """
    order = orders.read_order(attempt, ref.number)
    if order is None or "cell" not in order:
        raise UnknownNameError(f"there is no cell {ref.number}")
    return orders.result_folder(attempt, order["cell"]["id"], ref.rank)
