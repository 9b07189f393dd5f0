"""What is placed all or none: gangs and single tasks, in the order in which places are offered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.objectives import CPU_PER_GPU

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Bools, Ints, Problem


def units_of(problem: Problem, weights: Ints, chosen: Bools) -> list[list[int]]:
    """Return the units with a chosen task: what must be placed first, then the densest.

    Density is weight for size; equally dense ones come largest first.
    """
    tasks = problem.tasks
    who = np.flatnonzero(chosen)
    gangs = tasks.gang[who]
    key = np.where(gangs >= 0, gangs, int(tasks.gang.max(initial=-1)) + 1 + who)
    _, number = np.unique(key, return_inverse=True)
    size = tasks.gpu_milli + tasks.demand[:, 0] / CPU_PER_GPU
    count = int(number.max(initial=-1)) + 1
    weight = np.bincount(number, weights[who], count)
    total = np.bincount(number, size[who], count)
    must = np.bincount(number, tasks.must_be_placed[who], count) > 0
    held = np.bincount(number, tasks.is_in_force[who], count) > 0
    density = np.round(weight / np.maximum(total, 1.0), 3)
    order = np.lexsort((-total, -density, ~held & (density > 0), ~must))
    flat = who[np.argsort(number, kind="stable")].tolist()
    ends = np.cumsum(np.bincount(number, minlength=count)).tolist()
    starts = [0, *ends]
    return [flat[starts[unit] : ends[unit]] for unit in order.tolist()]
