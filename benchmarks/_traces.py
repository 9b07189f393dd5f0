"""Traces of production clusters as allocation problems, in the format of the openb trace.

One reader for all benchmarks, so that what they call "default at 130 %" is the same problem.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jupyter_aios.allocation import reading
from jupyter_aios.allocation.problem import Ints, Nodes, Problem
from jupyter_aios.core.units import MILLI

DATA = Path(os.environ.get("AIOS_REFERENCE_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""The reference data, where they are."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A cluster's machines, and the tasks that once came, as the product reads them."""

    whole: Problem
    """Every task once."""

    @property
    def nodes(self) -> Nodes:
        """The machines, empty."""
        return self.whole.nodes

    @property
    def demand(self) -> Ints:
        """Tasks × 3: CPU milli, memory and disk bytes."""
        return self.whole.tasks.demand

    @property
    def gpus(self) -> Ints:
        """How many devices each task takes."""
        return self.whole.tasks.gpus

    @property
    def milli(self) -> Ints:
        """Thousandths of each of them."""
        return self.whole.tasks.milli

    @property
    def priority(self) -> Ints:
        """What each task's class of service is worth."""
        return self.whole.tasks.priority

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPU that the machines have in all."""
        return int(self.nodes.device_count.sum()) * MILLI

    def problem(self, tasks: Ints) -> Problem:
        """Return the problem of placing these tasks (indexes, one may come twice)."""
        drawn = self.whole.keep(tasks)
        names = [f"pod-{i}" for i in range(len(tasks))]
        return replace(drawn, tasks=replace(drawn.tasks, names=names))

    def on(self, nodes: Ints) -> Trace:
        """Return the same tasks for some of the machines (indexes)."""
        return Trace(self.whole.on(nodes))

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
    return Trace(reading.read_trace(nodes_file, tasks_file))
