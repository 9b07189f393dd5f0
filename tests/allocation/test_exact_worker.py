"""The solver's process: killed when time is up, replaced, told to stop, gone with its parent."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.effort import Effort
from jupyter_aios.allocation.exact import solve
from jupyter_aios.allocation.greedy import sorted_greedy
from jupyter_aios.allocation.objectives import evaluate
from jupyter_aios.allocation.problem import Problem, nodes_of, problem_of, tasks_of
from jupyter_aios.allocation.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = "tests.allocation.test_exact_worker"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker()
    yield one
    one.close()


# ---------------------------------------------------------------- what the child is asked to do


def double(number: int, tell: Callable[[object], object]) -> int:
    """Be done at once."""
    del tell
    return 2 * number


def pid_of(tell: Callable[[object], object]) -> int:
    """Say who computes."""
    del tell
    return os.getpid()


def hang(tell: Callable[[object], object]) -> None:
    """Tell two things and never end, deaf to all but a kill."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell("something")
    tell("something better")
    threading.Event().wait()


def die(tell: Callable[[object], object]) -> None:
    """Tell something and be killed, as by a system that is out of memory."""
    tell("what was found")
    os.kill(os.getpid(), signal.SIGKILL)


def fail(tell: Callable[[object], object]) -> None:
    """Raise."""
    del tell
    raise ValueError("no such thing")


# ---------------------------------------------------------------- the tests


def test_one_child_answers_call_after_call(worker: Worker) -> None:
    effort = Effort.of(60.0)
    pids = {worker.call(HERE, "pid_of", (), effort) for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert [worker.call(HERE, "double", (number,), effort) for number in (1, 2)] == [2, 4]


def test_a_child_that_overruns_is_killed_and_what_it_told_is_the_answer(worker: Worker) -> None:
    first = worker.call(HERE, "pid_of", (), Effort.of(60.0))
    began = time.monotonic()
    # Longer than a slow machine needs for two words; the child would go on for ever.
    assert worker.call(HERE, "hang", (), Effort.of(3.0)) == "something better"
    assert time.monotonic() - began < 60.0
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert worker.call(HERE, "pid_of", (), Effort.of(60.0)) != first


def test_a_word_to_stop_ends_the_call_with_what_was_told(worker: Worker) -> None:
    began = time.monotonic()
    said: list[object] = []

    def stop() -> bool:
        # Said as soon as the child is heard.
        said.append(None)
        return len(said) > 60

    assert worker.call(HERE, "pid_of", (), Effort.of(60.0))
    assert worker.call(HERE, "hang", (), Effort.of(3600.0, stop=stop)) == "something better"
    assert time.monotonic() - began < 600.0


def test_a_child_that_is_killed_by_others_is_replaced_and_its_words_hold(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert worker.call(HERE, "die", (), Effort.of(60.0)) == "what was found"
    assert "ended before its time" in caplog.text
    assert worker.call(HERE, "double", (4,), Effort.of(60.0)) == 8


def test_a_child_that_died_between_two_calls_is_replaced(worker: Worker) -> None:
    pid = worker.call(HERE, "pid_of", (), Effort.of(60.0))
    os.kill(pid, signal.SIGKILL)
    # Not yet reaped, and maybe not yet dead: the next call has to notice by itself.
    other = worker.call(HERE, "pid_of", (), Effort.of(60.0))
    assert other not in (None, pid)


def test_what_the_child_raises_is_raised_here_with_its_traceback(worker: Worker) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)in fail.*ValueError: no such thing"):
        worker.call(HERE, "fail", (), Effort.of(60.0))
    assert worker.call(HERE, "double", (4,), Effort.of(60.0)) == 8


def test_an_interrupt_kills_the_child_and_goes_on_its_way(worker: Worker) -> None:
    pid = worker.call(HERE, "pid_of", (), Effort.of(60.0))

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.call(HERE, "hang", (), Effort.of(60.0, stop=interrupt))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


PROGRAM = f"""
    import os, sys
    from jupyter_aios.allocation.effort import Effort
    from jupyter_aios.allocation.worker import worker
    print(worker().call({HERE!r}, "pid_of", (), Effort.of(60.0)), flush=True)
"""


@pytest.mark.parametrize(
    "end", ["", "os._exit(3)", "os.kill(os.getpid(), 9)"], ids=["usual", "abrupt", "killed"]
)
def test_no_child_outlives_its_parent(end: str) -> None:
    program = textwrap.dedent(PROGRAM) + end
    parent = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pid = int(parent.stdout)
    _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(watched):
        assert select.select([watched], [], [], 60.0)[0], f"process {pid} is still there"


# ---------------------------------------------------------------- with the solver in it


def hard_problem() -> Problem:
    """Return 400 tasks that are all different on 20 nodes: nothing is proven in an hour."""
    rng = random.Random(5)
    tasks = [
        [rng.randint(2000, 9000), rng.randint(20, 90), rng.randint(20, 90)] for _ in range(400)
    ]
    nodes = np.tile(np.array([[64_000, 640, 640]], np.int64), (20, 1))
    demand = np.array(tasks, np.int64)
    asked = tasks_of([f"t{i}" for i in range(len(tasks))], demand, value=demand.sum(axis=1))
    empty = np.zeros((20, 0), np.int64)
    return problem_of(nodes_of([f"n{j}" for j in range(20)], nodes, empty), asked)


def test_a_solve_without_end_returns_in_time_with_a_feasible_best_and_a_bound() -> None:
    problem = hard_problem()
    names = ("priority",)
    start = sorted_greedy(problem, names, "best-fit", Effort.of(60.0))
    assert start is not None
    began = time.monotonic()
    found = solve(problem, names, Effort.of(4.0), start)
    assert time.monotonic() - began < 60.0
    assert found.placed is not None
    assert faults(problem, found.placed.assignment, found.placed.devices) == []
    value = evaluate(problem, found.placed.assignment, found.placed.devices, names)[0]
    assert value >= evaluate(problem, start.assignment, start.devices, names)[0]
    assert found.bounds[0] is not None
    assert found.bounds[0] >= value


def test_a_stopped_solve_gives_what_it_had() -> None:
    problem = hard_problem()
    start = sorted_greedy(problem, ("priority",), "best-fit", Effort.of(60.0))
    asked: list[Any] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 40

    began = time.monotonic()
    found = solve(problem, ("priority",), Effort.of(3600.0, stop=stop), start)
    assert time.monotonic() - began < 600.0
    if found.placed is not None:
        assert faults(problem, found.placed.assignment, found.placed.devices) == []
