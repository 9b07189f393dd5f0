"""Column generation: the linear programme over whole-node choices, whose bound is the Lagrangian's.

A column is a set of tasks that fits on a node (Savelsbergh 1997, "A branch-and-price algorithm for
the generalized assignment problem"). Its solutions are what diving rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.assignment.knapsacks import Knapsacks
from jupyter_aios.allocation.assignment.lagrange import ascend
from jupyter_aios.allocation.assignment.problem import Flags, Floats, Instance, Ints
from jupyter_aios.allocation.highs import quiet_highs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.allocation.assignment.relaxation import Relaxation
    from jupyter_aios.allocation.effort import Effort

PRIMAL = 4
"""HiGHS's number of the primal simplex: new columns leave the old basis feasible for it. It was 2
to 4 times as fast here as the dual simplex, which is the default."""
FIRST_STEPS = 100
ROOT_CLOSE = 4e-7
"""Distance of programme and bound, as a share, that ends the generation at the root."""
DIVE_CLOSE = 1e-5
"""The same within a dive: looser, since the next step of the dive forgets most of it."""


@dataclass(frozen=True, eq=False)
class Column:
    """Tasks that fit on one node together."""

    node: int
    tasks: Ints


class Master:
    """The programme over the columns known so far; every task may also stay out, at a price."""

    def __init__(self, instance: Instance, limit: Effort) -> None:
        import highspy

        self.instance, self.limit = instance, limit
        self.columns: list[Column] = []
        self._known: set[tuple[int, bytes]] = set()
        self._solver = solver = quiet_highs()
        solver.setOptionValue("presolve", "off")
        solver.setOptionValue("simplex_strategy", PRIMAL)
        tasks, nodes = instance.tasks, instance.nodes
        program = highspy.HighsLp()
        program.num_col_, program.num_row_ = tasks, tasks + nodes
        program.col_cost_ = np.full(tasks, 3.0 * (float(instance.costs.max()) + 1.0))
        program.col_lower_, program.col_upper_ = np.zeros(tasks), np.full(tasks, np.inf)
        # At least once: a task too many can be left away, and prices of one sign oscillate less.
        program.row_lower_ = np.concatenate([np.ones(tasks), np.full(nodes, -np.inf)])
        program.row_upper_ = np.concatenate([np.full(tasks, np.inf), np.ones(nodes)])
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_ = np.arange(tasks + 1)
        program.a_matrix_.index_ = np.arange(tasks)
        program.a_matrix_.value_ = np.ones(tasks)
        solver.passModel(program)

    def add(self, columns: Iterable[Column]) -> int:
        """Add those that are new; return how many there were."""
        new = []
        for column in columns:
            key = (column.node, column.tasks.tobytes())
            if key not in self._known:
                self._known.add(key)
                new.append(column)
        if not new:
            return 0
        self.columns += new
        costs = np.array([self.instance.costs[one.tasks, one.node].sum() for one in new], float)
        rows = [np.append(one.tasks, self.instance.tasks + one.node) for one in new]
        starts = np.cumsum([0, *(len(row) for row in rows[:-1])])
        index = np.concatenate(rows)
        self._solver.addCols(
            len(new),
            costs,
            np.zeros(len(new)),
            np.full(len(new), np.inf),
            len(index),
            starts,
            index,
            np.ones(len(index)),
        )
        return len(new)

    def solve(self) -> Mix | None:
        """Return the optimum over the columns; None where the time ran out."""
        import highspy

        solver = self._solver
        solver.setOptionValue("time_limit", solver.getRunTime() + self.limit.left_s())
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = solver.getSolution()
        prices = np.array(solution.row_dual)
        tasks = self.instance.tasks
        return Mix(
            solver.getInfo().objective_function_value,
            np.array(solution.col_value)[tasks:],
            prices[:tasks],
            prices[tasks:],
        )


@dataclass(frozen=True, eq=False)
class Mix:
    """A solution of the master programme."""

    value: float
    shares: Floats
    """columns: how much of each is used."""
    task_prices: Floats
    node_prices: Floats


def columns_of(chosen: Flags) -> list[Column]:
    """Return each node's choice (tasks × nodes) as a column."""
    return [Column(node, np.flatnonzero(chosen[:, node])) for node in range(chosen.shape[1])]


@dataclass(frozen=True, eq=False)
class Root:
    """A converged programme, to dive from; its prices give the bound."""

    master: Master
    mix: Mix
    prices: Floats
    """The prices of the best bound that was passed."""


def generate(
    instance: Instance, relaxation: Relaxation, candidates: Flags, target: float, limit: Effort
) -> Root | None:
    """Return the programme over whole-node choices, solved over the candidate pairs.

    None where the time ran out, or capacities are too fine for exact knapsacks.
    """
    knapsacks = Knapsacks(instance, candidates)
    if not knapsacks.is_exact:
        return None
    ascent = ascend(
        knapsacks, relaxation.task_prices, target, steps=FIRST_STEPS, limit=limit, kept=60
    )
    master = Master(instance, limit)
    for chosen in ascent.choices:
        master.add(columns_of(chosen))
    mix = master.solve()
    if mix is None:
        return None
    start = Root(master, mix, ascent.prices)
    return converge(start, knapsacks, ascent.value, rounds=80, close=ROOT_CLOSE)


def converge(
    start: Root, knapsacks: Knapsacks, bound: float, *, rounds: int, close: float
) -> Root | None:
    """Return the programme with columns added until the bound meets it; None: no time.

    Prices are smoothed towards those of the best bound (Pessoa and others 2018), which keeps the
    first, wild prices of the programme from asking for useless columns.
    """
    master, mix, prices = start.master, start.mix, start.prices
    for _ in range(rounds):
        if mix.value - bound < close * abs(mix.value):
            break
        for smoothing in (0.7, 0.3, 0.0):
            tried = smoothing * prices + (1.0 - smoothing) * mix.task_prices
            values, chosen = knapsacks.choose(tried)
            value = float(tried.sum() - values.sum())
            if value > bound:
                bound, prices = value, tried
            added = master.add(columns_of(chosen))
            if added:
                break
        if not added:
            break
        solved = master.solve()
        if solved is None:
            return None
        mix = solved
    return Root(master, mix, prices)
