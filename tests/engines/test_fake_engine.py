from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import Failure, StopReason
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, Outcome
from jupyter_aios.errors import UnavailableError, UnknownNameError
from jupyter_aios.testing.engine_contract import EngineContract
from jupyter_aios.testing.engines import FakeEngine
from jupyter_aios.testing.programs import PROGRAMS, TOUR, Program
from jupyter_aios.testing.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_aios.testing.bench import Bench

UNSCRIPTED = Program(name="unscripted", source="", ranks_per_node=2)


class TestFakeEngine(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, home: Path) -> FakeEngine:
        return FakeEngine(home, scripts=SCRIPTS)

    @pytest.fixture(scope="class")
    @classmethod
    def reopened(cls, engine: FakeEngine) -> FakeEngine:
        return FakeEngine.beside(engine)

    @pytest.fixture(scope="class")
    @classmethod
    def pass_time(cls, engine: FakeEngine) -> Callable[[], None]:
        return lambda: engine.pass_time(0.1)

    def test_an_attempt_without_a_script_waits_for_the_test(
        self, bench: Bench, engine: FakeEngine
    ) -> None:
        ref = bench.launch(UNSCRIPTED)
        engine.pass_time(1000.0)
        assert engine.status(ref).phase is AttemptPhase.STARTING
        engine.advance(ref, AttemptPhase.RUNNING, is_stalled=True)
        engine.emit(ref, 1, "漢字\n")
        assert engine.status(ref).running_since == engine.machine.now
        assert engine.status(ref).is_stalled
        assert bench.text(ref, 1) == "漢字\n"
        lost = Failure(None, "AgentLost", "the agent is gone")
        engine.advance(ref, AttemptPhase.ENDED, outcome=Outcome.LOST, failure=lost)
        assert engine.status(ref).ended_at == engine.machine.now
        engine.stop(ref, StopReason.CANCELLED)
        assert engine.status(ref).outcome is Outcome.LOST

    def test_an_attempt_ends_by_hand_with_the_exits_of_its_ranks(
        self, bench: Bench, engine: FakeEngine
    ) -> None:
        ref = bench.launch(UNSCRIPTED)
        engine.attempt(ref).end(Outcome.FAILED, {1: -9})
        assert [e.code for e in engine.status(ref).exits] == [0, -9]

    def test_a_refusal_is_raised_by_launch_until_it_is_taken_back(
        self, bench: Bench, engine: FakeEngine
    ) -> None:
        engine.refusal = UnavailableError("the zygote is gone")
        plan = bench.plan(TOUR)
        try:
            with pytest.raises(UnavailableError):
                engine.launch(plan)
        finally:
            engine.refusal = None
        with pytest.raises(UnknownNameError, match=plan.job_id):
            engine.attempt(AttemptRef(plan.job_id, plan.attempt))
        assert bench.ended(bench.start(plan)).outcome is Outcome.SUCCEEDED


def test_every_program_of_the_contract_has_a_script() -> None:
    assert {program.name for program in PROGRAMS} == SCRIPTS.keys()
