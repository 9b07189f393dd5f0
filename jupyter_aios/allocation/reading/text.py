"""Problems from YAML, every fault with its line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jupyter_aios.allocation.reading.tree import EXAMPLE, Reading, parse
from jupyter_aios.allocation.reading.whole import read_plain
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem


def read(text: str, *, first_line: int = 1) -> Reading:
    r"""Return what a text asks for; `first_line` is the number of its first line in faults.

    Raises:
        InputError: all faults at once, each with its line.

    Example:
        >>> read("r: [3, 5, 2]\nc: [6, 4]\ncost: [[1, 2], [3, 1], [2, 2]]").objective
        'cost'

    """
    found = parse(text, first_line)
    if not isinstance(found, Mapping):
        raise InputError(f"line {first_line}: this is no mapping", hint=EXAMPLE)
    return read_plain(found)


def read_text(text: str) -> Problem:
    r"""Return the problem of a text: nodes, tasks and quotas, or the textbook's r and c.

    Raises:
        InputError: all faults at once, each with its line; or the text holds costs.

    Example:
        >>> problem = read_text("nodes: {count: 2, cpus: 4}\ntasks: {name: a, cpus: 2}")
        >>> problem.nodes.names[1], problem.tasks.demand.tolist()
        ('node-1', [[2000, 0, 0]])

    """
    reading = read(text)
    if reading.problem is None:
        raise InputError("this text holds costs: a generalized assignment problem", hint="read()")
    return reading.problem
