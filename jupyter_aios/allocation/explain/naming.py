"""What a person names in a question of "what if", as numbers of nodes, tasks and quotas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.explain import words
from jupyter_aios.allocation.explain.changes import Change
from jupyter_aios.allocation.explain.seats import unit_of
from jupyter_aios.allocation.problem import QUOTA_COLUMNS
from jupyter_aios.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_aios.allocation.problem import Names, Problem

_MOST_NEW = 1_000_000


def read_change(
    problem: Problem,
    *,
    add_nodes: Mapping[str, int],
    remove: Sequence[str],
    drain: Sequence[str],
    priority: Mapping[str, int],
    quota: Mapping[str, Mapping[str, int]],
    add_tasks: Mapping[str, int],
) -> tuple[Change, str]:
    """Return the change by numbers, and how it is called: `2 more A100 nodes`.

    Raises:
        InputError: nothing is changed, or by a number that cannot be.
        UnknownNameError: no node, model, task, job or quota of that name.

    """
    told = [_more_nodes(problem, count, name) for name, count in add_nodes.items()]
    told += [f"{name} removed" for name in remove] + [f"{name} drained" for name in drain]
    told += [f"priority {value} for {name}" for name, value in priority.items()]
    told += [f"another quota for {name}" for name in quota]
    told += [
        f"{count} more task{'s' * (count != 1)} like {name}" for name, count in add_tasks.items()
    ]
    if not told:
        raise InputError("nothing is different", hint='what_if(found, add_nodes={"A100": 2})')
    nodes: list[int] = []
    gone: list[int] = []
    for name in remove:
        node = _index(problem.nodes.names, name)
        if node is None:
            gone += _tasks(problem, name, "node, task or job", problem.nodes.names)
        else:
            nodes.append(node)
    change = Change(
        quotas=tuple(
            limit for name, limits in quota.items() for limit in _quota(problem, name, limits)
        ),
        add_nodes=tuple(
            row
            for name, count in add_nodes.items()
            for row in [_node_like(problem, name)] * _new(count)
        ),
        priorities=tuple(
            (task, _natural(value, "priority"))
            for name, value in priority.items()
            for task in _tasks(problem, name, "task or job")
        ),
        drain=tuple(_node(problem, name) for name in drain),
        remove_nodes=tuple(nodes),
        remove_tasks=tuple(sorted({member for task in gone for member in unit_of(problem, task)})),
        add_tasks=tuple(
            task
            for name, count in add_tasks.items()
            for task in _tasks_like(problem, name) * _new(count)
        ),
    )
    return change, words.listed(told)


def _more_nodes(problem: Problem, count: int, name: str) -> str:
    nodes = "node" + "s" * (count != 1)
    if _index(problem.nodes.names, name) is None:
        return f"{count} more {name} {nodes}"
    return f"{count} more {nodes} like {name}"


def _new(count: int) -> int:
    if not 0 < count <= _MOST_NEW:
        raise InputError(f"{count} more cannot be added", hint="a number from 1")
    return count


def _natural(value: int, what: str) -> int:
    if value < 0:
        raise InputError(f"{what} {value} is negative", hint=f"a {what} from 0")
    return value


def _index(names: Names, name: str) -> int | None:
    return next((number for number, one in enumerate(names) if one == name), None)


def _node(problem: Problem, name: str) -> int:
    node = _index(problem.nodes.names, name)
    if node is None:
        raise UnknownNameError.among("node", name, problem.nodes.names)
    return node


def _node_like(problem: Problem, name: str) -> int:
    """Return a node of that name, or the usual one of that GPU model."""
    nodes = problem.nodes
    node = _index(nodes.names, name)
    if node is not None:
        return node
    if name not in nodes.model_names:
        raise UnknownNameError.among("node or GPU model", name, [*nodes.model_names, *nodes.names])
    rows = np.flatnonzero((nodes.models == nodes.model_names.index(name)) & ~nodes.is_drained)
    if not len(rows):
        raise InputError(f"there is no {name} node to be like", hint="name a node instead")
    kinds = np.column_stack([nodes.capacity[rows], nodes.device_count[rows]])
    _, first, counts = np.unique(kinds, axis=0, return_index=True, return_counts=True)
    return int(rows[first[counts.argmax()]])


def _tasks(problem: Problem, name: str, what: str, others: Names = ()) -> list[int]:
    """Return the tasks of that name, or of the job of that name."""
    tasks = problem.tasks
    task = _index(tasks.names, name)
    if task is not None:
        return [task]
    if name in tasks.job_names:
        members: list[int] = np.flatnonzero(tasks.job == tasks.job_names.index(name)).tolist()
        return members
    raise UnknownNameError.among(what, name, [*others, *tasks.names, *tasks.job_names])


def _tasks_like(problem: Problem, name: str) -> list[int]:
    chosen = _tasks(problem, name, "task or job")
    return list(dict.fromkeys(member for task in chosen for member in unit_of(problem, task)))


def _quota(problem: Problem, name: str, limits: Mapping[str, int]) -> list[tuple[int, int, int]]:
    number = _index([quota.name for quota in problem.quotas], name)
    if number is None:
        raise UnknownNameError.among("quota", name, [quota.name for quota in problem.quotas])
    for column in limits:
        if column not in QUOTA_COLUMNS:
            raise UnknownNameError.among("quota column", column, QUOTA_COLUMNS)
    return [
        (number, QUOTA_COLUMNS.index(column), _natural(value, "limit"))
        for column, value in limits.items()
    ]
