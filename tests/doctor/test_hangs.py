"""Real jobs: each kind of hang is told with its rank and line, and slow ones are left in peace."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.ports import Outcome
from tests.doctor import programs
from tests.doctor.running import Seen, fault_of, run_all, watch_hang, watch_healthy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.doctor.programs import Hang
    from tests.launching import Launchpad

QUICK = ("sleep", "slow worker", "thread", "validation")
AT_ONCE = 6

Job = Callable[[], Seen]


def hangs_of(names: Sequence[str], seed: str) -> list[Hang]:
    """Return a hang of each kind in `names`."""
    random_ = random.Random(seed)
    return [programs.draw(name, random_) for name in names]


def faults_of(hangs: Iterable[Hang], seen: Iterable[Seen]) -> list[str]:
    """Return what is wrong with what was said of each hang."""
    found = ((hang, fault_of(hang, one)) for hang, one in zip(hangs, seen, strict=True))
    return [f"{fault}\n{hang.source}" for hang, fault in found if fault]


def false_alarms(sources: Sequence[tuple[str, int]], seen: Iterable[Seen]) -> list[str]:
    """Return the healthy jobs that were called a hang, or did not end well."""
    return [
        f"{one.outcome} {one.failure} {one.verdict}\n{source}"
        for (source, _), one in zip(sources, seen, strict=True)
        if one.outcome is not Outcome.SUCCEEDED or one.verdict is not None
    ]


@pytest.mark.timeout(240)
def test_every_hang_is_told_with_rank_and_line_and_no_slow_job_is(launchpad: Launchpad) -> None:
    hangs = hangs_of(list(programs.FAULTS), "once")
    random_ = random.Random("once")
    slow = [programs.slow_job(kind, random_, 13) for kind in QUICK]
    jobs: list[Job] = [functools.partial(watch_hang, launchpad, hang) for hang in hangs]
    jobs += [functools.partial(watch_healthy, launchpad, *one) for one in slow]
    seen = run_all(jobs, len(jobs))
    assert not faults_of(hangs, seen[: len(hangs)])
    assert not false_alarms(slow, seen[len(hangs) :])


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", list(programs.FAULTS))
def test_twenty_of_twenty_hangs_are_told_rightly(launchpad: Launchpad, name: str) -> None:
    hangs = hangs_of([name] * 20, name)
    seen = run_all([functools.partial(watch_hang, launchpad, hang) for hang in hangs], AT_ONCE)
    assert not faults_of(hangs, seen)
    seconds = sorted(one.seconds for one in seen)
    print(f"{name}: median {seconds[10]:.1f} s, longest {seconds[-1]:.1f} s")  # noqa: T201


def healthy_jobs() -> list[tuple[str, int]]:
    """Return fifty jobs that are slow for as many reasons as one can think of."""
    random_ = random.Random("fifty")
    jobs = [programs.slow_job(kind, random_) for kind in programs.SLOW for _ in range(2)]
    others = (programs.straggler, programs.alone, programs.compiling)
    while len(jobs) < 50:
        jobs.append(others[len(jobs) % 3](random_))
    return jobs


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_alarm_in_fifty_healthy_slow_jobs(launchpad: Launchpad) -> None:
    slow = healthy_jobs()
    jobs = [functools.partial(watch_healthy, launchpad, *one) for one in slow]
    assert not false_alarms(slow, run_all(jobs, AT_ONCE))
