"""The contents of one node while they are put together, exactly and in the units of the problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.tables import LEAST
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.columns.kinds import Classes, Types
    from jupyter_aios.allocation.columns.tables import Floats
    from jupyter_aios.allocation.problem import Bools, Ints

Slots = tuple[tuple[int, int], ...]
"""What a node holds: (class, devices as bits), devices numbered by how free they were."""


class Filling:
    """The contents of one node of a type while they are put together."""

    def __init__(self, classes: Classes, types: Types, one: int) -> None:
        self.classes = classes
        self.left = types.free[one].copy()
        self.devices = types.devices[one].copy()
        self.content: list[tuple[int, int]] = []

    @property
    def slots(self) -> Slots:
        """The contents in an order that equal contents share."""
        return tuple(sorted(self.content))

    def put(self, task: int, bits: int, sign: int = 1) -> None:
        """Take a task of a class in (or out, with -1), on these devices."""
        self.left -= sign * self.classes.demand[task]
        milli = sign * int(self.classes.milli[task])
        for rank in range(bits.bit_length()):
            if bits >> rank & 1:
                self.devices[rank] -= milli
        if sign > 0:
            self.content.append((task, bits))
        else:
            self.content.remove((task, bits))

    def drop_surplus(self, supply: Ints) -> set[int]:
        """Drop what there is not enough of; return the classes."""
        most = np.minimum(supply, self.classes.most)
        seen: dict[int, int] = {}
        dropped = set()
        for task, bits in list(self.content):
            seen[task] = seen.get(task, 0) + 1
            if seen[task] > most[task]:
                self.put(task, bits, -1)
                dropped.add(task)
        return dropped

    def drop_excess(self, profit: Floats) -> bool:
        """Drop what pays least for a resource that lacks; return whether one did."""
        demand = self.classes.demand
        lacks = bool((self.left < 0).any())
        while (self.left < 0).any():
            lacking = int(self.left.argmin())
            takes = [(task, bits) for task, bits in self.content if demand[task, lacking] > 0]
            self.put(*min(takes, key=lambda x: profit[x[0]] / demand[x[0], lacking]), -1)
        return lacks

    def fill(self, profit: Floats, supply: Ints, allowed: Bools) -> None:
        """Put in what still fits and pays, the best first."""
        classes = self.classes
        left = np.minimum(supply, classes.most)
        for task, _ in self.content:
            left[task] -= 1
        pays = allowed & (profit > LEAST) & (left > 0)
        while True:
            whole, most = int((self.devices >= MILLI).sum()), int(self.devices.max(initial=-1))
            fits = pays & (left > 0) & (classes.demand <= self.left).all(axis=1)
            fits &= np.where(classes.is_share, classes.milli <= most, classes.gpus <= whole)
            at = np.flatnonzero(fits)
            if not len(at):
                return
            task = int(at[profit[at].argmax()])
            self.put(task, self.devices_for(task))
            left[task] -= 1

    def devices_for(self, task: int) -> int:
        """Return devices that a task which fits gets: the fullest for a share, else the first."""
        if not self.classes.gpus[task]:
            return 0
        if self.classes.is_share[task]:
            fits = np.flatnonzero(self.devices >= self.classes.milli[task])
            return 1 << int(fits[self.devices[fits].argmin()])
        ranks = np.flatnonzero(self.devices >= MILLI)[: int(self.classes.gpus[task])]
        return sum(1 << int(rank) for rank in ranks)


def fits(classes: Classes, types: Types, one: int, slots: Slots) -> bool:
    """Return whether a node of a type can hold these contents."""
    filling = Filling(classes, types, one)
    for task, bits in slots:
        filling.put(task, bits)
    return bool((filling.left >= 0).all()) and not bool(
        (filling.devices < np.minimum(types.devices[one], 0)).any()
    )
