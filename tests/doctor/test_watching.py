"""The doctor is a guest of the agent: its own faults cost the job nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.core.entities import Allocation, Failure, NodeId, Placement
from jupyter_aios.training.doctor.watching import Doctor

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.launching import Launchpad


def test_a_fault_of_the_doctor_is_noted_and_costs_nothing(
    launchpad: Launchpad,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = launchpad.job("print(1)")
    plan = launchpad.engine.plan(job, Allocation((Placement(0, NodeId("v0")),)), 1)
    told: list[object] = []
    doctor = Doctor(plan, tmp_path, lambda *event, **_: told.append(event))

    def fail(*_: object) -> None:
        raise RuntimeError("the doctor is ill")

    monkeypatch.setattr(doctor, "_look", fail)
    doctor.look(0.0, ())
    monkeypatch.setattr(doctor, "_explained", fail)
    failure = Failure(rank=0, kind="ValueError", message="bad")
    assert doctor.explain(failure, ()) == failure
    assert capsys.readouterr().err.count("RuntimeError: the doctor is ill") == 2
    doctor.look(1.0, ())  # it has switched itself off
    assert capsys.readouterr().err == ""
    assert not told
