"""What each level is, as a sum of the model's variables.

`fragmentation` is a table look-up per device and node (`greedy.fragmentation`); it becomes elements
of constant arrays, which is exact and pays only where the arrays are small.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.greedy.fragmentation import Tables, Typical
from jupyter_aios.allocation.levels import OBJECTIVES
from jupyter_aios.allocation.objectives import PPM
from jupyter_aios.allocation.problem import CPU
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.exact.model import Model
    from jupyter_aios.allocation.problem import Ints

_MOST_LOOKUPS = 60_000
"""Entries of all arrays of `fragmentation` together, above which the level is left as it comes."""
_FRAGMENTATION_EFFORT = 0.5
"""Its proof takes hours where its improvement is worth a moment."""


@dataclass(frozen=True, eq=False)
class Goal:
    """One level: `total` is best where the level is, and `total / parts`, rounded, is its value."""

    name: str
    total: Any
    """An expression of CP-SAT."""
    parts: int = 1
    trivial: int | None = None
    """A bound that needs no search."""

    effort: float = float("inf")
    """CP-SAT's deterministic time, about seconds, after which the level is good enough."""

    def rounded(self, total: int) -> int:
        """Return the level's value."""
        return round(total / self.parts)

    def bound(self, total: int) -> int:
        """Return what is proven of the value by a bound on the sum."""
        value = self.rounded(total)
        if self.trivial is None:
            return value
        nearer = min if OBJECTIVES[self.name].is_maximised else max
        return nearer(value, self.trivial)

    def keep(self, model: Any, best: int) -> None:  # noqa: ANN401 - a model of CP-SAT
        """Let the level be no worse from now on."""
        if OBJECTIVES[self.name].is_maximised:
            model.add(self.total >= best)
            return
        most = best
        if self.parts > 1:
            # Any sum that rounds to the same value is as good.
            value = self.rounded(best)
            most = value * self.parts + self.parts // 2
            while self.rounded(most) > value:
                most -= 1
        model.add(self.total <= max(most, best))


def goal_of(model: Model, name: str) -> Goal | None:
    """Return a level; None where it is too large to be one."""
    if name == "moves":
        return Goal(name, sum(1 - var for var in model.stays.values()) + model.zero, trivial=0)
    if name == "balance":
        return Goal(name, _highest_load(model), trivial=0)
    if name == "fragmentation":
        return _fragmentation(model)
    worth = [int(model.weight[unit.task]) for unit in model.units]
    most = [min(len(unit.members), model.most(u)) for u, unit in enumerate(model.units)]
    total = sum(one * placed for one, placed in zip(worth, model.placed_count, strict=True))
    trivial = sum(one * count for one, count in zip(worth, most, strict=True))
    return Goal(name, total + model.zero, trivial=trivial)


def _highest_load(model: Model) -> Any:  # noqa: ANN401
    """Return a variable that is at least every node's load, in ppm."""
    tasks, nodes = model.problem.tasks, model.problem.nodes
    load = model.model.new_int_var(0, 2 * PPM, "")
    gpu: defaultdict[int, list[Any]] = defaultdict(list)
    for j, on in model.on_node.items():
        gpu[j] = [int(tasks.gpu_milli[i]) * var for i, var in on if tasks.gpus[i]]
    for j in range(len(nodes)):
        for column in range(3):
            used, unit = model.used[j, column]
            capacity = int(nodes.capacity[j, column])
            held = capacity - int(nodes.free[j, column])
            common = gcd(unit, capacity, held)
            if capacity:
                inside = used * (unit // common) + held // common
                model.model.add(load * (capacity // common) >= PPM * inside)
        whole = int(nodes.device_count[j]) * MILLI
        if whole:
            taken = whole - int(nodes.devices[j][nodes.devices[j] > 0].sum())
            model.model.add(load * whole >= PPM * (sum(gpu[j]) + taken))
    return load


# ------------------------------------------------------------------------ fragmentation


def _fragmentation(model: Model) -> Goal | None:
    """Return Σ free - usable over all nodes, times the number of typical tasks."""
    problem = model.problem
    typical = Typical.of(problem)
    if not len(typical.counts) or not problem.nodes.devices.shape[1]:
        return Goal("fragmentation", model.zero, trivial=0)
    tables = Tables.of(typical, problem.nodes.devices.shape[1])
    step = _grain(model)
    entries = int(problem.nodes.device_count.sum()) * len(tables.shares) * (MILLI // step + 1)
    if entries > _MOST_LOOKUPS:
        return None
    total: Any = model.zero
    for j in np.flatnonzero(problem.nodes.device_count).tolist():
        total += _of_node(model, tables, j, step)
    return Goal("fragmentation", total, tables.total, trivial=0, effort=_FRAGMENTATION_EFFORT)


def _grain(model: Model) -> int:
    """Return what divides all that a device may have free."""
    tasks, nodes = model.problem.tasks, model.problem.nodes
    amounts = np.concatenate([tasks.milli, nodes.devices[nodes.devices >= 0], [MILLI]])
    return int(np.gcd.reduce(amounts))


def _of_node(model: Model, tables: Tables, j: int, step: int) -> Any:  # noqa: ANN401
    """Return one node's measure, as `Tables.measure` has it."""
    cp, nodes = model.model, model.problem.nodes
    level = _level(model, tables, j)
    devices = np.flatnonzero(nodes.devices[j] >= 0).tolist()
    grains = MILLI // step
    total: Any = 0
    wholes = []
    for d in devices:
        free = cp.new_int_var(0, grains, "")
        given = sum(model.given[j, d]) if (j, d) in model.given else 0
        cp.add(free * step + given == int(nodes.devices[j, d]))
        shares = _looked_up(model, tables.shares[:, ::step], level, free)
        is_whole = cp.new_bool_var("")
        cp.add(free == grains).only_enforce_if(is_whole)
        cp.add(free <= grains - 1).only_enforce_if(~is_whole)
        wholes.append(is_whole)
        total += free * (step * tables.total) - shares
    count = cp.new_int_var(0, len(devices), "")
    cp.add(count == sum(wholes))
    return total - _looked_up(model, tables.wholes[:, : len(devices) + 1], level, count)


def _level(model: Model, tables: Tables, j: int) -> Any:  # noqa: ANN401
    """Return how many of the typical CPUs the node can still give: a variable."""
    cp = model.model
    used, unit = model.used[j, CPU]
    free = int(model.problem.nodes.free[j, CPU])
    reached = []
    for asked in tables.levels.tolist():
        if asked > free:
            break
        is_there = cp.new_bool_var("")
        cp.add(used * unit <= free - asked).only_enforce_if(is_there)
        cp.add(used * unit >= free - asked + 1).only_enforce_if(~is_there)
        reached.append(is_there)
    level = cp.new_int_var(0, len(reached), "")
    cp.add(level == sum(reached))
    return level


def _looked_up(model: Model, table: Ints, row: Any, column: Any) -> Any:  # noqa: ANN401
    """Return `table[row, column]`: a variable."""
    cp = model.model
    entries = table.reshape(-1).tolist()
    found = cp.new_int_var(0, max(entries), "")
    cp.add_element(row * table.shape[1] + column, entries, found)
    return found
