from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.entities import Attempt, JobId, Resources, UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.quotas import (
    DEFAULT_QUOTAS,
    HOUR_S,
    UNLIMITED,
    Demand,
    Limit,
    Quota,
    Usage,
    faults,
    held_gpu_s,
    limits_of,
    refuse_excess,
    run_s,
)
from jupyter_aios.errors import DeniedError
from jupyter_aios.testing.examples import example_spec

NOTHING = Usage()
FULL = Quota(ranks=10, gpu_hours=5.0, jobs=2, priority=3, disk_bytes=2**30)


def demand(ranks: int = 1, gpu_s: float = 0.0, priority: int = 0, disk_bytes: int = 0) -> Demand:
    return Demand(ranks, 0, gpu_s, priority, disk_bytes)


@pytest.mark.parametrize(
    ("used", "wanted", "said"),
    [
        (Usage(ranks=6), demand(ranks=8), ["8 ranks wanted, 4 of 10 left"]),
        (Usage(ranks=12), demand(ranks=1), ["1 rank wanted, 0 of 10 left"]),
        (Usage(jobs=2), demand(), ["1 more job wanted, 2 of 2 at once are there"]),
        (Usage(gpu_hours=3.5), demand(gpu_s=2 * HOUR_S), ["2 GPU-hours wanted, 1.5 of 5 left"]),
        (Usage(gpu_hours=99.0), demand(gpu_s=60.0), ["0.01667 GPU-hours wanted, 0 of 5 left"]),
        (NOTHING, demand(priority=4), ["priority 4 wanted, 3 is the highest"]),
        (Usage(disk_bytes=2**29), demand(disk_bytes=2**30),
         ["1 GiB of disk wanted, 512 MiB of 1 GiB left"]),
        (Usage(ranks=10, jobs=2), demand(priority=9),
         ["1 rank wanted, 0 of 10 left", "1 more job wanted, 2 of 2 at once are there",
          "priority 9 wanted, 3 is the highest"]),
        (Usage(ranks=2, jobs=1, gpu_hours=4.0), demand(8, HOUR_S, 3, 2**30), []),
    ],
)  # fmt: skip
def test_what_is_too_much_is_said_with_figures(
    used: Usage, wanted: Demand, said: list[str]
) -> None:
    assert faults(FULL, used, wanted) == said


def test_what_a_job_does_not_ask_for_is_no_fault_of_it() -> None:
    overdrawn = Usage(gpu_hours=99.0, disk_bytes=2**40)
    assert faults(FULL, overdrawn, demand()) == []


def test_without_limits_nothing_is_too_much() -> None:
    huge = Demand(10**9, 10**9, 1e18, 10**6, 2**80)
    assert faults(UNLIMITED, Usage(10**9, 1e9, 10**9, 2**80), huge) == []


@given(limit=st.integers(0, 20), jobs=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3))))
def test_whatever_is_admitted_one_after_the_other_stays_within_the_quota(
    limit: int, jobs: list[tuple[int, int]]
) -> None:
    quota = Quota(ranks=limit, gpu_hours=float(limit))
    used = NOTHING
    for ranks, gpu_hours in jobs:
        if not faults(quota, used, demand(ranks, gpu_hours * HOUR_S)):
            used = Usage(used.ranks + ranks, used.gpu_hours + gpu_hours, used.jobs + 1)
    assert used.ranks <= limit
    assert used.gpu_hours <= limit


def test_a_spec_asks_for_all_its_nodes_and_for_all_the_time_it_may_take() -> None:
    resources = Resources(gpu_milli=500, disk_bytes=7)
    spec = example_spec(nodes=2, ranks_per_node=4, resources=resources, priority=-3)
    assert Demand.of(spec) == Demand(8, 1000, HOUR_S, -3, 14)
    timed = example_spec(nodes=2, resources=resources, timeout_s=60.0, max_restarts=2)
    assert Demand.of(timed).gpu_s == 180.0


def test_begun_hours_are_held_once_what_was_reserved_is_used_up() -> None:
    assert held_gpu_s(HOUR_S, 1000, 0.0) == HOUR_S
    assert held_gpu_s(HOUR_S, 1000, HOUR_S) == HOUR_S
    assert held_gpu_s(HOUR_S, 1000, HOUR_S + 1) == 2 * HOUR_S
    # A job of 30 minutes that has run for ten holds its half hour, not a whole one.
    assert held_gpu_s(1800.0, 1000, 600.0) == 1800.0


def test_a_job_has_run_as_long_as_its_attempts_together() -> None:
    attempts = [
        Attempt(JobId("x"), 1, started_at=10.0, ended_at=15.0),
        Attempt(JobId("x"), 2, started_at=20.0),
    ]
    assert run_s(attempts, at=27.0) == 12.0
    # A clock that was set back gives nobody time.
    assert run_s(attempts, at=0.0) == 5.0


def test_a_member_is_held_by_their_own_quota_and_by_those_of_their_groups() -> None:
    ada = Member(UserId("ada"), Role.STUDENT, ("ml", "art", "ml"))
    group = Quota(ranks=1)
    assert limits_of(ada, {"group:ml": group, "user:bob": group}) == (
        Limit("user:ada", DEFAULT_QUOTAS[Role.STUDENT]),
        Limit("group:art", UNLIMITED),
        Limit("group:ml", group),
    )
    assert limits_of(ada, {"user:ada": UNLIMITED})[0].quota == UNLIMITED


def test_everything_that_is_too_much_is_said_at_once() -> None:
    tight = Quota(ranks=1)
    with pytest.raises(DeniedError) as caught:
        refuse_excess(
            [
                (Limit("user:ada", tight), NOTHING),
                (Limit("group:art", UNLIMITED), NOTHING),
                (Limit("group:ml", tight), Usage(ranks=1)),
            ],
            demand(ranks=2),
        )
    assert caught.value.message == (
        "the quota of user:ada: 2 ranks wanted, 1 of 1 left;"
        " the quota of group:ml: 2 ranks wanted, 0 of 1 left"
    )
