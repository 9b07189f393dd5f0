"""The ladder: bound, first assignment, complete search of what is small, dives and windows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jupyter_aios.allocation.assignment.certificate import SCALE, AssignmentCertificate
from jupyter_aios.allocation.assignment.columns import Root, generate
from jupyter_aios.allocation.assignment.companion import Companion, Line
from jupyter_aios.allocation.assignment.knapsacks import Knapsacks
from jupyter_aios.allocation.assignment.lagrange import ascend, certify
from jupyter_aios.allocation.assignment.problem import (
    AssignmentProblem,
    AssignmentSolution,
    Flags,
    Floats,
    Instance,
    Ints,
)
from jupyter_aios.allocation.assignment.relaxation import Relaxation, relax
from jupyter_aios.allocation.assignment.search import Search
from jupyter_aios.allocation.assignment.start import descend, insert
from jupyter_aios.allocation.assignment.windows import solve_window
from jupyter_aios.allocation.effort import Effort

SMALL_PAIRS = 800
"""Pairs up to which a complete search is tried before any other."""
CORE_PAIRS = 4000
CORE_CHOICES = 6
"""Pairs, and pairs per task, up to which a complete search is tried beside the others."""
FIRST_EFFORT = 2.0
SHARES = {"dive": 0.3, "window dive": 0.2, "window": 0.2, "settle": 0.3}
"""How the time is divided among the moves; measured on the test instances of types c and d."""
ASCENT_STEPS = 150
DEEP = 25
"""Tasks per node from which column generation converges too slowly to be of use."""
RELAXATION_SHARE = 0.5
"""Of the time, what the linear relaxation may take of a very large problem."""
WORTH_A_PROCESS_S = 1.5
LEAST_S = 0.05


def solve_assignment(
    problem: AssignmentProblem,
    *,
    time_limit_s: float,
    seed: int = 0,
    stop: Callable[[], bool] | None = None,
) -> AssignmentSolution:
    """Return the cheapest assignment found within the time, and a bound that nothing is below.

    Ends earlier when the assignment is proven optimal, or when `stop` says so (it is asked some
    50 times a second). A second process helps from some 800 pairs of task and node on, where
    there are two cores. Equal arguments give equal assignments on problems that the first
    complete search finishes, as it does most below that; what two processes or the clock end
    is equally good where it is proven optimal, and need not be the same.

    Example:
        >>> import numpy as np
        >>> costs, demands = np.array([[1, 2], [1, 3]]), np.array([[2, 2], [2, 2]])
        >>> two = AssignmentProblem(costs, demands, np.array([2, 2]), ("a", "b"), ("x", "y"))
        >>> solution = solve_assignment(two, time_limit_s=5)
        >>> solution.objective, solution.status, solution.assignment.tolist()
        (3, 'optimal', [1, 0])

    """
    started_s = time.monotonic()
    instance = Instance(
        *(np.asarray(a, np.int64) for a in (problem.costs, problem.demands, problem.capacities))
    ).in_coarsest_units()
    ladder = _Ladder(instance, started_s + time_limit_s, seed, stop or _never)
    try:
        ladder.climb()
    finally:
        ladder.close()
    return ladder.solution(time.monotonic() - started_s)


def accompany(instance: Instance, line: Line, *, time_s: float, seed: int) -> None:
    """Search as the second process does, until the time or the first process has ended."""
    ladder = _Ladder(instance, time.monotonic() + time_s, seed, line.has_ended.is_set, line)
    ladder.climb()
    search = ladder.search
    if search is not None and (search.is_settled or ladder.is_infeasible):
        line.tell(search.best, search.rung, is_settled=True, is_infeasible=ladder.is_infeasible)
    line.has_ended.wait()


def _never() -> bool:
    return False


@dataclass
class _Ladder:
    """One run; the rungs leave here what they found."""

    instance: Instance
    ends_at: float
    seed: int
    stop: Callable[[], bool]
    line: Line | None = None
    """To the first process, where this is the second."""
    companion: Companion | None = None
    """The second process, where this is the first."""
    search: Search | None = None
    certificate: AssignmentCertificate | None = None
    is_infeasible: bool = False
    bounds: Floats | None = None
    """tasks × nodes: the least cost of an assignment that uses the pair."""
    effort: float = FIRST_EFFORT
    limit: Effort = field(init=False)

    def __post_init__(self) -> None:
        """Stop also where the other process needs nobody any more."""
        self.limit = Effort(self.ends_at, self.seed, self._is_stopped)

    def _is_stopped(self) -> bool:
        return self.stop() or (self.companion is not None and self.companion.has_settled)

    def climb(self) -> None:
        """Go from rung to rung until the time is over or nothing better exists."""
        instance, limit = self.instance, self.limit
        relaxation = relax(instance, RELAXATION_SHARE * limit.left_s())
        if relaxation is not None and np.isinf(relaxation.value):
            self.is_infeasible = True
            return
        if relaxation is None:
            relaxation = cheapest(instance)
        first = descend(instance, insert(instance, relaxation.losses, limit), limit)
        self.search = search = Search(
            instance, relaxation, limit, self.seed, first, "regret", 0, self._tell
        )
        self._bound(search, relaxation)
        if instance.fits.sum() <= SMALL_PAIRS and self.line is None:
            self._settle()
        if self._is_over(search):
            return
        self._find_companion()
        self._search(search, relaxation)
        self._hear(search)

    def close(self) -> None:
        """End the second process."""
        if self.companion is not None:
            self.companion.close()

    def _find_companion(self) -> None:
        """Start a second process where there is a core for it and time to start it."""
        if self.line is None and self.limit.left_s() > WORTH_A_PROCESS_S and cores() > 1:
            self.companion = Companion(
                self.instance, time_s=self.limit.left_s(), seed=self.seed + 1
            )

    def _tell(self, assignment: Ints, rung: str) -> None:
        if self.line is not None:
            self.line.tell(assignment, rung, is_settled=False)
        elif self.companion is not None:
            self.companion.tell(assignment, rung)

    def _hear(self, search: Search) -> None:
        """Take what the other process has found."""
        other = self.line or self.companion
        for news in other.news() if other is not None else ():
            if search.value > self.instance.value(news.assignment):
                search.offer(news.assignment, news.rung)
            if news.is_infeasible:
                self.is_infeasible = True
            elif news.is_settled and search.value <= self.instance.value(news.assignment):
                search.is_settled = True

    def _is_over(self, search: Search) -> bool:
        return self.is_infeasible or search.is_over

    def _bound(self, search: Search, relaxation: Relaxation) -> None:
        """Prove a first bound; a trivial one at least, which takes no time."""
        self._raise(search, cheapest(self.instance).task_prices)
        if self.limit.is_over():
            return
        self._raise(search, relaxation.task_prices)
        knapsacks = Knapsacks(self.instance, search.candidates)
        complete = not (search.best < 0).any()
        goal = float(search.value) if complete else 1.01 * relaxation.value + 1.0
        ascent = ascend(
            knapsacks, relaxation.task_prices, goal, steps=ASCENT_STEPS, limit=self.limit, kept=1
        )
        self._raise(search, ascent.prices)

    def _raise(self, search: Search, prices: Floats) -> None:
        """Keep these prices where they prove more than those before."""
        if self.certificate is not None and self.limit.is_over():
            return
        proof = certify(self.instance, prices)
        if self.certificate is None or proof.scaled_bound > self.certificate.scaled_bound:
            self.certificate = proof
            search.floor = int(np.ceil(proof.bound))
            self.bounds = None

    def _root(self, search: Search, relaxation: Relaxation) -> Root | None:
        if self.instance.tasks > DEEP * self.instance.nodes:
            return None
        goal = relaxation.value + 0.002 * abs(relaxation.value)
        root = generate(self.instance, relaxation, search.candidates, goal, self.limit)
        if root is not None:
            self._raise(search, root.prices)
        return root

    def _search(self, search: Search, relaxation: Relaxation) -> None:
        """Make one move after the other; each kind has its share of the time.

        The first process begins with the root of the column generation, the second with windows.
        """
        spent_s = dict.fromkeys(SHARES, 0.0)
        is_second = self.line is not None
        root = None if is_second else self._root(search, relaxation)
        has_tried = not is_second
        while not self._is_over(search):
            moves = self._moves(search, root)
            if not has_tried and all(spent_s[kind] > 0.0 for kind in moves):
                root, has_tried = self._root(search, relaxation), True
                continue
            kind = min(moves, key=lambda one: spent_s[one] / SHARES[one])
            begun_s = time.monotonic()
            moves[kind]()
            # A move that had nothing to do is charged too: it would be chosen for ever.
            spent_s[kind] += max(time.monotonic() - begun_s, LEAST_S)
            self._hear(search)

    def _moves(self, search: Search, root: Root | None) -> dict[str, Callable[[], object]]:
        """Return the kinds of move that make sense now."""
        nodes = self.instance.nodes
        moves: dict[str, Callable[[], object]] = {}
        if root is not None:
            moves["dive"] = lambda: search.dive_all(root)
        moves["window"] = search.deal_some
        if nodes > search.last + 1 and self.instance.tasks <= DEEP * nodes:
            moves["window dive"] = search.dive_some
        if self.line is not None or self.companion is None:
            moves["settle"] = self._settle
        return moves

    def _settle(self) -> None:
        """Try to finish by a complete search over the pairs that a better assignment could use."""
        search, instance = self.search, self.instance
        if search is None or self.certificate is None or self._is_over(search):
            return
        pairs = self._useful_pairs(search)
        complete = not (search.best < 0).any()
        most = max(SMALL_PAIRS, min(CORE_PAIRS, CORE_CHOICES * instance.tasks))
        if pairs.sum() <= most:
            found = solve_window(
                instance,
                pairs,
                limit=self.limit,
                effort=self.effort,
                hint=search.best if complete else None,
                seed=self.seed,
                may_leave=False,
                below=search.value if complete else None,
            )
            search.offer(found.assignment, "exact")
            if found.status == "infeasible" and not complete:
                self.is_infeasible = True
            elif found.status in {"optimal", "infeasible"}:
                search.is_settled = True
            self.effort *= 2.0

    def _useful_pairs(self, search: Search) -> Flags:
        """Return the pairs that an assignment cheaper than the best can use."""
        if self.bounds is None and self.certificate is not None:
            every = Knapsacks(self.instance, self.instance.fits)
            self.bounds = every.bounds(self.certificate.prices / SCALE)
        if self.bounds is None or (search.best < 0).any():
            return self.instance.fits
        # Costs are integers: better is better by one. The rest is for floating-point rounding.
        return self.instance.fits & (self.bounds <= search.value - 1 + 1e-6 * search.value)

    def solution(self, time_s: float) -> AssignmentSolution:
        """Return what was found."""
        search, proof = self.search, self.certificate
        if self.is_infeasible:
            return AssignmentSolution(None, None, np.inf, "infeasible", "exact", time_s, proof)
        bound = proof.bound if proof is not None else 0.0
        if search is None or (search.best < 0).any():
            return AssignmentSolution(None, None, bound, "undecided", "", time_s, proof)
        is_optimal = search.is_settled or search.value <= search.floor
        return AssignmentSolution(
            search.best,
            search.value,
            float(search.value) if search.is_settled else bound,
            "optimal" if is_optimal else "feasible",
            search.rung,
            time_s,
            proof,
        )


def cheapest(instance: Instance) -> Relaxation:
    """Return the relaxation without capacities, for where the linear one takes too long."""
    costs = np.where(instance.fits, instance.costs.astype(np.float64), np.inf)
    least = costs.min(axis=1)
    return Relaxation(float(least.sum()), least, instance.costs - least[:, None])


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
