"""The search for good assignments: dives from the root, dives and exact solves in windows.

Large neighbourhood search (Shaw 1998): the tasks of a few nodes are dealt anew among these nodes,
by CP-SAT where they are few and by column generation with diving where they are many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jupyter_aios.allocation.assignment.columns import Root, generate
from jupyter_aios.allocation.assignment.dive import HOPE, Dive
from jupyter_aios.allocation.assignment.problem import Flags, Instance, Ints
from jupyter_aios.allocation.assignment.relaxation import Relaxation, relax, usual_candidates
from jupyter_aios.allocation.assignment.windows import solve_window
from jupyter_aios.allocation.effort import Effort

LAST_TASKS = 20
"""About how many tasks CP-SAT deals exactly in a moment where costs and demands are correlated."""
WINDOW_EFFORT = 0.15
NOISE = (0.05, 0.4)
"""What is added to shares at most, from dive to dive."""
EASY_LOSS = 1.0
"""Costs are integers: a pair that loses less than one unit is always worth a look."""
MOST_MISSING = 12
"""Tasks without a node that join one window."""


@dataclass
class Search:
    """The best assignment so far, and the moves that improve it."""

    instance: Instance
    relaxation: Relaxation
    limit: Effort
    seed: int
    best: Ints
    """tasks: nodes; -1 is nowhere."""
    rung: str
    floor: int
    """No assignment is cheaper: the search ends there."""
    on_better: Callable[[Ints, str], None] = lambda _assignment, _rung: None
    is_settled: bool = False
    """Whether a complete search has shown that nothing is cheaper."""
    candidates: Flags = field(init=False)
    rng: np.random.Generator = field(init=False)
    value: int = field(init=False)
    worst_loss: float = field(init=False)
    """What a pair may lose at the relaxation's prices and still be worth a look."""
    width: float = field(init=False)
    """How many nodes a window has; grows while windows are solved with ease."""

    def __post_init__(self) -> None:
        """Derive what the moves use."""
        self.rng = np.random.default_rng(self.seed)
        per_task = usual_candidates(self.instance.nodes)
        self.candidates = self.relaxation.candidates(self.instance, per_task)
        self.worst_loss = max(self.relaxation.worst_loss(self.instance, per_task), EASY_LOSS)
        self.value = self.instance.value(self.best)
        self.width = float(self.last)

    @property
    def is_over(self) -> bool:
        """Whether the time is, or nothing better exists."""
        is_best = self.value <= self.floor and bool((self.best >= 0).all())
        return self.is_settled or is_best or self.limit.is_over()

    @property
    def last(self) -> int:
        """How many nodes are solved exactly at once."""
        nodes, tasks = self.instance.nodes, self.instance.tasks
        return min(nodes, max(3, min(5, -(-LAST_TASKS * nodes // tasks))))

    def offer(self, assignment: Ints | None, rung: str) -> bool:
        """Take an assignment that is better, or as good and different; say whether it is better."""
        if assignment is None:
            return False
        value = self.instance.value(assignment)
        if value > self.value:
            return False
        is_better = value < self.value
        self.best, self.value = assignment, value
        if is_better:
            self.rung = rung
            self.on_better(assignment, rung)
        return is_better

    def deal_some(self) -> bool:
        """Deal the tasks of a window of nodes, as many as CP-SAT can just solve."""
        count = int(self.width + self.rng.random())
        is_better, is_solved = self.deal_window(self.some_nodes(count))
        change = 0.1 if is_solved else -0.5
        self.width = min(max(self.width + change, 2.0), float(self.instance.nodes))
        return is_better

    def deal_window(self, nodes: Ints) -> tuple[bool, bool]:
        """Deal the tasks of these nodes anew among them, by CP-SAT.

        Returns whether it is better now, and whether nothing better was left to find there.
        """
        tasks = self._tasks_of(nodes)
        part = self.instance.part(tasks, nodes)
        to_part = np.full(self.instance.nodes, -1)
        to_part[nodes] = np.arange(len(nodes))
        now = np.where(self.best[tasks] >= 0, to_part[self.best[tasks]], -1)
        pairs = part.fits & (self.relaxation.losses[np.ix_(tasks, nodes)] <= self.worst_loss)
        placed = np.flatnonzero(now >= 0)
        pairs[placed, now[placed]] = True
        if (now < 0).any():
            pairs |= part.fits
        found = solve_window(
            part,
            pairs,
            limit=self.limit,
            effort=WINDOW_EFFORT,
            hint=now,
            seed=int(self.rng.integers(2**31)),
            may_leave=bool((now < 0).any()),
        )
        is_better = self.offer(self._inserted(tasks, nodes, found.assignment), "windows")
        return is_better, found.status == "optimal"

    def dive_some(self) -> bool:
        """Dive in a window of a third to two thirds of the nodes."""
        share = self.rng.uniform(0.35, 0.65)
        return self.dive_window(
            self.some_nodes(max(self.last + 1, int(share * self.instance.nodes)))
        )

    def dive_window(self, nodes: Ints) -> bool:
        """Deal the tasks of these nodes anew among them, by column generation and a dive."""
        tasks = self._tasks_of(nodes)
        part = self.instance.part(tasks, nodes)
        relaxed = relax(part, self.limit.left_s())
        if relaxed is None or not np.isfinite(relaxed.value):
            return False
        pairs = relaxed.candidates(part, usual_candidates(len(nodes)))
        goal = relaxed.value + 0.002 * abs(relaxed.value)
        root = generate(part, relaxed, pairs, goal, self.limit)
        if root is None:
            return False
        # What the others cost is no part of it; the tasks that are nowhere and stay there neither.
        rest = self.best.copy()
        rest[tasks] = -1
        done = self.instance.value(rest) - len(tasks) * self.instance.penalty
        found = self._dive(part, root, pairs, self.value - done)
        return self.offer(self._inserted(tasks, nodes, found), "dives")

    def dive_all(self, root: Root) -> bool:
        """Dive from the root of the whole problem."""
        found = self._dive(self.instance, root, self.candidates, self.value)
        return self.offer(found, "columns")

    def _dive(self, part: Instance, root: Root, pairs: Flags, cutoff: float) -> Ints | None:
        if root.mix.value > cutoff - 1 + HOPE:
            return None
        last = min(self.last, part.nodes)
        noise = self.rng.uniform(*NOISE)
        return Dive(
            part, pairs, self.rng, self.limit, last, noise, max(self.worst_loss, 3.0), cutoff
        ).run(root)

    def _tasks_of(self, nodes: Ints) -> Ints:
        inside = np.isin(self.best, nodes)
        missing = np.flatnonzero(self.best < 0)
        if len(missing) > MOST_MISSING:
            missing = self.rng.choice(missing, MOST_MISSING, replace=False)
        inside[missing] = True
        return np.flatnonzero(inside)

    def _inserted(self, tasks: Ints, nodes: Ints, found: Ints | None) -> Ints | None:
        if found is None:
            return None
        whole: Ints = self.best.copy()
        whole[tasks] = np.where(found >= 0, nodes[found], -1)
        return whole

    def some_nodes(self, count: int) -> Ints:
        """Return nodes to look at together, at random."""
        count = min(count, self.instance.nodes)
        return self.rng.choice(self.instance.nodes, count, replace=False)
