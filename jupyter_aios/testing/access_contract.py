"""What every store promises about people, quotas and the audit; part of `StoreContract`."""
# ruff: noqa: D102, S101 - tests: their names are sentences, and they assert

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.core.audit import START, AuditHead, AuditRow
from jupyter_aios.core.entities import Attempt, JobId, Resources, UserId
from jupyter_aios.core.policy import Member, Role, Token
from jupyter_aios.core.quotas import Quota, Usage
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import DeniedError, StateError, UnknownNameError
from jupyter_aios.testing.examples import example_job

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.ports import Store

ADA, BOB = UserId("ada"), UserId("bob")
STUDENT = Member(ADA, Role.STUDENT, ("ml",))
KEY = b"k" * 32
PARALLEL = 50
ROOMS_LEFT = 7


def example_token(token_id: str, user: UserId = ADA, created_at: float = 1.0) -> Token:
    """Return a token whose digest is told by its id."""
    return Token(token_id, (token_id * 64)[:64], user, created_at, created_at + 60, note="☠")


def example_row(number: int, **changes: Any) -> AuditRow:  # noqa: ANN401 - any field of AuditRow
    """Return a row of the audit as a gate would write it."""
    row = AuditRow(
        at=1000.25 + number,
        user=ADA,
        action="job:read",
        resource=f"job:{number}",
        is_allowed=True,
        reason="student, own",
    )
    return replace(row, **changes)


class AccessContract:
    """The promises of `core.ports.AccessStore`, and of `Store` about quotas."""

    # ---------------------------------------------------------------- members and tokens

    def test_a_member_is_found_replaced_and_listed(self, store: Store) -> None:
        assert store.member(ADA) is None
        assert store.members() == ()
        bob = Member(BOB, Role.TEACHER, ("ml", "naïve “漢字”"))
        store.save_member(bob)
        store.save_member(Member(ADA, Role.ADMIN))
        store.save_member(STUDENT)
        assert store.member(ADA) == STUDENT
        assert store.members() == (STUDENT, bob)

    def test_a_token_is_found_by_its_digest_and_nothing_else(self, store: Store) -> None:
        tokens = [example_token("b"), example_token("a", BOB), example_token("c", created_at=0.5)]
        for token in tokens:
            store.add_token(token)
        assert store.find_token("b" * 64) == tokens[0]
        assert store.find_token("b") is None
        assert store.tokens() == (tokens[2], tokens[1], tokens[0])
        assert store.tokens(BOB) == (tokens[1],)

    def test_a_token_cannot_be_added_twice(self, store: Store) -> None:
        token = example_token("a")
        store.add_token(token)
        for other in (token, Token("b", token.digest, BOB, 1.0, 2.0)):
            with pytest.raises(StateError, match="already"):
                store.add_token(other)
        assert store.tokens() == (token,)

    def test_a_revoked_token_stays_known_and_the_first_time_counts(self, store: Store) -> None:
        store.add_token(example_token("a"))
        assert store.revoke_token("a", at=5.0).revoked_at == 5.0  # noqa: PLR2004
        assert store.revoke_token("a", at=9.0).revoked_at == 5.0  # noqa: PLR2004
        found = store.find_token("a" * 64)
        assert found is not None
        assert not found.is_valid(now=2.0)
        with pytest.raises(UnknownNameError, match="'b'"):
            store.revoke_token("b", at=1.0)

    # ---------------------------------------------------------------- quotas

    def test_quotas_are_set_replaced_and_taken_back(self, store: Store) -> None:
        store.save_quota("user:ada", Quota(ranks=1))
        store.save_quota("group:ml", Quota(gpu_hours=1.5, disk_bytes=2**40))
        store.save_quota("user:ada", Quota(jobs=2, priority=-1))
        assert store.quotas() == {
            "group:ml": Quota(gpu_hours=1.5, disk_bytes=2**40),
            "user:ada": Quota(jobs=2, priority=-1),
        }
        store.save_quota("user:ada", None)
        store.save_quota("user:nobody", None)
        assert list(store.quotas()) == ["group:ml"]

    def test_a_job_is_counted_for_its_owner_and_their_groups(self, store: Store) -> None:
        demand = Resources(gpu_milli=1500, disk_bytes=2**30)
        job = example_job(nodes=2, ranks_per_node=3, resources=demand, timeout_s=1800.0)
        store.add_job(job, STUDENT)
        store.add_job(example_job("uncounted"))
        used = Usage(ranks=6, gpu_hours=1.5, jobs=1, disk_bytes=2**31)
        assert store.usage("user:ada", at=2000.0) == used
        assert store.usage("group:ml", at=2000.0) == used
        assert store.usage("user:bob", at=2000.0) == Usage()

    def test_what_a_quota_does_not_allow_is_denied_with_figures_and_not_stored(
        self, store: Store
    ) -> None:
        store.save_quota("user:ada", Quota(ranks=10, priority=5))
        store.add_job(example_job("first", ranks_per_node=6), STUDENT)
        with pytest.raises(DeniedError) as caught:
            store.add_job(example_job("second", ranks_per_node=8, priority=6), STUDENT)
        assert caught.value.message == (
            "the quota of user:ada: 8 ranks wanted, 4 of 10 left;"
            " priority 6 wanted, 5 is the highest"
        )
        assert caught.value.hint == "ask your teacher or an admin for more"
        assert store.job(JobId("second")) is None
        assert store.history(JobId("second")) == ()
        assert store.usage("user:ada", at=0.0).jobs == 1
        store.add_job(example_job("second", ranks_per_node=4, priority=5), STUDENT)

    def test_of_the_quotas_of_a_person_and_their_groups_the_tightest_counts(
        self, store: Store
    ) -> None:
        bob = Member(BOB, Role.STUDENT, ("art", "ml"))
        store.save_quota("group:ml", Quota(ranks=4))
        store.add_job(example_job("ada-s", ranks_per_node=3), STUDENT)
        with pytest.raises(DeniedError, match="the quota of group:ml: 2 ranks wanted, 1 of 4 left"):
            store.add_job(example_job("bob-s", owner="bob", ranks_per_node=2), bob)
        store.add_job(example_job("bob-s", owner="bob"), bob)
        assert store.usage("group:ml", at=0.0).ranks == 4  # noqa: PLR2004
        assert store.usage("group:art", at=0.0).ranks == 1
        assert store.usage("user:bob", at=0.0).ranks == 1

    def test_a_person_without_a_quota_has_that_of_their_role(self, store: Store) -> None:
        with pytest.raises(DeniedError, match="9 ranks wanted, 8 of 8 left"):
            store.add_job(example_job(ranks_per_node=9), STUDENT)
        with pytest.raises(DeniedError, match="1 rank wanted, 0 of 0 left"):
            store.add_job(example_job(), Member(ADA, Role.GUEST))
        store.add_job(example_job(ranks_per_node=9), Member(ADA, Role.ADMIN))

    @pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled"])
    def test_the_end_of_a_job_charges_what_it_ran_and_gives_the_rest_back(
        self, store: Store, end: str
    ) -> None:
        job = example_job(resources=Resources(gpu_milli=2000), timeout_s=36_000.0, max_restarts=1)
        store.save_quota("user:ada", Quota(gpu_hours=40.0))
        store.add_job(job, STUDENT)
        assert store.usage("user:ada", at=1000.0).gpu_hours == 40.0  # noqa: PLR2004
        _run(store, job, JobState.QUEUED, number=1, begun=2000.0, ended=3800.0)
        assert store.usage("user:ada", at=4000.0).jobs == 1
        _run(store, job, JobState(end), number=2, begun=5000.0, ended=8600.0)
        for holder in ("user:ada", "group:ml"):
            # Two GPUs for half an hour and for an hour.
            assert store.usage(holder, at=99_999.0) == Usage(gpu_hours=3.0)

    def test_a_job_that_never_ran_costs_nothing(self, store: Store) -> None:
        store.add_job(example_job(resources=Resources(gpu_milli=8000)), STUDENT)
        store.transition(example_job().id, JobState.CANCELLED, at=9999.0, reason="")
        assert store.usage("user:ada", at=99_999.0) == Usage()

    def test_without_a_time_limit_an_hour_is_reserved_and_then_each_that_has_begun(
        self, store: Store
    ) -> None:
        job = example_job(resources=Resources(gpu_milli=500))
        store.add_job(job, STUDENT)
        store.save_attempt(Attempt(job.id, 1, started_at=2000.0))
        hours = [store.usage("user:ada", at=at).gpu_hours for at in (2000.0, 5600.0, 5601.0)]
        assert hours == [0.5, 0.5, 1.0]

    def test_a_removed_job_holds_nothing(self, store: Store) -> None:
        store.add_job(example_job(), STUDENT)
        store.remove_jobs([example_job().id])
        assert store.usage("user:ada", at=0.0) == Usage()

    def test_fifty_parallel_submissions_never_exceed_a_quota(self, store: Store) -> None:
        store.save_quota("group:ml", Quota(ranks=2 * ROOMS_LEFT))
        members = [Member(UserId(f"s{n}"), Role.STUDENT, ("ml",)) for n in range(PARALLEL)]
        start = Barrier(PARALLEL)

        def submit(number: int) -> bool:
            member = members[number]
            job = example_job(f"job-{number}", owner=member.user, ranks_per_node=2)
            start.wait(timeout=30)
            try:
                store.add_job(job, member)
            except DeniedError:
                return False
            return True

        with ThreadPoolExecutor(PARALLEL) as threads:
            outcomes = list(threads.map(submit, range(PARALLEL)))
        assert sum(outcomes) == ROOMS_LEFT
        assert store.usage("group:ml", at=0.0).ranks == 2 * ROOMS_LEFT
        assert len(store.find_jobs()) == ROOMS_LEFT

    # ---------------------------------------------------------------- audit

    def test_the_audit_gives_the_newest_rows_first(self, store: Store) -> None:
        for number in range(3):
            store.add_audit(example_row(number, at=5.0 - number))
        assert [row.resource for row in store.audit(2)] == ["job:2", "job:1"]
        assert [row.seq for row in store.audit(10)] == [3, 2, 1]
        assert store.audit(10)[2].at == 5.0  # noqa: PLR2004

    def test_the_audit_is_searched_by_who_what_when_and_whether(self, store: Store) -> None:
        store.add_audit(example_row(1))
        store.add_audit(example_row(2, user=BOB, action="job:cancel"))
        store.add_audit(example_row(3, is_allowed=False, resource="secret:ada/50%_off"))

        def found(**query: object) -> list[int]:
            return [row.seq for row in store.audit(9, **query)]  # type: ignore[arg-type]

        assert found(user=BOB) == [2]
        assert found(action="job:read") == [3, 1]
        assert found(resource="50%_") == [3]
        assert found(resource="_") == [3]
        assert found(is_allowed=True) == [2, 1]
        assert found(is_allowed=False, user=BOB) == []
        assert found(since=1002.25) == [3, 2]

    def test_the_audit_is_one_unbroken_chain_sealed_or_not(self, store: Store) -> None:
        assert store.audit_head() == START
        assert store.verify_audit([]).head == START
        heads = []
        for number, key in enumerate((None, KEY, KEY, None)):
            store.add_audit(example_row(number, reason="“漢字” ' \" \n"), key)
            heads.append(store.audit_head())
        assert [row.is_sealed for row in store.audit(9)] == [False, True, True, False]
        assert heads[-1] == AuditHead(4, store.audit(1)[0].mac)
        report = store.verify_audit([KEY], heads)
        assert (report.fault, report.head, report.sealed_until) == ("", heads[-1], 3)
        assert store.verify_audit([b"another"]).fault.startswith("row 2 is not what was written")
        locked = store.verify_audit([])
        assert (locked.fault, locked.unchecked) == ("", 2)

    def test_rows_of_eight_threads_make_one_chain(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: store.add_audit(example_row(n), KEY), range(64)))
        report = store.verify_audit([KEY])
        assert (report.fault, report.head.seq) == ("", 64)


def _run(store: Store, job: Job, end: JobState, *, number: int, begun: float, ended: float) -> None:
    """Play one attempt of a job that waits."""
    store.transition(job.id, JobState.PLACED, at=begun, reason="", attempt=number)
    store.save_attempt(Attempt(job.id, number, started_at=begun))
    for state in (JobState.STARTING, JobState.RUNNING):
        store.transition(job.id, state, at=begun, reason="")
    store.save_attempt(Attempt(job.id, number, started_at=begun, ended_at=ended))
    store.transition(job.id, end, at=ended + 100, reason="")
