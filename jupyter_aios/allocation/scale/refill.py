"""A node filled anew, in several ways at once, of which the best is taken.

Filling a node is a knapsack with six or more dimensions and thousands of candidates, most of them
equally good at the prices: what counts is that nothing is left over. Randomised greedy fillings
side by side, as rows of arrays, find that quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.problem import Ints
    from jupyter_aios.allocation.scale.room import Room

    Floats = NDArray[np.float64]

_NOISE = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""How much of a task's weight is drawn at random in a row's choices, row after row."""


@dataclass(frozen=True, eq=False)
class Filling:
    """What a node could hold: tasks and their devices, and what they bring."""

    value: float
    tasks: list[int]
    bits: list[int]


def best_filling(
    room: Room,
    j: int,
    candidates: Ints,
    spare: tuple[Ints, Ints],
    rows: int,
    *,
    rng: np.random.Generator,
) -> Filling:
    """Return the best of `rows` greedy fillings of node j's free amounts with candidates.

    `spare` are the amounts (3) and the devices (D) that the filling may use of the node.
    """
    state = _Rows(room, j, candidates, spare, rng.random((rows, len(candidates))))
    while state.step():
        pass
    best = int(state.value.argmax())
    taken = state.taken[best]
    return Filling(
        float(state.value[best]),
        [int(candidates[at]) for at, _ in taken],
        [bits for _, bits in taken],
    )


class _Rows:
    """R fillings in the making."""

    def __init__(
        self,
        room: Room,
        j: int,
        candidates: Ints,
        spare: tuple[Ints, Ints],
        drawn: Floats,
    ) -> None:
        free, devices = spare
        rows = len(drawn)
        tasks = room.problem.tasks
        self.demand = tasks.demand[candidates].T.astype(np.float64)
        self.slot = room.task_slot[candidates]
        self.gpus = tasks.gpus[candidates]
        self.milli = tasks.milli[candidates]
        self.net = room.net[candidates]
        keep = np.isfinite(room.foreign[j])
        self.pay = room.pay[candidates][:, keep].T
        weight = np.abs(self.net)
        noise = np.array([_NOISE[r % len(_NOISE)] for r in range(rows)])
        self.key = weight * (noise[:, None] * drawn + 0.02)
        self.free = np.tile(free.astype(np.float64), (rows, 1))
        self.devices = np.tile(devices, (rows, 1))
        self.worth = np.tile(_worth(room, free, devices)[keep], (rows, 1))
        self.is_left = np.ones((rows, len(candidates)), bool)
        self.value = np.zeros(rows)
        self.taken: list[list[tuple[int, int]]] = [[] for _ in range(rows)]
        self.rows = np.arange(rows)
        self.balance = np.where(self.rows % 2 == 0, 1.0, 0.2)[:, None]

    def step(self) -> bool:
        """Add to each row the task that its greedy rule likes best; False when none had one."""
        devices = self.devices
        whole = (devices >= MILLI).sum(axis=1)
        slot = np.where(whole > 0, MILLI - 1 + whole, np.maximum(devices.max(axis=1, initial=0), 0))
        fits = self.is_left & (self.slot <= slot[:, None])
        for column in range(3):
            fits &= self.demand[column] <= self.free[:, column, None]
        if not fits.any():
            return False
        left = self.worth[:, 0, None] - self.pay[0]
        for v in range(1, len(self.pay)):
            np.minimum(left, self.worth[:, v, None] - self.pay[v], out=left)
        least = self.worth.argmin(axis=1)
        own = self.pay[least]
        now = self.worth.min(axis=1)[:, None]
        key = self.net - own - self.balance * (now - left - own) + self.key
        key[~fits] = -np.inf
        chosen = key.argmax(axis=1)
        for r in np.flatnonzero(key[self.rows, chosen] > -np.inf).tolist():
            self._take(r, int(chosen[r]))
        self.is_left[self.rows, chosen] = False
        return True

    def _take(self, r: int, at: int) -> None:
        bits = 0
        count, milli = int(self.gpus[at]), int(self.milli[at])
        if count:
            row = self.devices[r].tolist()
            fitting = sorted((free, d) for d, free in enumerate(row) if free >= milli)[:count]
            for _, d in fitting:
                bits |= 1 << d
                self.devices[r, d] -= milli
        self.free[r] -= self.demand[:, at]
        self.worth[r] -= self.pay[:, at]
        self.value[r] += self.net[at]
        self.taken[r].append((at, bits))


def _worth(room: Room, free: Ints, devices: Ints) -> Floats:
    worth = room.prices @ np.maximum(free, 0)
    whole = 0
    for milli in devices.tolist():
        if milli >= MILLI:
            whole += 1
        elif milli > 0:
            worth = worth + room.by_milli[:, milli]
    return np.asarray(worth + room.by_whole[:, whole])
