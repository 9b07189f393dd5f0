"""An allocation as text for a terminal, and as tables of tasks, jobs, nodes and policies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jupyter_aios.errors import UnknownNameError
from jupyter_aios.widgets.allocation import words
from jupyter_aios.widgets.text.table import Table, aligned

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.widgets.allocation.model import AllocationModel, Move

Row = TypeVar("Row")
MOST_NODES = 16
MOST_EXPLAINED = 5
MOST_MOVES = 8
_MOST_ROWS = 60
_BAR = 10
_BLOCKS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, repr=False)
class LongTable(Table[Row]):
    """A table whose picture ends after some rows; `rows` holds all."""

    def __repr__(self) -> str:
        if len(self.rows) <= _MOST_ROWS:
            return super().__repr__()
        shown = repr(Table(self.rows[:_MOST_ROWS], self.columns))
        return f"{shown}\n… and {len(self.rows) - _MOST_ROWS:,} more rows"


@dataclass(frozen=True)
class TaskRow:
    """One task."""

    name: str
    job: str
    demand: str
    node: str
    devices: str
    before: str
    """The node where it is in force, if that is another."""


@dataclass(frozen=True)
class JobRow:
    """One job."""

    name: str
    tasks: int
    placed: int
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class NodeRow:
    """One node; loads are shares in percent, with what others hold."""

    name: str
    model: str
    tasks: int
    cpu: str
    memory: str
    gpu: str
    note: str


@dataclass(frozen=True)
class PolicyRow:
    """One policy's allocation."""

    name: str
    placed: str
    value: str
    gap: str
    time: str


def tasks(model: AllocationModel) -> Table[TaskRow]:
    """Return a row per task."""
    problem, found = model.problem, model.allocation
    names = problem.nodes.names
    has_jobs = len(set(problem.tasks.job.tolist())) < len(problem.tasks)
    rows = []
    for i, node in enumerate(found.assignment.tolist()):
        current = int(problem.tasks.current[i])
        rows.append(
            TaskRow(
                str(problem.tasks.names[i]),
                model.job_names[int(problem.tasks.job[i])] if has_jobs else "",
                words.demand(problem, i),
                str(names[node]) if node >= 0 else "left out",
                words.device_list(found.devices_of(i)) if node >= 0 else "",
                str(names[current]) if current not in {-1, node} else "",
            )
        )
    columns = ("TASK", "name"), ("JOB", "job"), ("NEEDS", "demand"), ("NODE", "node")
    rest = ("DEVICES", "devices"), ("BEFORE", "before")
    return LongTable(tuple(rows), columns + rest, "no tasks")


def jobs(model: AllocationModel) -> Table[JobRow]:
    """Return a row per job, in the order of their first tasks."""
    problem, found = model.problem, model.allocation
    members: dict[int, list[int]] = {}
    for i, job in enumerate(problem.tasks.job.tolist()):
        members.setdefault(job, []).append(int(found.assignment[i]))
    rows = []
    for job, nodes in members.items():
        on = sorted({node for node in nodes if node >= 0})
        shown = tuple(str(problem.nodes.names[node]) for node in on[:4])
        more = (f"and {len(on) - 4} more",) if len(on) > 4 else ()  # noqa: PLR2004 - a line's width
        count = sum(node >= 0 for node in nodes)
        rows.append(JobRow(model.job_names[job], len(nodes), count, shown + more))
    columns = (("JOB", "name"), ("TASKS", "tasks"), ("PLACED", "placed"), ("NODES", "nodes"))
    return LongTable(tuple(rows), columns, "no jobs")


def nodes(model: AllocationModel) -> Table[NodeRow]:
    """Return a row per node."""
    those = model.problem.nodes
    placed = model.allocation.assignment
    counts = np.bincount(placed[placed >= 0], minlength=len(those))
    rows = []
    for j, name in enumerate(those.names):
        cpu, memory, gpu = (_percent(load) for load in model.loads[j])
        kind = int(those.models[j])
        rows.append(
            NodeRow(
                str(name),
                those.model_names[kind] if 0 <= kind < len(those.model_names) else "",
                int(counts[j]),
                cpu,
                memory,
                gpu,
                "drained" if those.is_drained[j] else "",
            )
        )
    columns = ("NODE", "name"), ("MODEL", "model"), ("TASKS", "tasks"), ("CPU", "cpu")
    rest = ("MEMORY", "memory"), ("GPU", "gpu"), ("", "note")
    return LongTable(tuple(rows), columns + rest, "no nodes")


def policies(model: AllocationModel) -> Table[PolicyRow]:
    """Return a row for the allocation, and one for each that it is compared with."""
    shown = [one for one in model.snapshot()[0]["placements"] if one["kind"] != "before"]
    total = f"{len(model.problem.tasks):,}"
    rows = tuple(
        PolicyRow(
            one["name"], f"{one['placed']:,} of {total}", one["value"], one["gap"], one["time"]
        )
        for one in shown
    )
    value = model.allocation.levels[0].name.upper()
    columns = (("POLICY", "name"), ("PLACED", "placed"), (value, "value"), ("GAP", "gap"))
    return Table(rows, (*columns, ("TIME", "time")))


TABLES: dict[str, Callable[[AllocationModel], Table[Any]]] = {
    "tasks": tasks,
    "jobs": jobs,
    "nodes": nodes,
    "policies": policies,
}


def table(model: AllocationModel, of: str = "tasks") -> Table[Any]:
    """Return rows for each of the `tasks`, `jobs`, `nodes`, or `policies` that are compared.

    Raises:
        UnknownNameError: there is no such table.

    """
    if of not in TABLES:
        raise UnknownNameError.among("table", of, TABLES)
    return TABLES[of](model)


def text(model: AllocationModel) -> str:
    """Return the allocation for a terminal: how good it is, nodes, what is left out, policies."""
    found = model.allocation
    parts = [f"{found.status} · {words.headline(found)}\n{words.meaning(found)}"]
    if said := words.later(found):
        parts[0] += f"\n{said}"
    parts += [_bars(model), _left_out(model), _moved(model)]
    if model.comparison:
        parts.append(repr(policies(model)))
    return "\n\n".join(part for part in parts if part)


def bar(load: float, width: int = _BAR) -> str:
    """Return a share as a bar of eighths of a character, nothing for NaN.

    Example:
        >>> bar(0.55, 4), bar(0.0, 4), bar(1.0, 4)
        ('██▏ ', '    ', '████')

    """
    if math.isnan(load):
        return ""
    eighths = round(min(max(load, 0.0), 1.0) * width * 8)
    if load > 0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_BLOCKS[rest] if rest else "")).ljust(width)


def _percent(load: float) -> str:
    return "" if math.isnan(load) else f"{load * 100:.0f} %"


def _bars(model: AllocationModel) -> str:
    rows = nodes(model).rows
    if not rows:
        return "no nodes"
    lines = [["NODE", "MODEL", "CPU", "", "MEMORY", "", "GPU", "", "TASKS", ""]]
    for row, (cpu, memory, gpu) in zip(rows[:MOST_NODES], model.loads, strict=False):
        lines.append(
            [
                *(row.name, row.model, _framed(cpu), row.cpu.rjust(5), _framed(memory)),
                *(row.memory.rjust(5), _framed(gpu), row.gpu.rjust(5), str(row.tasks), row.note),
            ]
        )
    shown = aligned([[cell if cell.strip() else "" for cell in line] for line in lines])
    if len(rows) > MOST_NODES:
        has = ~np.isnan(model.loads)
        usual = np.where(has, model.loads, 0.0).sum(axis=0) / np.where(
            has.any(axis=0), has.sum(axis=0), np.nan
        )
        means = zip(("CPU", "memory", "GPU"), usual, strict=True)
        said = ", ".join(f"{what} {_percent(load)}" for what, load in means if _percent(load))
        shown += f"\n… and {len(rows) - MOST_NODES:,} more nodes; the mean of all: {said}"
    return shown


def _framed(load: float) -> str:
    drawn = bar(load)
    return f"[{drawn}]" if drawn else ""


def _left_out(model: AllocationModel) -> str:
    if not model.groups:
        return ""
    left = len(model.allocation.unplaced)
    lines = [f"Left out: {words.count_of_tasks(left)}"]
    for group in model.groups[:MOST_EXPLAINED]:
        times = f" × {group.count:,}" if group.count > 1 else ""
        what = f"{group.label}{times}"
        lines.append(f"  {what}" if group.label == group.detail else f"  {what}: {group.detail}")
        lines += [f"    {line}" for line in model.explained(group.task).splitlines()]
    rest = model.groups[MOST_EXPLAINED:]
    if rest:
        tasks_of_rest = words.count_of_tasks(sum(group.count for group in rest))
        lines.append(f"  … and {len(rest):,} more groups ({tasks_of_rest})")
    return "\n".join(lines)


def _moved(model: AllocationModel) -> str:
    if not model.moves:
        return ""
    lines = [f"Moved or stopped: {words.count_of_tasks(len(model.moves))}"]
    lines += [f"  {said(model, move)}" for move in model.moves[:MOST_MOVES]]
    if len(model.moves) > MOST_MOVES:
        lines.append(f"  … and {len(model.moves) - MOST_MOVES:,} more")
    return "\n".join(lines)


def said(model: AllocationModel, move: Move) -> str:
    """Return a move in words."""
    names, task = model.problem.nodes.names, model.problem.tasks.names[move.task]
    if move.target < 0:
        return f"{task}: stopped (was on {names[move.source]})"
    if move.target == move.source:
        devices = words.device_list(model.allocation.devices_of(move.task))
        return f"{task}: to device {devices} of {names[move.target]}"
    return f"{task}: {names[move.source]} → {names[move.target]}"
