"""What is ordered of kept ranks, as files: who creates a number's file first has that number.

::

    cells/000001.json         the first order: a cell, or the end
    cells/000001.interrupt    that cell is to be interrupted
    cells/ID/code, values     what the cell brings; its client has drawn the ID
    cells/ID/rank-0000/       what the rank left to be pulled
    cells/rank-0000.names     the rank's global names after its last cell
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from jupyter_aios.training.journal import claim, read_json

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "cells"
FIRST_CODE = 0
"""The number of what the job was submitted with; the cells after it count from 1."""


def order_path(attempt: Path, number: int) -> Path:
    """Return the file of one order."""
    return attempt / FOLDER / f"{number:06d}.json"


def interrupt_path(attempt: Path, number: int) -> Path:
    """Return the file whose existence interrupts a cell; a newer one does it again."""
    return attempt / FOLDER / f"{number:06d}.interrupt"


def names_path(attempt: Path, rank: int) -> Path:
    """Return the file with the names that a rank has."""
    return attempt / FOLDER / f"rank-{rank:04d}.names"


def cell_folder(attempt: Path, cell_id: str) -> Path:
    """Return where a cell's code and values lie, as a job's lie in the job's folder."""
    return attempt / FOLDER / cell_id


def result_folder(attempt: Path, cell_id: str, rank: int) -> Path:
    """Return where a rank leaves what a cell pulls."""
    return cell_folder(attempt, cell_id) / f"rank-{rank:04d}"


def read_order(attempt: Path, number: int) -> dict[str, Any] | None:
    """Return {"cell": …, "cursor": …} or {"end": why}; None where nothing is ordered yet."""
    order: dict[str, Any] | None = read_json(order_path(attempt, number))
    return order


def read_orders(attempt: Path) -> dict[int, dict[str, Any]]:
    """Return all orders by their numbers."""
    orders: dict[int, dict[str, Any]] = {}
    for number in itertools.count(1):
        order = read_order(attempt, number)
        if order is None:
            return orders
        orders[number] = order
    return orders  # pragma: no cover - count() does not end


def place(attempt: Path, order: dict[str, Any]) -> int | None:
    """Give an order the next free number and return it; None once the end is ordered.

    A link never replaces, so a cell and the release of its ranks cannot get the same number: one
    of the two comes first, and the other sees it.
    """
    number = 1
    while True:
        while order_path(attempt, number).exists():
            number += 1
        if number > 1 and "end" in (read_order(attempt, number - 1) or {}):
            return None
        if claim(order_path(attempt, number), order):
            return number
