"""What every Engine promises, as tests: subclass, give the fixtures, and pytest runs them.

All fixtures have class scope: an engine is made once, so that its warm processes serve all tests.
"""
# ruff: noqa: D102, PLR2004, S101 - tests: their names are sentences, they assert, with numbers

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.controller.blobs import FileBlobs
from jupyter_aios.core.entities import (
    Backend,
    JobId,
    Launcher,
    StopReason,
)
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, CellRef, Outcome
from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError, StateError, UnknownNameError
from jupyter_aios.testing.bench import EVERYTHING, JOB_VARIABLES, Bench
from jupyter_aios.testing.programs import (
    ANSWER,
    BRIEF,
    ENVIRONMENT_MARK,
    EXITS_WITH_THREE,
    KEPT,
    KEPT_CELL,
    KEPT_LOOP,
    KILLED,
    ORIGIN,
    PATIENT,
    RAISES,
    STUBBORN,
    TELLS,
    TOUR,
    tour_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jupyter_aios.core.events import Event
    from jupyter_aios.core.ports import Engine

LEFTOVERS = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "JPY_PARENT_PID": "1"}
"""What a kernel that started the controller leaves in its environment."""


class EngineContract:
    """The promises of `core.ports.Engine`.

    A subclass gives `engine` (made with the fixtures `home` and `blobs`, closed at the end) and
    `reopened` (a second object over the same attempts, as after a restart of the controller),
    and may give `launcher` and `pass_time`.
    """

    launcher = Launcher.WARM

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def leftovers(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in LEFTOVERS.items():
                patch.setenv(name, value)
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def home(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("home of “ada”")

    @pytest.fixture(scope="class")
    @classmethod
    def blobs(cls, home: Path) -> FileBlobs:
        return FileBlobs(home / "blobs")

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, home: Path, blobs: FileBlobs) -> Iterator[Engine]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def reopened(cls, home: Path, blobs: FileBlobs, engine: Engine) -> Iterator[Engine]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def pass_time(cls) -> Callable[[], None]:
        """Wait a moment between two looks; a fake lets its virtual clock go on instead."""
        return lambda: time.sleep(0.01)

    @pytest.fixture(scope="class")
    @classmethod
    def shared_bench(
        cls,
        engine: Engine,
        blobs: FileBlobs,
        pass_time: Callable[[], None],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[Bench]:
        bench = Bench(engine, blobs, cls.launcher, tmp_path_factory.mktemp("cwd"), pass_time)
        yield bench
        bench.clean_up()

    @pytest.fixture
    def bench(self, shared_bench: Bench) -> Iterator[Bench]:
        # What ran before for the whole class stays; what a test launches goes with it.
        before, shared_bench.launched = shared_bench.launched, []
        yield shared_bench
        shared_bench.clean_up()
        shared_bench.launched = before

    @pytest.fixture(scope="class")
    @classmethod
    def tour(cls, shared_bench: Bench) -> AttemptRef:
        """Return an attempt of four ranks that printed, told its environment and succeeded."""
        ref = shared_bench.launch(TOUR)
        status = shared_bench.ended(ref)
        assert status.outcome is Outcome.SUCCEEDED, status
        return ref

    # ------------------------------------------------------------ before anything runs

    def test_nodes_have_names_of_their_own_and_a_capacity(self, engine: Engine) -> None:
        nodes = engine.nodes()
        assert len({node.id for node in nodes}) == len(nodes) >= 2
        assert {node.engine for node in nodes} == {engine.name}
        for node in nodes:
            assert node.capacity.cpu_milli > 0
            assert not node.is_virtual or "virtual" in node.label

    def test_a_plan_is_pure_and_the_same_each_time(self, bench: Bench) -> None:
        job = bench.job(TOUR)
        first, second = (bench.engine.plan(job, bench.places(TOUR), 1) for _ in range(2))
        assert first == second
        assert [rank.rank for rank in first.ranks] == [0, 1, 2, 3]
        assert not Path(first.folder).exists()

    def test_nccl_without_gpus_is_refused_with_a_hint(self, bench: Bench) -> None:
        with pytest.raises(InputError, match="--backend gloo"):
            bench.plan(BRIEF, backend=Backend.NCCL)

    def test_reading_an_unknown_job_gives_nothing(self, engine: Engine) -> None:
        unknown = JobId("20200101-000000-ffffff")
        assert engine.read(unknown, {}, EVERYTHING).events == ()
        assert engine.results(AttemptRef(unknown, 1)) == ()
        assert engine.discard(unknown) == 0

    # ------------------------------------------------------------ a program that succeeds

    def test_success_is_told_of_every_rank(self, tour: AttemptRef, shared_bench: Bench) -> None:
        status = shared_bench.engine.status(tour)
        assert status.phase is AttemptPhase.ENDED
        assert (status.failure, status.stopped_for) == (None, None)
        assert [(e.rank, e.code) for e in status.exits] == [(rank, 0) for rank in range(4)]
        assert status.running_since is not None
        assert status.ended_at is not None
        assert status.running_since <= status.ended_at
        assert status.start

    def test_the_output_of_each_rank_arrives_whole_and_in_order(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        assert [shared_bench.text(tour, rank) for rank in range(4)] == [
            tour_text(rank) for rank in range(4)
        ]

    def test_ranks_have_the_environment_that_torchrun_would_give_them(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        ranks = _environments(tour, shared_bench)
        for rank, variables in enumerate(ranks):
            expected = {
                "RANK": rank,
                "WORLD_SIZE": 4,
                "LOCAL_RANK": rank % 2,
                "LOCAL_WORLD_SIZE": 2,
                "GROUP_RANK": rank // 2,
                "GROUP_WORLD_SIZE": 2,
                "ROLE_RANK": rank,
                "ROLE_WORLD_SIZE": 4,
                "TORCHELASTIC_RESTART_COUNT": 0,
                "TORCHELASTIC_MAX_RESTARTS": 0,
            }
            assert {name: variables.get(name) for name in expected} == {
                name: str(value) for name, value in expected.items()
            }
        for shared in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
            (value,) = {variables.get(shared) for variables in ranks}
            assert value
        assert 0 < int(ranks[0]["MASTER_PORT"]) < 65536

    def test_ranks_have_the_job_s_variables_and_no_leftovers_of_a_kernel(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        for variables in _environments(tour, shared_bench):
            assert JOB_VARIABLES.items() <= variables.items()
            assert variables.get("MPLBACKEND") != LEFTOVERS["MPLBACKEND"]
            assert not [name for name in variables if name.startswith("JPY_")]

    def test_a_cursor_gives_every_event_once_however_little_is_read_at_a_time(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        at_once = shared_bench.engine.read(tour.job_id, {}, EVERYTHING)
        assert [e.at for e in at_once.events] == sorted(e.at for e in at_once.events)
        again = shared_bench.engine.read(tour.job_id, at_once.cursor, EVERYTHING)
        assert (again.events, again.cursor) == ((), at_once.cursor)
        # 1 byte is less than any event: there must be progress all the same.
        for limit_bytes in (1, 1000, 20_000):
            pieces = shared_bench.events(tour, limit_bytes)
            assert Counter(map(_place, pieces)) == Counter(map(_place, at_once.events))
            assert _by_stream(pieces) == _by_stream(at_once.events)

    def test_a_batch_is_about_as_large_as_its_limit(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        batch = shared_bench.engine.read(tour.job_id, {}, 20_000)
        assert 0 < sum(batch.cursor.values()) < 200_000

    def test_results_are_there_or_say_why_not(self, tour: AttemptRef, shared_bench: Bench) -> None:
        engine = shared_bench.engine
        left = {result.name: result for result in engine.results(tour)}
        assert left.keys() == {"answer", "nothing"}
        assert (left["answer"].kind, left["answer"].error) == ("pickle", "")
        content = engine.result_path(tour, "answer").read_bytes()
        assert len(content) == left["answer"].size_bytes
        assert pickle.loads(content) == ANSWER  # noqa: S301 - written by this test's own program
        assert left["nothing"].kind == "none"
        assert left["nothing"].error

    def test_an_unknown_result_offers_those_that_exist(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        with pytest.raises(UnknownNameError, match="answer"):
            shared_bench.engine.result_path(tour, "answers")

    def test_stopping_what_has_ended_changes_nothing(
        self, tour: AttemptRef, shared_bench: Bench
    ) -> None:
        before = shared_bench.engine.status(tour)
        shared_bench.engine.stop(tour, StopReason.CANCELLED)
        shared_bench.engine.fence(tour)
        assert shared_bench.engine.status(tour) == before

    # ------------------------------------------------------------ programs that fail

    def test_sys_exit_3_is_failure_3(self, bench: Bench) -> None:
        status = bench.ended(bench.launch(EXITS_WITH_THREE))
        assert status.outcome is Outcome.FAILED
        assert [(e.rank, e.code) for e in status.exits] == [(0, 3)]
        assert status.failure is not None
        assert status.failure.rank == 0
        assert "3" in status.failure.message

    def test_an_exception_is_told_with_its_traceback_and_ends_the_others(
        self, bench: Bench
    ) -> None:
        ref = bench.launch(RAISES)
        status = bench.ended(ref)
        assert status.outcome is Outcome.FAILED
        failure = status.failure
        assert failure is not None
        assert (failure.rank, failure.kind) == (1, "ValueError")
        assert "no such luck: naïve" in failure.message
        assert ORIGIN in failure.traceback
        assert 'raise ValueError("no such luck: naïve")' in failure.traceback
        assert [e.rank for e in status.exits] == [0, 1, 2]
        assert all(e.code != 0 for e in status.exits)
        told = [e.at for e in bench.events(ref) if e.kind is EventKind.ERROR and e.rank == 1]
        assert len(told) == 1
        assert status.ended_at is not None
        assert status.ended_at - told[0] < 5.0

    def test_a_killed_rank_is_told_by_rank_signal_and_cause(self, bench: Bench) -> None:
        ref = bench.launch(KILLED)
        status = bench.ended(ref)
        assert status.outcome is Outcome.FAILED
        assert status.failure is not None
        assert status.failure.rank == 1
        killed = next(e for e in status.exits if e.rank == 1)
        assert killed.code == -9
        assert killed.cause
        assert len(status.exits) == 2

    # ------------------------------------------------------------ secrets

    def test_the_code_has_its_secrets_and_what_it_tells_shows_their_names(
        self, bench: Bench
    ) -> None:
        values = {name: f"{name.lower()}-{os.urandom(12).hex()}" for name in ("TOKEN", "KEY")}
        secrets = {name: Secret(value) for name, value in values.items()}
        plan = bench.plan(TELLS)
        ref = bench.start(plan, secrets)
        status = bench.ended(ref)
        token, key = (hashlib.sha256(value.encode()).hexdigest() for value in values.values())
        told = [token, key, key, "the token is •••TOKEN•••", "[]"]
        assert bench.text(ref, 0).splitlines() == told
        assert status.failure is not None
        assert status.failure.message == "not with •••KEY•••"
        everything = repr((plan, status, bench.events(ref)))
        assert not [name for name, value in values.items() if value in everything]
        for path in Path(plan.folder).rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not [name for name, value in values.items() if value.encode() in content], path

    def test_a_secret_that_was_not_asked_for_is_refused(self, bench: Bench) -> None:
        with pytest.raises(InputError, match="OTHER is handed over"):
            bench.engine.launch(bench.plan(BRIEF), {"OTHER": Secret("something")})

    def test_a_variable_cannot_hold_a_zero_byte(self, bench: Bench) -> None:
        with pytest.raises(InputError, match="KEY holds a zero byte"):
            bench.engine.launch(bench.plan(TELLS), {"KEY": Secret(b"some\0thing")})

    # ------------------------------------------------------------ stop, fence, launch again

    def test_a_stop_ends_the_attempt_and_says_why(self, bench: Bench) -> None:
        ref = bench.launch(PATIENT)
        bench.ready(ref, ranks=2)
        bench.engine.stop(ref, StopReason.CANCELLED)
        status = bench.ended(ref)
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.CANCELLED)
        assert [e.rank for e in status.exits] == [0, 1]
        assert status.failure is None

    def test_a_stop_twice_is_harmless_and_the_first_reason_counts(self, bench: Bench) -> None:
        ref = bench.launch(PATIENT)
        bench.ready(ref, ranks=2)
        for reason in (StopReason.PREEMPTED, StopReason.CANCELLED, StopReason.CANCELLED):
            bench.engine.stop(ref, reason)
        status = bench.ended(ref)
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.PREEMPTED)
        bench.engine.stop(ref, StopReason.CANCELLED)
        assert bench.engine.status(ref) == status

    def test_a_stop_kills_what_ignores_signals(self, bench: Bench) -> None:
        ref = bench.launch(STUBBORN)
        bench.ready(ref, ranks=1)
        bench.engine.stop(ref, StopReason.CANCELLED)
        status = bench.ended(ref)
        assert status.outcome is Outcome.STOPPED
        assert [(e.rank, e.code) for e in status.exits] == [(0, -9)]

    def test_the_time_limit_ends_the_attempt(self, bench: Bench) -> None:
        status = bench.ended(bench.launch(PATIENT, timeout_s=0.3))
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.TIMEOUT)

    def test_a_stop_right_after_the_launch_ends_it_whatever_it_had_begun(
        self, bench: Bench
    ) -> None:
        ref = bench.launch(PATIENT)
        bench.engine.stop(ref, StopReason.CANCELLED)
        status = bench.ended(ref)
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.CANCELLED)

    def test_what_was_stopped_before_its_launch_never_starts(self, bench: Bench) -> None:
        plan = bench.plan(BRIEF)
        ref = AttemptRef(plan.job_id, plan.attempt)
        bench.engine.stop(ref, StopReason.CANCELLED)
        bench.start(plan)
        # A later launch has come and gone: the earlier one would have started by now.
        bench.ended(bench.launch(BRIEF))
        status = bench.engine.status(ref)
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.CANCELLED)
        assert bench.events(ref) == []

    def test_what_was_fenced_before_its_launch_never_starts(self, bench: Bench) -> None:
        plan = bench.plan(BRIEF)
        ref = AttemptRef(plan.job_id, plan.attempt)
        for _ in range(2):
            bench.engine.fence(ref)
        assert bench.engine.status(ref).phase is AttemptPhase.ABSENT
        bench.start(plan)
        bench.ended(bench.launch(BRIEF))
        assert bench.engine.status(ref).phase is AttemptPhase.ABSENT
        assert bench.events(ref) == []

    def test_a_fence_does_not_disturb_what_runs(self, bench: Bench) -> None:
        ref = bench.launch(PATIENT)
        bench.ready(ref, ranks=2)
        bench.engine.fence(ref)
        bench.ended(bench.launch(BRIEF))
        assert bench.engine.status(ref).phase is AttemptPhase.RUNNING

    def test_a_launch_twice_starts_once(self, bench: Bench) -> None:
        plan = bench.plan(PATIENT)
        for _ in range(2):
            ref = bench.start(plan)
        bench.ready(ref, ranks=2)
        bench.start(plan)
        bench.ended(bench.launch(BRIEF))
        assert [bench.text(ref, rank) for rank in range(2)] == ["ready\n"] * 2
        bench.engine.stop(ref, StopReason.CANCELLED)
        before = bench.ended(ref)
        bench.start(plan)
        bench.ended(bench.launch(BRIEF))
        assert bench.engine.status(ref) == before
        assert [bench.text(ref, rank) for rank in range(2)] == ["ready\n"] * 2

    # ------------------------------------------------------------ ranks that are kept

    def test_kept_ranks_run_cells_one_after_the_other_with_their_variables(
        self, bench: Bench, reopened: Engine
    ) -> None:
        ref = bench.launch(KEPT)
        bench.until("the ranks are idle", lambda: bench.engine.status(ref).is_idle)
        cells = [bench.cell(KEPT_CELL, [0, 1], pull=("answer",)), bench.cell(KEPT_CELL, [1])]
        first, second = (bench.engine.run_cell(ref, cell) for cell in cells)
        assert (first.number, second.number) == (1, 2)
        assert bench.engine.run_cell(ref, cells[0]) == first
        # The second cell does not wait for the first one's other rank.
        bench.until("the second is over", lambda: len(bench.told(ref, 2)) == 1)
        bench.until("the first is over", lambda: len(bench.told(ref, 1)) == len(cells[0].ranks))
        assert bench.told(ref, 1) == {0: "done", 1: "done"}
        assert bench.told(ref, 2) == {1: "done"}
        after = bench.engine.read(ref.job_id, first.cursor, EVERYTHING).events
        numbers = [e.data["number"] for e in after if e.kind is EventKind.CELL and e.data]
        assert set(numbers) == {1, 2}
        kept = reopened.kept(ref)
        assert kept.under_way == ()
        assert all("answer" in names for names in kept.names)
        for rank in (0, 1):
            (result,) = reopened.results(CellRef(ref, 1, rank))
            content = reopened.result_path(CellRef(ref, 1, rank), "answer").read_bytes()
            assert len(content) == result.size_bytes
            assert pickle.loads(content) == 43  # noqa: S301 - of this test's own program

    def test_an_interrupt_ends_a_cell_and_not_its_ranks(self, bench: Bench) -> None:
        ref = bench.launch(KEPT)
        bench.until("the ranks are idle", lambda: bench.engine.status(ref).is_idle)
        looping = bench.engine.run_cell(ref, bench.cell(KEPT_LOOP, [0, 1])).number
        bench.engine.interrupt_cell(ref, looping)
        next_one = bench.engine.run_cell(ref, bench.cell(KEPT_CELL, [0, 1])).number
        bench.until("the next cell is over", lambda: len(bench.told(ref, next_one)) == 2)
        assert bench.told(ref, looping) == {0: "interrupted", 1: "interrupted"}
        assert bench.told(ref, next_one) == {0: "done", 1: "done"}
        bench.engine.interrupt_cell(ref, looping)
        with pytest.raises(UnknownNameError):
            bench.engine.interrupt_cell(ref, 99)

    def test_idle_ranks_are_released_and_take_no_cell_any_more(self, bench: Bench) -> None:
        ref = bench.launch(KEPT, keep_idle_s=0.2)
        status = bench.ended(ref)
        assert status.outcome is Outcome.SUCCEEDED
        assert [e.code for e in status.exits] == [0, 0]
        assert not status.is_idle
        with pytest.raises(StateError):
            bench.engine.run_cell(ref, bench.cell(KEPT_CELL, [0]))

    # ------------------------------------------------------------ another engine object

    def test_another_engine_object_finds_reads_and_stops_what_runs(
        self, bench: Bench, reopened: Engine
    ) -> None:
        ref = bench.launch(PATIENT)
        bench.ready(ref, ranks=2)
        assert reopened.status(ref) == bench.engine.status(ref)
        ours, theirs = (e.read(ref.job_id, {}, EVERYTHING) for e in (bench.engine, reopened))
        assert theirs == ours
        reopened.stop(ref, StopReason.CANCELLED)
        assert bench.ended(ref).outcome is Outcome.STOPPED
        assert reopened.status(ref) == bench.engine.status(ref)

    def test_another_engine_object_knows_how_an_attempt_had_ended(
        self, tour: AttemptRef, shared_bench: Bench, reopened: Engine
    ) -> None:
        assert reopened.status(tour) == shared_bench.engine.status(tour)
        assert reopened.results(tour) == shared_bench.engine.results(tour)
        before = shared_bench.engine.result_path(tour, "answer").read_bytes()
        assert reopened.result_path(tour, "answer").read_bytes() == before

    # ------------------------------------------------------------ afterwards

    def test_discard_removes_the_files_and_twice_is_harmless(self, bench: Bench) -> None:
        plan = bench.plan(BRIEF)
        ref = bench.start(plan)
        assert bench.ended(ref).outcome is Outcome.SUCCEEDED
        assert bench.engine.discard(ref.job_id) > 0
        assert not Path(plan.folder).exists()
        assert bench.events(ref) == []
        assert bench.engine.results(ref) == ()
        assert bench.engine.discard(ref.job_id) == 0
        bench.launched.remove(ref)


def _environments(ref: AttemptRef, bench: Bench) -> list[dict[str, str]]:
    found = []
    for rank in range(4):
        lines = bench.text(ref, rank, EventKind.STDERR).splitlines()
        (line,) = (line for line in lines if line.startswith(ENVIRONMENT_MARK))
        found.append(json.loads(line[len(ENVIRONMENT_MARK) :]))
    return found


def _place(event: Event) -> tuple[str, int]:
    return event.stream, event.offset


def _by_stream(events: Iterable[Event]) -> dict[str, list[Event]]:
    streams: dict[str, list[Event]] = {}
    for event in events:
        streams.setdefault(event.stream, []).append(event)
    return streams
