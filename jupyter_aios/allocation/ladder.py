"""`allocate`: the rungs one after the other, the best of them, checked and bounded.

1. greedy policies: always an answer
2. prices: a bound, and its certificate
3. exact (CP-SAT) where the problem is small; columns where many nodes share few kinds of tasks;
   prices and repair where all tasks differ
4. windows of nodes solved again, while time is left
5. tasks moved off the fullest nodes, where `balance` is asked for
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.certificate import Certificate
from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.levels import OBJECTIVES, levels_of, ranking
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.reduction import Reduction, reduce
from jupyter_aios.allocation.result import Allocation, Level
from jupyter_aios.allocation.worker import worker
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.allocation.problem import Problem

log = logging.getLogger(__name__)

POLICIES = ("best-fit", "fgd")
"""The greedy policies that every answer is at least as good as."""
_MOST_KINDS = 2_000
"""With more kinds of tasks, or of nodes, than this, patterns of whole nodes repeat too rarely."""
_TINY = 40
"""Tasks up to which the exact rung needs no good start."""
_COLUMNS_SHARE = 0.25
"""Of the time, what the columns may take to find the exact rung a start."""
_QUICK_PAIRS = 2_000_000
"""Tasks × nodes up to which all greedy policies of the list take a moment."""
_SPREAD_SHARE = 0.2
"""Of the time, what is kept for `balance`: the rungs pack, which is the opposite."""
_GREEDY_SHARE = 0.4
"""Of the time, what the first greedy policy may take before the better rungs."""


def allocate(
    problem: Problem,
    objective: str = "priority",
    time_limit_s: float = 5.0,
    seed: int = 0,
    *,
    stop: Callable[[], bool] = lambda: False,
    start: Placed | None = None,
) -> Allocation:
    r"""Return the best allocation that is found in the time, with a bound on any other.

    `objective` names levels, the most important first: `priority`, `gpu,moves,balance`, `feasible`
    (see `objectives`). Equal problems and seeds give equal answers where the time does not cut a
    rung short. `stop` is asked between steps and ends the search; so does a KeyboardInterrupt: both
    give the best so far. `start` is a placement to begin with, such as yesterday's.

    Raises:
        InputError: no such objective, or what is in force cannot be.

    Example:
        >>> from jupyter_aios.allocation.reading import read_text
        >>> found = allocate(read_text("r: [3, 5, 2]\nc: [6, 5]"), "feasible")
        >>> found.status, found.assignment.tolist()
        ('feasible', [0, 1, 0])

    """
    names = levels_of(objective)
    if names[0] == "cost":
        raise InputError("this problem has no costs", hint="--objective priority, gpu or feasible")
    refuse_torn_gangs(problem)
    effort = Effort.of(time_limit_s, seed, stop)
    has_spread = "balance" in names
    first = effort.share(1.0 - _SPREAD_SHARE) if has_spread else effort
    search = _Search(reduce(problem), names, first)
    try:
        search.begin(start)
        search.climb()
        if has_spread:
            search.effort = effort
            search.run("spread", _spread)
    except KeyboardInterrupt:
        if search.best is None:
            raise
    return search.allocation()


def compare(
    problem: Problem,
    objective: str = "priority",
    time_limit_s: float = 5.0,
    seed: int = 0,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Allocation, ...]:
    """Return what each greedy policy makes of the problem, in the order of their names' table.

    `time_limit_s` is for all of them together; a policy that has no time left is left out.
    """
    from jupyter_aios.allocation.greedy import POLICIES as ALL

    names = levels_of(objective)
    reduction = reduce(problem)
    effort = Effort.of(time_limit_s, seed, stop)
    found = []
    for policy in ALL:
        if effort.is_over():
            break
        search = _Search(reduction, names, effort)
        search.run(policy, partial(_greedy, policy))
        if search.best is not None:
            found.append(search.allocation())
    return tuple(found)


def refuse_torn_gangs(problem: Problem) -> None:
    """Return where each gang is in force as a whole or not at all.

    Raises:
        InputError: names the gangs that are torn.

    """
    tasks = problem.tasks
    members = tasks.gang >= 0
    sizes = np.bincount(tasks.gang[members])
    held = np.bincount(tasks.gang[members & tasks.is_in_force], minlength=len(sizes))
    torn = np.flatnonzero((held > 0) & (held < sizes))
    if len(torn):
        named = [tasks.gang_names[g] if g < len(tasks.gang_names) else f"gang {g}" for g in torn]
        raise InputError.of_faults(
            [f"{name} is in force in part: {held[g]} of {sizes[g]} tasks"
             for name, g in zip(named[:5], torn, strict=False)],
            hint="say for all of a gang's tasks where they are, or for none",
        )  # fmt: skip


@dataclass
class _Search:
    """One climb: what was tried, the best of it, and the least bound."""

    reduction: Reduction
    names: tuple[str, ...]
    effort: Effort
    best: Placed | None = None
    values: tuple[int, ...] = ()
    rung: str = ""
    bound: int | None = None
    later_bounds: tuple[int | None, ...] = ()
    certificate: Certificate | None = None
    tried: list[tuple[str, int | None, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @property
    def problem(self) -> Problem:
        """The open part."""
        return self.reduction.problem

    # ------------------------------------------------------------------------ the rungs

    def begin(self, start: Placed | None) -> None:
        """Try what is there already."""
        tasks = self.problem.tasks
        if start is not None:
            self.run("start", lambda *_: self.reduction.restrict(start))
        if tasks.is_in_force.any():
            stays = Placed(tasks.current.copy(), tasks.current_devices.copy())
            self.run("stay", lambda *_: stays)

    def climb(self) -> None:
        """Try the rungs that suit the problem's size until one is proven best or time is over."""
        from jupyter_aios.allocation.exact import is_tractable

        if not len(self.problem.tasks):
            none = np.zeros(0, np.int64)
            self.run("nothing", lambda *_: Placed(none, none))
            self._lower(0)
            return
        pairs = len(self.problem.tasks) * len(self.problem.nodes)
        is_small = is_tractable(self.problem)
        if is_small:
            worker().warm_up()
        policies = POLICIES if pairs <= _QUICK_PAIRS or is_small else POLICIES[:1]
        goes_first = greedy_s(self.problem) <= _GREEDY_SHARE * self.effort.left_s()
        if goes_first:
            self._greedy(policies)
        if not self._is_proven():
            self._prices()
        if is_small:
            if len(self.problem.tasks) > _TINY and not self._meets_bound():
                self._large(most_s=_COLUMNS_SHARE * self.effort.left_s())
            if not self._is_as_good_as_exact():
                self._exact()
        else:
            self._large()
        if not goes_first:
            self._greedy(policies)
        is_open = self.best is not None and not self._meets_bound()
        if is_open and not is_small and not self.effort.is_over():
            from jupyter_aios.allocation.repair import improve

            self.run("repair", lambda p, n, e, best: best and improve(p, n, best, e))

    def _greedy(self, policies: tuple[str, ...]) -> None:
        for policy in policies:
            if self._is_proven() or (self.best is not None and self.effort.is_over()):
                return
            self.run(policy, partial(_greedy, policy))

    def _prices(self) -> None:
        from jupyter_aios.allocation.prices import solve_prices

        begun = time.monotonic()
        self.certificate = solve_prices(self.problem, self.names, self.effort)
        self._lower(self.certificate.bound)
        self.tried.append(("prices", None, time.monotonic() - begun))

    def _exact(self) -> None:
        from jupyter_aios.allocation.exact import solve

        begun = time.monotonic()
        found = solve(self.problem, self.names, self.effort, self.best)
        if found.bounds and found.bounds[0] is not None:
            self._lower(found.bounds[0])
        if found.placed is not None:
            self._take("exact", found.placed, begun)
        self.later_bounds = found.bounds[1:]

    def _large(self, most_s: float = float("inf")) -> None:
        effort = self.effort.share(1.0, most_s)
        from jupyter_aios.allocation.columns import columns, count_kinds

        if max(count_kinds(self.problem)) <= _MOST_KINDS:
            self.run("columns", lambda p, n, _, best: columns(p, n, effort, best))
        else:
            from jupyter_aios.allocation.scale import scale

            prices = self.certificate
            self.run("scale", lambda p, n, _, best: scale(p, n, effort, best, certificate=prices))

    def run(
        self,
        name: str,
        rung: Callable[[Problem, tuple[str, ...], Effort, Placed | None], Placed | None],
    ) -> None:
        """Run a rung on the open part and keep what it finds, if that is the best so far."""
        begun = time.monotonic()
        placed = rung(self.problem, self.names, self.effort, self.best)
        if placed is None:
            self.tried.append((name, None, time.monotonic() - begun))
        else:
            self._take(name, placed, begun)

    def _take(self, name: str, placed: Placed, begun: float) -> None:
        wrong = faults(self.problem, placed.assignment, placed.devices)
        if wrong:
            # What is in force may have become impossible; anything else is a bug of the rung.
            self.wrong += wrong
            if name not in {"start", "stay"}:
                log.error("the rung %s proposed what cannot be: %s", name, "; ".join(wrong))
            self.tried.append((name, None, time.monotonic() - begun))
            return
        values = evaluate(self.problem, placed.assignment, placed.devices, self.names)
        self.tried.append((name, values[0], time.monotonic() - begun))
        if self.best is None or ranking(self.names, values) > ranking(self.names, self.values):
            self.best, self.values, self.rung = placed, values, name

    # ------------------------------------------------------------------------ the answer

    def _lower(self, bound: int) -> None:
        self.bound = bound if self.bound is None else min(bound, self.bound)

    def _is_proven(self) -> bool:
        """True where the first level is as good as can be, and there is no other."""
        return self._meets_bound() and len(self.names) == 1

    def _is_as_good_as_exact(self) -> bool:
        """True where the exact rung could improve no level: the later ones are 0 at the least."""
        return self._meets_bound() and not any(self.values[1:])

    def _meets_bound(self) -> bool:
        """True where the first level is proven to be as good as can be."""
        return self.best is not None and self.values[0] == self.bound

    def allocation(self) -> Allocation:
        """Return the best.

        Raises:
            InputError: there is none: what is in force and may not be stopped does not fit.

        """
        if self.best is None:
            told = self.wrong[:5] or ["what is in force and may not be stopped does not fit"]
            raise InputError.of_faults(told, hint="let a task be moved or stopped, or add a node")
        whole = self.reduction.whole
        placed = self.reduction.expand(self.best)
        values = evaluate(whole, placed.assignment, placed.devices, self.names)
        fixed = values[0] - self.values[0]
        bound = None if self.bound is None else self.bound + fixed
        levels = [Level(self.names[0], values[0], bound)]
        for number, name in enumerate(self.names[1:]):
            levels.append(Level(name, values[1 + number], self._later_bound(number, values)))
        return Allocation(
            whole,
            placed.assignment,
            placed.devices,
            tuple(levels),
            self.rung,
            time.monotonic() - self.begun,
            _status(self.names[0], values[0], bound, len(whole.tasks)),
            self.certificate,
            tuple(self.tried),
        )

    def _later_bound(self, number: int, values: tuple[int, ...]) -> int | None:
        """Return what is proven of a later level; it counts only where the ones before are met."""
        name, value = self.names[1 + number], values[1 + number]
        if not OBJECTIVES[name].is_maximised and value == 0:
            return 0
        if self.reduction.whole is not self.problem and name != "moves":
            return None
        return self.later_bounds[number] if number < len(self.later_bounds) else None


def _greedy(
    policy: str, problem: Problem, names: tuple[str, ...], effort: Effort, _: Placed | None
) -> Placed | None:
    from jupyter_aios.allocation.greedy import sorted_greedy

    return sorted_greedy(problem, names, policy, effort)


def _spread(
    problem: Problem, names: tuple[str, ...], effort: Effort, best: Placed | None
) -> Placed | None:
    from jupyter_aios.allocation.repair.spreading import spread

    keep_in_force = "moves" in names[: names.index("balance")]
    return best and spread(problem, best, effort, keep_in_force=keep_in_force)


def greedy_s(problem: Problem) -> float:
    """Return about how many seconds best fit takes, as measured: a guess within a factor of two."""
    return len(problem.tasks) * (1e-5 + len(problem.nodes) / 6e8)


def _status(name: str, value: int, bound: int | None, tasks: int) -> str:
    if name == "feasible":
        if value == tasks:
            return "feasible"
        return "infeasible" if bound is not None and bound < tasks else "undecided"
    return "optimal" if value == bound else "feasible"
