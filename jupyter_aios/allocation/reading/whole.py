"""All parts of an input together → what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.problem import Problem
from jupyter_aios.allocation.reading.demands import build_tasks, unroll, with_together
from jupyter_aios.allocation.reading.faults import Faults, legal
from jupyter_aios.allocation.reading.formula import FORMULA_KEYS, read_formula
from jupyter_aios.allocation.reading.machines import AMOUNTS, build_machines
from jupyter_aios.allocation.reading.quotas import read_quotas, with_quotas
from jupyter_aios.allocation.reading.sheets import (
    Columns,
    Sheet,
    read_sheet,
    sheet_of_entries,
)
from jupyter_aios.allocation.reading.tree import EXAMPLE, Reading, line_of
from jupyter_aios.allocation.reading.zones import with_places, with_zones
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Quota

_KEYS = ("nodes", "tasks", "quotas")


def read_plain(given: Mapping[str, Any]) -> Reading:
    """Return what mappings and lists ask for: the keys are those of the text format.

    `nodes` and `tasks` may be tables, such as DataFrames.

    Raises:
        InputError: all faults at once.

    Example:
        >>> read_plain({"r": [3, 5, 2], "c": [6, 5]}).objective
        'feasible'

    """
    if not isinstance(given, Mapping) or not given:
        raise InputError("an allocation problem is a mapping", hint=EXAMPLE)
    if set(given) & set(FORMULA_KEYS) and not set(given) & set(_KEYS):
        return read_formula(given)
    faults = Faults()
    for key in given:
        if key not in _KEYS:
            line = line_of(given, key)
            told = legal(str(key), (*_KEYS, *FORMULA_KEYS))
            mixed = key in FORMULA_KEYS
            what = f"{key} stands beside nodes and tasks" if mixed else f"{key} is unknown; {told}"
            faults.add(what, f"line {line}" if line else "", line, EXAMPLE)
    sheets = []
    for what in ("nodes", "tasks"):
        if given.get(what) is None:
            faults.add(f"there are no {what}", order=-1, hint=EXAMPLE)
        sheets.append(_sheet(what, given.get(what), given, faults))
    quotas = read_quotas(given.get("quotas"), given, faults)
    return Reading("priority", build_problem(sheets[0], sheets[1], quotas, faults))


def _sheet(what: str, value: Any, top: object, faults: Faults) -> Sheet:  # noqa: ANN401
    from jupyter_aios.allocation.reading.frames import is_table, sheet_of_table

    if is_table(value):
        return sheet_of_table(what, value)
    return sheet_of_entries(what, [] if value is None else value, top, faults)


def build_problem(
    node_sheet: Sheet, task_sheet: Sheet, quotas: tuple[Quota, ...], faults: Faults
) -> Problem:
    """Return the problem of two sheets.

    Raises:
        InputError: all that `faults` holds and that is found here.

    """
    of_nodes = read_sheet(node_sheet, faults)
    of_tasks = read_sheet(task_sheet, faults)
    wanted = frozenset(key for key in AMOUNTS if any(of_tasks[key]))
    machines = build_machines(of_nodes, wanted, faults)
    unrolled = unroll(of_tasks, faults)
    if machines is None or unrolled is None:
        faults.raise_any()
        raise InputError("there is nothing to place", hint=EXAMPLE)
    tasks = build_tasks(of_tasks, unrolled, faults)
    tasks, zones, zone_names = with_zones(tasks, of_tasks, unrolled, machines, faults)
    tasks, domains, about = with_together(tasks, of_tasks, unrolled, machines, faults)
    tasks = with_quotas(tasks, quotas, of_tasks, unrolled, faults)
    _refuse_empty(of_nodes, of_tasks, faults)
    if not faults.found:  # what is not understood is in force nowhere
        tasks = with_places(tasks, of_tasks, unrolled, machines, faults)
    faults.raise_any()
    return Problem(
        nodes=machines.nodes,
        tasks=tasks,
        zones=zones,
        zone_names=zone_names,
        domains=domains,
        together_domain=about,
        quotas=quotas,
    )


def _refuse_empty(of_nodes: Columns, of_tasks: Columns, faults: Faults) -> None:
    """Nodes without any amount give nothing, tasks without any ask for nothing: both are slips."""
    for columns, what in ((of_nodes, "gives"), (of_tasks, "asks for")):
        if not columns.given.keys() & {*AMOUNTS, "gpus"}:
            place, order = columns.sheet.at(0)
            one = columns.sheet.what.removesuffix("s")
            faults.add(f"a {one} {what} cpus, memory, disk or gpus", place, order)
