"""What an allocation is good for: named objectives, taken one after the other.

The first level is a sum over placed tasks, `weights(problem, name) @ placed`, an integer, and what
bounds speak of. The others choose among allocations that are equally good so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.problem import Ints, Problem

PPM = 1_000_000
CPU_PER_GPU = 16
"""CPUs that weigh as much as one GPU in a task's size."""


@dataclass(frozen=True)
class Objective:
    """One named level."""

    name: str
    unit: str
    about: str
    is_first: bool = False
    """Whether it can be the first level."""
    is_maximised: bool = False


OBJECTIVES = {
    one.name: one
    for one in (
        Objective(
            "feasible", "tasks", "place every task, or prove that it cannot be done",
            is_first=True, is_maximised=True,
        ),
        Objective(
            "priority", "points", "priority × size of what is placed",
            is_first=True, is_maximised=True,
        ),
        Objective("gpu", "milli-GPU", "GPU that is allocated", is_first=True, is_maximised=True),
        Objective("cost", "cost", "every task placed, at the least cost", is_first=True),
        Objective("moves", "tasks", "tasks in force that move or are stopped"),
        Objective("fragmentation", "milli-GPU", "free GPU that few tasks could use"),
        Objective("balance", "ppm of a node", "the highest load of any node"),
    )
}  # fmt: skip
USUAL = {
    "feasible": ("feasible",),
    "priority": ("priority", "moves", "fragmentation"),
    "gpu": ("gpu", "moves", "fragmentation"),
    "cost": ("cost",),
}
"""What follows a first level that is named alone."""


def levels_of(text: str) -> tuple[str, ...]:
    """Return the levels of `priority` or `priority,moves,balance`, best first.

    Raises:
        InputError: an unknown name, a name twice, or a first level that cannot be one.

    Example:
        >>> levels_of("gpu,balance")
        ('gpu', 'balance')

    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    firsts = [name for name, one in OBJECTIVES.items() if one.is_first]
    laters = [name for name, one in OBJECTIVES.items() if not one.is_first]
    hint = f"first one of {', '.join(firsts)}; then any of {', '.join(laters)}"
    for name in names:
        if name not in OBJECTIVES:
            raise InputError(f"no objective is named {name!r}", hint=hint)
    if not names or names[0] not in firsts or set(names[1:]) - set(laters):
        raise InputError(f"{text!r} is no order of objectives", hint=hint)
    if len(set(names)) < len(names):
        raise InputError(f"{text!r} names an objective twice", hint=hint)
    if names[0] in {"feasible", "cost"} and len(names) > 1:
        raise InputError(f"{names[0]} stands alone", hint=f"--objective {names[0]}")
    return USUAL[names[0]] if len(names) == 1 else names


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


def ranking(names: Sequence[str], values: Sequence[int]) -> tuple[int, ...]:
    """Return a key that is larger the better the values are, level after level."""
    signs = (1 if OBJECTIVES[name].is_maximised else -1 for name in names)
    return tuple(sign * value for sign, value in zip(signs, values, strict=True))


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
