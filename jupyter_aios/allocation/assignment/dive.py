"""Diving: fix the columns that the programme likes best, re-price the rest, repeat.

The last few nodes are solved exactly, all at once: there, what is left over of a dive no longer
fits, and most of the loss of plain diving arises (measured: 0.5 % instead of 0.1 %).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jupyter_aios.allocation.assignment.columns import (
    DIVE_CLOSE,
    Column,
    Master,
    Root,
    columns_of,
    converge,
)
from jupyter_aios.allocation.assignment.knapsacks import Knapsacks
from jupyter_aios.allocation.assignment.lagrange import ascend
from jupyter_aios.allocation.assignment.problem import Flags, Instance, Ints
from jupyter_aios.allocation.assignment.windows import solve_window
from jupyter_aios.allocation.effort import Effort

SURE = 0.6
"""A share from which a column is fixed together with the best one."""
LATE_SURE = 0.3
"""The same where a dive needs more than its time."""
MOST_AT_ONCE = 0.3
"""Share of the open nodes that one step may fix."""
FEW = 1e-6
ROUNDS = 60
NO_CUTOFF = 2.0**60
HOPE = 0.5
"""The programme is over candidate pairs and not quite converged: what that may be worth."""
DEEP = 12
"""Tasks per node from which an ascent before the programme saves more time than it takes."""
STEPS = 40
END_EFFORT = 0.5
TIME_SHARE = 0.7
"""Of the time that is left, what a dive may take before it hurries."""


@dataclass
class Dive:
    """A dive under way: what is fixed, and what is left open."""

    instance: Instance
    candidates: Flags
    rng: np.random.Generator
    limit: Effort
    last: int
    """Nodes that are left for the exact end."""
    noise: float
    """Added to shares at random, so that dives differ."""
    worst_loss: float
    """Columns that lose more at the current prices are forgotten between steps."""
    cutoff: float
    """A dive that cannot become cheaper is given up."""

    def __post_init__(self) -> None:
        """Begin with everything open."""
        self.assignment = np.full(self.instance.tasks, -1, np.int64)
        self.tasks = np.arange(self.instance.tasks)
        self.nodes = np.arange(self.instance.nodes)
        self.hurry = self.limit.share(TIME_SHARE)
        self.time_s = max(self.hurry.left_s(), 1e-3)

    def run(self, root: Root) -> Ints | None:
        """Return an assignment (tasks; -1 is nowhere); None: no time, or hopeless."""
        step: Root | None = root
        while step is not None and len(self.nodes) > self.last and len(self.tasks):
            fixed = self._preferred(step)
            if not fixed:
                break
            for column in fixed:
                self.assignment[self.tasks[column.tasks]] = self.nodes[column.node]
            step = self._narrow(step, fixed)
        if step is None or self.limit.is_over():
            return None
        return self._end()

    def _narrow(self, step: Root, fixed: list[Column]) -> Root | None:
        """Return the programme over what is still open; None: no time, or hopeless."""
        open_tasks = self.assignment[self.tasks] < 0
        open_nodes = np.ones(len(self.nodes), bool)
        open_nodes[[column.node for column in fixed]] = False
        kept = _project(step, open_tasks, open_nodes, self.worst_loss)
        self.tasks, self.nodes = self.tasks[open_tasks], self.nodes[open_nodes]
        if not len(self.tasks) or not len(self.nodes):
            return step
        part = self.instance.part(self.tasks, self.nodes)
        inside = Knapsacks(part, self.candidates[np.ix_(self.tasks, self.nodes)])
        prices, bound = step.prices[open_tasks], -np.inf
        master = Master(part, self.limit)
        master.add(kept)
        if part.tasks > DEEP * part.nodes:
            ascent = ascend(inside, prices, -np.inf, steps=STEPS, limit=self.limit, kept=STEPS)
            prices, bound = ascent.prices, ascent.value
            for chosen in ascent.choices:
                master.add(columns_of(chosen))
        mix = master.solve()
        if mix is None:
            return None
        rest = converge(Root(master, mix, prices), inside, bound, rounds=ROUNDS, close=DIVE_CLOSE)
        if rest is None:
            return None
        cost = self._fixed_cost() + rest.mix.value
        return rest if cost <= self.cutoff - 1 + HOPE else None

    def _fixed_cost(self) -> int:
        done = np.flatnonzero(self.assignment >= 0)
        return int(self.instance.costs[done, self.assignment[done]].sum())

    def _end(self) -> Ints | None:
        """Deal what is left exactly."""
        tasks, nodes = self.tasks, self.nodes
        if not len(tasks) or not len(nodes):
            return self.assignment
        ending = self.instance.part(tasks, nodes)
        found = solve_window(
            ending,
            ending.fits,
            limit=self.limit,
            effort=END_EFFORT,
            below=None if self.cutoff >= NO_CUTOFF else int(self.cutoff) - self._fixed_cost(),
        )
        if found.assignment is None:
            return None
        self.assignment[tasks] = np.where(found.assignment >= 0, nodes[found.assignment], -1)
        return self.assignment

    def _preferred(self, step: Root) -> list[Column]:
        """Return the columns to fix: the one with the largest share, and sure ones beside it."""
        shares, nodes = step.mix.shares, len(self.nodes)
        used = np.flatnonzero(shares > FEW)
        wanted = shares[used] + self.noise * self.rng.random(len(used))
        sure = LATE_SURE if self._is_late() else SURE
        most = min(max(1, round(MOST_AT_ONCE * nodes)), nodes - self.last)
        fixed: list[Column] = []
        taken_tasks: set[int] = set()
        taken_nodes: set[int] = set()
        for at in used[np.argsort(-wanted, kind="stable")]:
            column = step.master.columns[at]
            if fixed and (
                shares[at] < sure
                or column.node in taken_nodes
                or not taken_tasks.isdisjoint(column.tasks.tolist())
            ):
                continue
            fixed.append(column)
            taken_nodes.add(column.node)
            taken_tasks.update(column.tasks.tolist())
            if len(fixed) == most:
                break
        return fixed

    def _is_late(self) -> bool:
        """Whether more of the time is gone than of the nodes."""
        return self.hurry.left_s() / self.time_s < len(self.nodes) / self.instance.nodes - 0.1


def _project(step: Root, open_tasks: Flags, open_nodes: Flags, worst_loss: float) -> list[Column]:
    """Return what is left of the good columns on the open nodes, in the part's own numbering."""
    costs, mix = step.master.instance.costs, step.mix
    to_task, to_node = np.cumsum(open_tasks) - 1, np.cumsum(open_nodes) - 1
    kept = []
    for column in step.master.columns:
        if not open_nodes[column.node]:
            continue
        gained = mix.task_prices[column.tasks].sum() + mix.node_prices[column.node]
        if costs[column.tasks, column.node].sum() - gained < worst_loss:
            left = column.tasks[open_tasks[column.tasks]]
            kept.append(Column(int(to_node[column.node]), to_task[left]))
    return kept
