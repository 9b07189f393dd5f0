"""One search: a room in which some tasks lie, and others that want to get in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.bundles import place_bundles
from jupyter_aios.allocation.columns.diving import Generator
from jupyter_aios.allocation.columns.improve import Windows
from jupyter_aios.allocation.columns.kinds import claim, classify, type_nodes
from jupyter_aios.allocation.columns.materialise import contents, fill, mend_gangs, places, seat
from jupyter_aios.allocation.columns.units import units_of

if TYPE_CHECKING:
    from jupyter_aios.allocation.columns.room import Room
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.placed import Placed
    from jupyter_aios.allocation.problem import Bools, Ints


def place_all(
    room: Room, weights: Ints, chosen: Bools, effort: Effort, start: Placed | None
) -> None:
    """Place as much weight of the chosen tasks in the room as can be found; `start` is a hint."""
    units = units_of(room.problem, weights, chosen)
    place_bundles(room, units)
    takes_part = _who(room, weights, chosen)
    if takes_part.any() and len(room.free):
        classes = classify(room.problem, weights, room.zone, takes_part)
        types = type_nodes(room, classes)
        claims = claim(room.problem, weights, classes)
        generator = Generator(classes, claims, types, room.quotas_left)
        known = [] if start is None else contents(room, classes, types, start)
        found = generator.run(effort.share(0.8), known)
        part = takes_part.tolist()
        inside = [unit for unit in units if all(part[task] for task in unit)]
        seat(room, generator, places(room, classes, types, found), inside)
        mend_gangs(room, takes_part)
        fill(room, inside, effort)
        Windows(room, weights, generator, inside).improve(effort)
    fill(room, units, effort)


def _who(room: Room, weights: Ints, chosen: Bools) -> Bools:
    """Return the tasks that wait and count: of a gang all or none."""
    tasks = room.problem.tasks
    waits = chosen & (room.node < 0)
    counts = waits & ((weights > 0) | tasks.must_be_placed)
    gangs = np.unique(tasks.gang[counts & (tasks.gang >= 0)])
    return counts | (waits & np.isin(tasks.gang, gangs) & (tasks.gang >= 0))
