"""`what_if`: the allocation of a changed problem from the one before, with a bound, in a moment.

The prices of the bound before prove a bound of the changed problem too (any prices do), so that
the answer says both how much better it became and how much better it could be at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.explain import words
from jupyter_aios.allocation.explain.changes import Change, apply
from jupyter_aios.allocation.explain.naming import read_change
from jupyter_aios.allocation.explain.replacing import place_again
from jupyter_aios.allocation.levels import OBJECTIVES
from jupyter_aios.allocation.objectives import evaluate, weights
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, Ints
from jupyter_aios.allocation.reduction import pinned, reduce
from jupyter_aios.allocation.result import Allocation, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.problem import Problem

_SEARCH = 0.6
"""Share of the time in which exchanges are begun; filling, values and bound come after."""


@dataclass(frozen=True, eq=False)
class Differences:
    """What is different, as task numbers of the changed problem."""

    started: Ints
    """Placed now, and not before."""
    stopped: Ints
    """Placed before, and not now, though they are still there."""
    moved: Ints
    """On another node or other devices than before."""


@dataclass(frozen=True, eq=False)
class WhatIf:
    """An allocation, the one after a change, and what the change does in one sentence."""

    before: Allocation
    after: Allocation
    """Of the changed problem, in which tasks and nodes keep their numbers and new ones come last;
    what is removed keeps its number, and may be nowhere."""
    change: Change
    sentence: str
    differences: Differences


def what_if(
    allocation: Allocation,
    *,
    add_nodes: Mapping[str, int] | None = None,
    remove: Iterable[str] = (),
    drain: Iterable[str] = (),
    priority: Mapping[str, int] | None = None,
    quota: Mapping[str, Mapping[str, int]] | None = None,
    add_tasks: Mapping[str, int] | None = None,
    time_limit_s: float = 1.0,
) -> WhatIf:
    r"""Return what would be if something were different; the allocation itself stays as it is.

    `add_nodes` says how many more, empty, like which node or of which GPU model; `remove` names
    nodes, tasks or jobs that are gone, `drain` nodes that take nothing new; `priority` names tasks
    or jobs; `quota` gives new limits: `{"user ada": {"gpu_milli": 8000}}`; `add_tasks` says how
    many more like which task, of a gang so many gangs. What is placed stays where it is, unless the
    change forbids it or what is worth more needs its place.

    Raises:
        InputError: nothing is different, or what is in force has no place any more.
        UnknownNameError: no node, model, task, job or quota of that name.

    Example:
        >>> from jupyter_aios.allocation.ladder import allocate
        >>> from jupyter_aios.allocation.reading import read_text
        >>> found = allocate(read_text("r: [3, 5, 2]\nc: [6, 1]"), "feasible")
        >>> what_if(found, add_nodes={"node 1": 1}).sentence
        'with 1 more node like node 1 task 2 runs (2 → 3 tasks, at most 3)'

    """
    begun = time.monotonic()
    change, told = read_change(
        allocation.problem,
        add_nodes=add_nodes or {},
        remove=tuple(remove),
        drain=tuple(drain),
        priority=priority or {},
        quota=quota or {},
        add_tasks=add_tasks or {},
    )
    changed = apply(allocation.problem, change)
    names = tuple(level.name for level in allocation.levels)
    before = Placed(allocation.assignment, allocation.devices)
    placed = place_again(changed, change, before, names[0], Effort.of(time_limit_s * _SEARCH))
    left_s = time_limit_s - (time.monotonic() - begun)
    bound = bound_of(allocation, changed, change, left_s)
    after = _allocation(allocation, changed, placed, bound, begun)
    differences = _differences(allocation, after, change)
    sentence = _sentence(told, allocation, after, differences)
    return WhatIf(allocation, after, change, sentence, differences)


def _allocation(
    before: Allocation, problem: Problem, placed: Placed, bound: int, begun: float
) -> Allocation:
    names = tuple(level.name for level in before.levels)
    values = evaluate(problem, placed.assignment, placed.devices, names)
    levels = [Level(names[0], values[0], bound)]
    levels += [Level(name, value, None) for name, value in zip(names[1:], values[1:], strict=True)]
    return Allocation(
        problem,
        placed.assignment,
        placed.devices,
        tuple(levels),
        "what-if",
        time.monotonic() - begun,
        "optimal" if values[0] == bound and names[0] != "feasible" else "feasible",
        before.certificate,
    )


def bound_of(before: Allocation, problem: Problem, change: Change, left_s: float) -> int:
    """Return a bound on the first level of a changed problem, by the prices of the one before.

    Without prices they are solved for, in the time that is left.
    """
    from jupyter_aios.allocation.prices import solve_prices

    name = before.levels[0].name
    weight = weights(problem, name)
    reduction = reduce(problem)
    stays = pinned(problem.tasks)
    # What fits nowhere counts nothing, however good the prices are.
    most = int(weight.sum())
    if before.certificate is not None:
        alike = _priced_alike(before.certificate, before, problem, change)
        both = (before.certificate, alike) if change.add_nodes else (alike,)
        proven = min(prices.evaluate(reduction.problem) for prices in both)
        return min(most, proven + int(weight[stays].sum()))
    names = tuple(level.name for level in before.levels)
    found = solve_prices(reduction.problem, names, Effort.of(max(left_s, 0.05)))
    return min(most, found.bound + int(weight[stays].sum()))


def _priced_alike(
    prices: Certificate, before: Allocation, problem: Problem, change: Change
) -> Certificate:
    """Return the same prices, a new node having those of the node that it is like.

    No task then finds a place that is cheaper than all it had, and a bound only grows by what the
    new nodes are worth. Any prices prove a bound, so the better of both answers counts.
    """
    names = problem.nodes.names
    first = len(before.problem.nodes)
    vectors = dict(prices.vectors)
    for number, like in enumerate(change.add_nodes):
        name = before.problem.nodes.names[like]
        if name in vectors:
            vectors[names[first + number]] = vectors[name]
    return replace(prices, vectors=vectors)


def _differences(before: Allocation, after: Allocation, change: Change) -> Differences:
    count = len(before.assignment)
    old = np.append(before.assignment, np.full(len(after.assignment) - count, NO, np.int64))
    old_devices = np.append(before.devices, np.zeros(len(old) - count, np.int64))
    is_there = np.ones(len(old), bool)
    is_there[list(change.remove_tasks)] = False
    new = after.assignment
    elsewhere = (new != old) | (after.devices != old_devices)
    return Differences(
        np.flatnonzero((old == NO) & (new != NO)),
        np.flatnonzero((old != NO) & (new == NO) & is_there),
        np.flatnonzero((old != NO) & (new != NO) & elsewhere),
    )


def _sentence(told: str, before: Allocation, after: Allocation, found: Differences) -> str:
    tasks = after.problem.tasks
    more, fewer, moved = len(found.started), len(found.stopped), len(found.moved)
    parts = []
    if more:
        parts.append(_who(more, [tasks.names[i] for i in found.started[:4]], "more", "run"))
    if fewer:
        parts.append(_who(fewer, [tasks.names[i] for i in found.stopped[:4]], "", "stop"))
    if moved:
        parts.append(_who(moved, [tasks.names[i] for i in found.moved[:4]], "", "move"))
    unit = OBJECTIVES[after.levels[0].name].unit
    bound = "" if after.bound is None else f", at most {after.bound:,}"
    values = f"{before.objective:,} → {after.objective:,} {unit}{bound}"
    return f"with {told} {words.listed(parts) or 'no other task runs'} ({values})"


def _who(number: int, names: list[str], more: str, verb: str) -> str:
    if number <= 2:  # noqa: PLR2004 - so few are named
        return f"{words.listed(names)} {verb}" + "s" * (number == 1)
    return f"{number:,} {more} tasks {verb}".replace("  ", " ")
