"""Small problems exactly: CP-SAT, level after level, in a process that is killed when time is up.

units     what is interchangeable counted, what is not alone
model     the constraints
goals     what each level is, in the model's variables
seats     from counts back to tasks and devices, and from a placement to hints
search    one solve per level, in the child process
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.allocation.exact.units import size_of
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.worker import worker

if TYPE_CHECKING:
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.problem import Problem

MOST_VARIABLES = 10_000
MOST_NODES = 60


@dataclass(frozen=True, eq=False)
class Exact:
    """What was found, and what is proven of each level (None: nothing)."""

    placed: Placed | None
    bounds: tuple[int | None, ...]


def is_tractable(problem: Problem) -> bool:
    """True where CP-SAT has a chance: few nodes, few counts."""
    if len(problem.nodes) > MOST_NODES or not len(problem.nodes):
        return False
    return size_of(problem) <= MOST_VARIABLES


def solve(
    problem: Problem, names: tuple[str, ...], effort: Effort, start: Placed | None = None
) -> Exact:
    """Return the best allocation, level after level, with a proven bound of each level.

    A bound of a later level holds among the allocations that reach the bounds before it.
    `fragmentation` is solved where its tables are small; elsewhere it, and what comes after it, is
    left as it comes and its bound is None. A result is never worse than `start`.

    Raises:
        RuntimeError: the solver failed; its traceback is in the message.

    """
    arguments = (problem, names, effort.ends_at, effort.seed, start)
    found = worker().call("jupyter_aios.allocation.exact.search", "solve_here", arguments, effort)
    return Exact(None, (None,) * len(names)) if found is None else Exact(*found)
