"""Traces of production clusters as allocation problems, in the format of the openb trace.

One reader for all benchmarks, so that what they call "default at 130 %" is the same problem.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jupyter_aios.allocation.problem import NO, Ints, Nodes, Problem, nodes_of, problem_of, tasks_of
from jupyter_aios.core.units import MILLI

DATA = Path(os.environ.get("AIOS_REFERENCE_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""The reference data, where they are."""
PRIORITIES = {"LS": 4, "Burstable": 2, "Guaranteed": 2, "BE": 1}
"""What a task's class of service is worth; any other counts like the least."""
MIB = 2**20
NODE_COLUMNS = ("free", "devices", "capacity", "models", "is_drained")
"""The columns of `Nodes` that have an entry per machine."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A cluster's machines, and the tasks that once came."""

    nodes: Nodes
    demand: Ints
    """tasks × 3: CPU milli, memory and disk bytes."""
    gpus: Ints
    milli: Ints
    priority: Ints
    models: tuple[tuple[str, ...], ...]
    """The GPU models that each task may have; empty for any."""

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPU that the machines have in all."""
        return int(self.nodes.device_count.sum()) * MILLI

    def problem(self, tasks: Ints) -> Problem:
        """Return the problem of placing these tasks (indexes, one may come twice)."""
        kinds = {models: row for row, models in enumerate(dict.fromkeys(self.models))}
        zone = np.array([kinds[models] for models in self.models], np.int64)
        number = {name: row for row, name in enumerate(self.nodes.model_names)}
        zones = [
            np.isin(self.nodes.models, [number[name] for name in models if name in number])
            if models
            else np.ones(len(self.nodes), bool)
            for models in kinds
        ]
        placed = tasks_of(
            [f"pod-{i}" for i in range(len(tasks))],
            self.demand[tasks],
            gpus=self.gpus[tasks],
            milli=self.milli[tasks],
            priority=self.priority[tasks],
            zone=zone[tasks],
        )
        names = tuple(" or ".join(models) for models in kinds)
        return problem_of(self.nodes, placed, zones=np.array(zones), zone_names=names)

    def on(self, nodes: Ints) -> Trace:
        """Return the same tasks for some of the machines (indexes)."""
        columns = {key: getattr(self.nodes, key)[nodes] for key in NODE_COLUMNS}
        names = [self.nodes.names[j] for j in nodes]
        return replace(self, nodes=replace(self.nodes, names=names, **columns))

    def sampled(self, ratio: float | None, seed: int = 42) -> Problem:
        """Return as many tasks as demand `ratio` of all GPUs, in random order.

        With too few, tasks come again; with too many, some stay away. None: every task once.
        """
        count = len(self.gpus)
        rng = np.random.default_rng(seed)
        size = self.gpus * self.milli
        order = rng.permutation(count)
        if ratio is None:
            return self.problem(np.arange(count))
        wanted, total = ratio * self.gpu_milli, int(size.sum())
        if total > wanted:
            chosen = order[: int(np.searchsorted(np.cumsum(size[order]), wanted))]
        else:
            again: list[int] = []
            while total + size[task := int(rng.integers(count))] <= wanted:
                total += int(size[task])
                again.append(task)
            chosen = np.concatenate([order, np.array(again, np.int64)])
        rng.shuffle(chosen)
        return self.problem(chosen)


def nodes_csv() -> Path:
    """Return the file of the reference trace's machines."""
    return DATA / "openb" / "openb_node_list_gpu_node.csv"


def tasks_csv(workload: str) -> Path:
    """Return the file of one of the reference trace's workloads."""
    return DATA / "openb" / f"openb_pod_list_{workload}.csv"


def read_trace(nodes_file: Path, tasks_file: Path) -> Trace:
    """Return a trace from its two files."""
    tasks = _rows(tasks_file)
    column = {
        name: np.array([int(float(row[name] or 0)) for row in tasks], np.int64)
        for name in ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
    }
    none = np.zeros(len(tasks), np.int64)
    return Trace(
        nodes=_nodes(_rows(nodes_file)),
        demand=np.column_stack([column["cpu_milli"], column["memory_mib"] * MIB, none]),
        gpus=column["num_gpu"],
        milli=np.where(column["num_gpu"] > 0, column["gpu_milli"], 0),
        priority=np.array([PRIORITIES.get(row.get("qos", "LS"), 1) for row in tasks], np.int64),
        models=tuple(
            tuple(sorted(filter(None, (row.get("gpu_spec") or "").split("|")))) for row in tasks
        ),
    )


def _nodes(rows: list[dict[str, str]]) -> Nodes:
    counts = [int(float(row["gpu"])) for row in rows]
    devices = np.full((len(rows), max(counts, default=0)), NO, np.int64)
    for node, count in enumerate(counts):
        devices[node, :count] = MILLI
    models = sorted({row["model"] for row in rows if row.get("model")})
    free = [[int(float(row["cpu_milli"])), int(float(row["memory_mib"])) * MIB, 0] for row in rows]
    return nodes_of(
        [row["sn"] for row in rows],
        np.array(free, np.int64).reshape(len(rows), 3),
        devices,
        models=np.array([models.index(row["model"]) if row["model"] else NO for row in rows]),
        model_names=tuple(models),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
