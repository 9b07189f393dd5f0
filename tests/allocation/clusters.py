"""Small clusters in a line: what is free on each device, and tasks of (CPU, GPUs, milli)."""

from __future__ import annotations

import numpy as np

from jupyter_aios.allocation.problem import NO, Problem, nodes_of, problem_of, tasks_of


def cluster(*devices: list[int], cpu: int = 10_000) -> Problem:
    """Nodes with this much free on their devices, and no tasks."""
    most = max(len(has) for has in devices)
    table = np.array([has + [NO] * (most - len(has)) for has in devices], np.int64)
    free = np.array([[cpu, 0, 0]] * len(devices), np.int64)
    nodes = nodes_of([f"n{number}" for number in range(len(devices))], free, table)
    return problem_of(nodes, tasks_of([], np.zeros((0, 3), np.int64)))


def with_tasks(problem: Problem, *asked: tuple[int, int, int], **columns: object) -> Problem:
    """The problem with tasks of (CPU, GPUs, milli of each)."""
    table = np.array(asked, np.int64).reshape(-1, 3)
    demand = np.column_stack([table[:, 0], *np.zeros((2, len(table)), np.int64)])
    names = [f"t{number}" for number in range(len(table))]
    tasks = tasks_of(names, demand, gpus=table[:, 1], milli=table[:, 2], **columns)
    return problem_of(problem.nodes, tasks)
