"""Tables of the best fillings of devices and nodes: a two-stage unbounded knapsack in coarse units.

One device is filled with shares first (milli-GPU × CPU); a node is then filled with whole-GPU
tasks, devices that are full of shares, and tasks without GPU. A row at a time is one gather over
tasks × CPU (Gilmore and Gomory 1965 for the recursion).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.allocation.problem import Ints

Floats = NDArray[np.float64]

LEAST = 1e-9
"""Profits up to this are none."""


@dataclass(frozen=True, eq=False)
class Items:
    """Tasks of the programme that no other one dominates, smallest device need first."""

    classes: Ints
    first: Ints
    """Milli units of a share, or whole devices."""
    second: Ints
    """Units of the main resource."""
    profit: Floats

    @classmethod
    def of(cls, classes: Ints, first: Ints, second: Ints, profit: Floats) -> Items:
        """Return the items that are worth considering when each may come any number of times."""
        order = np.lexsort((-profit, second, first))
        classes, profit = classes[order], profit[order]
        first, second = first[order], second[order]
        beats = (
            (first[:, None] <= first)
            & (second[:, None] <= second)
            & (profit[:, None] >= profit - LEAST)
        )
        # Of equal ones the earlier stays.
        alike = beats & beats.T
        beats &= ~alike | np.triu(np.ones_like(alike), 1)
        np.fill_diagonal(beats, val=False)
        stays = ~beats.any(axis=0)
        return cls(classes[stays], first[stays], second[stays], profit[stays])

    def __len__(self) -> int:
        return len(self.classes)


class Tables:
    """The values of all fillings of a device and of a node, for one market and one set of profits.

    `devices[a, b]`: the most that shares pay in a device with `a` milli units free, with at most
    `b` units of the main resource; `nodes[g, b]`: the same for `g` whole devices without the
    tasks that need no GPU; `rest[b]`: those.
    """

    def __init__(
        self, shares: Items, wholes: Items, rest: Items, sizes: tuple[int, int, int]
    ) -> None:
        share_levels, most_devices, levels = sizes
        self.shares, self.wholes, self.rest_items = shares, wholes, rest
        self.pad = levels + 1
        self.width = 2 * self.pad
        self.share_levels = share_levels
        self._columns = np.arange(self.pad)
        self._stages: dict[tuple[int, tuple[int, ...]], list[Floats]] = {}
        self._unpacked: dict[tuple[int, int], list[int]] = {}
        self._devices = self._filled_devices()
        self.device = self._devices[share_levels, self.pad :]
        self.steps = np.flatnonzero(np.diff(self.device, prepend=0.0) > LEAST)
        self._nodes = self._filled_nodes(most_devices)
        self.rest = self._filled_rest()

    def _filled_devices(self) -> Floats:
        table = np.full((self.share_levels + 1, self.width), -np.inf)
        table[0, self.pad :] = 0.0
        items, flat, pad, width = self.shares, table.ravel(), self.pad, self.width
        places = (pad - items.first * width - items.second)[:, None] + self._columns
        profit = items.profit[:, None]
        usable = np.searchsorted(items.first, np.arange(self.share_levels + 1), side="right")
        for level in range(1, self.share_levels + 1):
            row = table[level, pad:]
            row[:] = table[level - 1, pad:]
            if count := usable[level]:
                found = flat.take(places[:count] + level * width)
                found += profit[:count]
                np.maximum(row, found.max(axis=0), out=row)
        return table

    def _filled_nodes(self, most_devices: int) -> Floats:
        table = np.full((most_devices + 1, self.width), -np.inf)
        table[0, self.pad :] = 0.0
        items, flat, pad, width = self.wholes, table.ravel(), self.pad, self.width
        places = (pad - items.first * width - items.second)[:, None] + self._columns
        shared = (pad - width - self.steps)[:, None] + self._columns
        places = np.concatenate([places, shared])
        profit = np.concatenate([items.profit, self.device[self.steps]])[:, None]
        first = np.concatenate([items.first, np.ones(len(self.steps), np.int64)])
        for devices in range(1, most_devices + 1):
            row = table[devices, pad:]
            row[:] = table[devices - 1, pad:]
            fits = first <= devices
            if fits.any():
                found = flat.take(places[fits] + devices * width) + profit[fits]
                np.maximum(row, found.max(axis=0), out=row)
        return table

    def _filled_rest(self) -> Floats:
        value = np.full(self.width, -np.inf)
        value[self.pad :] = 0.0
        items = self.rest_items
        # One item after the other, each as often as it fits: a running maximum over residues.
        for units, profit in zip(items.second.tolist(), items.profit.tolist(), strict=True):
            row = value[self.pad :]
            times = -(-len(row) // units)
            padded = np.full(times * units, -np.inf)
            padded[: len(row)] = row
            lines = padded.reshape(times, units)
            gains = (profit * np.arange(times))[:, None]
            row[:] = (np.maximum.accumulate(lines - gains, axis=0) + gains).ravel()[: len(row)]
        return value

    @property
    def rest_row(self) -> Floats:
        """The values of tasks without GPU by units of the main resource."""
        return self.rest[self.pad :]

    def stages(self, whole: int, partial: tuple[int, ...]) -> list[Floats]:
        """Return the values after the whole devices, then after each partly free one."""
        known = self._stages.get((whole, partial))
        if known is not None:
            return known
        stages = [self.node_row(whole)]
        for levels in partial:
            row, before = self.device_row(levels), stages[-1]
            value = before.copy()
            for step in np.flatnonzero(np.diff(row, prepend=0.0) > LEAST).tolist():
                np.maximum(value[step:], before[: len(before) - step] + row[step], out=value[step:])
            stages.append(value)
        self._stages[whole, partial] = stages
        return stages

    def node_row(self, whole: int) -> Floats:
        """Return the values of `whole` free devices by units of the main resource."""
        return self._nodes[whole, self.pad :]

    def device_row(self, levels: int) -> Floats:
        """Return the values of one device with so many milli units free."""
        return self._devices[levels, self.pad :]

    def unpack_rest(self, units: int) -> list[int]:
        """Return the tasks without GPU that reach `rest[units]`."""
        items, found = self.rest_items, []
        while units > 0 and self.rest[self.pad + units] > LEAST:
            values = self.rest[self.pad + units - items.second] + items.profit
            best = int(values.argmax()) if len(values) else 0
            if len(values) and values[best] > self.rest[self.pad + units] - 1e-7 * (
                1 + abs(values[best])
            ):
                found.append(int(items.classes[best]))
                units -= int(items.second[best])
            else:
                units -= 1
        return found

    def unpack_device(self, levels: int, units: int) -> list[int]:
        """Return the shares that reach the device table's value."""
        known = self._unpacked.get((levels, units))
        if known is None:
            known = self._unpacked[levels, units] = self._unpack_device(levels, units)
        return known

    def _unpack_device(self, levels: int, units: int) -> list[int]:
        items, flat, found = self.shares, self._devices.ravel(), []
        while levels > 0 and len(items):
            at = levels * self.width + self.pad + units
            if flat[at] <= LEAST:
                break
            count = int(np.searchsorted(items.first, levels, side="right"))
            if not count:
                break
            places = at - items.first[:count] * self.width - items.second[:count]
            values = flat[places] + items.profit[:count]
            best = int(values.argmax())
            if values[best] > flat[at] - 1e-7 * (1 + abs(flat[at])):
                found.append(int(items.classes[best]))
                levels -= int(items.first[best])
                units -= int(items.second[best])
            else:
                levels -= 1
        return found

    def unpack_node(self, whole: int, units: int) -> tuple[list[int], list[list[int]]]:
        """Return the whole-GPU tasks, and the shares of each device, of a node table's value."""
        items, flat = self.wholes, self._nodes.ravel()
        tasks: list[int] = []
        filled: list[list[int]] = []
        while whole > 0:
            at = whole * self.width + self.pad + units
            if flat[at] <= LEAST:
                break
            slack = 1e-7 * (1 + abs(flat[at]))
            count = int(np.searchsorted(items.first, whole, side="right"))
            values = (
                flat[at - items.first[:count] * self.width - items.second[:count]]
                + items.profit[:count]
            )
            best = int(values.argmax()) if count else -1
            shared = flat[at - self.width - self.steps] + self.device[self.steps]
            most = int(shared.argmax()) if len(shared) else -1
            if count and values[best] > flat[at] - slack:
                tasks.append(int(items.classes[best]))
                whole -= int(items.first[best])
                units -= int(items.second[best])
            elif len(shared) and shared[most] > flat[at] - slack:
                filled.append(self.unpack_device(self.share_levels, int(self.steps[most])))
                units -= int(self.steps[most])
                whole -= 1
            else:
                whole -= 1
        return tasks, filled
