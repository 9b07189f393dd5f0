from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.controller.loop import PATIENCE_S
from jupyter_aios.core.entities import Failure, RankExit, StopReason
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, AttemptStatus, LaunchPlan, Outcome
from jupyter_aios.core.states import HOLDING, JobState
from jupyter_aios.errors import StorageError, UnavailableError
from jupyter_aios.testing.engines import FakeEngine
from tests.controller.rig import ME, FullStore, Rig, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jupyter_aios.core.secrets import Secret

ALL_NODES = {"nodes": 4}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home")


def test_a_job_goes_through_all_states_and_frees_its_nodes(rig: Rig) -> None:
    job = rig.submit(**ALL_NODES)
    rig.turn()
    assert rig.job(job).state is JobState.STARTING
    assert rig.job(job).allocation is not None
    rig.fake.pass_time(1)
    rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING)
    rig.turn()
    assert rig.job(job).started_at == rig.fake.machine.now
    rig.fake.attempt(rig.ref(job)).end(Outcome.SUCCEEDED)
    rig.turn()
    ended = rig.job(job)
    assert (ended.state, ended.allocation) == (JobState.SUCCEEDED, None)
    assert ended.reason == "all 4 ranks ended well"
    assert rig.states(job) == ["queued", "placed", "starting", "running", "succeeded"]
    assert [(a.number, a.outcome, a.start) for a in ended.attempts] == [(1, "succeeded", "warm")]


def test_a_job_that_ended_before_anybody_looked_still_ran(rig: Rig) -> None:
    job = rig.submit()
    rig.turn()
    rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING)
    rig.fake.attempt(rig.ref(job)).end(Outcome.SUCCEEDED)
    rig.turn()
    assert rig.states(job)[-2:] == ["running", "succeeded"]


def test_a_waiting_job_starts_in_the_turn_that_frees_its_nodes(rig: Rig) -> None:
    first, second = rig.submit(**ALL_NODES), rig.submit(name="second", **ALL_NODES)
    rig.turn(3)
    assert rig.job(second).reason == ("waits for 4 nodes with 1 CPUs each: 0 are free now")
    rig.fake.attempt(rig.ref(first)).end(Outcome.SUCCEEDED)
    rig.turn()
    assert rig.job(second).state is JobState.STARTING


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (
            {"failure": Failure(2, "Signal", "rank 2 was killed by SIGKILL: out of memory")},
            "rank 2 was killed by SIGKILL: out of memory",
        ),
        (
            {"failure": Failure(1, "ValueError", "no such luck\nsecond line", "Traceback…")},
            "rank 1 raised ValueError: no such luck",
        ),
        (
            {"exits": (RankExit(0, 0), RankExit(2, -9, "likely out of memory"))},
            "rank 2 was killed by SIGKILL (likely out of memory)",
        ),
        ({"exits": (RankExit(0, 3),)}, "rank 0 exited with code 3"),
        ({}, "it failed without a word"),
    ],
)
def test_a_failed_job_says_why_and_its_attempt_keeps_everything(
    rig: Rig, end: dict[str, Any], reason: str
) -> None:
    job = rig.submit()
    rig.turn()
    rig.fake.advance(rig.ref(job), AttemptPhase.ENDED, outcome=Outcome.FAILED, **end)
    rig.turn()
    ended = rig.job(job)
    assert (ended.state, ended.reason) == (JobState.FAILED, reason)
    assert ended.attempts[0].failure == end.get("failure")
    assert ended.attempts[0].exits == end.get("exits", ())


def test_a_lost_agent_fails_the_job(rig: Rig) -> None:
    job = rig.submit()
    rig.turn()
    rig.fake.advance(rig.ref(job), AttemptPhase.ENDED, outcome=Outcome.LOST)
    rig.turn()
    assert rig.job(job).reason == "its agent was killed, and its ranks ended with it"


def test_restarts_are_counted_and_say_where_they_go_on(rig: Rig) -> None:
    job = rig.submit(max_restarts=2)
    for number, checkpointed in ((1, False), (2, True), (3, False)):
        rig.turn()
        assert rig.job(job).attempt == number
        rig.fake.attempt(rig.ref(job)).end(
            Outcome.FAILED, {0: 1}, checkpoint_step=15 if checkpointed else None
        )
        rig.turn()
    reasons = [s.reason for s in rig.store.history(job.id) if s.new is JobState.QUEUED][1:]
    assert reasons == [
        "attempt 1 failed: rank 0 exited with code 1; restarting from step 0: it has no checkpoint",
        "attempt 2 failed: rank 0 exited with code 1; restarting from step 16",
    ]
    assert rig.job(job).state is JobState.FAILED
    assert [attempt.outcome for attempt in rig.job(job).attempts] == ["failed"] * 3


def test_a_time_limit_fails_the_job_and_never_restarts_it(rig: Rig) -> None:
    job = rig.submit(max_restarts=5, timeout_s=90.0)
    rig.turn()
    stopped = {"outcome": Outcome.STOPPED, "stopped_for": StopReason.TIMEOUT}
    rig.fake.advance(rig.ref(job), AttemptPhase.ENDED, **stopped)
    rig.turn()
    ended = rig.job(job)
    assert ended.state is JobState.FAILED
    assert ended.reason == "it ran longer than --timeout allows (1 min 30 s)"


def test_a_preempted_job_waits_again(rig: Rig) -> None:
    job = rig.submit()
    rig.turn()
    rig.fake.advance(
        rig.ref(job), AttemptPhase.ENDED, outcome=Outcome.STOPPED, stopped_for=StopReason.PREEMPTED
    )
    rig.turn()
    assert rig.states(job)[3:] == ["preempted", "queued", "placed", "starting"]


def test_a_stalled_job_is_marked_and_unmarked(rig: Rig) -> None:
    job = rig.submit()
    rig.turn()
    rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING)
    for is_stalled in (True, False):
        rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING, is_stalled=is_stalled)
        rig.turn()
        assert rig.job(job).is_stalled is is_stalled
    assert rig.job(job).state is JobState.RUNNING


# ------------------------------------------------------------------------ cancelling


def test_a_cancelled_job_ends_cancelled_whatever_its_ranks_say(rig: Rig) -> None:
    job = rig.submit(max_restarts=3)
    rig.turn()
    rig.controller.service.cancel(job.id)
    # The agent is killed in the middle of the stop.
    rig.fake.advance(rig.ref(job), AttemptPhase.ENDED, outcome=Outcome.LOST)
    rig.turn()
    assert rig.job(job).state is JobState.CANCELLED


def test_a_job_cancelled_before_an_agent_has_it_never_starts(rig: Rig) -> None:
    job = rig.submit()
    rig.turn()
    del rig.fake.machine.claims[rig.ref(job)]  # handed over, but no agent has claimed it yet
    rig.controller.service.cancel(job.id)
    rig.turn()
    assert rig.job(job).state is JobState.CANCELLED
    assert rig.fake.machine.claims[AttemptRef(job.id, 1)] is None


def test_a_cancel_is_remembered_across_a_kill_of_the_controller(rig: Rig) -> None:
    job = rig.submit(max_restarts=3)
    rig.turn()
    rig.controller.service.cancel(job.id)
    rig.restart()
    rig.fake.pass_time(10)
    rig.turn()
    assert rig.states(job)[-1] == "cancelled"


# ------------------------------------------------------------------------ adoption


def test_a_new_controller_takes_over_what_runs(rig: Rig) -> None:
    job = rig.submit(**ALL_NODES)
    rig.turn()
    rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING)
    rig.restart()
    waiting = rig.submit(name="second")
    rig.turn()
    assert rig.job(job).state is JobState.RUNNING
    assert rig.job(waiting).state is JobState.QUEUED
    rig.fake.attempt(rig.ref(job)).end(Outcome.SUCCEEDED)
    rig.turn()
    assert rig.job(job).state is JobState.SUCCEEDED
    assert rig.job(waiting).state is JobState.STARTING


class Killed(BaseException):
    """Ends the loop where a kill -9 would."""


@pytest.mark.parametrize("is_launched", [False, True])
def test_a_kill_around_the_launch_starts_the_job_once(
    rig: Rig, *, is_launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rig.submit()

    def killed(engine: FakeEngine, plan: LaunchPlan, secrets: Mapping[str, Secret]) -> str:
        if is_launched:
            launch(engine, plan, secrets)
        raise Killed

    launch = FakeEngine.launch
    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "launch", killed)
        with contextlib.suppress(Killed):
            rig.turn()
    assert rig.job(job).state is JobState.PLACED
    rig.restart()
    rig.turn(2)
    # Where an agent has it, it goes on; where none has, it is fenced and started once more.
    claims = {ref.number: claim is not None for ref, claim in rig.fake.machine.claims.items()}
    assert claims == ({1: True} if is_launched else {1: False, 2: True})
    assert rig.job(job).state is JobState.STARTING


def test_attempts_that_no_agent_took_use_up_no_restart(rig: Rig) -> None:
    job = rig.submit()
    rig.turn()
    rig.fake.machine.claims[rig.ref(job)] = None
    rig.turn()
    assert rig.job(job).attempt == 2
    rig.fake.advance(rig.ref(job), AttemptPhase.RUNNING)
    rig.fake.attempt(rig.ref(job)).end(Outcome.SUCCEEDED)
    rig.turn()
    assert rig.job(job).state is JobState.SUCCEEDED
    assert [attempt.outcome for attempt in rig.job(job).attempts] == ["absent", "succeeded"]


def test_a_job_that_no_agent_ever_takes_fails_in_the_end(rig: Rig) -> None:
    job = rig.submit()
    for _ in range(3):
        rig.turn()
        rig.fake.machine.claims[rig.ref(job)] = None
    rig.turn()
    assert rig.job(job).reason == "3 times no agent took the job; see controller.log"


def test_controllers_that_keep_being_killed_fail_no_job(rig: Rig) -> None:
    job = rig.submit()
    for number in range(1, 6):
        rig.turn()
        assert rig.job(job).attempt == number
        del rig.fake.machine.claims[rig.ref(job)]  # killed before an agent has it
        rig.restart()
    rig.turn()
    assert rig.job(job).state is JobState.STARTING


# ------------------------------------------------------------------------ trouble


def test_a_launch_that_the_engine_refuses_fails_that_job_only(rig: Rig) -> None:
    rig.fake.refusal = UnavailableError("no agent can be started", hint="mend it")
    refused = rig.submit()
    rig.turn()
    rig.fake.refusal = None
    other = rig.submit(name="other", **ALL_NODES)
    rig.turn()
    failed = rig.job(refused)
    assert failed.state is JobState.FAILED
    assert failed.reason == ("it could not be started: no agent can be started hint: mend it")
    assert failed.attempts[0].failure is not None
    assert rig.job(other).state is JobState.STARTING


class BrokenEngine(FakeEngine):
    """Cannot tell the status of one job."""

    broken = ""

    def status(self, ref: AttemptRef) -> AttemptStatus:
        if ref.job_id == self.broken:
            raise OSError("too many open files")
        return super().status(ref)


def test_a_status_that_fails_for_a_moment_ends_nothing(tmp_path: Path) -> None:
    engine = BrokenEngine(tmp_path)
    rig = Rig(tmp_path / "home", engine=engine)
    job = rig.submit()
    rig.turn()
    engine.broken = job.id
    rig.turn(3)
    engine.broken = ""
    engine.pass_time(PATIENCE_S)
    rig.turn()
    assert rig.job(job).state is JobState.STARTING


def test_a_status_that_fails_for_long_fails_that_job_and_tells_its_agent_to_stop(
    tmp_path: Path,
) -> None:
    engine = BrokenEngine(tmp_path)
    rig = Rig(tmp_path / "home", engine=engine)
    job, other = rig.submit(), rig.submit(name="other")
    rig.turn()
    engine.broken = job.id
    rig.turn()
    engine.pass_time(PATIENCE_S + 1)
    rig.turn()
    assert rig.job(job).state is JobState.FAILED
    assert "too many open files" in rig.job(job).reason
    assert rig.job(other).state is JobState.STARTING
    assert engine.attempt(AttemptRef(job.id, 1)).stop_reason is StopReason.CANCELLED


def test_a_full_disk_loses_no_job_and_says_so(tmp_path: Path) -> None:
    store = FullStore()
    rig = Rig(tmp_path / "home", store=store)
    running, queued = rig.submit(**ALL_NODES), rig.submit(name="second", **ALL_NODES)
    rig.turn()
    rig.fake.attempt(rig.ref(running)).end(Outcome.SUCCEEDED)
    store.is_full = True
    rig.turn(3)
    with pytest.raises(StorageError):
        rig.submit(name="third")
    assert rig.controller.service.hello().trouble == "the disk is full"
    assert rig.job(running).state is JobState.STARTING
    store.is_full = False
    rig.turn(2)
    assert rig.job(running).state is JobState.SUCCEEDED
    assert rig.job(queued).state is JobState.STARTING
    assert rig.controller.service.hello().trouble == ""


def test_a_disk_that_fills_up_after_the_launch_starts_the_job_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rig.submit()
    store, launch = rig.store, rig.fake.launch
    assert isinstance(store, FullStore)

    def filling(plan: LaunchPlan, secrets: Mapping[str, Secret]) -> str:
        store.is_full = True
        return launch(plan, secrets)

    monkeypatch.setattr(rig.fake, "launch", filling)
    rig.turn(2)
    store.is_full = False
    rig.turn()
    assert rig.job(job).state is JobState.STARTING
    assert list(rig.fake.machine.claims) == [AttemptRef(job.id, 1)]


def test_a_placement_that_does_not_pass_the_check_is_never_launched(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "jupyter_aios.controller.loop.launch_faults", lambda *_: ["it is not feasible"]
    )
    job = rig.submit()
    rig.turn()
    assert rig.job(job).state is JobState.QUEUED
    assert rig.fake.machine.claims == {}


# ------------------------------------------------------------------------ the thread


def test_the_thread_starts_a_job_at_once_and_ends_when_told(rig: Rig) -> None:
    rig.controller.loop.start()
    try:
        job = rig.submit()
        wait_for(lambda: rig.job(job).state is JobState.STARTING)
        rig.fake.attempt(rig.ref(job)).end(Outcome.SUCCEEDED)
        wait_for(lambda: rig.job(job).state is JobState.SUCCEEDED)
    finally:
        rig.controller.close()
    assert not rig.controller.ledger.live(*HOLDING)


def test_the_thread_survives_a_turn_that_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    tick = rig.controller.loop.tick

    def bad_once() -> None:
        turns.append(1)
        if len(turns) == 1:
            raise RuntimeError("a bug")
        tick()

    monkeypatch.setattr(rig.controller.loop, "tick", bad_once)
    rig.controller.loop.start()
    try:
        job = rig.submit()
        wait_for(lambda: rig.job(job).state is JobState.STARTING)
    finally:
        rig.controller.close()
    assert rig.controller.service.job(job.id, ME).attempt == 1
