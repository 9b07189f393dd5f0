"""The order in which definitions, and the values that they need first, come to stand in a rank."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.training.loading import FUTURE_ANNOTATIONS
from jupyter_aios.training.packing.sources import cut_lines

if TYPE_CHECKING:
    from jupyter_aios.training.packing.shipment import Shipment


@dataclass
class Piece:
    """Definitions of one cell that run one after the other, after `values` were loaded."""

    filename: str
    names: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)


class CycleError(Exception):
    """A definition needs a value that is made of the definition: it must travel by value."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def stage(shipment: Shipment) -> list[Piece]:
    """Return the pieces in an order in which each finds what it needs to be defined.

    Otherwise the order is that of the cells, and of the lines in them.

    Raises:
        CycleError: there is none.

    """
    pieces: list[Piece] = []
    waiting: list[str] = []
    for name in _ordered(shipment):
        if name not in shipment.definitions:
            waiting.append(name)
            continue
        filename = shipment.definitions[name].filename
        last = pieces[-1] if pieces else None
        if (
            last is None
            or last.filename != filename
            or waiting
            or _line(shipment, name) < _line(shipment, last.names[-1])
        ):
            last = Piece(filename, values=waiting)
            pieces.append(last)
            waiting = []
        last.names.append(name)
    return pieces


def _line(shipment: Shipment, name: str) -> int:
    return shipment.definitions[name].nodes[0].lineno


def _ordered(shipment: Shipment) -> list[str]:
    definitions = sorted(
        shipment.definitions,
        key=lambda name: (
            shipment.sources.order(shipment.definitions[name].filename),
            _line(shipment, name),
        ),
    )
    rank = {name: index for index, name in enumerate(definitions)}
    ordered: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in path:
            _check_cycle(path[path.index(name) :], shipment)
            return
        if name in ordered:
            return
        path.append(name)
        for needed in sorted(shipment.needs(name), key=lambda n: (rank.get(n, -1), n)):
            visit(needed)
        path.pop()
        ordered.append(name)

    for name in definitions:
        visit(name)
    return ordered


def _check_cycle(cycle: list[str], shipment: Shipment) -> None:
    """Tell a true cycle from functions that merely mention each other."""
    for name, needed in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        if name not in shipment.definitions and needed in shipment.definitions:
            raise CycleError(needed)


def names_to_define(shipment: Shipment, piece: Piece) -> tuple[str, ...]:
    """Return what of the piece's text is to run, and whether under `from __future__`.

    The text has no line for that: an earlier cell has said it for all cells after it.
    """
    is_future = any(shipment.definitions[name].has_future_annotations for name in piece.names)
    return (*piece.names, FUTURE_ANNOTATIONS) if is_future else tuple(piece.names)


def cut(shipment: Shipment, piece: Piece) -> str:
    """Return the text of the piece's cell, blank but for its definitions: lines keep numbers."""
    kept: set[int] = set()
    definitions = [shipment.definitions[name] for name in piece.names]
    for node in (node for definition in definitions for node in definition.nodes):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        kept |= set(range(first, (node.end_lineno or node.lineno) + 1))
    text = cut_lines(shipment.sources.text(piece.filename), kept)
    return "\n".join(text) + "\n"
