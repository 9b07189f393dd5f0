"""`explain` and `explain_all`: a sentence per task, or per kind of task, with bound and fixes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.explain import words
from jupyter_aios.allocation.explain.as_good import most_as_good
from jupyter_aios.allocation.explain.clearing import Clearings
from jupyter_aios.allocation.explain.fixes import Fix, Mending
from jupyter_aios.allocation.explain.limits import Bound, Kinds, Limits, kinds_of
from jupyter_aios.allocation.explain.losses import least_lost
from jupyter_aios.allocation.explain.reasons import Reason, quota_values, reason_of
from jupyter_aios.allocation.explain.room import Room
from jupyter_aios.allocation.explain.seats import unit_of
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import NO
from jupyter_aios.allocation.result import Allocation
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one task is where it is."""

    task: int
    sentence: str
    reason: Reason
    bound: Bound
    """The most tasks (or gangs) like this one that any schedule could place."""
    as_good: int | None
    """The most of them in any schedule that is worth as much as this one; None: not known."""
    fixes: tuple[Fix, ...]
    """Verified ones, the mildest first."""


@dataclass(frozen=True, eq=False)
class Group:
    """Left-out tasks that are alike: one explanation stands for all."""

    tasks: tuple[int, ...]
    sentence: str
    explanation: Explanation
    """Of the first of them."""


@dataclass(frozen=True, eq=False)
class _Scene:
    """What all explanations of one allocation share."""

    allocation: Allocation

    @cached_property
    def room(self) -> Room:
        found = self.allocation
        return Room.of(found.problem, found.assignment, found.devices)

    @cached_property
    def kinds(self) -> Kinds:
        return kinds_of(self.allocation.problem)

    @cached_property
    def limits(self) -> Limits:
        return Limits(self.kinds)

    @cached_property
    def weights(self) -> Ints:
        return weights(self.allocation.problem, self.allocation.levels[0].name)


@lru_cache(maxsize=1)
def _scene(allocation: Allocation) -> _Scene:
    """Return one scene while one allocation is asked about: a person clicks task after task."""
    return _Scene(allocation)


def explain(allocation: Allocation, task: int, *, fixes: bool = True) -> Explanation:
    r"""Return why a task is placed where it is, or why it is not, and what would mend that.

    `task` is its number in the problem. Costs some 10 ms on a cluster of a thousand nodes; without
    `fixes` less.

    Raises:
        InputError: there is no task of that number.

    Example:
        >>> from jupyter_aios.allocation.ladder import allocate
        >>> from jupyter_aios.allocation.reading import read_text
        >>> found = allocate(read_text("r: [3, 5, 9]\nc: [6, 5]"), "feasible")
        >>> explain(found, 2).sentence.partition(";")[0]
        '9 CPUs: it fits no node, even an empty one'

    """
    count = len(allocation.problem.tasks)
    if not 0 <= task < count:
        raise InputError(f"there is no task number {task}", hint=f"a number from 0 to {count - 1}")
    return _explain(_scene(allocation), task, with_fixes=fixes)


def explain_all(
    allocation: Allocation, *, most: int = 50, fixes: bool = False
) -> tuple[Group, ...]:
    """Return the left-out tasks, those that are alike together, the largest groups first.

    Tasks are alike that ask for the same with the same priority. At most `most` groups are
    explained; fixes are found only where asked for, since each costs some 10 ms.
    """
    scene = _scene(allocation)
    left_out = allocation.unplaced
    if not len(left_out):
        return ()
    keys = np.column_stack(
        [scene.kinds.unit_kind[left_out], allocation.problem.tasks.priority[left_out]]
    )
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    sizes = np.bincount(group.reshape(-1))
    found = []
    for number in np.argsort(-sizes, kind="stable")[:most].tolist():
        members = left_out[group.reshape(-1) == number]
        one = _explain(scene, int(left_out[first[number]]), with_fixes=fixes)
        name = allocation.problem.tasks.names[members[0]]
        found.append(
            Group(tuple(members.tolist()), f"{len(members):,} × {name}: {one.sentence}", one)
        )
    return tuple(found)


def _explain(scene: _Scene, task: int, *, with_fixes: bool) -> Explanation:
    problem = scene.allocation.problem
    bound = scene.limits.bound(task)
    if scene.room.assignment[task] != NO:
        return _placed(scene, task, bound)
    unit = unit_of(problem, task)
    empty = scene.limits.room_beside(np.isin(np.arange(len(problem.tasks)), unit, invert=True))
    reason, _ = reason_of(empty, scene.room, unit)
    if reason.kind == "quota":
        reason = _with_quota(scene, empty if reason.is_static else scene.room, unit, reason)
    elif not reason.is_static and reason.kind in {"full", "exhausted", "several"}:
        # Where all tasks are to be placed, none is worth more than another.
        is_weighed = scene.allocation.levels[0].name != "feasible" and len(unit) == 1
        reason = _weighed(scene, unit[0], reason) if is_weighed else reason
    # It takes longer than all else, so only where one task is asked about.
    is_open = with_fixes and not reason.is_static
    as_good = most_as_good(scene.allocation, scene.kinds.alike(task)) if is_open else None
    asked = words.unit(problem, unit, task)
    if problem.tasks.current[task] != NO:
        asked += f" (stopped on {problem.nodes.names[problem.tasks.current[task]]})"
    mending = Mending(scene.room, unit, reason, scene.weights, scene.allocation.levels[0].name)
    return Explanation(
        task,
        words.sentence(asked, reason, bound, as_good),
        reason,
        bound,
        as_good,
        mending.fixes() if with_fixes else (),
    )


def _with_quota(scene: _Scene, room: Room, unit: tuple[int, ...], reason: Reason) -> Reason:
    quota, column, wanted, left = next(iter(quota_values(room, unit)))
    name = scene.allocation.problem.quotas[quota].name
    told: dict[str, int | str] = {"quota": name, "column": column, "wanted": wanted, "left": left}
    return replace(reason, values=reason.values | told)


def _weighed(scene: _Scene, task: int, reason: Reason) -> Reason:
    """Say `outbid` where whatever could stop is worth as much, `undecided` where less would do."""
    room, worth = scene.room, int(scene.weights[task])
    found = Clearings(room, (task,), scene.weights, is_move=False).cheapest()
    if found is None or room.problem.tasks.must_be_placed[list(found.tasks)].any():
        return reason
    gone = list(found.tasks)
    lost = int(scene.weights[gone].sum())
    values: dict[str, int | str] = {
        "worth": worth,
        "lost": lost,
        "holders": words.names_of(room.problem, gone),
        "node": room.problem.nodes.names[int(room.assignment[gone[0]])],
    }
    if lost < worth:
        return replace(reason, kind="undecided", values=reason.values | values)
    least = least_lost(room, task, scene.weights, worth)
    if least < worth:
        return reason
    return replace(reason, kind="outbid", values=reason.values | values | {"lost": least})


def _placed(scene: _Scene, task: int, bound: Bound) -> Explanation:
    problem, room = scene.allocation.problem, scene.room
    node = int(room.assignment[task])
    name = problem.nodes.names[node]
    told = f"{words.demand(problem, task)}: on {name}"
    numbers = scene.allocation.devices_of(task)
    if numbers:
        told += f", GPU {words.listed([str(number) for number in numbers], most=8)}"
    current = int(problem.tasks.current[task])
    if current == node:
        told += ", where it was"
    elif current != NO:
        told += f", moved from {problem.nodes.names[current]}"
    values: dict[str, int | str] = {"node": name, "found_by": scene.allocation.rung}
    return Explanation(task, told, Reason("placed", values=values), bound, None, ())
