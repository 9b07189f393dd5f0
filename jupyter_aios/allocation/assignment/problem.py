"""A generalized assignment problem, its answer, and a check that trusts no solver.

Every task goes to exactly one node, each pair has a cost and a demand of its own, and the demands
on a node stay within its capacity: the textbook's assignment ILP, with costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jupyter_aios.allocation.assignment.certificate import AssignmentCertificate
from jupyter_aios.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LARGEST_TOTAL = 2**44
"""Costs of all tasks together: prices are integers, 2¹⁶ to a unit, and must not overflow."""
LARGEST_DEMAND = 2**60
"""Demands on a node together, and a capacity: what sums of 64-bit integers hold."""


@dataclass(frozen=True, eq=False)
class AssignmentProblem:
    """Minimise Σ costs·x where every task has one node and no node holds more than its capacity.

    Raises:
        InputError: shapes that do not belong together, no task or no node, negative or too large
            numbers, names that are not unique; all faults at once.

    Example:
        >>> import numpy as np
        >>> costs, demands = np.array([[1, 2], [1, 3]]), np.array([[2, 2], [2, 2]])
        >>> AssignmentProblem(costs, demands, np.array([2, 2]), ("a", "b"), ("x", "y")).size
        (2, 2)

    """

    costs: Ints
    """tasks × nodes, ≥ 0."""
    demands: Ints
    """tasks × nodes, ≥ 0."""
    capacities: Ints
    """nodes, ≥ 0."""
    task_names: tuple[str, ...]
    node_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        found = _shape_faults(self)
        if not found:
            found = _value_faults(self)
        if found:
            raise InputError.of_faults(
                found, hint="costs and demands are tables of tasks × nodes, integers from 0"
            )

    @property
    def size(self) -> tuple[int, int]:
        """How many tasks and nodes there are."""
        return len(self.task_names), len(self.node_names)


@dataclass(frozen=True, eq=False)
class AssignmentSolution:
    """What was found in the time that was given, and how good anything could be."""

    assignment: Ints | None
    """tasks: the node of each; None where none was found."""
    objective: int | None
    bound: float
    """No assignment costs less; costs are integers, so none costs less than the next one either."""
    status: str
    """`optimal`, `feasible`, `infeasible` (proven), or `undecided`: neither found nor excluded."""
    rung: str
    """What found the assignment (or the proof that there is none)."""
    time_s: float
    certificate: AssignmentCertificate | None
    """Of the Lagrangian bound, which a complete search may have raised to `bound`."""

    @property
    def gap(self) -> float | None:
        """How far the objective may be from the best, as a share; None where there is none."""
        if self.objective is None:
            return None
        away = self.objective - np.ceil(self.bound)
        return float(away / max(self.objective, 1)) if away > 0 else 0.0


def faults(problem: AssignmentProblem, assignment: Ints) -> list[str]:
    """Return what is wrong with an assignment (tasks: node indexes); empty where it is feasible.

    Example:
        >>> import numpy as np
        >>> twos = np.array([[2], [2]])
        >>> faults(AssignmentProblem(twos, twos, np.array([3]), ("a", "b"), ("x",)), [0, 0])
        ['x would give 4 and has 3']

    """
    tasks, nodes = problem.size
    chosen = [int(node) for node in assignment]
    if len(chosen) != tasks:
        return [f"{len(chosen)} tasks are assigned, there are {tasks}"]
    found = [
        f"{problem.task_names[task]} is assigned to node {node}, there are 0 to {nodes - 1}"
        for task, node in enumerate(chosen)
        if not 0 <= node < nodes
    ]
    loads = [0] * nodes
    for task, node in enumerate(chosen):
        if 0 <= node < nodes:
            loads[node] += int(problem.demands[task, node])
    found += [
        f"{name} would give {load} and has {int(capacity)}"
        for name, load, capacity in zip(problem.node_names, loads, problem.capacities, strict=True)
        if load > capacity
    ]
    return found


def _shape_faults(problem: AssignmentProblem) -> list[str]:
    tasks, nodes = problem.size
    found = []
    if not tasks:
        found.append("there is no task")
    if not nodes:
        found.append("there is no node")
    for what, wanted in (("costs", (tasks, nodes)), ("demands", (tasks, nodes))):
        shape = np.shape(getattr(problem, what))
        if shape != wanted:
            found.append(f"{what} are {_times(shape)}, {tasks} tasks × {nodes} nodes are named")
    if np.shape(problem.capacities) != (nodes,):
        found.append(f"there are {np.size(problem.capacities)} capacities for {nodes} nodes")
    for what in ("costs", "demands", "capacities"):
        kind = np.asarray(getattr(problem, what)).dtype
        if kind.kind not in "iu":
            found.append(f"{what} are {kind}, integers are needed")
    for what, names in (("task", problem.task_names), ("node", problem.node_names)):
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            found.append(f"two {what}s are named {twice!r}")
    return found


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "one number"


def _value_faults(problem: AssignmentProblem) -> list[str]:
    found = []
    for what in ("costs", "demands"):
        table = getattr(problem, what)
        found += [
            f"{what} of {problem.task_names[task]} on {problem.node_names[node]}"
            f" are {table[task, node]}, below 0"
            for task, node in np.argwhere(table < 0)[:3]
        ]
    for node in np.flatnonzero(problem.capacities < 0):
        found.append(f"capacity of {problem.node_names[node]} is {problem.capacities[node]}")
    total = problem.costs.max(axis=1).astype(object).sum()
    if total > LARGEST_TOTAL:
        found.append(f"costs may add up to {total}, above {LARGEST_TOTAL}")
    load = int(max(problem.demands.astype(object).sum(axis=0).max(), problem.capacities.max()))
    if load > LARGEST_DEMAND:
        found.append(f"demands or capacities come to {load}, above {LARGEST_DEMAND}")
    return found


@dataclass(frozen=True, eq=False)
class Instance:
    """The numbers of a problem or of a part of one; the solver's modules work on these."""

    costs: Ints
    demands: Ints
    capacities: Ints

    @property
    def tasks(self) -> int:
        """How many tasks."""
        return len(self.costs)

    @property
    def nodes(self) -> int:
        """How many nodes."""
        return len(self.capacities)

    @property
    def fits(self) -> Flags:
        """Whether each task fits each node while it is empty (tasks × nodes)."""
        return self.demands <= self.capacities

    @property
    def penalty(self) -> int:
        """What a task without a node counts in searches that pass through such assignments."""
        return 10 * (int(self.costs.max(initial=0)) + 1)

    def in_coarsest_units(self) -> Instance:
        """Return the same problem with each node's demands in their greatest common divisor."""
        units = np.maximum(np.gcd.reduce(self.demands, axis=0), 1)
        return Instance(self.costs, self.demands // units, self.capacities // units)

    def part(self, tasks: Ints, nodes: Ints) -> Instance:
        """Return the problem of some tasks on some nodes, which are theirs alone."""
        table = np.ix_(tasks, nodes)
        return Instance(self.costs[table], self.demands[table], self.capacities[nodes])

    def loads(self, assignment: Ints) -> Ints:
        """Return what each node gives (nodes); tasks at -1 are nowhere."""
        placed = np.flatnonzero(assignment >= 0)
        loads = np.zeros(self.nodes, np.int64)
        np.add.at(loads, assignment[placed], self.demands[placed, assignment[placed]])
        return loads

    def value(self, assignment: Ints) -> int:
        """Return the cost, with the penalty for every task that is nowhere."""
        placed = np.flatnonzero(assignment >= 0)
        missing = len(assignment) - len(placed)
        return int(self.costs[placed, assignment[placed]].sum()) + missing * self.penalty
