"""Columns of tasks → `Tasks`: counts and gangs unrolled, groups numbered, who pays for what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.problem import NO, Ints, Tasks, tasks_of
from jupyter_aios.allocation.reading.faults import legal
from jupyter_aios.allocation.reading.names import names_of
from jupyter_aios.allocation.reading.values import MOST_TASKS

if TYPE_CHECKING:
    from jupyter_aios.allocation.reading.faults import Faults
    from jupyter_aios.allocation.reading.machines import Machines
    from jupyter_aios.allocation.reading.sheets import Columns

_LARGEST_SUM = 2.0**62
"""What sums of 64-bit integers hold."""


@dataclass(frozen=True, eq=False)
class Unrolled:
    """How entries became tasks."""

    counts: Ints
    """How many tasks each entry is."""
    sizes: Ints
    """How many of them are one gang; 1 for none."""
    starts: Ints
    """The first task of each entry."""

    def of(self, row: int) -> slice:
        """Return the tasks of an entry."""
        return slice(int(self.starts[row]), int(self.starts[row] + self.counts[row]))

    def units(self, row: int) -> Ints:
        """Return for each task of an entry which of the entry's gangs it is in."""
        size = self.sizes[row] if self.sizes[row] > 1 else self.counts[row]
        units: Ints = np.arange(self.counts[row]) // size
        return units


def unroll(columns: Columns, faults: Faults) -> Unrolled | None:
    """Return how entries become tasks; None where there are none, or too many."""
    sizes = np.array([one if isinstance(one, int) else 1 for one in columns["gang"]], np.float64)
    counts = np.array(columns["count"], np.float64) * sizes
    total = int(counts.sum())
    if not total or total > MOST_TASKS:
        what = "there are no tasks" if not total else f"{total:,} tasks; {MOST_TASKS:,} are read"
        faults.add(what, order=-1, hint="tasks: [{name: llm, count: 4, gpus: 2, cpus: 8}]")
        return None
    whole = counts.astype(np.int64)
    return Unrolled(whole, sizes.astype(np.int64), np.cumsum(whole) - whole)


def build_tasks(columns: Columns, unrolled: Unrolled, faults: Faults) -> Tasks:
    """Return the tasks without what needs nodes: zones, labels, what is in force."""
    entry = np.repeat(np.arange(len(columns)), unrolled.counts)
    demand = np.array([columns["cpus"], columns["memory"], columns["disk"]], np.int64).T
    devices = np.array(columns["gpus"], np.int64).reshape(-1, 2)
    names = names_of("tasks", columns, unrolled.counts, unrolled.sizes, faults)
    users, user_names = _numbered(columns["user"])
    job, job_names = _jobs(columns, unrolled)
    gang, gang_names = _gangs(columns, unrolled)
    tasks = tasks_of(
        names,
        demand.reshape(-1, 3)[entry],
        gpus=devices[entry, 0],
        milli=devices[entry, 1],
        priority=np.array(columns["priority"], np.int64)[entry],
        value=np.array(columns["value"], np.int64)[entry],
        is_movable=np.array(columns["movable"], bool)[entry],
        is_preemptible=np.array(columns["preemptible"], bool)[entry],
        user=users[entry],
        user_names=user_names,
        job=job if job_names == () else job[entry],
        job_names=job_names,
        gang=gang,
        gang_names=gang_names,
        apart=_apart(columns, unrolled),
    )
    _refuse_overflow(tasks, faults)
    return tasks


def _numbered(given: list[str | None]) -> tuple[Ints, tuple[str, ...]]:
    """Return a number for each name, and the names; nothing is a name too where some have one."""
    if not any(given):
        return np.zeros(len(given), np.int64), ()
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(name or "", len(numbers)) for name in given]
    return np.array(found, np.int64), tuple(numbers)


def _jobs(columns: Columns, unrolled: Unrolled) -> tuple[Ints, tuple[str, ...]]:
    """Return the job of each entry, and the jobs' names; none where each task is its own."""
    if not any(columns["job"]) and int(unrolled.counts.max()) == 1:
        return np.arange(len(columns)), ()
    numbers: dict[str, int] = {}
    found = [
        numbers.setdefault(job or name or f"task-{start}", len(numbers))
        for job, name, start in zip(
            columns["job"], columns["name"], unrolled.starts.tolist(), strict=True
        )
    ]
    return np.array(found, np.int64), tuple(numbers)


def _gangs(columns: Columns, unrolled: Unrolled) -> tuple[Ints, tuple[str, ...]]:
    found = np.full(int(unrolled.counts.sum()), NO, np.int64)
    names: list[str] = []
    tags: dict[str, int] = {}
    for row, given in enumerate(columns["gang"]):
        if isinstance(given, str):
            if given not in tags:
                tags[given] = len(names)
                names.append(given)
            found[unrolled.of(row)] = tags[given]
        elif given is not None and given > 1:
            units = unrolled.units(row)
            found[unrolled.of(row)] = len(names) + units
            count = int(units[-1]) + 1
            name = columns["name"][row] or f"task-{unrolled.starts[row]}"
            names += [name] if count == 1 else [f"{name}-{number}" for number in range(count)]
    return found, tuple(names)


def _apart(columns: Columns, unrolled: Unrolled) -> Ints:
    found = np.full(int(unrolled.counts.sum()), NO, np.int64)
    numbers = _Tags()
    for row, given in enumerate(columns["apart"]):
        if given is not None:
            found[unrolled.of(row)] = numbers.of(given, unrolled.units(row))
    return found


class _Tags:
    """Numbers for tags, and new ones for each gang of an entry that has no tag."""

    def __init__(self) -> None:
        self.count = 0
        self._known: dict[str, int] = {}

    def of(self, tag: str, units: Ints) -> Any:  # noqa: ANN401 - a number, or one per task
        if tag:
            if tag not in self._known:
                self._known[tag] = self.count
                self.count += 1
            return self._known[tag]
        first = self.count
        self.count += int(units[-1]) + 1
        return first + units


def with_together(
    tasks: Tasks, columns: Columns, unrolled: Unrolled, machines: Machines, faults: Faults
) -> tuple[Tasks, Ints, Ints]:
    """Return the tasks with their groups that stay together, `domains` and `together_domain`."""
    found = np.full(len(tasks), NO, np.int64)
    numbers = _Tags()
    rows: dict[str, int] = {"": 0}
    domain_of: dict[int, str] = {}
    for row, given in enumerate(columns["together"]):
        if given is None:
            continue
        place, order = columns.sheet.at(row, "together")
        if given.within and given.within not in machines.labels:
            told = legal(given.within, machines.labels)
            faults.add(f"together: no node has a label {given.within}; {told}", place, order)
            continue
        rows.setdefault(given.within, len(rows))
        mine = numbers.of(given.tag, unrolled.units(row))
        found[unrolled.of(row)] = mine
        for number in {mine} if isinstance(mine, int) else set(mine.tolist()):
            if domain_of.setdefault(number, given.within) != given.within:
                other = domain_of[number] or "node"
                faults.add(f"together: {given.tag} is within one {other} before", place, order)
        is_alone = columns["apart"][row] is None or unrolled.counts[row] == 1
        if not given.within and not is_alone:
            faults.add("tasks cannot be apart and together on one node", place, order)
    of_nodes = np.arange(len(machines.nodes))
    domains = [machines.domain(key) if key else of_nodes for key in rows]
    about = [
        rows[domain_of[number]] if number in domain_of else 0 for number in range(numbers.count)
    ]
    return replace(tasks, together=found), np.stack(domains), np.array(about, np.int64)


def _refuse_overflow(tasks: Tasks, faults: Faults) -> None:
    """Sums over all tasks have to fit 64-bit integers."""
    names = ("CPU", "memory", "disk")
    for column, name in enumerate(names):
        if tasks.demand[:, column].sum(dtype=np.float64) > _LARGEST_SUM:
            faults.add(f"all tasks together ask for more {name} than can be counted")
    size = np.where(tasks.value >= 0, tasks.value, tasks.gpu_milli + tasks.demand[:, 0])
    if (tasks.priority.astype(np.float64) * size).sum() > _LARGEST_SUM:
        faults.add("the priorities of all tasks together are more than can be counted")
