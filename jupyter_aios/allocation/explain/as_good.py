"""The most of one kind that a schedule as good as this one can place, by the prices of its bound.

Let F(w) be the bound that prices prove for weights w, and let w' be w with the weight of each unit
of a kind raised by d. A schedule of value v with k of them is worth v + k·d by w', so that

    k  ≤  (F(w') - v) / d        for any d > 0

whatever the prices are. Raising them until they can just pay for their place makes F(w') hardly
more than F(w): the gap of the allocation, shared out among tasks that the prices find too dear.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.levels import OBJECTIVES
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import NO
from jupyter_aios.allocation.reduction import pinned, reduce

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Ints
    from jupyter_aios.allocation.result import Allocation

_VERY_MUCH = 64
"""Times what all tasks are worth on average: dear enough to pay for any place."""


def most_as_good(allocation: Allocation, alike: Ints) -> int | None:
    """Return the most units like these that a schedule can have that is worth as much as this one.

    `alike` are all tasks of the units of one kind. None where there are no prices, or where one of
    the tasks cannot leave its place.
    """
    name = allocation.levels[0].name
    prices, problem = allocation.certificate, allocation.problem
    if prices is None or not OBJECTIVES[name].is_maximised or pinned(problem.tasks)[alike].any():
        return None
    reduction = reduce(problem)
    open_part = reduction.problem
    weight = weights(open_part, name)
    value = int(weight[allocation.assignment[reduction.kept] >= 0].sum())
    # One task of each unit carries what the unit is raised by.
    gang = problem.tasks.gang[alike]
    first = alike[np.unique(gang, return_index=True)[1]] if gang[0] != NO else alike
    carriers = np.isin(reduction.kept, first)
    count = int(carriers.sum())
    priced = replace(prices, objective="priority")
    ones = np.ones(len(weight), np.int64)

    def proven(raised: int) -> int:
        tasks = replace(
            open_part.tasks, value=weight + np.where(carriers, raised, 0), priority=ones
        )
        return priced.evaluate(replace(open_part, tasks=tasks))

    bound = proven(0)
    much = max(int(weight.sum()) // max(len(weight), 1), 1) * _VERY_MUCH
    # Beyond what a unit has to pay, raising it by one raises the bound by one.
    pays = much - (proven(much) - bound) // count
    if pays <= 0:
        return None
    return (proven(pays) - value) // pays
