"""The proof of a bound: one price per task, checked by another method than the one that found it.

Lagrangian relaxation of "every task has one node" (Fisher 1981): for any prices λ

    cost of any assignment  ≥  Σ_i λ_i  -  Σ_j max { Σ_i (λ_i - c_ij)·x_i : Σ_i r_ij·x_i ≤ C_j }.

Prices are integers, `SCALE` to a unit of cost, so that the check is exact. The solver's knapsacks
are tables over capacity; here they are lists of undominated (weight, profit) pairs, cut by
Dantzig's bound (Nemhauser and Ullmann 1969; Dantzig 1957), and nothing of the solver is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jupyter_aios.allocation.assignment.problem import AssignmentProblem

Ints = NDArray[np.int64]
SCALE = 2**16
"""Units of price in a unit of cost; a power of two, so that `bound` is no rounded number."""
SAFE = 2**61


@dataclass(frozen=True, eq=False)
class AssignmentCertificate:
    """Prices of the tasks, and the bound that they are said to prove."""

    prices: Ints
    """tasks, in 1/SCALE of a unit of cost; of any sign."""
    scaled_bound: int
    """The bound in 1/SCALE of a unit of cost."""

    @property
    def bound(self) -> float:
        """The bound in units of cost."""
        return self.scaled_bound / SCALE

    def check(self, problem: AssignmentProblem) -> list[str]:
        """Return why the prices do not prove the bound; empty where they do. Exact.

        Solves every node's knapsack anew. About a second for 400 tasks × 40 nodes.
        """
        tasks, nodes = problem.size
        if self.prices.shape != (tasks,):
            return [f"there are {self.prices.size} prices for {tasks} tasks"]
        proven = sum(map(int, self.prices))
        for node in range(nodes):
            proven -= best_profit(
                [int(price) for price in self.prices],
                [SCALE * int(cost) for cost in problem.costs[:, node]],
                [int(demand) for demand in problem.demands[:, node]],
                int(problem.capacities[node]),
            )
        if proven < self.scaled_bound:
            return [f"the prices prove {proven / SCALE:.6f}, not {self.bound:.6f}"]
        return []


def best_profit(prices: list[int], costs: list[int], demands: list[int], capacity: int) -> int:
    """Return the most that a choice of tasks within the capacity pays over its cost, exactly.

    Example:
        >>> best_profit([5, 9, 9], [0, 0, 0], [1, 2, 3], 4)
        14

    """
    worth = [
        (price - cost, demand) for price, cost, demand in zip(prices, costs, demands, strict=True)
    ]
    free = sum(profit for profit, demand in worth if profit > 0 and demand == 0)
    items = [(p, d) for p, d in worth if p > 0 and 0 < d <= capacity]
    if sum(d for _, d in items) <= capacity:
        return free + sum(p for p, _ in items)
    # Densest first, compared by cross-multiplication's equal, an exact fraction.
    from fractions import Fraction

    items.sort(key=lambda item: (-Fraction(item[0], item[1]), item[1]))
    return free + _undominated(items, capacity)


def _undominated(items: list[tuple[int, int]], capacity: int) -> int:
    """Return the knapsack's optimum; `items` are (profit, weight), densest first."""
    total = sum(profit for profit, _ in items)
    largest = max(profit for profit, _ in items)
    # Where a product could leave 64 bits, Python's own integers take over: slow and exact.
    kind = np.int64 if max(total, largest * capacity) < SAFE else object
    weights, profits = np.zeros(1, kind), np.zeros(1, kind)
    lower = _greedy(items, capacity)
    prefix_weights = np.array([0, *np.cumsum([w for _, w in items], dtype=object)], kind)
    prefix_profits = np.array([0, *np.cumsum([p for p, _ in items], dtype=object)], kind)
    for at, (profit, weight) in enumerate(items):
        fits = weights + weight <= capacity
        weights = np.concatenate([weights, weights[fits] + weight])
        profits = np.concatenate([profits, profits[fits] + profit])
        # Lightest first, the more profitable of two equals first; then each must pay more than
        # all that are lighter.
        order = np.lexsort((-profits, weights))
        weights, profits = weights[order], profits[order]
        best = np.maximum.accumulate(profits)
        keep = np.ones(len(profits), bool)
        keep[1:] = profits[1:] > best[:-1]
        weights, profits = weights[keep], profits[keep]
        lower = max(lower, int(profits[-1]))
        upper = _dantzig(
            items,
            prefix_weights,
            prefix_profits,
            at + 1,
            weights=weights,
            profits=profits,
            capacity=capacity,
        )
        keep = upper > lower
        if not keep.any():
            break
        weights, profits = weights[keep], profits[keep]
    return lower


def _greedy(items: list[tuple[int, int]], capacity: int) -> int:
    """Return the profit of the densest items that fit one after the other."""
    left, gained = capacity, 0
    for profit, weight in items:
        if weight <= left:
            left -= weight
            gained += profit
    return gained


def _dantzig(
    items: list[tuple[int, int]],
    prefix_weights: Ints,
    prefix_profits: Ints,
    start: int,
    *,
    weights: Ints,
    profits: Ints,
    capacity: int,
) -> Ints:
    """Return what each state could reach with the items from `start` on, rounded up."""
    left = capacity - weights
    whole = np.searchsorted(prefix_weights, prefix_weights[start] + left, side="right") - 1
    upper = profits + prefix_profits[whole] - prefix_profits[start]
    rest = left - (prefix_weights[whole] - prefix_weights[start])
    partial = whole < len(items)
    density = np.array([*items, (0, 1)], weights.dtype)
    next_profit, next_weight = density[whole, 0], density[whole, 1]
    rounded: Ints = np.where(partial, upper - (-(rest * next_profit) // next_weight), upper)
    return rounded
