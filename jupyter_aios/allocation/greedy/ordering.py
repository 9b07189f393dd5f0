"""One task after the other: in a given order, or in the one that suits a whole list of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.greedy.choice import Choice
from jupyter_aios.allocation.greedy.policies import policy_of
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.objectives import sizes
from jupyter_aios.allocation.objectives import weights as weights_of
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import CPU, NO
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

Units = list[list[int]]
"""Tasks that are placed all or none."""
_MOST_PAIRS = 30_000_000
"""Tasks × nodes up to which all orders are tried."""


def sorted_greedy(
    problem: Problem,
    names: tuple[str, ...],
    policy: str,
    effort: Effort,
    start: Placed | None = None,
) -> Placed | None:
    """Return what a greedy policy makes of all tasks, large ones that weigh much first.

    `names` are the objective's levels; the first one's weights say what a task is worth. Gangs are
    units. Tasks that must be placed keep their place; others in force are tried there first. Where
    the problem is not too large, three orders are tried and the best one is kept (`by_worth`).
    None where what must be placed has no place: it is nowhere in `start`, say.

    Raises:
        InputError: no such policy.

    """
    weights = weights_of(problem, names[0])
    must = problem.tasks.must_be_placed
    is_large = len(problem.tasks) * len(problem.nodes) > _MOST_PAIRS
    best, best_weight = None, -1
    for by in ("sum",) if is_large else ("sum", "larger", "given"):
        if best is not None and effort.is_over():
            break
        order = by_worth(problem, weights, names[0], by)
        placed = place_in_order(problem, order, policy, effort, start)
        weight = int(weights[placed.assignment >= 0].sum())
        if weight > best_weight and (placed.assignment[must] >= 0).all():
            best, best_weight = placed, weight
    return best


def by_worth(problem: Problem, weights: Ints, name: str, by: str = "sum") -> Ints:
    """Return the tasks (n) in an order that suits a first level, gangs as one.

    Under `priority` what weighs the most for its size comes first, else what weighs anything; then
    by size, the largest first: `by` the `sum` of what it takes of the largest node's CPU and GPU,
    or by the `larger` of the two; or as `given`.
    """
    tasks, nodes = problem.tasks, problem.nodes
    unit = unit_of(problem)
    count = int(unit.max(initial=NO)) + 1
    most_cpu = max(int(nodes.capacity[:, CPU].max(initial=0)), 1)
    most_gpu = max(int(nodes.device_count.max(initial=0)), 1) * MILLI
    cpu, gpu = tasks.demand[:, CPU] / most_cpu, tasks.gpu_milli / most_gpu
    large = np.bincount(unit, cpu + gpu if by == "sum" else np.maximum(cpu, gpu), count)
    weight = np.bincount(unit, weights, count)
    worth = (weight > 0).astype(np.float64)
    if name == "priority":
        worth = weight / np.maximum(np.bincount(unit, sizes(problem), count), 1)
    if by == "given":
        return np.lexsort([-worth.round(9)[unit]])
    # The last key is compared first; tasks of a unit, and equal ones, stay side by side.
    first = np.full(count, len(unit))
    np.minimum.at(first, unit, np.arange(len(unit)))
    alike = np.column_stack([tasks.zone, tasks.milli, tasks.demand])[first[unit]]
    whole = np.bincount(unit, gpu, count)
    keys = [unit, *alike.T, -whole[unit], -large[unit], -worth.round(9)[unit]]
    return np.lexsort(keys)


def unit_of(problem: Problem) -> Ints:
    """Return the number of each task's unit (n): its gang, or itself."""
    gang = problem.tasks.gang
    gangs = int(gang.max(initial=NO)) + 1
    return np.where(gang == NO, gangs + np.arange(len(gang)), gang)


def place_in_order(  # noqa: PLR0917 - rungs hand on what they were given, in this order
    problem: Problem,
    order: Iterable[int],
    policy: str,
    effort: Effort,
    start: Placed | None = None,
    weights: Ints | None = None,
) -> Placed:
    """Return the placement of one task after the other; what finds no room is tried once more.

    `order` holds tasks; a gang is placed when its first task comes, as a whole or not at all, and a
    task that is not in the order is left out. What `start` places stays as it is; without one, the
    tasks in force that may not be stopped stay where they are, and others that are in force are
    tried there first. With `weights` (n), tasks of weight 0 come after all others. The result is
    feasible whenever the effort ends.

    Raises:
        InputError: no such policy.

    """
    state = State(problem)
    choice = Choice(state, policy_of(policy, problem, seed=effort.seed))
    fixed = kept(problem) if start is None else start.assignment >= 0
    if start is None:
        start = Placed(problem.tasks.current, problem.tasks.current_devices)
    state.take_all(Placed(np.where(fixed, start.assignment, NO), start.devices))
    wanted = np.fromiter(order, np.int64)
    if weights is not None:
        wanted = wanted[np.argsort(weights[wanted] == 0, kind="stable")]
    left = [unit for unit in units_in(problem, wanted) if state.assignment[unit[0]] == NO]
    choice.expect(task for unit in left for task in unit)
    for _ in range(2):
        before, left = len(left), place_units(choice, left, effort)
        if not left or len(left) == before:
            break
    return Placed(state.assignment, state.bits)


def kept(problem: Problem) -> Bools:
    """Return which tasks stay because they, or a task of their gang, may not be stopped (n)."""
    tasks = problem.tasks
    must = tasks.must_be_placed
    gangs = np.unique(tasks.gang[must & (tasks.gang != NO)])
    return must | (np.isin(tasks.gang, gangs) & tasks.is_in_force)


def units_in(problem: Problem, order: Ints) -> Units:
    """Return the tasks of an order as units, each where its first task is."""
    units: dict[int, list[int]] = {}
    unit = unit_of(problem)
    for task, number in zip(order.tolist(), unit[order].tolist(), strict=True):
        units.setdefault(number, []).append(task)
    sizes_of = problem.gang_sizes
    # A gang of which the order holds only some is not a whole one, and cannot be placed.
    return [
        tasks
        for number, tasks in units.items()
        if number >= len(sizes_of) or len(tasks) == sizes_of[number]
    ]


def place_units(choice: Choice, units: Units, effort: Effort) -> Units:
    """Place what fits and return the units that did not."""
    left: Units = []
    for number, unit in enumerate(units):
        if not number % 64 and effort.is_over():
            return left + units[number:]
        if not choice.place(unit):
            left.append(unit)
    return left
