"""The linear relaxation: prices of tasks and of capacity, hence which nodes suit a task at all.

With the optimal prices λ (tasks) and μ (capacity) the reduced cost `c_ij - λ_i + μ_j·r_ij` says how
much is lost by x_ij = 1; good assignments use pairs with small ones. Source: any text on duality;
the idea of searching in a core of such pairs is Balas and Zemel's (1980).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.assignment.problem import Flags, Floats, Instance, Ints
from jupyter_aios.allocation.highs import quiet_highs

if TYPE_CHECKING:
    import highspy


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Prices, and what the linear relaxation costs."""

    value: float
    task_prices: Floats
    """tasks."""
    losses: Floats
    """tasks × nodes: reduced costs, ≥ 0 up to rounding."""

    def worst_loss(self, instance: Instance, per_task: float) -> float:
        """Return the loss up to which there are `per_task` pairs for a task on average."""
        losses = np.sort(self.losses[instance.fits])
        return float(losses[min(len(losses) - 1, int(per_task * instance.tasks))])

    def candidates(self, instance: Instance, per_task: float) -> Flags:
        """Return the pairs worth a search: `per_task` on average, at least two for each task."""
        losses = np.where(instance.fits, self.losses, np.inf)
        second = np.partition(losses, min(1, instance.nodes - 1), axis=1)[:, :2].max(axis=1)
        most = np.maximum(self.worst_loss(instance, per_task), second)
        pairs: Flags = instance.fits & (losses <= most[:, None])
        return pairs


def usual_candidates(nodes: int) -> float:
    """Return how many nodes per task a search should consider.

    Measured: fewer cost quality, more cost time; pairs beyond were used by no best assignment of
    the correlated test instances.
    """
    return 2.0 + nodes / 8


def relax(instance: Instance, limit_s: float) -> Relaxation | None:
    """Return the relaxation; its value is infinite where no assignment exists; None: no time."""
    import highspy

    fits = instance.fits
    if not fits.any(axis=1).all():
        return Relaxation(np.inf, np.zeros(instance.tasks), np.zeros(fits.shape))
    at_task, at_node = np.nonzero(fits)
    solver = quiet_highs()
    solver.setOptionValue("time_limit", limit_s)
    weights, scale = _scaled(instance)
    solver.passModel(_program(instance, at_task, at_node, weights, scale))
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Relaxation(np.inf, np.zeros(instance.tasks), np.zeros(fits.shape))
    if status != highspy.HighsModelStatus.kOptimal:
        return None
    prices = np.array(solver.getSolution().row_dual)
    task_prices, node_prices = prices[: instance.tasks], prices[instance.tasks :]
    losses = instance.costs - task_prices[:, None] - node_prices * weights
    return Relaxation(solver.getInfo().objective_function_value, task_prices, losses)


def _scaled(instance: Instance) -> tuple[Floats, Floats]:
    """Return demands and capacities with capacities near 100, whatever their unit is.

    Bytes would be 10¹¹, where the solver's absolute tolerances mean nothing.
    """
    unit = np.maximum(instance.capacities, 1) / 100.0
    return instance.demands / unit, instance.capacities / unit


def _program(
    instance: Instance, task: Ints, node: Ints, weights: Floats, capacities: Floats
) -> highspy.HighsLp:
    """Return the model for HiGHS, one column for each pair that fits."""
    import highspy

    program = highspy.HighsLp()
    program.num_col_ = len(task)
    program.num_row_ = instance.tasks + instance.nodes
    program.col_cost_ = instance.costs[task, node].astype(np.float64)
    program.col_lower_ = np.zeros(len(task))
    program.col_upper_ = np.ones(len(task))
    unlimited = np.full(instance.nodes, -np.inf)
    program.row_lower_ = np.concatenate([np.ones(instance.tasks), unlimited])
    program.row_upper_ = np.concatenate([np.ones(instance.tasks), capacities])
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.arange(0, 2 * len(task) + 1, 2)
    program.a_matrix_.index_ = np.column_stack([task, instance.tasks + node]).ravel()
    ones = np.ones(len(task))
    program.a_matrix_.value_ = np.column_stack([ones, weights[task, node]]).ravel()
    return program
