"""What `%%aios_allocate` does with its line and its cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.commands.allocating import add_allocate, allocate_typed
from jupyter_aios.commands.arguments import Parser
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.commands.place import Place


def allocate_parser() -> Parser:
    """Return the parser of the magic's line."""
    parser = Parser("%%aios_allocate", "Place tasks on nodes, with a proven bound.")
    add_allocate(parser)
    return parser


def allocate(tokens: Sequence[str], cell: str, place: Place) -> object:
    """Place what the cell or the line says; return the answer, which draws itself.

    Raises:
        InputError: it cannot be meant; all faults of the cell at once, with their lines.

    """
    parser = allocate_parser()
    arguments = parser.read(tokens)
    if arguments.help:
        return Text(parser.format_help().rstrip())
    return allocate_typed(arguments, cell, place)
