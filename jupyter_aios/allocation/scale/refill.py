"""Nodes filled anew, each in several ways at once, of which the best is taken.

Filling a node is a knapsack with six or more dimensions and thousands of candidates, most of them
equally good at the prices: what counts is that nothing is left over. Randomised greedy fillings
side by side, of several nodes and several of each, as rows of arrays, find that quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.problem import Ints
    from jupyter_aios.allocation.scale.room import Room

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]

_NOISE = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""How much of a task's weight is drawn at random in a row's choices, row after row."""
_EXACT = 2**24
"""Amounts below it are exact as 32-bit floats."""


@dataclass(frozen=True, eq=False)
class Filling:
    """What a node could hold: tasks and their devices, and what they bring."""

    value: float
    tasks: list[int]
    bits: list[int]


def best_fillings(
    room: Room,
    nodes: Ints,
    candidates: Ints,
    spare: tuple[Ints, Ints],
    rows: int,
    *,
    rng: np.random.Generator,
) -> list[Filling]:
    """Return for each of B nodes the best of `rows` greedy fillings with its candidates.

    `candidates` is B × C, -1 where a node has fewer; no task may be a candidate of two nodes.
    `spare` are the amounts (B × 3) and the devices (B × D) that a filling may use.
    """
    shape = (len(nodes), rows, candidates.shape[1])
    state = _Rows(room, nodes, candidates, spare, rng.random(shape, np.float32))
    while state.step():
        pass
    best = state.value.argmax(axis=1)
    found = []
    for b, row in enumerate(best.tolist()):
        taken = [
            (int(candidates[b, chosen[b, row]]), int(bits[b, row]))
            for chosen, bits in state.taken
            if chosen[b, row] >= 0
        ]
        value = float(state.value[b, row])
        found.append(Filling(value, [i for i, _ in taken], [bits for _, bits in taken]))
    return found


class _Rows:
    """B × R fillings in the making."""

    def __init__(
        self,
        room: Room,
        nodes: Ints,
        candidates: Ints,
        spare: tuple[Ints, Ints],
        drawn: Singles,
    ) -> None:
        rows = drawn.shape[1]
        free, self.devices = spare[0][:, None], np.repeat(spare[1][:, None], rows, axis=1)
        tasks = room.problem.tasks
        demand = np.moveaxis(tasks.demand[candidates], 2, 0)
        is_exact = max(int(free.max()), int(demand.max())) < _EXACT
        dtype: Any = np.float32 if is_exact else np.float64
        self.demand = demand.astype(dtype)
        self.free = np.repeat(free, rows, axis=1).astype(dtype)
        self.slot = room.task_slot[candidates].astype(np.int16)
        self.gpus, self.milli = tasks.gpus[candidates], tasks.milli[candidates]
        self.net = room.net[candidates]
        foreign = room.foreign[nodes]
        keep = np.flatnonzero(np.isfinite(foreign).any(axis=0))
        self.pay: Singles = np.moveaxis(room.pay[candidates][..., keep], 2, 0).astype(np.float32)
        worth = (room.worth_of(spare[0], spare[1]) + foreign)[:, keep]
        self.worth: Singles = np.repeat(worth[:, None], rows, axis=1).astype(np.float32)
        noise = np.resize(np.array(_NOISE, np.float32), rows)
        self.key = (
            np.abs(self.net).astype(np.float32)[:, None]
            * (noise[:, None] * drawn + np.float32(0.02))
            + self.net.astype(np.float32)[:, None]
        )
        self.is_left = np.repeat((candidates >= 0)[:, None], rows, axis=1)
        self.value = np.zeros((len(nodes), rows))
        self.taken: list[tuple[Ints, Ints]] = []
        self.balance = np.where(np.arange(rows) % 2 == 0, 1.0, 0.2).astype(np.float32)

    def step(self) -> bool:
        """Add to each row the task that its greedy rule likes best; False when none had one."""
        whole = (self.devices >= MILLI).sum(axis=2)
        most = np.maximum(self.devices.max(axis=2, initial=0), 0)
        slot = np.where(whole > 0, MILLI - 1 + whole, most).astype(np.int16)
        fits = self.is_left & (self.slot[:, None] <= slot[:, :, None])
        for column in range(3):
            fits &= self.demand[column][:, None] <= self.free[:, :, column, None]
        if not fits.any():
            return False
        left = self.worth[:, :, 0, None] - self.pay[0][:, None]
        for v in range(1, len(self.pay)):
            np.minimum(left, self.worth[:, :, v, None] - self.pay[v][:, None], out=left)
        least = self.worth.argmin(axis=2)
        own = self.pay[least, np.arange(len(least))[:, None]]
        now = self.worth.min(axis=2)[:, :, None]
        # Not only what is paid counts, but also how it unbalances what is left.
        balance = self.balance[:, None]
        left += own
        left -= now
        left *= balance
        left -= own
        left += self.key
        left[~fits] = -np.inf
        self._take(left.argmax(axis=2), fits)
        return True

    def _take(self, chosen: Ints, fits: NDArray[np.bool_]) -> None:
        """Put the chosen candidates (B × R) where they fit."""
        b, r = np.nonzero(fits.any(axis=2))
        at = chosen[b, r]
        count, milli = self.gpus[b, at], self.milli[b, at]
        devices = self.devices[b, r]
        # A share goes where least is left.
        order = np.where(devices >= np.maximum(milli, 1)[:, None], devices, 2 * MILLI)
        rank = order.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        is_used = rank < count[:, None]
        self.devices[b, r] = devices - np.where(is_used, milli[:, None], 0)
        self.free[b, r] -= self.demand[:, b, at].T
        self.worth[b, r] -= self.pay[:, b, at].T
        self.value[b, r] += self.net[b, at]
        self.is_left[b, r, at] = False
        taken, bits = np.full(chosen.shape, -1), np.zeros(chosen.shape, np.int64)
        taken[b, r] = at
        bits[b, r] = (is_used << np.arange(devices.shape[1])).sum(axis=1)
        self.taken.append((taken, bits))
