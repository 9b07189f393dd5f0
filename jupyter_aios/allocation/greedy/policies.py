"""Which node a task goes to, and which of its devices: the policies of the FGD paper's simulator.

"Beware of Fragmentation" (Weng et al., USENIX ATC 2023), section 6.1, and its published simulator:
each policy scores the nodes that have room, and the best score wins; ties go to the first node. The
scores of best fit and dot product are not rounded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.allocation.greedy.fragmentation import Tables, Typical
from jupyter_aios.allocation.greedy.state import deal
from jupyter_aios.allocation.problem import CPU
from jupyter_aios.core.units import MILLI
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from jupyter_aios.allocation.greedy.state import State
    from jupyter_aios.allocation.problem import Ints, Problem

POLICIES = ("first-fit", "best-fit", "dot-product", "gpu-packing", "fgd", "random")
"""The names of the greedy policies."""

Floats = NDArray[np.float64]


class Policy(Protocol):
    """One way to choose among the nodes and devices that have room."""

    is_steady: bool
    """Whether a node's score for a kind of task changes only when the node does."""
    is_costly: bool
    """Whether a score takes so long that only some of very many nodes are scored."""

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return how good each of these nodes is for the task; all of them have room."""
        ...

    def deal(self, state: State, task: int, node: int) -> int:
        """Return the devices of the node for the task, as bits."""
        ...


def policy_of(
    name: str, problem: Problem, *, seed: int = 0, typical: Typical | None = None
) -> Policy:
    """Return a policy by its name.

    `seed` is for `random`; `typical` are the tasks that `fgd` expects, the problem's own if None.

    Raises:
        InputError: there is no such policy.

    """
    if name == "fgd":
        return Fgd(problem, typical)
    if name == "random":
        return Random(seed)
    simple = {
        "first-fit": FirstFit,
        "best-fit": BestFit,
        "dot-product": DotProduct,
        "gpu-packing": GpuPacking,
    }
    if name not in simple:
        raise InputError(f"no policy is named {name!r}", hint=f"one of {', '.join(POLICIES)}")
    return simple[name](problem)


class FirstFit:
    """The first node that has room."""

    is_steady = True
    is_costly = False

    def __init__(self, problem: Problem) -> None:
        nodes = problem.nodes
        self.most_cpu = float(max(nodes.capacity[:, CPU].max(initial=0), 1))
        self.most_gpu = float(max(nodes.device_count.max(initial=0), 1) * MILLI)

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return the same for all."""
        del state, task
        return np.zeros(len(nodes))

    def deal(self, state: State, task: int, node: int) -> int:
        """Return whole devices lowest first; a share goes where it fits most tightly."""
        gpus = state.gpus[task]
        return deal(state.devices[node].tolist(), gpus, state.milli[task]) if gpus else 0


class BestFit(FirstFit):
    """The node with the least CPU and GPU left, as shares of the largest node."""

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return what is not left over."""
        del task  # what it takes is the same everywhere
        left: Floats = state.free[CPU][nodes] / -self.most_cpu
        left -= state.gpu_free[nodes] / self.most_gpu
        return left


class DotProduct(FirstFit):
    """The node whose free amounts are least aligned with the demand (Tetris, SIGCOMM 2014)."""

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return the negative product of the two vectors."""
        cpu = state.demand[task][CPU] / self.most_cpu**2
        gpu = state.gpus[task] * state.milli[task] / self.most_gpu**2
        product: Floats = state.free[CPU][nodes] * -cpu
        product -= state.gpu_free[nodes] * gpu
        return product


class GpuPacking(FirstFit):
    """Devices in use first, then free ones on nodes in use, then nodes that nobody uses."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.device_count = problem.nodes.device_count

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return 100 - tenth of the free percent, 50 - devices, or 33 - devices."""
        gpus, milli = state.gpus[task], state.milli[task]
        if not gpus:
            return np.zeros(len(nodes))
        whole = state.whole[nodes]
        score = np.full(len(nodes), 50.0 - gpus)
        if milli < MILLI:
            room = state.devices[nodes]
            tightest = np.where(room >= milli, room, MILLI).min(axis=1, initial=MILLI)
            score = np.where(tightest < MILLI, 100.0 - tightest // 10 // 10, score)
        return np.where(whole == self.device_count[nodes], 33.0 - whole, score)


class Random:
    """Any node, any device that has room."""

    is_steady = False
    is_costly = False

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return a lot for each."""
        del state, task
        return self.rng.random(len(nodes))

    def deal(self, state: State, task: int, node: int) -> int:
        """Return whole devices lowest first; a share goes to any device with room."""
        gpus, milli = state.gpus[task], state.milli[task]
        if not gpus:
            return 0
        free = state.devices[node].tolist()
        if milli == MILLI:
            return deal(free, gpus, milli)
        room = [device for device, left in enumerate(free) if left >= milli]
        return 1 << room[int(self.rng.integers(len(room)))]


class Fgd:
    """Where fragmentation grows the least: fragmentation gradient descent."""

    is_steady = True
    is_costly = True

    def __init__(self, problem: Problem, typical: Typical | None = None) -> None:
        typical = Typical.of(problem) if typical is None else typical
        self.tables = Tables.of(typical, problem.nodes.devices.shape[1])

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return how much less GPU is out of reach: 0 to 100 by a sigmoid, 50 is as much as before.

        Rounded down like the simulator's scores. That is no detail: nodes that differ by some 40
        milli count as equal, the first of them is filled before the next one is begun, and about
        0.7 % more of the GPUs is allocated at the end (95.2 against 94.5 % on the trace).
        """
        after, _ = self._usable_after(state, task, nodes)
        usable_less = self._usable(state, state.free[CPU][nodes], nodes) - after
        taken = state.gpus[task] * state.milli[task]
        gained = taken - usable_less / self.tables.total
        score: Floats = np.floor(100.0 / (1.0 + np.exp(-gained / MILLI)))
        return score

    def deal(self, state: State, task: int, node: int) -> int:
        """Return whole devices lowest first; a share goes where it leaves the most of use."""
        gpus, milli = state.gpus[task], state.milli[task]
        if not gpus:
            return 0
        if milli == MILLI:
            return deal(state.devices[node].tolist(), gpus, milli)
        _, gain = self._usable_after(state, task, np.array([node]))
        return 1 << int(gain[0].argmax())

    def _usable(self, state: State, cpu: Ints, nodes: Ints) -> Ints:
        level = self.tables.level(cpu)
        devices = state.devices[nodes]
        usable: Ints = self.tables.shares[level[:, None], devices].sum(axis=1)
        usable += self.tables.wholes[level, state.whole[nodes]]
        return usable

    def _usable_after(self, state: State, task: int, nodes: Ints) -> tuple[Ints, Ints]:
        """Return what typical tasks could use after the task, and by device (nodes × D)."""
        tables, gpus, milli = self.tables, state.gpus[task], state.milli[task]
        cpu = state.free[CPU][nodes] - state.demand[task][CPU]
        level, whole, devices = tables.level(cpu), state.whole[nodes], state.devices[nodes]
        by_device: Ints = tables.shares[level[:, None], devices]
        usable: Ints = by_device.sum(axis=1)
        if gpus and milli == MILLI:
            usable += tables.wholes[level, whole - gpus] - gpus * tables.shares[level, MILLI]
        elif gpus:
            rest = devices - milli
            gain = tables.shares[level[:, None], np.maximum(rest, 0)] - by_device
            gain += tables.wholes[level[:, None], whole[:, None] - (devices == MILLI)]
            gain[rest < 0] = np.iinfo(np.int64).min // 2
            return usable + gain.max(axis=1, initial=np.iinfo(np.int64).min // 2), gain
        else:
            usable += tables.wholes[level, whole]
        return usable, by_device
