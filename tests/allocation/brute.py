"""The best allocation of a tiny problem, by trying all of them; the checker has the last word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.levels import ranking
from jupyter_aios.allocation.objectives import evaluate, weights
from jupyter_aios.allocation.problem import NO, devices_of
from tests.allocation.enumeration import Placing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jupyter_aios.allocation.problem import Problem


def best_values(
    problem: Problem, names: Sequence[str], known: tuple[int, ...] | None = None
) -> tuple[int, ...] | None:
    """Return the value of each level of the best allocation; None where there is none at all.

    Tasks in force are decided first and try every device; after them, devices that are equally
    free are equal. With `known`, values that can be had, only what is better is looked for.
    """
    tasks = problem.tasks
    n = len(tasks)
    order = sorted(range(n), key=lambda i: (tasks.current[i] == NO, bool(tasks.is_movable[i])))
    weight = weights(problem, names[0]).tolist()
    rest = [sum(weight[i] for i in order[k:]) for k in range(n + 1)]
    placing = Placing(problem, np.full(n, NO, np.int64), np.zeros(n, np.int64))
    best = known

    def descend(k: int, value: int) -> None:
        nonlocal best
        if best is not None and value + rest[k] < best[0]:
            return
        if best is not None and len(names) == 1 and value + rest[k] == best[0]:
            return
        if k == n:
            if faults(problem, placing.assignment, placing.devices):
                return
            values = evaluate(problem, placing.assignment, placing.devices, names)
            if best is None or ranking(names, values) > ranking(names, best):
                best = values
            return
        i = order[k]
        for node, bits in list(_options(placing, i)):
            placing.put(i, node, bits)
            descend(k + 1, value + weight[i])
            placing.put(i, node, bits, -1)
        if not tasks.must_be_placed[i]:
            descend(k + 1, value)

    descend(0, 0)
    return best


def _options(placing: Placing, task: int) -> Iterator[tuple[int, int]]:
    """Yield where a task fits by what is left; of a task in force, every choice of devices."""
    tasks = placing.problem.tasks
    if tasks.current[task] == NO:
        yield from placing.options(task)
        return
    node, bits = int(tasks.current[task]), int(tasks.current_devices[task])
    left, milli = placing.left[node], int(tasks.milli[task])
    fits = (placing.free[node] >= tasks.demand[task]).all()
    if fits and all(left[d] >= milli for d in devices_of(bits)):
        yield node, bits
    if tasks.is_movable[task]:
        yield from _everywhere(placing, task, (node, bits))


def _everywhere(placing: Placing, task: int, but: tuple[int, int]) -> Iterator[tuple[int, int]]:
    tasks = placing.problem.tasks
    gpus, milli = int(tasks.gpus[task]), int(tasks.milli[task])
    for node in range(len(placing.problem.nodes)):
        if (placing.free[node] < tasks.demand[task]).any():
            continue
        for bits in range(1 << placing.left.shape[1]):
            chosen = devices_of(bits)
            fits = all(placing.left[node, d] >= max(milli, 1) for d in chosen)
            if len(chosen) == gpus and fits and (node, bits) != but:
                yield node, bits
