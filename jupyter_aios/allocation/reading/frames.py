"""Problems from tables: DataFrames of pandas or polars, and anything else that has columns.

No library of tables is imported: a table is what has `columns` and gives one for its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.reading.faults import Faults
from jupyter_aios.allocation.reading.sheets import Sheet
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem


def read_frames(nodes: Any, tasks: Any, *, quotas: Any = None) -> Problem:  # noqa: ANN401 - any table
    """Return the problem of two tables, a row for each node and task.

    The columns are the keys of the text format. A mapping of lists counts as a table too. A missing
    value (NaN, None, NA) in a column of amounts is a fault; in a column of words it is none.

    Raises:
        InputError: all faults at once, each with its row, counted from 0.

    Example:
        >>> problem = read_frames({"cpus": [4, 8]}, {"name": ["a", "b"], "cpus": [2, 6]})
        >>> len(problem.nodes), problem.tasks.names[1]
        (2, 'b')

    """
    from jupyter_aios.allocation.reading.quotas import read_quotas
    from jupyter_aios.allocation.reading.whole import build_problem

    faults = Faults()
    limits = read_quotas(quotas, {"quotas": quotas}, faults)
    sheets = [sheet_of_table("nodes", nodes), sheet_of_table("tasks", tasks)]
    return build_problem(sheets[0], sheets[1], limits, faults)


def is_table(value: object) -> bool:
    """Return whether something has columns and gives them by their names."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__")


def sheet_of_table(what: str, table: Any) -> Sheet:  # noqa: ANN401 - any table
    """Return the sheet of a table.

    Raises:
        InputError: it has no columns, or two of one name, or columns that differ in length.

    """
    if isinstance(table, Mapping):
        names = list(table)
    elif is_table(table):
        names = list(table.columns)
    else:
        kind = type(table).__name__
        raise InputError(
            f"{what} is a {kind}, not a table with columns", hint="pass a DataFrame: nodes, tasks"
        )
    shown = [str(name) for name in names]
    twice = sorted({name for name in shown if shown.count(name) > 1})
    if twice:
        raise InputError(f"{what} has two columns named {twice[0]}", hint="rename one of them")
    columns = {key: _cells(table[name]) for key, name in zip(shown, names, strict=True)}
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) > 1:
        raise InputError(f"the columns of {what} have {min(lengths)} to {max(lengths)} rows")

    def where(_: str, row: int) -> tuple[str, int]:
        return f"row {row} of {what}", row

    return Sheet(what, columns, max(lengths, default=0), where)


def _cells(column: Any) -> list[Any]:  # noqa: ANN401 - a column of any table
    for name in ("tolist", "to_list", "to_pylist"):
        to_list = getattr(column, name, None)
        if to_list is not None:
            return list(to_list())
    return list(column)
