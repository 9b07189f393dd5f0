"""What an allocation is good for, in numbers: the value of each level (`levels`).

The first level is a sum over placed tasks, `weights(problem, name) @ placed`, an integer, and what
bounds speak of. The others choose among allocations that are equally good so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.problem import Ints, Problem

PPM = 1_000_000
CPU_PER_GPU = 16
"""CPUs that weigh as much as one GPU in a task's size."""


def sizes(problem: Problem) -> Ints:
    """Return how large each task is (n), in milli-GPU; 16 CPUs are as much as a GPU.

    A task's `value`, where it has one, is in the place of its size.
    """
    tasks = problem.tasks
    size = tasks.gpu_milli + tasks.demand[:, 0] // CPU_PER_GPU
    return np.where(tasks.value >= 0, tasks.value, np.maximum(size, 1))


def weights(problem: Problem, name: str) -> Ints:
    """Return what each task adds to the first level when it is placed (n, integers ≥ 0)."""
    tasks = problem.tasks
    if name == "gpu":
        return tasks.gpu_milli
    if name == "priority":
        return tasks.priority * sizes(problem)
    return np.ones(len(tasks), np.int64)


def moved(problem: Problem, assignment: Ints, devices: Ints) -> Ints:
    """Return which tasks in force are elsewhere now, or nowhere (indexes)."""
    tasks = problem.tasks
    elsewhere = (assignment != tasks.current) | (devices != tasks.current_devices)
    return np.flatnonzero(tasks.is_in_force & elsewhere)


def evaluate(
    problem: Problem, assignment: Ints, devices: Ints, names: Sequence[str]
) -> tuple[int, ...]:
    """Return the value of each level."""
    return tuple(_value(problem, assignment, devices, name) for name in names)


def _value(problem: Problem, assignment: Ints, devices: Ints, name: str) -> int:
    if name == "moves":
        return len(moved(problem, assignment, devices))
    if name == "fragmentation":
        from jupyter_aios.allocation.greedy.fragmentation import fragmentation

        return fragmentation(problem, assignment, devices)
    if name == "balance":
        return highest_load(problem, assignment)
    return int(weights(problem, name)[assignment >= 0].sum())


def highest_load(problem: Problem, assignment: Ints) -> int:
    """Return the highest share of any node's CPU, memory, disk or GPU that is in use, in ppm."""
    nodes, tasks = problem.nodes, problem.tasks
    if not len(nodes):
        return 0
    placed = assignment >= 0
    used = nodes.capacity - nodes.free
    np.add.at(used, assignment[placed], tasks.demand[placed])
    gpus = nodes.device_count * MILLI
    taken = gpus - np.where(nodes.devices > 0, nodes.devices, 0).sum(axis=1)
    np.add.at(taken, assignment[placed], tasks.gpu_milli[placed])
    amounts = np.column_stack([used, taken])
    has = np.maximum(np.column_stack([nodes.capacity, gpus]), 1)
    loads = amounts / has
    # Floats find the fullest ones, integers tell how full they are.
    fullest = np.argwhere(loads >= loads.max() * (1 - 1e-9))
    return max(-(-int(amounts[j, k]) * PPM // int(has[j, k])) for j, k in fullest.tolist())
