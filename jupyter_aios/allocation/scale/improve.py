"""Better and better until time is over: nodes filled anew, one by one, together, and exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.scale.exchange import exchange
from jupyter_aios.allocation.scale.refill import best_fillings
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Bools, Ints
    from jupyter_aios.allocation.scale.refill import Filling
    from jupyter_aios.allocation.scale.units import Units

_CANDIDATES, _ROWS = 300, 8
"""Tasks that are offered to a node, and the ways in which it is filled with them."""
_GUIDED, _IDLE = 2, 6
"""Passes that follow the prices, and how many without a gain end the search."""
_TRIES = 3000
"""Nodes filled anew without a gain that end the search, however few nodes there are."""
_TOGETHER = 16
"""Nodes that are filled anew side by side."""
_REFRESH = 200
"""Nodes that are filled anew before the list of tasks without a place is made again."""
_EXCHANGES = 4
"""Exchanges of one task on every node, after each pass."""
_LITTLE = 3e-4
"""The part of the value by which both have to raise it, or nodes are emptied together too."""
_RUIN = 4
"""Nodes that are emptied together."""
_EVEN = 100.0
"""What a node without any loss counts when such nodes are drawn."""


class Improver:
    """Improves a placement of tasks; only those of `is_free` (n) are moved."""

    def __init__(
        self, units: Units, is_free: Bools, effort: Effort, rng: np.random.Generator
    ) -> None:
        self.units, self.room, self.effort, self.rng = units, units.room, effort, rng
        self.tasks = self.room.problem.tasks
        self.is_free = is_free
        self.vector_at_first: Ints = self.room.worth.argmin(axis=1)

    def run(self) -> None:
        """Fill nodes anew, those with the largest loss first, until time is over."""
        room = self.room
        passes, tolerance = 0, 0.1
        idle = 0
        # A pass over few nodes says little.
        most = max(_IDLE, _TRIES // max(len(room.worth), 1))
        while not self.effort.is_over() and idle < most:
            if passes == _GUIDED:
                # From here on only what counts in the end does.
                room.net = room.weight.astype(np.float64)
                tolerance = 10.0
            before = room.value()
            tried = self.fill_anew(tolerance)
            if passes >= _GUIDED:
                for _ in range(_EXCHANGES):
                    exchange(
                        self.units,
                        self.room.unplaced(self.is_free),
                        self.is_free,
                        self.rng,
                        self.effort,
                    )
                # Slower than the others; for when they find little.
                if room.value() - before <= _LITTLE * before:
                    tried += self._ruins(tried)
            idle = idle + 1 if room.value() <= before or not tried else 0
            passes += 1
            tolerance = min(tolerance * 3, 10.0)

    def fill_anew(self, tolerance: float) -> int:
        """Fill each node anew, those with the largest loss first; return how many were tried.

        `tolerance` is the part of its weight that a task may be worth less than what it would pay.
        """
        room = self.room
        loss = room.worth.min(axis=1)
        order = np.argsort(-loss, kind="stable")
        order = order[loss[order] > 0]
        # Nodes that are filled at a time share no candidate; each needs enough.
        together = max(min(_TOGETHER, len(order) // 8), 1)
        pools: dict[int, Ints] = {}
        left = self.room.unplaced(self.is_free)
        for count in range(0, len(order), together):
            if self.effort.is_over():
                return count
            if count % _REFRESH < together:
                left, pools = self.room.unplaced(self.is_free), {}
            batch = order[count : count + together]
            for v in np.unique(self.vector_at_first[batch]).tolist():
                if v not in pools:
                    short = tolerance * room.weight[left]
                    good = left[room.net[left] + short >= room.pay[left, v]]
                    pools[v] = self.rng.permutation(good)
                self._refill(batch[self.vector_at_first[batch] == v], pools[v])
        return len(order)

    def _refill(self, nodes: Ints, pool: Ints) -> None:
        """Fill nodes anew where that is worth more, each from a part of the pool of its own."""
        room, tasks = self.room, self.tasks
        mine = [[i for i in room.content[j] if self.is_free[i]] for j in nodes.tolist()]
        free, devices = room.free[nodes], room.devices[nodes]
        for b, some in enumerate(mine):
            for i in some:
                free[b] += tasks.demand[i]
                for d in range(devices.shape[1]):
                    if room.bits[i] >> d & 1:
                        devices[b, d] += tasks.milli[i]
        candidates = self._offer(nodes, mine, pool, free, devices)
        if candidates is None:
            return
        found = best_fillings(room, nodes, candidates, (free, devices), _ROWS, rng=self.rng)
        for j, old, filling in zip(nodes.tolist(), mine, found, strict=True):
            before = float(room.net[old].sum())
            if filling.value > before * (1 + 1e-9) + 1e-9:
                self._exchange(j, old, filling, before)

    def _offer(
        self, nodes: Ints, mine: list[list[int]], pool: Ints, free: Ints, devices: Ints
    ) -> Ints | None:
        """Return candidates (B × C, -1 for none): a node's own and some of the pool that fit."""
        room, tasks = self.room, self.tasks
        size = min(len(pool) // len(nodes), 4 * _CANDIDATES)
        if not size:
            return None
        start = int(self.rng.integers(len(pool)))
        some = pool[(start + np.arange(size * len(nodes))) % len(pool)].reshape(len(nodes), size)
        whole = (devices >= MILLI).sum(axis=1)
        slot = np.where(whole > 0, MILLI - 1 + whole, np.maximum(devices.max(axis=1, initial=0), 0))
        fits = (room.assignment[some] < 0) & (room.task_slot[some] <= slot[:, None])
        for column in range(3):
            fits &= tasks.demand[:, column][some] <= free[:, column, None]
        fits &= room.problem.zones[tasks.zone[some], nodes[:, None]]
        place: Ints = np.cumsum(fits, axis=1) - 1
        fits &= place < _CANDIDATES
        counts = np.array([len(old) for old in mine])
        width = int((counts + fits.sum(axis=1)).max())
        if not fits.any():
            return None
        candidates = np.full((len(nodes), width), -1, np.int64)
        for row, old in enumerate(mine):
            candidates[row, : len(old)] = old
        b, at = np.nonzero(fits)
        candidates[b, counts[b] + place[b, at]] = some[b, at]
        return candidates

    def _ruins(self, count: int) -> int:
        """Empty a few nodes at a time and fill them anew together; return how often.

        What one node could use better lies on another one: filled one by one, neither changes.
        """
        room = self.room
        left, loss = self.room.unplaced(self.is_free), room.worth.min(axis=1) + _EVEN
        times = count // _RUIN + 1
        for number in range(times):
            if self.effort.is_over():
                return number
            if number % (_REFRESH // _RUIN) == 0:
                left = self.room.unplaced(self.is_free)
            if number % _RUIN == 0:
                loss = room.worth.min(axis=1) + _EVEN
            first = int(self.rng.choice(len(loss), p=loss / loss.sum()))
            others = self.rng.integers(len(loss), size=_RUIN - 1).tolist()
            self._ruin(list(dict.fromkeys([first, *others])), left)
        return times

    def _ruin(self, nodes: list[int], pool: Ints) -> bool:
        """Empty some nodes, fill them in that order, and keep it if it is not worse."""
        room, units, tasks = self.room, self.units, self.tasks
        old = [(i, j) for j in nodes for i in room.content[j] if self.is_free[i]]
        before = sum(int(room.weight[i]) for i, _ in old)
        held = [(i, j, units.remove(i)[1]) for i, j in old]
        removed = np.array([i for i, _ in old], np.int64)
        placed: list[int] = []
        for j in nodes:
            free, devices = room.free[j].copy(), room.devices[j].copy()
            some = self._candidates(j, pool, free, devices)
            again = removed[room.assignment[removed] < 0]
            fits = (room.task_slot[again] <= room.slot[j]) & (tasks.demand[again] <= free).all(
                axis=1
            )
            fits &= room.problem.zones[:, j][tasks.zone[again]]
            both = np.unique(np.concatenate([again[fits], some]))
            if not len(both):
                continue
            found = best_fillings(
                room, np.array([j]), both[None], (free[None], devices[None]), _ROWS, rng=self.rng
            )[0]
            for i, bits in zip(found.tasks, found.bits, strict=True):
                if room.has_quota(i):
                    units.place_at(i, j, bits)
                    placed.append(i)
        if sum(int(room.weight[i]) for i in placed) >= before:
            return True
        for i in placed:
            units.remove(i)
        for i, j, bits in held:
            units.place_at(i, j, bits)
        return False

    def _candidates(self, j: int, pool: Ints, free: Ints, devices: Ints) -> Ints:
        room, tasks = self.room, self.tasks
        if len(pool) > 4 * _CANDIDATES:
            start = int(self.rng.integers(len(pool)))
            step = int(self.rng.integers(1, len(pool) // (4 * _CANDIDATES) + 1))
            pool = pool[np.unique((start + step * np.arange(4 * _CANDIDATES)) % len(pool))]
        whole = int((devices >= MILLI).sum())
        slot = MILLI - 1 + whole if whole else max(int(devices.max(initial=0)), 0)
        fits = (room.assignment[pool] < 0) & (room.task_slot[pool] <= slot)
        fits &= (tasks.demand[pool] <= free).all(axis=1)
        fits &= room.problem.zones[:, j][tasks.zone[pool]]
        found: Ints = pool[fits]
        if len(found) > _CANDIDATES:
            found = self.rng.choice(found, _CANDIDATES, replace=False)
        return found

    def _exchange(self, j: int, mine: list[int], found: Filling, before: float) -> bool:
        """Put a filling in the place of node j's tasks; back to before where quotas forbid it."""
        room, units = self.room, self.units
        old = [(i, units.remove(i)[1]) for i in mine]
        placed = []
        for i, bits in zip(found.tasks, found.bits, strict=True):
            if room.has_quota(i):
                units.place_at(i, j, bits)
                placed.append(i)
        if float(room.net[placed].sum()) > before:
            return True
        for i in placed:
            units.remove(i)
        for i, bits in old:
            units.place_at(i, j, bits)
        return False
