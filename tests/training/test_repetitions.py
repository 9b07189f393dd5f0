"""Launch and stop again and again: nothing hangs, nothing is left. The slow set repeats more."""

from __future__ import annotations

import random
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import StopReason
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, Outcome
from jupyter_aios.training.journal import read_json
from jupyter_aios.training.processes import members_of
from tests.launching import eventually

if TYPE_CHECKING:
    from tests.launching import Launchpad

DDP = textwrap.dedent("""\
    import torch, torch.distributed as dist
    dist.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(784, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(torch.randn(8, 784)).sum().backward()
        optimizer.step()
    print("trained")
""")
NO_SESSION = 2**22 + 1
"""Above every pid; -1 is what /proc shows of a process that is just ending."""
LONG = DDP.replace("range(3)", "range(100_000)")


def launch_and_count_hangs(pad: Launchpad, launches: int) -> int:
    """Train `launches` times on four ranks; a rank that has to be killed at its exit hung."""
    hangs = 0
    for _ in range(launches):
        ref = pad.run(DDP, nodes=4, teardown_deadline_s=10.0)
        status = pad.wait(ref)
        assert status.outcome is Outcome.SUCCEEDED, status
        assert all(pad.printed(ref, rank) == "trained\n" for rank in range(4))
        told = (e.data["text"] for e in pad.events(ref) if e.kind is EventKind.NOTICE and e.data)
        hangs += any("hung at exit" in text for text in told)
        pad.engine.discard(ref.job_id)
    return hangs


def launch_and_stop(pad: Launchpad, times: int, seed: int) -> dict[str, int]:
    """Stop attempts spread evenly over their lives; return how often each phase was met."""
    draw = random.Random(seed)
    met: dict[str, int] = {}
    for number in range(times):
        job = pad.job(LONG, nodes=4)
        ref = AttemptRef(job.id, 1)
        moment = number % 4
        if moment == 0:  # before any process exists
            pad.engine.stop(ref, StopReason.CANCELLED)
            pad.launch(job)
        else:
            pad.launch(job)
            if moment == 2:
                pad.wait(ref, AttemptPhase.RUNNING)
            elif moment == 3:
                eventually(lambda ref=ref: _has_stepped(pad, ref), "it trains")  # type: ignore[misc]
            time.sleep(draw.random() * 0.08)
            phase = pad.engine.status(ref).phase.value
            met[phase] = met.get(phase, 0) + 1
            pad.engine.stop(ref, StopReason.CANCELLED)
        status = pad.wait(ref, deadline_s=20)
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.CANCELLED)
        claimed = read_json(pad.folder(ref) / "agent.json")
        session = claimed.get("pid", NO_SESSION)
        # The agent itself has said its last word and is about to exit.
        eventually(lambda s=session, j=job: _are_gone(s, f"{j.id}/1"), "all have gone", 5)  # type: ignore[misc]
        pad.engine.discard(job.id)
        assert not (pad.home / "jobs" / job.id).exists()
    return met


def _are_gone(session: int, marker: str) -> bool:
    return not list(members_of(session, marker))


def _has_stepped(pad: Launchpad, ref: AttemptRef) -> bool:
    return any(event.kind is EventKind.STEP for event in pad.events(ref))


def test_no_launch_hangs_at_its_end(launchpad: Launchpad) -> None:
    assert launch_and_count_hangs(launchpad, 20) == 0


def test_stops_at_any_moment_leave_nothing(launchpad: Launchpad) -> None:
    met = launch_and_stop(launchpad, 100, seed=0)
    assert set(met) >= {"starting", "running"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_none_of_300_launches_hangs_at_its_end(launchpad: Launchpad) -> None:
    assert launch_and_count_hangs(launchpad, 300) == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_1000_stops_at_any_moment_leave_nothing(launchpad: Launchpad) -> None:
    launch_and_stop(launchpad, 1000, seed=1)
