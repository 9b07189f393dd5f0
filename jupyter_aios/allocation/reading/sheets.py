"""Rows of nodes and tasks as checked columns, whatever they come from.

Equal cells are understood once: a hundred thousand rows are mostly the same few amounts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.problem import MAX_DEVICES
from jupyter_aios.allocation.reading import mappings, values
from jupyter_aios.allocation.reading.faults import legal
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.reading.faults import Faults

ABSENT = object()
"""A cell that was not given at all."""
_GIB, _MIB = 2**30, 2**20


@dataclass(frozen=True)
class Field:
    """A legal column: how its cells are understood, and which of our columns they become."""

    read: Callable[[Any], Any]
    target: str
    usual: Any
    """Where it is not given."""
    may_be_empty: bool = False
    """An empty cell is one that was not given; otherwise it is a fault."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Raw columns; cells that were not given are `ABSENT`."""

    what: str
    """`nodes` or `tasks`."""
    columns: Mapping[str, Sequence[Any]]
    count: int
    where: Callable[[str, int], tuple[str, int]]
    """(column, row) → the place as it is shown, and what sorts it."""
    fields: Mapping[str, Field] | None = None
    """The legal columns; None: those of the text format."""
    is_of_another_cluster: bool = False
    """GPU models that no node has are no fault: a task that wants one is left out."""

    def at(self, row: int, key: str = "") -> tuple[str, int]:
        """Return the place of a cell or of a row."""
        return self.where(key, row)


@dataclass(frozen=True, eq=False)
class Columns:
    """Understood columns, by our names; `sheet` says where a row stands."""

    sheet: Sheet
    of: dict[str, list[Any]] = field(default_factory=dict)
    given: dict[str, set[str]] = field(default_factory=dict)
    """Of each of our columns, the names that it was given under."""

    def __len__(self) -> int:
        return self.sheet.count

    def __getitem__(self, target: str) -> list[Any]:
        return self.of[target]


def _amounts(target: str, usual: object) -> dict[str, Field]:
    return {
        target: Field(values.memory, target, usual),
        f"{target}_bytes": Field(values.sized(1), target, usual),
        f"{target}_mib": Field(values.sized(_MIB), target, usual),
        f"{target}_gib": Field(values.sized(_GIB), target, usual),
    }


NODE_FIELDS: dict[str, Field] = {
    "name": Field(values.text, "name", None, may_be_empty=True),
    "count": Field(values.whole(1, values.MOST_NODES), "count", 1),
    "cpus": Field(values.cpus, "cpus", None),
    "cpu_milli": Field(values.milli(values.MOST_CPUS * MILLI), "cpus", None),
    **_amounts("memory", None),
    **_amounts("disk", None),
    "gpus": Field(values.whole(0, MAX_DEVICES), "gpus", 0),
    "model": Field(values.text, "model", None, may_be_empty=True),
    "labels": Field(mappings.labels, "labels", (), may_be_empty=True),
    "drained": Field(values.switch, "drained", False),  # noqa: FBT003 - it is what is usual
    "used": Field(mappings.used, "used", None, may_be_empty=True),
}
TASK_FIELDS: dict[str, Field] = {
    "name": Field(values.text, "name", None, may_be_empty=True),
    "count": Field(values.whole(1, values.MOST_TASKS), "count", 1),
    "gang": Field(values.gang, "gang", None, may_be_empty=True),
    "cpus": Field(values.cpus, "cpus", 0),
    "cpu_milli": Field(values.milli(values.MOST_CPUS * MILLI), "cpus", 0),
    **_amounts("memory", 0),
    **_amounts("disk", 0),
    "gpus": Field(values.gpus, "gpus", (0, 0)),
    "gpu_milli": Field(values.gpu_milli, "gpus", (0, 0)),
    "models": Field(values.texts, "models", (), may_be_empty=True),
    "model": Field(values.texts, "models", (), may_be_empty=True),
    "priority": Field(values.whole(0, values.MOST_PRIORITY), "priority", 1),
    "value": Field(values.whole(0, values.MOST_VALUE), "value", -1, may_be_empty=True),
    "user": Field(values.text, "user", None, may_be_empty=True),
    "group": Field(values.text, "group", None, may_be_empty=True),
    "job": Field(values.text, "job", None, may_be_empty=True),
    "labels": Field(mappings.labels, "labels", (), may_be_empty=True),
    "avoid": Field(mappings.labels, "avoid", (), may_be_empty=True),
    "apart": Field(mappings.tag, "apart", None, may_be_empty=True),
    "together": Field(mappings.together, "together", None, may_be_empty=True),
    "on": Field(mappings.places, "on", None, may_be_empty=True),
    "movable": Field(values.switch, "movable", True),  # noqa: FBT003 - it is what is usual
    "preemptible": Field(values.switch, "preemptible", False),  # noqa: FBT003 - the same
}
FIELDS = {"nodes": NODE_FIELDS, "tasks": TASK_FIELDS}


def sheet_of_entries(what: str, value: object, top: object, faults: Faults) -> Sheet:
    """Return the sheet of a mapping or of a list of mappings, as they come from YAML or Python."""
    from jupyter_aios.allocation.reading.tree import line_of

    single = isinstance(value, Mapping)
    entries = [value] if single else value
    if not isinstance(entries, (list, tuple)):
        line = line_of(top, what)
        place = f"line {line}" if line else what
        faults.add(f"{what} is a mapping, or a list of them", place, line)
        entries = []

    def where(key: str, row: int) -> tuple[str, int]:
        path = (what, key) if single else (what, row, key)
        line = line_of(top, *path)
        return (f"line {line}", line) if line else (f"{what}[{row}]", row)

    kept: list[Mapping[Any, Any]] = []
    for row, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            kept.append(entry)
        else:
            place, order = where("", row)
            faults.add(f"{what} are mappings such as {{cpus: 4}}", place, order)
            kept.append({})
    keys = list(dict.fromkeys(str(key) for entry in kept for key in entry))
    columns = {key: [entry.get(key, ABSENT) for entry in kept] for key in keys}
    return Sheet(what, columns, len(kept), where)


def read_sheet(sheet: Sheet, faults: Faults) -> Columns:
    """Return the understood columns of a sheet; what is wrong goes to `faults`."""
    fields = FIELDS[sheet.what] if sheet.fields is None else sheet.fields
    found = Columns(sheet)
    for one in fields.values():
        if one.target not in found.of:
            found.of[one.target] = [one.usual] * sheet.count
    for key, cells in sheet.columns.items():
        if key in fields:
            _read_column(key, cells, fields[key], found, faults)
        else:
            row = next((row for row, cell in enumerate(cells) if cell is not ABSENT), 0)
            place, order = sheet.at(row, key)
            told = legal(key, fields)
            if isinstance(cells[row], Mapping):
                told = f"write {sheet.what}: [{{name: {key}, …}}]"
            faults.add(f"{sheet.what} have no {key}; {told}", place, order)
    for target, keys in found.given.items():
        if len(keys) > 1:
            _refuse_doubles(target, sorted(keys), sheet, faults)
    return found


def _read_column(key: str, cells: Sequence[Any], of: Field, found: Columns, faults: Faults) -> None:
    found.given.setdefault(of.target, set()).add(key)
    target = found.of[of.target]
    known: dict[tuple[type, Any], Any] = {}
    for row, cell in enumerate(cells):
        if cell is ABSENT:
            continue
        try:
            kind = (type(cell), cell)
            if kind not in known:
                known[kind] = _understood(cell, of)
            value = known[kind]
        except TypeError:  # a list or a mapping: it is no key
            value = _understood(cell, of)
        if isinstance(value, InputError):
            place, order = found.sheet.at(row, key)
            faults.add(f"{key}: {value.message}", place, order, value.hint)
        elif value is not ABSENT:
            target[row] = value


def _understood(cell: Any, of: Field) -> Any:  # noqa: ANN401 - a cell may be anything
    """Return what a cell means, `ABSENT` for nothing, or the error."""
    value = values.plain(cell)
    if values.is_missing(value):
        if of.may_be_empty:
            return ABSENT
        return InputError("there is no value" if not isinstance(value, float) else "NaN")
    try:
        return of.read(value)
    except InputError as error:
        return error


def _refuse_doubles(target: str, keys: list[str], sheet: Sheet, faults: Faults) -> None:
    """A row says an amount once."""
    for row in range(sheet.count):
        said = [key for key in keys if sheet.columns[key][row] is not ABSENT]
        if len(said) > 1:
            place, order = sheet.at(row, said[1])
            faults.add(f"{target} is said twice: {' and '.join(said)}", place, order)
