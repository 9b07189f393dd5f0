"""Problems from OR-Library's text format, with all faults of a text at once.

Format (http://people.brunel.ac.uk/~mastjjb/jeb/orlib/gapinfo.html): the numbers of nodes (agents)
and tasks (jobs); then for each node its costs; then for each node its demands; then the capacities.
Line breaks do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from jupyter_aios.allocation.assignment.problem import AssignmentProblem
from jupyter_aios.errors import InputError

HINT = "nodes and tasks; nodes × tasks costs; nodes × tasks demands; a capacity for each node"
MOST_SHOWN = 12


@dataclass(frozen=True)
class _Number:
    line: int
    text: str
    value: int


def read_assignment(text: str) -> AssignmentProblem:
    """Return the problem that a text of OR-Library's format holds; costs are minimised.

    Raises:
        InputError: words that are no integers from 0, too few or too many of them; with line
            numbers, all at once.

    Example:
        >>> read_assignment("1 2  5 6  1 1  2").costs.tolist()
        [[5], [6]]

    """
    numbers, found = _numbers(text)
    if len(numbers) < 2:  # noqa: PLR2004 - nodes and tasks
        found.append("the numbers of nodes and tasks are missing at the start")
        raise InputError.of_faults(found, hint=HINT)
    nodes, tasks = numbers[0].value, numbers[1].value
    for what, number in (("nodes", numbers[0]), ("tasks", numbers[1])):
        if number.value < 1:
            found.append(f"line {number.line}: {number.text} {what}, at least 1 is needed")
    wanted = 2 + 2 * nodes * tasks + nodes
    if nodes > 0 and tasks > 0 and len(numbers) != wanted:
        found.append(_miscount(numbers, nodes, tasks, wanted))
    if found:
        shown = found[:MOST_SHOWN]
        if len(found) > MOST_SHOWN:
            shown.append(f"and {len(found) - MOST_SHOWN} more")
        raise InputError.of_faults(shown, hint=HINT)
    values = np.array([number.value for number in numbers[2:]], np.int64)
    cells = nodes * tasks
    return AssignmentProblem(
        costs=np.ascontiguousarray(values[:cells].reshape(nodes, tasks).T),
        demands=np.ascontiguousarray(values[cells : 2 * cells].reshape(nodes, tasks).T),
        capacities=values[2 * cells :],
        task_names=tuple(f"task{task}" for task in range(tasks)),
        node_names=tuple(f"node{node}" for node in range(nodes)),
    )


def _numbers(text: str) -> tuple[list[_Number], list[str]]:
    """Return every word as a number, a wrong one as 0, and the faults."""
    numbers, found = [], []
    for at, line in enumerate(text.splitlines(), start=1):
        for word in line.split():
            if re.fullmatch(r"\d{1,18}", word, re.ASCII):
                numbers.append(_Number(at, word, int(word)))
            else:
                numbers.append(_Number(at, word, 0))
                found.append(f"line {at}: {word!r} is no integer from 0 to 10^18")
    return numbers, found


def _miscount(numbers: list[_Number], nodes: int, tasks: int, wanted: int) -> str:
    """Say where the text ends too early, or what is left over."""
    counted = f"{nodes} nodes × {tasks} tasks need {wanted} numbers, there are {len(numbers)}"
    if len(numbers) > wanted:
        return f"line {numbers[wanted].line}: {counted}; {numbers[wanted].text} is one too many"
    at = len(numbers) - 2
    table, place = divmod(at, nodes * tasks)
    what = ("costs", "demands", "capacities")[table]
    where = f"capacity {place}" if table == 2 else f"{what} of node {place // tasks}"  # noqa: PLR2004
    return f"line {numbers[-1].line}: {counted}; the text ends in the {where}"
