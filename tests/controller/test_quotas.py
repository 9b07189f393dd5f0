"""Quotas where they meet people: at the submission, in parallel, and at the end of a job."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.ports import AttemptPhase, Outcome
from jupyter_aios.core.quotas import Quota, Usage
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import DeniedError
from tests.controller.rig import Rig, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

BOB = UserId("bob")
PARALLEL, ROOMS = 50, 7


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home", SqlStore(f"sqlite:///{tmp_path}/home/store.sqlite"))


def usage(rig: Rig, holder: str = "user:bob") -> Usage:
    return rig.store.usage(holder, at=rig.fake.machine.now)


def test_a_submission_that_is_too_much_is_denied_with_figures_and_leaves_nothing(rig: Rig) -> None:
    service = rig.controller.service
    rig.store.save_quota("user:bob", Quota(jobs=1))
    job = service.submit(fake_spec(), BOB)
    with pytest.raises(DeniedError, match="1 more job wanted, 1 of 1 at once are there") as caught:
        service.submit(fake_spec(name="second"), BOB)
    assert caught.value.hint == "ask your teacher or an admin for more"
    assert service.jobs(BOB, (), None) == [job]
    # The same submission again is no second one.
    proposed = service.submit(fake_spec(name="other"), UserId("ada"), "20261123-231502-a1b2c3")
    again = service.submit(fake_spec(name="other"), UserId("ada"), proposed.id)
    assert again == proposed


def test_whoever_runs_the_controller_has_no_quota(rig: Rig) -> None:
    mine = rig.controller.service.user
    for number in range(6):
        rig.controller.service.submit(fake_spec(name=f"job-{number}", priority=1000), mine)
    assert usage(rig, f"user:{mine}").jobs == 6


def test_who_has_no_role_has_no_quota_to_submit_with(rig: Rig) -> None:
    with pytest.raises(DeniedError, match="0 of 0 left"):
        rig.controller.service.submit(fake_spec(), UserId("nobody"))


def test_what_a_job_held_is_free_when_it_has_ended_and_not_before(rig: Rig) -> None:
    job = rig.controller.service.submit(fake_spec(ranks_per_node=2), BOB)
    assert usage(rig) == Usage(ranks=2, jobs=1)
    rig.turn()
    rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING)
    rig.turn()
    assert rig.job(job).state is JobState.RUNNING
    assert usage(rig) == Usage(ranks=2, jobs=1)
    rig.fake.advance(rig.ref(job), AttemptPhase.ENDED, outcome=Outcome.SUCCEEDED)
    rig.turn()
    assert rig.job(job).state is JobState.SUCCEEDED
    assert usage(rig) == Usage()


def test_a_job_that_is_cancelled_while_it_waits_gives_everything_back(rig: Rig) -> None:
    job = rig.controller.service.submit(fake_spec(nodes=2), BOB)
    rig.controller.service.cancel(job.id)
    assert usage(rig) == Usage()


def test_fifty_clients_at_once_never_exceed_a_quota(rig: Rig) -> None:
    mine = rig.controller.service.user
    rig.store.save_quota(f"user:{mine}", Quota(jobs=ROOMS))

    def submit(number: int) -> bool:
        try:
            Client(rig.home).submit(fake_spec(name=f"job-{number}"))
        except DeniedError:
            return False
        return True

    with rig.serving(), ThreadPoolExecutor(PARALLEL) as threads:
        outcomes = list(threads.map(submit, range(PARALLEL)))
    assert sum(outcomes) == ROOMS
    assert usage(rig, f"user:{mine}").jobs == ROOMS


SUBMITTER = """
import sys
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.errors import DeniedError
from jupyter_aios.testing.examples import example_job
url, number = sys.argv[1:]
store = SqlStore(url)
sys.stdin.readline()
for job in range(5):
    try:
        member = Member(f"s{number}", Role.ADMIN, ("ml",))
        store.add_job(example_job(f"{member.user}-{job}", owner=member.user), member)
    except DeniedError:
        continue
    print("in", flush=True)
"""


def test_processes_that_share_a_database_never_exceed_a_quota(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite"
    store = SqlStore(url)
    store.save_quota("group:ml", Quota(ranks=ROOMS))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SUBMITTER, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert sum(text.count("in") for text in told) == ROOMS
    assert store.usage("group:ml", at=0.0).ranks == ROOMS
    store.close()


def test_a_new_quota_counts_at_the_next_submission(rig: Rig) -> None:
    rig.store.save_member(Member(BOB, Role.STUDENT, ("ml",)))
    rig.store.save_quota("group:ml", Quota(jobs=0))
    with pytest.raises(DeniedError, match="the quota of group:ml: 1 more job wanted"):
        rig.controller.service.submit(fake_spec(), BOB)
    rig.store.save_quota("group:ml", Quota(jobs=1))
    rig.controller.service.submit(fake_spec(), BOB)
    assert usage(rig, "group:ml").jobs == 1
