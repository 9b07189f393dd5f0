"""What `%%aios_train` does with its line and its cell."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.commands.arguments import Parser
from jupyter_aios.commands.options import add_train_options, read_options
from jupyter_aios.commands.submitting import launch
from jupyter_aios.errors import InputError
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.commands.place import Place


def train_parser() -> Parser:
    """Return the parser of the magic's line."""
    parser = Parser("%%aios_train", "Run the cell on many ranks.")
    add_train_options(parser, in_notebook=True)
    return parser


def train(tokens: Sequence[str], cell: str, place: Place, name: str) -> object:
    """Submit the cell, show it until it ends, and return the job; `name` is what it is called.

    Raises:
        AiosError: nothing was started, or the job failed.

    """
    from jupyter_aios.training.packing.bundle import pack_cell

    parser = train_parser()
    arguments = parser.read(tokens)
    if arguments.help:
        return Text(parser.format_help().rstrip())
    options = read_options(arguments)
    if not cell.strip():
        raise InputError("the cell is empty", hint="write the training below the magic's line")
    if options.on:
        from jupyter_aios.commands.keeping import run_on

        return run_on(options, cell, place, name)
    namespace = {} if place.namespace is None else place.namespace
    packed = pack_cell(cell, namespace, name=name, first_line=2, push=options.push)
    place.warm_up()
    return launch(packed, replace(options, typed=shlex.join(tokens)), place)
