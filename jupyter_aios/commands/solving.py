"""From what was read to an answer: the options of a search, and how an interrupt ends it.

This file is loaded with the first verb; numpy and the allocator are when something is placed.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.levels import named_levels
from jupyter_aios.core.submission import SEEDS
from jupyter_aios.core.units import parse_duration
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_aios.allocation.assignment import AssignmentProblem
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.allocation.reading import Reading
    from jupyter_aios.allocation.result import Allocation
    from jupyter_aios.commands.answer import AllocationAnswer

TIME_LIMIT_S = 5.0
TASKS_IN_TIME = 100_000
"""With more tasks the usual time limit grows in proportion: a million need the time to be seen."""
_MOST_TIME_S = 86_400.0


@dataclass(frozen=True)
class AllocateOptions:
    """How to search, and what to show."""

    objective: str = ""
    """Empty: what the input means by itself."""
    time_limit_s: float | None = None
    """None: what is usual for so many tasks."""
    seed: int = 0
    compare: bool = False
    view: str = ""

    def limit_s(self, tasks: int) -> float:
        """Return the time limit for so many tasks, in seconds."""
        if self.time_limit_s is not None:
            return self.time_limit_s
        return TIME_LIMIT_S * max(tasks / TASKS_IN_TIME, 1.0)


def read_objective(text: object) -> str:
    """Return the names of levels, each of which exists.

    Raises:
        UnknownNameError, InputError: as `levels.named_levels`.

    """
    return ",".join(named_levels(str(text)))


def read_time_limit(value: object) -> float:
    """Return seconds.

    Raises:
        InputError: no duration, zero, or above a day.

    """
    found = parse_duration(str(value))
    if found > _MOST_TIME_S:
        raise InputError("above a day", hint="--time-limit 5, 30s or 10min")
    return found


def read_seed(value: object) -> int:
    """Return a seed.

    Raises:
        InputError: no whole number, or out of range.

    """
    text = str(value)
    if not text.isdecimal() or int(text) >= SEEDS:
        raise InputError(f"a whole number from 0 to {SEEDS - 1}")
    return int(text)


def solve(reading: Reading, options: AllocateOptions) -> AllocationAnswer:
    """Return the answer to what was read. An interrupt returns the best so far; a second one ends.

    Raises:
        InputError: an objective that the input has no numbers for.

    """
    with stop_on_interrupt() as stop:
        if reading.assignment is not None:
            return _least_cost(reading, options, stop)
        return _best(reading, options, stop)


def _best(reading: Reading, options: AllocateOptions, stop: Callable[[], bool]) -> AllocationAnswer:
    from jupyter_aios.allocation.ladder import allocate as climb
    from jupyter_aios.allocation.ladder import compare
    from jupyter_aios.commands.answer import AllocationAnswer

    problem: Problem = reading.problem  # type: ignore[assignment] # one of the two is there
    objective = options.objective or reading.objective
    if objective == "cost":
        hint = "write r, c and cost, or choose --objective priority, gpu or feasible"
        raise InputError("--objective cost: there are no costs", hint=hint)
    time_limit_s = options.limit_s(len(problem.tasks))
    found = climb(problem, objective, time_limit_s, options.seed, stop=stop)
    others: tuple[Allocation, ...] = ()
    if options.compare and not stop():
        others = compare(problem, objective, time_limit_s, options.seed, stop=stop)
    return AllocationAnswer(found, others, view=options.view)


def _least_cost(
    reading: Reading, options: AllocateOptions, stop: Callable[[], bool]
) -> AllocationAnswer:
    from jupyter_aios.allocation.assignment import solve_assignment
    from jupyter_aios.commands.answer import AssignmentAnswer

    if options.objective not in {"", "cost"}:
        hint = "--objective cost, or leave the costs out"
        raise InputError(f"--objective {options.objective}: the input has costs", hint=hint)
    if options.compare:
        raise InputError("--compare: the usual schedulers know no costs", hint="leave it out")
    costs: AssignmentProblem = reading.assignment  # type: ignore[assignment] # the caller looked
    time_limit_s = options.limit_s(len(costs.task_names))
    found = solve_assignment(costs, time_limit_s=time_limit_s, seed=options.seed, stop=stop)
    return AssignmentAnswer(costs, found, view=options.view)


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Give a word that is true after an interrupt; a second interrupt is a KeyboardInterrupt.

    A search that looks at it returns its best. An exception would tear it down in the middle.
    Only the main thread hears signals; elsewhere the word stays false.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def hear(number: int, frame: Any) -> None:  # noqa: ANN401 - signal's own types
        if asked.is_set() and callable(before):
            before(number, frame)
        asked.set()

    signal.signal(signal.SIGINT, hear)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
