"""A policy that looks ahead: which node loses the least of what it may still become.

FGD asks what one more typical task could use. Outlook asks what the rest of a node will be worth
when it is full, in two parts that are sums over devices, so that a choice stays a few look-ups:

- *worth*: what the free part of a device can still earn. The prices of a cutting-stock linear
  programme over the typical tasks say it (Gilmore and Gomory, 1961): 190 milli beside a task of 810
  are worth nothing where tasks of at most 190 are rare, 530 beside one of 470 are worth half a
  device. Smaller tasks are never accepted less often than larger ones, since whoever places what
  fits cannot choose otherwise.
- *CPU need*: the CPU that filling a device will take on average. What a node lacks of it strands
  GPU, and is paid for at what a CPU earns; where CPU abounds, tasks that need it most cost nothing.
"""

from __future__ import annotations

from math import exp, log1p
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.allocation.greedy.fragmentation import Typical
from jupyter_aios.allocation.greedy.state import deal
from jupyter_aios.allocation.online.device_values import DeviceValues
from jupyter_aios.allocation.problem import CPU
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.greedy.state import State
    from jupyter_aios.allocation.problem import Ints, Problem

Floats = NDArray[np.float64]

_PACKING = 0.02
"""What a milli on a fuller device is worth more: equals go where less is left."""
_BLUR = 0.125
"""How uncertain a node's need of CPU is, in devices' worth of it."""


class Outlook:
    """The node that loses the least of what it may still become; see the module.

    It remembers one state's nodes, and looks anew at those that changed.
    """

    is_steady = True
    is_costly = True

    def __init__(self, problem: Problem, typical: Typical | None = None) -> None:
        typical = Typical.of(problem) if typical is None else typical
        values = DeviceValues.of(typical)
        self.worth, self.need = values.worth, values.cpu_need
        self.per_cpu = MILLI / max(float(self.need[MILLI]), 1.0)
        self.blur = max(float(self.need[MILLI]) * _BLUR, 1.0)
        self._needs: list[float] = self.need.tolist()
        self._state: State | None = None
        self._seen = 0
        self._beyond: Floats = np.zeros(0)
        self._stranded: Floats = np.zeros(0)

    def score(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return the worth that is not lost on each node, in milli-GPU."""
        self._look(state)
        gpus, milli = state.gpus[task], state.milli[task]
        if gpus and milli < MILLI:
            best: Floats = self._by_device(state, task, nodes).max(axis=1, initial=-np.inf)
            return best
        change = gpus * self.need[MILLI] - state.demand[task][CPU]
        saved: Floats = self._stranded[nodes] - self._strands(self._beyond[nodes] + change)
        return saved

    def deal(self, state: State, task: int, node: int) -> int:
        """Return whole devices lowest first; a share goes where it leaves the most of worth."""
        gpus, milli = state.gpus[task], state.milli[task]
        if not gpus:
            return 0
        if milli == MILLI:
            return deal(state.devices[node].tolist(), gpus, milli)
        self._look(state)
        return 1 << int(self._by_device(state, task, np.array([node]))[0].argmax())

    def _look(self, state: State) -> None:
        """Bring what is known of each node up to date: CPU beyond its need, and what it strands."""
        seen = len(state.changed)
        if state is not self._state or seen < self._seen:
            self._state = state
            self._beyond = state.free[CPU] - self.need[state.devices].sum(axis=1)
            self._stranded = self._strands(self._beyond)
        elif seen > self._seen:
            for node in set(state.changed[self._seen :]):
                self._look_at(state, node)
        self._seen = seen

    def _look_at(self, state: State, node: int) -> None:
        """Do the same for one node; for one, Python's numbers are quicker than numpy's."""
        need = self._needs
        beyond = state.free[CPU].item(node) - sum([need[d] for d in state.devices[node].tolist()])
        short = beyond / -self.blur
        blurred = max(short, 0.0) + log1p(exp(-abs(short)))
        self._beyond[node] = beyond
        self._stranded[node] = blurred * (self.blur * self.per_cpu)

    def _strands(self, beyond: Floats) -> Floats:
        """Return what a node loses that has so much CPU (milli) beyond its devices' need."""
        lost: Floats = np.logaddexp(0.0, beyond / -self.blur) * (self.blur * self.per_cpu)
        return lost

    def _by_device(self, state: State, task: int, nodes: Ints) -> Floats:
        """Return the score of each device for a share (nodes × D)."""
        milli = state.milli[task]
        devices = state.devices[nodes]
        rest = devices - milli
        left = np.maximum(rest, 0)
        beyond = (self._beyond[nodes] - state.demand[task][CPU])[:, None]
        beyond = beyond + (self.need[devices] - self.need[left])
        scores: Floats = self._kept_worth(devices, left)
        scores += milli + self._stranded[nodes][:, None] - self._strands(beyond)
        scores[rest < 0] = -np.inf
        return scores

    def _kept_worth(self, devices: Ints, left: Ints) -> Floats:
        kept: Floats = self.worth[left] - self.worth[devices] - _PACKING * devices
        return kept
