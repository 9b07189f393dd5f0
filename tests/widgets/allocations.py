"""Allocations for the tests, the screenshots and the benchmark of the view, made by best fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from jupyter_aios.allocation.objectives import moved, weights
from jupyter_aios.allocation.problem import NO, Problem, nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.result import Allocation, Level
from jupyter_aios.core.units import MILLI

GIB = 2**30
MODELS = ("A100", "T4", "V100")


def cluster(
    task_count: int, node_count: int, seed: int = 0, *, in_force: float = 0.0, jobs: int = 0
) -> Problem:
    """Return a cluster with every kind of node, and tasks for about all of it.

    `in_force`: the share of tasks that best fit has placed before. `jobs`: how many there are.
    """
    rng = np.random.default_rng(seed)
    nodes = _nodes(rng, node_count)
    kinds = np.array(
        [[0, 0, 8], [1, 250, 4], [1, 500, 8], [1, MILLI, 8], [2, MILLI, 16], [8, MILLI, 48]]
    )
    part = (0.12, 0.2, 0.2, 0.3, 0.12, 0.06)
    jobs = jobs or max(task_count // 12, 3)
    job = np.sort(rng.integers(0, jobs, task_count))
    kind = kinds[rng.choice(len(kinds), jobs, p=part)[job]]
    zone = rng.choice(4, jobs, p=(0.7, 0.1, 0.15, 0.05))[job]
    zone = np.where(kind[:, 0] > 0, zone, 0)
    job_names = tuple(f"{_WORDS[j % len(_WORDS)]}-{j}" for j in range(jobs))
    columns: dict[str, Any] = {
        "gpus": kind[:, 0],
        "milli": kind[:, 1],
        "priority": rng.choice((1, 2, 5), jobs)[job],
        "zone": zone,
        "job": job,
        "user": rng.integers(0, 4, jobs)[job],
        "user_names": ("ada", "grace", "linus", "barbara"),
        "job_names": job_names,
    }
    demand = np.column_stack(
        [kind[:, 2] * MILLI // 2, kind[:, 2] * 3 * GIB, np.zeros_like(job)]
    ).astype(np.int64)
    names = [f"{job_names[j]}/{i}" for i, j in enumerate(job.tolist())]
    zones = np.array([np.ones(node_count, bool), *(nodes.models == m for m in range(3))])
    told: dict[str, Any] = {"zones": zones & ~nodes.is_drained, "zone_names": ("", *MODELS)}
    tasks = tasks_of(names, demand, **columns)
    problem = problem_of(nodes, tasks, **told)
    if in_force:
        node, devices = best_fit(problem, rng.permutation(task_count), worst=True)
        stays = rng.random(task_count) < in_force
        columns["current"] = np.where(stays, node, NO)
        columns["current_devices"] = np.where(stays & (node >= 0), devices, 0)
        problem = problem_of(nodes, tasks_of(names, demand, **columns), **told)
    return problem


_WORDS = ("llm", "resnet", "notebook", "tuning", "whisper", "diffusion", "eval", "tokenise")


def _nodes(rng: np.random.Generator, count: int) -> Any:
    kind = np.sort(rng.choice(4, count, p=(0.35, 0.35, 0.15, 0.15)))
    devices = np.full((count, 8), NO, np.int64)
    for node, has in enumerate(np.array([8, 2, 4, 0])[kind].tolist()):
        devices[node, :has] = rng.choice((MILLI, MILLI, MILLI, MILLI, 500, 0), has)
    cpus = np.array([96, 32, 48, 64])[kind] * MILLI
    capacity = np.column_stack([cpus, cpus * 4 * GIB // MILLI, np.zeros(count, np.int64)])
    others = np.round(capacity * rng.choice((0, 0, 0.1, 0.25), count)[:, None]).astype(np.int64)
    labels: list[tuple[tuple[str, str], ...]] = [(("rack", f"r{j % 7}"),) for j in range(count)]
    if count > 2:
        labels[1] = (("rack", "r1"), ("virtual", "true"))
    return nodes_of(
        [f"node-{j:04d}" for j in range(count)],
        capacity - others,
        devices,
        capacity=capacity,
        models=np.array([0, 1, 2, NO])[kind],
        model_names=MODELS,
        labels=tuple(labels),
        is_drained=rng.random(count) < 0.04,
    )


def best_fit(
    problem: Problem, order: Any = None, *, worst: bool = False, parts: int = 1
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return nodes and devices of tasks that are placed one after the other, where it is tightest.

    `worst` places them where it is roomiest. With more than one part, each part of the tasks has a
    part of the nodes to itself, which is faster.
    """
    tasks, nodes = problem.tasks, problem.nodes
    free, devices = nodes.free.copy(), nodes.devices.copy()
    n = len(tasks)
    node, bits = np.full(n, NO, np.int64), np.zeros(n, np.int64)
    total = devices.clip(0).sum(axis=1)
    size_of_part = -(-len(nodes) // parts)
    for i in range(n) if order is None else order:
        mine = slice((i % parts) * size_of_part, (i % parts + 1) * size_of_part)
        fits = problem.zones[tasks.zone[i], mine] & (free[mine] >= tasks.demand[i]).all(axis=1)
        count, size = int(tasks.gpus[i]), int(tasks.milli[i])
        if count:
            fits &= (devices[mine] >= size).sum(axis=1) >= count
        here = np.flatnonzero(fits) + mine.start
        if not len(here):
            continue
        key = total[here] * 10**6 + free[here, 0]
        j = int(here[np.argmax(key) if worst else np.argmin(key)])
        if count:
            able = np.flatnonzero(devices[j] >= size)
            chosen = able[np.argsort(devices[j, able], kind="stable")][:count]
            devices[j, chosen] -= size
            total[j] -= size * count
            bits[i] = sum(1 << int(device) for device in chosen)
        free[j] -= tasks.demand[i]
        node[i] = j
    return node, bits


def allocation(
    problem: Problem, *, order: Any = None, worst: bool = False, rung: str = "best fit",
    bound: int | None = None, time_s: float = 0.41, parts: int = 1,
) -> Allocation:  # fmt: skip
    """Return an allocation by best fit under `priority`; the usual bound is all tasks' worth."""
    node, bits = best_fit(problem, order, worst=worst, parts=parts)
    worth = weights(problem, "priority")
    value = int(worth[node >= 0].sum())
    levels = (
        Level("priority", value, int(worth.sum()) if bound is None else bound),
        Level("moves", len(moved(problem, node, bits)), None),
    )
    status = "optimal" if value == levels[0].bound else "feasible"
    return Allocation(problem, node, bits, levels, rung, time_s, status)


def by_worth(problem: Problem) -> Any:
    """Return an order that places what is worth most first."""
    return np.argsort(-weights(problem, "priority"), kind="stable")


def compared(problem: Problem, seed: int = 0) -> list[tuple[str, Allocation]]:
    """Return allocations that other orders make."""
    n = len(problem.tasks)
    shuffled = np.random.default_rng(seed).permutation(n)
    smallest = np.argsort(problem.tasks.gpu_milli, kind="stable")
    return [
        ("random", allocation(problem, order=shuffled, rung="random", time_s=0.03)),
        ("worst fit", allocation(problem, worst=True, rung="worst fit", time_s=0.02)),
        ("smallest first", allocation(problem, order=smallest, rung="smallest", time_s=0.02)),
    ]


def answered(problem: Problem) -> Allocation:
    """Return the best of several orders, with a bound that holds."""
    tasks, nodes = problem.tasks, problem.nodes
    found = allocation(problem, order=by_worth(problem), rung="columns")
    # No more GPU than there is: the dearest tasks, the last one in part.
    worth, size = weights(problem, "priority"), tasks.gpu_milli
    order = np.argsort(-worth / np.maximum(size, 1), kind="stable")
    room = int(nodes.devices.clip(0).sum())
    filled = np.cumsum(size[order])
    inside = int(np.searchsorted(filled, room, side="right"))
    bound = int(worth[order[: inside + 1]].sum())
    level = Level("priority", found.levels[0].value, max(bound, found.levels[0].value))
    return replace(found, levels=(level, *found.levels[1:]))


def explain(problem: Problem) -> Any:
    """Return what says why a task is left out, for the tests: in angle brackets, to be escaped."""

    def said(task: int) -> str:
        able = int(problem.may_hold(task).sum())
        return f"<b>{problem.tasks.names[task]}</b>: {able} nodes could hold it when empty"

    return said
