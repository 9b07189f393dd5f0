"""Prices and repair, for many kinds of tasks and nodes: 100,000 tasks of which no two are alike.

room      what is free, and what it is worth at a certificate's prices
units     a task or a gang: placed as a whole or not at all
fill      nodes filled with the tasks that are worth most more than they pay
refill    nodes filled anew, each in several ways at once, of which the best is taken
exchange  one task of every node exchanged, on all nodes at once
improve   these two, and few nodes emptied together, until time is over
search    the steps one after the other
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate, weights
from jupyter_aios.allocation.placed import Placed

if TYPE_CHECKING:
    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Problem


def scale(
    problem: Problem,
    names: tuple[str, ...],
    effort: Effort,
    start: Placed | None = None,
    certificate: Certificate | None = None,
) -> Placed | None:
    """Return a placement that is good for the objectives `names`, the first above all.

    `certificate` holds the prices that guide the search; without one they are solved for here, in
    a third of the time. `start` is returned where nothing better is found.
    """
    from jupyter_aios.allocation.prices import solve_prices
    from jupyter_aios.allocation.scale.room import Room
    from jupyter_aios.allocation.scale.search import Search
    from jupyter_aios.allocation.scale.units import Units

    tasks = problem.tasks
    if not len(problem.nodes):
        none = np.full(len(tasks), -1, np.int64)
        return None if tasks.must_be_placed.any() else Placed(none, np.zeros_like(none))
    if certificate is None:
        certificate = solve_prices(problem, names, effort.share(0.34))
    room = Room(problem, weights(problem, names[0]), certificate)
    Search(room, Units(room), effort).run()
    found = room.placed()
    if start is None:
        return found

    def rank(placed: Placed) -> tuple[int, ...]:
        values = evaluate(problem, placed.assignment, placed.devices, names)
        return ranking(names, values)

    return found if rank(found) >= rank(start) else start
