"""Problems from CSV files of production traces, in the format of Alibaba's openb trace (2023).

Nodes: sn, cpu_milli, memory_mib, gpu, model. Tasks: name, cpu_milli, memory_mib, num_gpu, gpu_milli
(per GPU), gpu_spec (allowed models with a bar between them), qos. Other columns are not read.
Format: https://github.com/alibaba/clusterdata/tree/master/cluster-trace-gpu-v2023.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.problem import MAX_DEVICES
from jupyter_aios.allocation.reading import values
from jupyter_aios.allocation.reading.faults import Faults, legal
from jupyter_aios.allocation.reading.sheets import TASK_FIELDS, Field, Sheet
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem

PRIORITIES = {"LS": "4", "Burstable": "2", "Guaranteed": "2"}
"""What a class of service is worth; any other is worth 1."""
_NODE_COLUMNS = {
    "sn": "name", "cpu_milli": "cpu_milli", "memory_mib": "memory_mib", "gpu": "gpus",
    "model": "model",
}  # fmt: skip
_EXAMPLE = "--nodes-csv nodes.csv --tasks-csv tasks.csv"
_TASK_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")


def read_trace(nodes_csv: str | Path, tasks_csv: str | Path) -> Problem:
    """Return the problem of placing all tasks of a trace on its machines, which are empty.

    A task's priority is the file's column `priority`, or what its class of service is worth
    (`PRIORITIES`). A task that wants only GPU models which no machine has is left out of every
    allocation; that is no fault here, for traces are mixed with other clusters.

    Raises:
        InputError: a file that cannot be read; columns that are missing; all faults at once.

    """
    from jupyter_aios.allocation.reading.whole import build_problem

    faults = Faults()
    nodes = _nodes(Path(nodes_csv), faults)
    tasks = _tasks(Path(tasks_csv), faults)
    faults.raise_any()
    return build_problem(nodes, tasks, (), faults)


def _nodes(path: Path, faults: Faults) -> Sheet:
    table, lines = _read(path)
    if "sn" not in table and "name" in table:
        table["sn"] = table.pop("name")
    _refuse_missing(path, table, tuple(_NODE_COLUMNS)[:4], faults)
    columns = {ours: table[theirs] for theirs, ours in _NODE_COLUMNS.items() if theirs in table}
    return _sheet("nodes", path, columns, lines)


def _tasks(path: Path, faults: Faults) -> Sheet:
    table, lines = _read(path)
    _refuse_missing(path, table, _TASK_COLUMNS, faults)
    columns: dict[str, list[Any]] = {key: table[key] for key in _TASK_COLUMNS[:3] if key in table}
    columns["devices"] = [*zip(table.get("num_gpu", ()), table.get("gpu_milli", ()), strict=False)]
    if "gpu_spec" in table:
        columns["models"] = table["gpu_spec"]
    if "priority" in table:
        columns["priority"] = table["priority"]
    elif "qos" in table:
        columns["priority"] = [PRIORITIES.get(qos, "1") for qos in table["qos"]]
    return replace(_sheet("tasks", path, columns, lines), fields=_TASK_FIELDS)


def _sheet(what: str, path: Path, columns: dict[str, list[Any]], lines: list[int]) -> Sheet:
    def where(_: str, row: int) -> tuple[str, int]:
        line = lines[row] if row < len(lines) else 1
        return f"line {line} of {path.name}", line

    return Sheet(what, columns, len(lines), where, is_of_another_cluster=True)


def _read(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Return the columns of a file, and the line of each row.

    Raises:
        InputError: it cannot be read, or a row has not as many cells as there are columns.

    """
    cells, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            head = [name.strip() for name in next(rows, [])]
            for row in rows:
                if row:
                    cells.append(row)
                    lines.append(rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: {why}", hint=_EXAMPLE) from None
    if not head:
        raise InputError(f"{path} is empty", hint="the first line names the columns")
    wrong = [at for at, row in enumerate(cells) if len(row) != len(head)]
    if wrong:
        told = [f"line {lines[at]} of {path.name}: {len(cells[at])} cells" for at in wrong[:5]]
        told += [f"and {len(wrong) - 5} more such lines"] if len(wrong) > 5 else []  # noqa: PLR2004
        raise InputError.of_faults(told, hint=f"the first line names {len(head)} columns")
    columns = map(list, zip(*cells, strict=True)) if cells else ([] for _ in head)
    return dict(zip(head, columns, strict=True)), lines


def _refuse_missing(
    path: Path, table: dict[str, list[str]], wanted: tuple[str, ...], faults: Faults
) -> None:
    for name in wanted:
        if name not in table:
            faults.add(f"{path.name} has no column {name}; {legal(name, table)}", hint=_EXAMPLE)


def _devices(value: object) -> tuple[int, int]:
    """Return (devices, thousandths of each) of a pair: number of GPUs, thousandths of each.

    Raises:
        InputError: parts of several devices, or no numbers.

    """
    count_text, milli_text = value if isinstance(value, tuple) else (value, "0")
    count = values.whole(0, MAX_DEVICES)(count_text)
    milli = values.whole(0, MILLI)(milli_text) if count else 0
    if count > 1 and milli != MILLI:
        raise InputError(f"{milli} thousandths of each of {count} GPUs: several are taken whole")
    if count and not milli:
        raise InputError("0 thousandths of a GPU")
    return count, milli


_TASK_FIELDS = {**TASK_FIELDS, "devices": Field(_devices, "gpus", (0, 0))}
