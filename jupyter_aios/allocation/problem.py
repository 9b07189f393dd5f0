"""An allocation problem as columns: n tasks, m nodes, and what binds them to each other.

Arrays rather than objects: 100,000 tasks on 12,000 nodes are read, solved and checked as columns.
Build one with `allocation.reading` (text, tables, traces, the live cluster); the constructors here
take what is already right, and `faults_of` says what is not.

Amounts are integers everywhere: thousandths of a CPU and of a GPU, bytes of memory and disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CPU, MEMORY, DISK = range(3)
"""Columns of `Nodes.free`, `Nodes.capacity` and `Tasks.demand`."""
QUOTA_COLUMNS = ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_milli", "tasks")
MAX_DEVICES = 62
"""Devices of a task are the bits of one integer."""
USUAL_MODEL = "GPU"
"""The model of GPUs of which none is known."""
NO = -1
"""No node, no gang, no quota, no device."""


class Names(Protocol):
    """Strings by number: a list, a tuple, or something that makes them when asked."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, number: SupportsIndex, /) -> str: ...


@dataclass(frozen=True, eq=False)
class Nodes:
    """m machines.

    The GPUs of one node are of one model; a machine with two models is read as "A+B", which a task
    that names a model does not get.
    """

    names: Names
    free: Ints
    """m × 3: what the tasks of this problem may have of CPU, memory and disk."""
    devices: Ints
    """m × D: thousandths of each device that the tasks may have; -1 where there is no device."""
    capacity: Ints
    """m × 3: what the machine has, whoever holds it; loads are measured by it."""
    models: Ints
    """m: index into `model_names`; -1 on a node without GPUs."""
    model_names: tuple[str, ...] = ()
    labels: tuple[tuple[tuple[str, str], ...], ...] = ()
    """m: (key, value) pairs of each node, sorted; empty where no node has any."""
    is_drained: Bools = field(default_factory=lambda: np.zeros(0, bool))
    """m: takes nothing new, and what may be moved leaves."""

    def __post_init__(self) -> None:
        if len(self.is_drained) != len(self.names):
            object.__setattr__(self, "is_drained", np.zeros(len(self.names), bool))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def device_count(self) -> Ints:
        """m: how many devices each node has."""
        counts: Ints = (self.devices >= 0).sum(axis=1)
        return counts

    def keep(self, nodes: Ints) -> Nodes:
        """Return some of the nodes only (indexes)."""
        columns = {key: getattr(self, key)[nodes] for key in NODE_COLUMNS}
        names = [self.names[j] for j in nodes]
        labels = tuple(self.labels[j] for j in nodes.tolist()) if self.labels else ()
        return replace(self, names=names, labels=labels, **columns)


@dataclass(frozen=True, eq=False)
class Tasks:
    """n indivisible demands. Group columns hold indexes, -1 for none."""

    names: Names
    demand: Ints
    """n × 3: CPU, memory, disk."""
    gpus: Ints
    """n: how many devices a task touches."""
    milli: Ints
    """n: thousandths of each of them: 1000, or less of a single one; 0 without GPU."""
    priority: Ints
    """n: at least 0; what the objective `priority` multiplies a task's size by."""
    value: Ints
    """n: what a task is worth; -1 where its size says it (`objectives.sizes`)."""
    zone: Ints
    """n: row of `Problem.zones`: on which nodes it may be."""
    gang: Ints
    """n: tasks of one gang are placed all or none."""
    apart: Ints
    """n: no two tasks with the same number share a node."""
    together: Ints
    """n: all placed tasks with the same number are on one node, or in one domain of nodes."""
    quotas: Ints
    """n × 2: the quotas that a task counts against."""
    current: Ints
    """n: the node where it is in force."""
    current_devices: Ints
    """n: its devices there, as bits."""
    is_movable: Bools
    """n: a task in force that may go elsewhere."""
    is_preemptible: Bools
    """n: a task in force that may be stopped."""
    user: Ints
    """n: index into `user_names`."""
    job: Ints
    """n: index into `job_names`."""
    user_names: tuple[str, ...] = ()
    job_names: tuple[str, ...] = ()
    gang_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def gpu_milli(self) -> Ints:
        """n: thousandths of GPU in all."""
        return self.gpus * self.milli

    @cached_property
    def is_share(self) -> Bools:
        """n: takes a part of a single device."""
        found: Bools = (self.gpus == 1) & (self.milli < MILLI)
        return found

    @cached_property
    def is_in_force(self) -> Bools:
        """n: holds a place already."""
        return self.current >= 0

    @cached_property
    def must_be_placed(self) -> Bools:
        """n: is in force and may not be stopped."""
        return self.is_in_force & ~self.is_preemptible

    @cached_property
    def consumption(self) -> Ints:
        """What a task counts against a quota (n × 5), in the order of `QUOTA_COLUMNS`."""
        ones = np.ones(len(self), np.int64)
        return np.column_stack([self.demand, self.gpu_milli, ones])


@dataclass(frozen=True)
class Quota:
    """The most that a user's or a group's placed tasks may have in sum; None is no limit."""

    name: str
    """As it is shown: `user ada`, `group vision`."""
    cpu_milli: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    gpu_milli: int | None = None
    tasks: int | None = None

    @property
    def limits(self) -> tuple[int | None, ...]:
        """The limits in the order of `QUOTA_COLUMNS`."""
        return tuple(getattr(self, column) for column in QUOTA_COLUMNS)


@dataclass(frozen=True, eq=False)
class Problem:
    """Place `tasks` on `nodes`."""

    nodes: Nodes
    tasks: Tasks
    zones: Bools
    """k × m: the nodes that a task of this zone may be on, by GPU model, labels and draining."""
    zone_names: tuple[str, ...]
    """k: what the zone asks for, as it is shown: `A100`, `zone=eu`; empty for any node."""
    domains: Ints
    """d × m: the domain of each node under a label, -1 where it has none; row 0 is the node."""
    together_domain: Ints
    """The row of `domains` that each number of `Tasks.together` is about."""
    quotas: tuple[Quota, ...] = ()

    @cached_property
    def quota_limits(self) -> Ints:
        """The limits as numbers (q × 5), the largest integer for none."""
        none = np.iinfo(np.int64).max
        rows = [[none if x is None else x for x in quota.limits] for quota in self.quotas]
        return np.array(rows, np.int64).reshape(len(self.quotas), len(QUOTA_COLUMNS))

    @cached_property
    def gang_sizes(self) -> Ints:
        """How many tasks each gang has."""
        gangs = self.tasks.gang
        sizes: Ints = np.bincount(gangs[gangs >= 0]).astype(np.int64)
        return sizes

    def may_hold(self, task: int) -> Bools:
        """Return for each node whether it may hold the task and is large enough when empty."""
        tasks, nodes = self.tasks, self.nodes
        fits: Bools = (nodes.free >= tasks.demand[task]).all(axis=1) & self.zones[tasks.zone[task]]
        gpus = tasks.gpus[task]
        if gpus:
            fits &= (nodes.devices >= tasks.milli[task]).sum(axis=1) >= gpus
        return fits

    def keep(self, tasks: Bools | Ints) -> Problem:
        """Return the problem with some of the tasks only; numbers of groups stay as they are."""
        chosen = np.flatnonzero(tasks) if tasks.dtype == bool else tasks
        names = [self.tasks.names[i] for i in chosen]
        columns = {key: getattr(self.tasks, key)[chosen] for key in TASK_COLUMNS}
        return replace(self, tasks=replace(self.tasks, names=names, **columns))

    def on(self, nodes: Ints) -> Problem:
        """Return the same tasks on some of the nodes only (indexes); nothing may be in force."""
        return replace(
            self,
            nodes=self.nodes.keep(nodes),
            zones=self.zones[:, nodes],
            domains=self.domains[:, nodes],
        )


TASK_COLUMNS = (
    "demand", "gpus", "milli", "priority", "value", "zone", "gang", "apart", "together", "quotas",
    "current", "current_devices", "is_movable", "is_preemptible", "user", "job",
)  # fmt: skip
"""The columns of `Tasks` that have an entry per task."""
NODE_COLUMNS = ("free", "devices", "capacity", "models", "is_drained")
"""The columns of `Nodes` that have an entry per node."""


def tasks_of(names: Names, demand: Ints, **columns: object) -> Tasks:
    """Return tasks with the usual values in every column that is not given.

    `demand` is n × 3. Without more, a task needs no GPU, has priority 1 and may be anywhere.
    """
    n = len(names)
    usual = {
        "gpus": np.zeros(n, np.int64),
        "milli": np.zeros(n, np.int64),
        "priority": np.ones(n, np.int64),
        "zone": np.zeros(n, np.int64),
        "quotas": np.full((n, 2), NO, np.int64),
        "current_devices": np.zeros(n, np.int64),
        "is_movable": np.ones(n, bool),
        "is_preemptible": np.zeros(n, bool),
        "user": np.zeros(n, np.int64),
        "job": np.arange(n),
    }
    usual |= {key: np.full(n, NO, np.int64) for key in TASK_COLUMNS[4:] if key not in usual}
    return Tasks(names=names, demand=demand, **(usual | columns))  # type: ignore[arg-type]


def nodes_of(names: Names, free: Ints, devices: Ints, **columns: object) -> Nodes:
    """Return nodes that are as empty as their `free` says, of no model and without labels."""
    usual: dict[str, object] = {
        "capacity": free,
        "models": np.where((devices >= 0).any(axis=1), 0, NO) if devices.size else _none(names),
        "model_names": (USUAL_MODEL,),
    }
    return Nodes(names=names, free=free, devices=devices, **(usual | columns))  # type: ignore[arg-type]


def _none(names: Names) -> Ints:
    return np.full(len(names), NO, np.int64)


def problem_of(nodes: Nodes, tasks: Tasks, **columns: object) -> Problem:
    """Return a problem in which every task may be on every node that is not drained."""
    usual: dict[str, object] = {
        "zones": ~nodes.is_drained[None, :],
        "zone_names": ("",),
        "domains": np.arange(len(nodes))[None, :],
        "together_domain": np.zeros(int(tasks.together.max(initial=NO)) + 1, np.int64),
    }
    return Problem(nodes, tasks, **(usual | columns))  # type: ignore[arg-type]


def bits_of(devices: Sequence[int]) -> int:
    """Return device indexes as bits.

    Example:
        >>> bits_of([0, 2])
        5

    """
    return sum(1 << device for device in devices)


def devices_of(bits: int) -> tuple[int, ...]:
    """Return bits as device indexes, lowest first.

    Example:
        >>> devices_of(5)
        (0, 2)

    """
    return tuple(device for device in range(MAX_DEVICES) if bits >> device & 1)
