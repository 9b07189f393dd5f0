"""Which tasks to stop so that others fit: few of them, worth little, and none in vain."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jupyter_aios.allocation.objectives import sizes
from jupyter_aios.allocation.problem import NO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.greedy.choice import Choice
    from jupyter_aios.allocation.greedy.state import State
    from jupyter_aios.allocation.problem import Ints

_MOST_UNITS = 12
"""Units on one node of which all combinations are tried."""

Unit = tuple[int, ...]


def stop_for(choice: Choice, tasks: Sequence[int]) -> Unit | None:
    """Place tasks that do not fit by stopping others; return those, or None if nothing helps.

    Only placed, preemptible tasks of a lower priority than each of the new ones are stopped, gangs
    as a whole. None of the stopped ones can be left where it was. Nothing has changed after None.
    """
    state = choice.state
    units = _stoppable(state, tasks)
    before = [(i, int(state.assignment[i]), int(state.bits[i])) for unit in units for i in unit]
    for way in (_cheapest_nodes, _all_of_them):
        if way(choice, tasks, units):
            return _bring_back(state, before)
        for task in tasks:
            if state.assignment[task] != NO:
                state.give_back(task)
        _bring_back(state, before)
    return None


def _stoppable(state: State, tasks: Sequence[int]) -> list[Unit]:
    """Return the units that may be stopped, those worth the least first."""
    known = state.problem.tasks
    below = int(known.priority[list(tasks)].min())
    is_placed = state.assignment != NO
    may = is_placed & known.is_preemptible & (known.priority < below)
    alone = np.flatnonzero(may & (known.gang == NO))
    units: list[Unit] = [(int(i),) for i in alone]
    for gang in np.unique(known.gang[may & (known.gang != NO)]):
        members = np.flatnonzero(known.gang == gang)
        if may[members].all():
            units.append(tuple(int(i) for i in members))
    worth = known.priority * sizes(state.problem)
    return sorted(units, key=lambda unit: (int(worth[list(unit)].sum()), unit))


def _all_of_them(choice: Choice, tasks: Sequence[int], units: list[Unit]) -> bool:
    """Stop everything that may be stopped; what is not in the way comes back after."""
    _stop(choice.state, units)
    return choice.place(tasks)


def _cheapest_nodes(choice: Choice, tasks: Sequence[int], units: list[Unit]) -> bool:
    """Place one task after the other, each where the fewest have to stop."""
    state = choice.state
    on_node: dict[int, list[Unit]] = {}
    for unit in units:
        for node in {int(state.assignment[task]) for task in unit}:
            on_node.setdefault(node, []).append(unit)
    worth = state.problem.tasks.priority * sizes(state.problem)
    for task in tasks:
        if choice.place([task]):
            continue
        best: _Option | None = None
        for there in sorted(on_node.items()):
            most = best.stopped if best else _MOST_UNITS
            found = _fewest(state, task, there, worth, most)
            if found is not None and (best is None or found < best):
                best = found
        if best is None:
            return False
        _stop(state, best.units)
        state.take(task, best.node, choice.policy.deal(state, task, best.node))
    return True


class _Option(NamedTuple):
    """Units whose end makes room on a node; the least one is the best."""

    stopped: int
    worth: int
    node: int
    units: tuple[Unit, ...]


def _fewest(
    state: State, task: int, there: tuple[int, list[Unit]], worth: Ints, most: int
) -> _Option | None:
    """Return the fewest units whose end makes room on a node, at most so many."""
    node, units_there = there
    still = [unit for unit in units_there if all(state.assignment[i] != NO for i in unit)][
        :_MOST_UNITS
    ]
    at = np.array([node])
    for count in range(1, min(len(still), most) + 1):
        options = []
        for units in combinations(still, count):
            before = _stop(state, units)
            allowed = state.allowed(task)
            fits = state.fits_on(task, at)[0] and state.has_quota(task)
            if fits and (allowed is None or allowed[node]):
                value = int(sum(worth[place[0]] for place in before))
                options.append(_Option(len(before), value, node, units))
            for other, where, bits in before:
                state.take(other, where, bits)
        if options:
            return min(options)
    return None


def _stop(state: State, units: Sequence[Unit]) -> list[tuple[int, int, int]]:
    """Take the units from where they are; return (task, node, devices) of each of their tasks."""
    tasks = [task for unit in units for task in unit]
    before = [(i, int(state.assignment[i]), int(state.bits[i])) for i in tasks]
    for task in tasks:
        state.give_back(task)
    return before


def _bring_back(state: State, before: Sequence[tuple[int, int, int]]) -> Unit:
    """Put back, units worth most first, what still fits where it was; return what does not."""
    gone: dict[int, list[tuple[int, int, int]]] = {}
    gang: Ints = state.problem.tasks.gang
    for place in before:
        if state.assignment[place[0]] == NO:
            number = int(gang[place[0]])
            gone.setdefault(number if number != NO else -2 - place[0], []).append(place)
    stopped: list[int] = []
    for unit in reversed(list(gone.values())):
        taken = []
        for task, node, bits in unit:
            if not state.may_be(task, node, bits):
                break
            state.take(task, node, bits)
            taken.append(task)
        if len(taken) < len(unit):
            for task in taken:
                state.give_back(task)
            stopped += [task for task, _, _ in unit]
    return tuple(sorted(stopped))
