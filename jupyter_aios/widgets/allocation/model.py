"""What the view shows of an allocation: columns for the page, what is left out, how full nodes are.

Pure: no widget, no page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.core.units import MILLI
from jupyter_aios.widgets.allocation import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from jupyter_aios.allocation.problem import Ints, Problem
    from jupyter_aios.allocation.result import Allocation

MOST_GROUPS = 200
"""So many groups of left-out tasks are told apart."""
ANSWER = "this allocation"
"""Its name among the policies that it is compared with; one of them may have found it."""
_LOW_BITS = 0xFFFFFFFF
DRAINED, VIRTUAL = 1, 2


@dataclass(frozen=True)
class Group:
    """Tasks that are left out and belong together."""

    label: str
    count: int
    task: int
    """The first of them."""
    detail: str
    """What each needs."""


@dataclass(frozen=True)
class Move:
    """A task in force that goes elsewhere, or is stopped."""

    task: int
    source: int
    target: int
    """-1: it is stopped."""


class Columns:
    """Arrays and lists of strings as binary buffers, and how a page finds them."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []

    def array(self, values: NDArray[Any], kind: str) -> list[Any]:
        """Return how a page reads the values: its type's letter and size, and the buffer."""
        self.buffers.append(np.ascontiguousarray(values, dtype=f"<{kind}").tobytes())
        return [kind, len(self.buffers) - 1]

    def strings(self, values: Iterable[str]) -> list[Any]:
        """Return how a page reads the strings."""
        self.buffers.append("\0".join(text.replace("\0", " ") for text in values).encode())
        return ["text", len(self.buffers) - 1]

    def bits(self, values: Ints, device_count: int) -> dict[str, Any]:
        """Return device bits as one or two columns of 32 bits."""
        told = {"low": self.array(values & _LOW_BITS, "u4")}
        if device_count > 32:  # noqa: PLR2004 - the bits of a number in a page
            told["high"] = self.array(values >> 32, "u4")
        return told


class AllocationModel:
    """One allocation, and those of other policies beside it."""

    def __init__(
        self,
        allocation: Allocation,
        comparison: Sequence[tuple[str, Allocation]] = (),
        explain: Callable[[int], str] | None = None,
    ) -> None:
        self.allocation = allocation
        self.comparison = tuple(comparison)
        self._explain = explain
        self._explained: dict[int, str] = {}

    @property
    def problem(self) -> Problem:
        """What was to be placed."""
        return self.allocation.problem

    def explained(self, task: int) -> str:
        """Return why a task is where it is, or left out; nothing where nobody can say."""
        if self._explain is None:
            return ""
        if task not in self._explained:
            self._explained[task] = self._explain(task)
        return self._explained[task]

    # ------------------------------------------------------------------------ what is left out

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """What is left out, by job; by demand where each job is one task. The largest first."""
        tasks, left = self.problem.tasks, self.allocation.unplaced
        if not len(left):
            return ()
        jobs, firsts, counts = np.unique(tasks.job[left], return_index=True, return_counts=True)
        has_jobs = len(jobs) < len(left) or len(jobs) <= len(tasks.job_names)
        if not has_jobs:
            kinds = np.column_stack([tasks.demand, tasks.gpus, tasks.milli, tasks.zone])[left]
            _, firsts, counts = np.unique(kinds, axis=0, return_index=True, return_counts=True)
        order = np.lexsort((left[firsts], -counts, -tasks.gpu_milli[left[firsts]] * counts))
        return tuple(
            self._group(int(left[firsts[at]]), int(counts[at]), has_jobs=has_jobs) for at in order
        )

    def _group(self, task: int, count: int, *, has_jobs: bool) -> Group:
        detail = words.demand(self.problem, task)
        if has_jobs:
            label = self.job_names[int(self.problem.tasks.job[task])]
        else:
            label = str(self.problem.tasks.names[task]) if count == 1 else detail
        return Group(label, count, task, detail)

    @cached_property
    def job_names(self) -> list[str]:
        """A name for each number of `Tasks.job`."""
        return words.names_of_jobs(self.problem)

    @cached_property
    def job_ranks(self) -> Ints:
        """The place of each number of `Tasks.job`, the largest job first; colours go by it."""
        tasks = self.problem.tasks
        size = tasks.gpu_milli + tasks.demand[:, 0] / 16 + 1
        sizes = np.bincount(tasks.job, size, minlength=len(self.job_names))
        ranks = np.empty(len(sizes), np.int64)
        ranks[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
        return ranks

    @cached_property
    def moves(self) -> tuple[Move, ...]:
        """Tasks in force that are on another node now, on other devices, or stopped."""
        tasks, found = self.problem.tasks, self.allocation
        elsewhere = (found.assignment != tasks.current) | (found.devices != tasks.current_devices)
        return tuple(
            Move(int(i), int(tasks.current[i]), int(found.assignment[i]))
            for i in np.flatnonzero(tasks.is_in_force & elsewhere)
        )

    # ------------------------------------------------------------------------ how full nodes are

    @cached_property
    def loads(self) -> NDArray[np.float64]:
        """How much of each node's CPU, memory and GPU is in use (m × 3, 0 to 1); NaN: has none."""
        return loads(self.problem, self.allocation.assignment)

    # ------------------------------------------------------------------------ for the page

    def head(self) -> dict[str, Any]:
        """Return how the allocation is told above the map."""
        found = self.allocation
        return {
            "status": found.status,
            "line": words.headline(found),
            "meaning": words.meaning(found),
            "later": words.later(found),
            "tasks": len(found.assignment),
            "unplaced": len(found.unplaced),
            "objective": found.levels[0].name,
        }

    def snapshot(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return all that a page needs, and the buffers that it speaks of."""
        columns = Columns()
        content = {
            "head": self.head(),
            "nodes": self._nodes(columns),
            "tasks": self._tasks(columns),
            "placements": self._placements(columns),
            "groups": [vars(group) for group in self.groups[:MOST_GROUPS]],
            "group_count": len(self.groups),
            "can_explain": self._explain is not None,
        }
        return content, columns.buffers

    def _nodes(self, columns: Columns) -> dict[str, Any]:
        nodes = self.problem.nodes
        flags = np.where(nodes.is_drained, DRAINED, 0)
        told: dict[str, Any] = {}
        if nodes.labels:
            flags |= np.array([VIRTUAL if _is_virtual(pairs) else 0 for pairs in nodes.labels])
            shown = (", ".join(f"{k}={v}" for k, v in pairs) for pairs in nodes.labels)
            told["labels"] = columns.strings(shown)
        return told | {
            "count": len(nodes),
            "device_slots": nodes.devices.shape[1] if nodes.devices.ndim > 1 else 0,
            "models": list(nodes.model_names),
            "names": columns.strings(map(str, nodes.names)),
            "free": columns.array(nodes.free, "f4"),
            "capacity": columns.array(nodes.capacity, "f4"),
            "devices": columns.array(nodes.devices, "i2"),
            "model": columns.array(nodes.models, "i4"),
            "flags": columns.array(flags, "u1"),
        }

    def _tasks(self, columns: Columns) -> dict[str, Any]:
        problem = self.problem
        tasks = problem.tasks
        return {
            "count": len(tasks),
            "job_names": columns.strings(self.job_names),
            "user_names": list(tasks.user_names),
            "zone_names": list(problem.zone_names),
            "gang_names": list(tasks.gang_names),
            "names": columns.strings(map(str, tasks.names)),
            "demand": columns.array(tasks.demand, "f4"),
            "gpus": columns.array(tasks.gpus, "u1"),
            "milli": columns.array(tasks.milli, "u2"),
            "priority": columns.array(np.minimum(tasks.priority, 2**31 - 1), "i4"),
            "job": columns.array(tasks.job, "i4"),
            "user": columns.array(tasks.user, "i4"),
            "zone": columns.array(tasks.zone, "i4"),
            "gang": columns.array(tasks.gang, "i4"),
        }

    def _placements(self, columns: Columns) -> list[dict[str, Any]]:
        tasks, found = self.problem.tasks, self.allocation
        slots = self.problem.nodes.devices.shape[1] if self.problem.nodes.devices.ndim > 1 else 0

        def told(kind: str, name: str, node: Ints, devices: Ints) -> dict[str, Any]:
            where = columns.array(node, "i4")
            return {"kind": kind, "name": name, "node": where, **columns.bits(devices, slots)}

        shown = [told("answer", ANSWER, found.assignment, found.devices)]
        shown[0] |= self._figures(found)
        if tasks.is_in_force.any():
            before = told("before", "before", tasks.current, tasks.current_devices)
            shown.append(before | {"placed": int(tasks.is_in_force.sum())})
        for name, other in self.comparison:
            policy = told("policy", name, other.assignment, other.devices)
            shown.append(policy | self._figures(other))
        return shown

    def _figures(self, other: Allocation) -> dict[str, Any]:
        first = other.levels[0]
        gap = gap_to(other, self.allocation)
        return {
            "placed": len(other.assignment) - len(other.unplaced),
            "value": words.amount(first.name, first.value),
            "gap": "" if gap is None else words.percent(gap),
            "time": words.seconds(other.time_s),
        }


def gap_to(other: Allocation, answer: Allocation) -> float | None:
    """Return how far a policy's first level is from the best bound that is known of it."""
    value = other.levels[0].value
    bounds = [one.levels[0].bound for one in (other, answer)]
    known = [bound for bound in bounds if bound is not None]
    if not known:
        return None
    is_maximised = answer.levels[0].name != "cost"
    bound = min(known) if is_maximised else max(known)
    return abs(bound - value) / max(abs(bound), abs(value), 1)


def loads(problem: Problem, assignment: Ints) -> NDArray[np.float64]:
    """Return how much of each node's CPU, memory and GPU is in use (m × 3); NaN: it has none.

    What others hold counts: it is in use as well.
    """
    nodes, tasks = problem.nodes, problem.tasks
    placed = assignment >= 0
    used = (nodes.capacity - nodes.free)[:, :2].astype(np.float64)
    np.add.at(used, assignment[placed], tasks.demand[placed, :2])
    gpus = nodes.device_count * MILLI
    taken = gpus - np.where(nodes.devices > 0, nodes.devices, 0).sum(axis=1).astype(np.float64)
    np.add.at(taken, assignment[placed], tasks.gpu_milli[placed])
    has = np.column_stack([nodes.capacity[:, :2], gpus]).astype(np.float64)
    shares = np.full(has.shape, np.nan)
    np.divide(np.column_stack([used, taken]), has, out=shares, where=has > 0)
    return shares


def _is_virtual(pairs: tuple[tuple[str, str], ...]) -> bool:
    return any(key == "virtual" and value.lower() in {"true", "yes", "1"} for key, value in pairs)
