"""An agent that comes too late: the claim is taken, or the whole job is gone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import Allocation, NodeId, Placement
from jupyter_aios.core.wire import to_plain
from jupyter_aios.training.journal import CLAIM_FILE, PLAN_FILE, STOP_FILE, claim, write_json
from tests.launching import Launchpad

if TYPE_CHECKING:
    from pathlib import Path

BE_THE_AGENT = (
    "import sys; from pathlib import Path; from jupyter_aios.training import agent\n"
    "agent.main(Path(sys.argv[1]), start='late')"
)


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    """Give the folder of an attempt that was told to stop, so that its agent ends by itself."""
    pad = Launchpad(tmp_path)
    places = Allocation((Placement(0, NodeId("v0")),))
    folder = tmp_path / "attempt"
    folder.mkdir()
    write_json(folder / PLAN_FILE, to_plain(pad.engine.plan(pad.job("pass"), places, 1)))
    write_json(folder / STOP_FILE, {"reason": "cancelled"})
    return folder


def come_late(plan: Path) -> None:
    command = [sys.executable, "-c", BE_THE_AGENT, str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_agent_that_has_the_claim_writes_its_account(attempt: Path) -> None:
    come_late(attempt / PLAN_FILE)
    assert {CLAIM_FILE, "agent.events"} <= files_of(attempt)


def test_an_agent_whose_attempt_was_claimed_by_another_ends_without_a_trace(attempt: Path) -> None:
    assert claim(attempt / CLAIM_FILE, {"fenced": True})
    come_late(attempt / PLAN_FILE)
    assert files_of(attempt) == {PLAN_FILE, STOP_FILE, CLAIM_FILE}


def test_an_agent_whose_job_was_discarded_ends_without_a_trace(tmp_path: Path) -> None:
    come_late(tmp_path / "gone" / PLAN_FILE)
    assert list(tmp_path.iterdir()) == []
