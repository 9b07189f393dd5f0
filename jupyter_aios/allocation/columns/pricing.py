"""The best contents of whole nodes at given prices: the pricing of the column generation.

One set of tables serves every type of a market, whatever its size. The tables count in coarse
units, demands rounded up; memory and disk enter by a price on them and by dropping what does not
fit, and what was rounded away is filled again at the end. So contents are always feasible, and
nearly but not always the best: the prices prove nothing (the certificate does).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.columns.filling import Filling, Slots
from jupyter_aios.allocation.columns.tables import LEAST, Floats, Items, Tables
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.columns.kinds import Classes, Types
    from jupyter_aios.allocation.problem import Bools, Ints


def share_unit(milli: Ints) -> int:
    """Return thousandths of a GPU to count shares in: exact where that takes few levels.

    Otherwise the unit by which rounding up loses least, summed over the shares.
    """
    values = np.unique(milli)
    exact = int(np.gcd.reduce(np.append(values, MILLI)))
    if MILLI // exact <= 200:  # noqa: PLR2004 - rows of a table: more take too long
        return exact
    units = np.array([5, 6, 7, 8, 10])
    up = -(-values[:, None] // units) / (MILLI // units)
    return int(units[np.argmin((up - values[:, None] / MILLI).sum(axis=0))])


def main_unit(classes: Classes, types: Types, axis: int, levels: int) -> int:
    """Return the amount to count the main resource in, at most `levels` times on any node.

    Of the amounts up to twice the least possible, the one that loses least when demands are rounded
    up and nodes down.
    """
    least = max(1, -(-int(types.free[:, axis].max(initial=0)) // levels))
    units = np.unique(np.linspace(least, 2 * least, 401).astype(np.int64))
    demand, free = classes.demand[:, axis, None], types.free[:, axis, None]
    count, nodes = classes.count.astype(float), types.count.astype(float)
    needs = count @ (-(-demand // units) * units)
    has = nodes @ (free // units * units)
    return int(units[(needs / np.maximum(has, 1.0)).argmin()])


class Pricer:
    """Contents of nodes that are worth more than the node's own price."""

    def __init__(
        self, classes: Classes, types: Types, axis: int, levels: int, *, is_careful: bool = True
    ) -> None:
        self.classes, self.types, self.axis = classes, types, axis
        self.is_careful = is_careful
        """Fill again what there were not enough tasks for, with tables instead of greedily."""
        self.unit = main_unit(classes, types, axis, levels)
        self.levels = int(types.free[:, axis].max(initial=0)) // self.unit
        self.share_unit = share_unit(classes.milli[classes.is_share])
        self.share_levels = MILLI // self.share_unit
        self.units = -(-classes.demand[:, axis] // self.unit)
        self.milli_units = -(-classes.milli // self.share_unit)
        self.whole = (types.devices >= MILLI).sum(axis=1)

    @cached_property
    def price_scale(self) -> Floats:
        """The largest free amount of each resource."""
        scale: Floats = np.maximum(self.types.free.max(axis=0, initial=0), 1).astype(np.float64)
        return scale

    def best(
        self, market: int, profit: Floats, supply: Ints, extra: Floats, which: Ints
    ) -> list[tuple[Slots, bool]]:
        """Return good contents for each of some types (`which`) of one market.

        And whether they would have been better, had there been more of the other resources.

        `profit` (C) is what a task pays beyond its price, `supply` (C) how many there are,
        `extra` (3) a price on CPU, memory and disk for the search alone.
        """
        fillings = [Filling(self.classes, self.types, one) for one in which.tolist()]
        tables = self._tables(market, profit, supply, extra)
        scarce: set[int] = set()
        again = []
        for filling in fillings:
            self._pack(tables, filling)
            if too_few := filling.drop_surplus(supply):
                scarce |= too_few
                again.append(filling)
        if again and self.is_careful:
            # Tables know no supply: what there was not enough of is replaced by something else.
            enough = supply.copy()
            enough[list(scarce)] = 0
            tables = self._tables(market, profit, enough, extra)
            for filling in again:
                self._pack(tables, filling)
                filling.drop_surplus(supply)
        lacks = [filling.drop_excess(profit) for filling in fillings]
        for filling in fillings:
            filling.fill(profit, supply, self.types.allowed[market])
        return [(filling.slots, lack) for filling, lack in zip(fillings, lacks, strict=True)]

    def _tables(self, market: int, profit: Floats, supply: Ints, extra: Floats) -> Tables:
        classes = self.classes
        paid = profit - classes.demand @ extra
        wanted = (paid > LEAST) & (supply > 0) & self.types.allowed[market]
        wanted &= self.units <= self.levels
        is_share, has_gpu = classes.is_share, classes.gpus > 0
        here = self.types.market == market
        devices = int(self.whole[here].max(initial=0))

        def chosen(of: Bools, first: Ints, least: int = 0) -> Items:
            at = np.flatnonzero(of & wanted)
            return Items.of(at, first[at], np.maximum(self.units[at], least), paid[at])

        return Tables(
            chosen(is_share, self.milli_units),
            chosen(has_gpu & ~is_share, classes.gpus),
            chosen(~has_gpu, np.zeros_like(classes.gpus), 1),
            (self.share_levels, devices, self.levels),
        )

    def _pack(self, tables: Tables, filling: Filling) -> None:
        """Add to a node what the tables say is best for what it has left."""
        units = max(int(filling.left[self.axis]), 0) // self.unit
        wholes = np.flatnonzero(filling.devices >= MILLI).tolist()
        partial = np.flatnonzero((filling.devices > 0) & (filling.devices < MILLI)).tolist()
        levels = tuple(int(filling.devices[rank]) // self.share_unit for rank in partial)
        stages = tables.stages(len(wholes), levels)
        upto = stages[-1][: units + 1] + tables.rest_row[: units + 1][::-1]
        used = int(upto.argmax())
        content = [(task, 0) for task in tables.unpack_rest(units - used)]
        for number in range(len(partial) - 1, -1, -1):
            row = tables.device_row(levels[number])
            before = stages[number][: used + 1] + row[: used + 1][::-1]
            kept = int(before.argmax())
            bit = 1 << partial[number]
            content += [(task, bit) for task in tables.unpack_device(levels[number], used - kept)]
            used = kept
        tasks, filled = tables.unpack_node(len(wholes), used)
        for task in tasks:
            count = int(self.classes.gpus[task])
            content.append((task, sum(1 << rank for rank in wholes[:count])))
            wholes = wholes[count:]
        for rank, shares in zip(wholes, filled, strict=False):
            content += [(task, 1 << rank) for task in shares]
        for task, bits in content:
            filling.put(task, bits)
