"""The textbook's symbols: demands r, capacities c, and costs where there are any.

A number r_i is CPU; a vector (r_i1, r_i2, r_i3) is CPU, memory and disk. What is compared is only
like with like, so what the dimensions are called changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.problem import nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.reading import values
from jupyter_aios.allocation.reading.faults import Faults, legal
from jupyter_aios.allocation.reading.tree import Reading, line_of
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from jupyter_aios.allocation.problem import Ints

FORMULA_KEYS = ("r", "c", "cost")
EXAMPLE = "r: [3, 5, 2] and c: [6, 4]; with costs also cost: [[1, 2], [3, 1], [2, 2]]"
MOST = 10**9
_DIMENSIONS = 3
_GIB, _GB = 2**30, 10**9
Rows = list[list["Decimal"]]


def read_formula(given: Mapping[str, Any]) -> Reading:
    """Return the problem of r and c, or the generalized assignment problem of r, c and cost.

    r holds a number for each task, or a vector of up to three; c the same for each node. With
    costs (tasks × nodes), r may also be a table of tasks × nodes.

    Raises:
        InputError: all faults at once.

    """
    faults = Faults()
    for key in given:
        if key not in FORMULA_KEYS:
            _fault(faults, given, f"{key} is unknown; {legal(str(key), FORMULA_KEYS)}", key)
    read = {key: _rows(given, key, faults) for key in FORMULA_KEYS if key in given}
    for key, what in (("r", "tasks"), ("c", "nodes")):
        if key not in given:
            faults.add(f"{key} is missing", order=-1, hint=EXAMPLE)
        elif not read[key] and not faults.found:
            _fault(faults, given, f"there are no {what}", key)
    faults.raise_any()
    if "cost" in given:
        return _assignment(given, read, faults)
    return _problem(given, read, faults)


def _fault(faults: Faults, given: object, message: str, *path: str | int) -> None:
    line = line_of(given, *path)
    shown = str(path[0]) + "".join(f"[{number}]" for number in path[1:])
    faults.add(f"{shown}: {message}", f"line {line}" if line else "", line, EXAMPLE)


def _rows(given: Mapping[str, Any], key: str, faults: Faults) -> Rows:
    """Return a list of numbers, or of lists of numbers, as lists of numbers."""
    rows = _listed(given[key])
    if not isinstance(rows, (list, tuple)):
        _fault(faults, given, "this is a list", key)
        return []
    found: Rows = []
    for row, cells in enumerate(map(_listed, rows)):
        is_list = isinstance(cells, (list, tuple))
        found.append(
            [
                _number(given, cell, (key, row, column) if is_list else (key, row), faults)
                for column, cell in enumerate(map(_listed, cells if is_list else [cells]))
            ]
        )
    return found


def _listed(value: Any) -> Any:  # noqa: ANN401 - numpy's arrays, lists, numbers
    to_list = getattr(value, "tolist", None)
    return value if to_list is None else to_list()


def _number(given: object, cell: object, path: tuple[str | int, ...], faults: Faults) -> Decimal:
    message = ""
    if values.is_missing(cell):
        message = "there is no number"
    else:
        try:
            found = values.number(cell)
        except InputError as error:
            message = error.message
        else:
            if 0 <= found <= MOST:
                return found
            message = f"{cell} is not from 0 to {MOST:,}"
    _fault(faults, given, message, *path)
    return values.number(0)


def _problem(given: object, read: dict[str, Rows], faults: Faults) -> Reading:
    width = len(read["r"][0])
    if not 1 <= width <= _DIMENSIONS:
        _fault(faults, given, f"{width} dimensions; there are 1 to {_DIMENSIONS}", "r", 0)
    for key in ("r", "c"):
        for row, cells in enumerate(read[key]):
            if len(cells) != width:
                _fault(faults, given, f"{len(cells)} numbers, {width} in r[0]", key, row)
    faults.raise_any()
    scales = [_scale(read, column, given, faults) for column in range(width)]
    faults.raise_any()
    demand, capacity = (_amounts(read[key], scales) for key in ("r", "c"))
    none = np.zeros((len(capacity), 0), np.int64)
    nodes = nodes_of(names("node", len(capacity)), capacity, none)
    tasks = tasks_of(names("task", len(demand)), demand)
    return Reading("feasible", problem_of(nodes, tasks))


def names(what: str, count: int) -> list[str]:
    """Return names that are numbered as the formula's indexes are: from 1."""
    return [f"{what} {number}" for number in range(1, count + 1)]


def _scale(read: dict[str, Rows], column: int, given: object, faults: Faults) -> int:
    """Return how many of the allocator's integers make 1 of this dimension, exactly."""
    scales = (MILLI,) if column == 0 else (_GIB, _GB)
    cells = [cells[column] for key in ("r", "c") for cells in read[key]]
    for scale in scales:
        if all(cell * scale == int(cell * scale) for cell in cells):
            return scale
    for key in ("r", "c"):
        for row, numbers in enumerate(read[key]):
            if numbers[column] * scales[-1] != int(numbers[column] * scales[-1]):
                digits = "three" if column == 0 else "nine"
                _fault(
                    faults, given, f"{numbers[column]} has more than {digits} decimals", key, row
                )
    return scales[0]


def _amounts(rows: Rows, scales: list[int]) -> Ints:
    found = np.zeros((len(rows), _DIMENSIONS), np.int64)
    for row, cells in enumerate(rows):
        found[row, : len(cells)] = [
            int(cell * scale) for cell, scale in zip(cells, scales, strict=True)
        ]
    return found


def _assignment(given: Mapping[str, Any], read: dict[str, Rows], faults: Faults) -> Reading:
    from jupyter_aios.allocation.assignment import AssignmentProblem

    tasks, nodes = len(read["r"]), len(read["c"])
    if len(read["cost"]) != tasks:
        _fault(faults, given, f"{len(read['cost'])} rows for {tasks} tasks", "cost")
    is_table = any(len(cells) > 1 for cells in read["r"])
    for key, width in (("r", nodes if is_table else 1), ("c", 1), ("cost", nodes)):
        for row, cells in enumerate(read[key]):
            if len(cells) != width:
                _fault(faults, given, f"{len(cells)} numbers, {width} are needed", key, row)
    for row, cells in enumerate(read["cost"]):
        for column, cell in enumerate(cells):
            if cell != int(cell):
                _fault(faults, given, f"{cell}: costs are whole numbers", "cost", row, column)
    scale = _shared_scale(given, read, faults)
    faults.raise_any()
    demands = np.array([[int(cell * scale) for cell in cells] for cells in read["r"]], np.int64)
    found = AssignmentProblem(
        costs=np.array([[int(cell) for cell in cells] for cells in read["cost"]], np.int64),
        demands=np.broadcast_to(demands, (tasks, nodes)).copy(),
        capacities=np.array([int(cells[0] * scale) for cells in read["c"]], np.int64),
        task_names=tuple(names("task", tasks)),
        node_names=tuple(names("node", nodes)),
    )
    return Reading("cost", assignment=found)


def _shared_scale(given: object, read: dict[str, Rows], faults: Faults) -> int:
    """Return 1 for whole numbers, 1000 for decimals: demands and capacities in integers."""
    cells = [cell for key in ("r", "c") for row in read[key] for cell in row]
    if all(cell == int(cell) for cell in cells):
        return 1
    for key in ("r", "c"):
        for row, numbers in enumerate(read[key]):
            for cell in numbers:
                if cell * MILLI != int(cell * MILLI):
                    _fault(faults, given, f"{cell} has more than three decimals", key, row)
    return MILLI
