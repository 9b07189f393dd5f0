"""What every Store promises, as tests: subclass, give the fixture `store`, and pytest runs them."""
# ruff: noqa: D102, S101 - tests: their names are sentences, and they assert

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.entities import (
    Allocation,
    Attempt,
    Backend,
    BlobId,
    Code,
    CodeKind,
    Device,
    Failure,
    JobId,
    ManifestEntry,
    Node,
    NodeId,
    Placement,
    RankExit,
    Resources,
    SourceFile,
    UserId,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import StateError, UnknownNameError
from jupyter_aios.testing.access_contract import AccessContract
from jupyter_aios.testing.examples import example_job

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.ports import Store

ADA, BOB = UserId("ada"), UserId("bob")
PLACES = Allocation((Placement(0, NodeId("v0"), (1, 2)), Placement(1, NodeId("v1"))))


class StoreContract(AccessContract):
    """The promises of `core.ports.Store`; a subclass gives the fixture `store`, empty."""

    def test_a_job_comes_back_as_it_was_with_every_field(self, store: Store) -> None:
        blob = BlobId("f" * 64)
        job = example_job(
            name="naïve “漢字” \\ ' \" \n; DROP TABLE jobs",
            code=Code(
                kind=CodeKind.CELL,
                files=(SourceFile("a b.py", blob, "Cell In[3]", "/x.ipynb", ("Net", "loss")),),
                imports=(("np", "numpy", ""), ("nn", "torch", "nn")),
                early_values=blob,
                manifest=(ManifestEntry("x", "value", 2**40, "no source"),),
            ),
            environment=(("WORD", "schön"), ("EMPTY", "")),
            argv=("--lr", "0.1"),
            backend=Backend.GLOO,
            pull=("model",),
            timeout_s=0.1,
            priority=-5,
            resources=Resources(1, 2**50, 3, 4),
        )
        store.add_job(job)
        assert store.job(job.id) == job
        assert store.find_jobs() == [job]

    def test_an_unknown_job_is_none_and_has_no_history(self, store: Store) -> None:
        assert store.job(JobId("nobody")) is None
        assert store.history(JobId("nobody")) == ()

    def test_a_new_job_begins_its_history(self, store: Store) -> None:
        job = example_job()
        store.add_job(job)
        (first,) = store.history(job.id)
        assert (first.old, first.new, first.at) == (None, JobState.QUEUED, job.submitted_at)
        assert (first.attempt, first.reason) == (0, "submitted")

    def test_a_job_cannot_be_added_twice(self, store: Store) -> None:
        job = example_job()
        store.add_job(job)
        with pytest.raises(StateError, match=job.id):
            store.add_job(job)
        assert len(store.history(job.id)) == 1

    def test_a_transition_changes_what_it_names_and_nothing_else(self, store: Store) -> None:
        job = example_job()
        store.add_job(job)
        placed = store.transition(
            job.id, JobState.PLACED, at=1.5, reason="placed", attempt=1, allocation=PLACES
        )
        assert (placed.state, placed.reason) == (JobState.PLACED, "placed")
        assert (placed.attempt, placed.allocation) == (1, PLACES)
        assert (placed.spec, placed.started_at, placed.ended_at) == (job.spec, None, None)
        assert store.job(job.id) == placed
        store.transition(job.id, JobState.STARTING, at=2.5, reason="warm")
        ran = store.transition(
            job.id, JobState.RUNNING, at=3.5, reason="", started_at=3.25, is_stalled=True
        )
        assert (ran.allocation, ran.started_at, ran.is_stalled) == (PLACES, 3.25, True)
        failed = store.transition(
            job.id, JobState.FAILED, at=4.5, reason="x", allocation=None, ended_at=4.0
        )
        assert (failed.allocation, failed.started_at, failed.ended_at) == (None, 3.25, 4.0)

    def test_the_history_tells_time_attempt_and_reason_in_order(self, store: Store) -> None:
        job = example_job()
        store.add_job(job)
        store.transition(job.id, JobState.PLACED, at=20.0, reason="fits", attempt=1)
        store.transition(job.id, JobState.QUEUED, at=10.0, reason="the agent did not answer")
        store.transition(job.id, JobState.PLACED, at=30.0, reason="fits", attempt=2)
        steps = [(s.old, s.new, s.at, s.attempt, s.reason) for s in store.history(job.id)]
        queued, placed = JobState.QUEUED, JobState.PLACED
        assert steps == [
            (None, queued, 1000.0, 0, "submitted"),
            (queued, placed, 20.0, 1, "fits"),
            (placed, queued, 10.0, 1, "the agent did not answer"),
            (queued, placed, 30.0, 2, "fits"),
        ]

    def test_an_illegal_transition_changes_nothing(self, store: Store) -> None:
        job = example_job()
        store.add_job(job)
        with pytest.raises(StateError, match="queued cannot become running"):
            store.transition(job.id, JobState.RUNNING, at=1.0, reason="?", attempt=7)
        assert store.job(job.id) == job
        assert len(store.history(job.id)) == 1

    def test_a_transition_of_an_unknown_job_offers_the_nearest(self, store: Store) -> None:
        store.add_job(example_job("20260101-000000-aaaaaa"))
        unknown = JobId("20260101-000000-aaaaab")
        with pytest.raises(UnknownNameError, match="20260101-000000-aaaaaa"):
            store.transition(unknown, JobState.PLACED, at=1.0, reason="")

    def test_a_transition_can_change_only_its_own_fields(self, store: Store) -> None:
        store.add_job(example_job())
        with pytest.raises(TypeError, match="owner"):
            store.transition(example_job().id, JobState.PLACED, at=1.0, reason="", owner=BOB)
        assert store.job(example_job().id) == example_job()

    def test_of_eight_racing_threads_exactly_one_moves_the_job(self, store: Store) -> None:
        jobs = [example_job(f"job-{number}") for number in range(8)]
        for job in jobs:
            store.add_job(job)
        start = Barrier(8)

        def race(_thread: int) -> list[bool]:
            start.wait(timeout=30)
            return [_is_moved(store, job) for job in jobs]

        with ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(race, range(8)))
        assert [sum(of_job) for of_job in zip(*outcomes, strict=True)] == [1] * 8
        assert [len(store.history(job.id)) for job in jobs] == [2] * 8

    def test_jobs_are_found_newest_first_by_owner_name_and_state(self, store: Store) -> None:
        for number, (owner, name) in enumerate([("ada", "x"), ("bob", "x"), ("ada", "y")]):
            store.add_job(
                example_job(f"j{number}", owner=owner, name=name, submitted_at=float(number))
            )
        store.transition(JobId("j0"), JobState.CANCELLED, at=9.0, reason="")

        def ids(**query: object) -> list[str]:
            return [job.id for job in store.find_jobs(**query)]  # type: ignore[arg-type]

        assert ids() == ["j2", "j1", "j0"]
        assert ids(owner=ADA) == ["j2", "j0"]
        assert ids(owner=ADA, name="x") == ["j0"]
        assert ids(states=[JobState.QUEUED]) == ["j2", "j1"]
        assert ids(states=iter([JobState.QUEUED, JobState.CANCELLED])) == ["j2", "j1", "j0"]
        assert ids(states=[]) == []
        assert ids(limit=2) == ["j2", "j1"]
        assert ids(limit=0) == []

    def test_jobs_of_one_instant_are_ordered_by_id(self, store: Store) -> None:
        for name in ("b", "c", "a"):
            store.add_job(example_job(name))
        assert [job.id for job in store.find_jobs()] == ["c", "b", "a"]

    def test_stalled_is_marked_and_unmarked(self, store: Store) -> None:
        store.add_job(example_job())
        for is_stalled in (True, False):
            store.set_stalled(example_job().id, is_stalled=is_stalled)
            found = store.job(example_job().id)
            assert found is not None
            assert found.is_stalled is is_stalled
            assert len(store.history(found.id)) == 1
        with pytest.raises(UnknownNameError):
            store.set_stalled(JobId("nobody"), is_stalled=True)

    def test_attempts_are_inserted_replaced_and_ordered(self, store: Store) -> None:
        for name in ("one", "two"):
            store.add_job(example_job(name))
        job_id = JobId("one")
        second = Attempt(job_id, 2, started_at=20.0, start="warm", resumed_step=2**40)
        begun = Attempt(job_id, 1, started_at=10.0)
        ended = Attempt(
            job_id,
            1,
            started_at=10.0,
            ended_at=15.0,
            outcome="failed",
            exits=(RankExit(0, 1), RankExit(1, -9, "out of memory")),
            failure=Failure(1, "killed", "rank 1 was killed: ☠", "Traceback …"),
        )
        for attempt in (second, begun, ended):
            store.save_attempt(attempt)
        found = store.job(job_id)
        assert found is not None
        assert found.attempts == (ended, second)
        assert [job.attempts for job in store.find_jobs()] == [(), (ended, second)]
        moved = store.transition(job_id, JobState.PLACED, at=1.0, reason="")
        assert moved.attempts == (ended, second)

    def test_an_attempt_needs_its_job(self, store: Store) -> None:
        with pytest.raises(UnknownNameError, match="nobody"):
            store.save_attempt(Attempt(JobId("nobody"), 1, started_at=1.0))

    def test_removed_jobs_are_gone_with_their_history_and_the_audit_stays(
        self, store: Store
    ) -> None:
        for name in ("gone", "kept"):
            store.add_job(example_job(name))
            store.save_attempt(Attempt(JobId(name), 1, started_at=1.0))
        store.add_audit(AuditRow(1.0, ADA, "job:submit", "gone", is_allowed=True, reason="owner"))
        store.remove_jobs([JobId("gone"), JobId("never was")])
        store.remove_jobs([])
        assert [job.id for job in store.find_jobs()] == ["kept"]
        assert store.history(JobId("gone")) == ()
        assert len(store.history(JobId("kept"))) == 1
        assert len(store.audit(10)) == 1
        store.add_job(example_job("gone"))
        found = store.job(JobId("gone"))
        assert found is not None
        assert found.attempts == ()

    def test_nodes_of_one_engine_are_replaced(self, store: Store) -> None:
        gpu = Device(0, "H200", 141 * 2**30)
        first = [
            Node(NodeId(f"v{n}"), "here", "local", Resources(500, 2**33), (gpu,), is_virtual=True)
            for n in (1, 0)
        ]
        other = Node(NodeId("a"), "there", "ssh", Resources(64_000), is_drained=True)
        store.save_nodes("local", first)
        store.save_nodes("ssh", [other])
        assert store.nodes() == (other, first[1], first[0])
        store.save_nodes("local", first[:1])
        assert store.nodes() == (other, first[0])
        store.save_nodes("ssh", [])
        assert store.nodes() == (first[0],)

    def test_close_twice_is_harmless(self, store: Store) -> None:
        store.close()
        store.close()


def _is_moved(store: Store, job: Job) -> bool:
    try:
        store.transition(job.id, JobState.PLACED, at=1.0, reason="won", attempt=1)
    except StateError:
        return False
    return True
