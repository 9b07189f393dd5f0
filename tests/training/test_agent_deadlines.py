"""An agent's deadlines and how it insists, at times that the test chooses."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.core.entities import Allocation, NodeId, Placement, StopReason
from jupyter_aios.core.events import EventKind, event_stream
from jupyter_aios.training.agent import Agent
from jupyter_aios.training.journal import STOP_FILE, Journal, write_json
from tests.launching import Launchpad

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from pathlib import Path

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


class DeafRanks:
    """Two ranks that end when the test says so, and remember what they were sent."""

    def __init__(self) -> None:
        self.exits: dict[int, int] = {}
        self.sent: list[tuple[signal.Signals, list[int]]] = []

    @property
    def have_ended(self) -> bool:
        return len(self.exits) == 2

    def reap(self) -> None:
        """Nothing to ask."""

    def signal(
        self, number: signal.Signals, *, only: int | None = None, spare: Container[int] = ()
    ) -> None:
        reached = [
            r for r in (0, 1) if r not in self.exits and r not in spare and only in (None, r)
        ]
        self.sent.append((number, reached))


class Watched:
    """An agent whose clock is the test's: seconds since it began."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        pad = Launchpad(folder)
        job = pad.job("pass", nodes=2, **spec)
        places = Allocation((Placement(0, NodeId("v0")), Placement(1, NodeId("v1"))))
        self.folder = folder / "attempt"
        self.folder.mkdir()
        self.agent = Agent(pad.engine.plan(job, places, 1), self.folder, "warm", [])
        self.ranks = DeafRanks()

    def at(self, *times_s: float) -> list[tuple[signal.Signals, list[int]]]:
        """Return what has been sent when the agent has looked at each of these times."""
        for time_s in times_s:
            # The loop of `run` waits for real output between two looks; here nothing waits.
            self.agent._watch(self.ranks, self.agent.begun_at + time_s)  # noqa: SLF001
        return self.ranks.sent

    def say(self, rank: int, **phase: object) -> None:
        """Let a rank tell its phase."""
        journal = Journal(self.folder / event_stream(rank))
        journal.record(EventKind.PHASE, **phase)
        journal.close()
        self.agent._read_ranks()  # noqa: SLF001 - as above

    def close(self) -> None:
        self.agent.outputs.drain()
        self.agent.journal.close()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**spec: Any) -> Watched:
        made.append(Watched(tmp_path, **spec))
        return made[-1]

    yield make
    for watched in made:
        watched.close()


def test_a_stop_is_asked_for_then_urged_then_forced(watch: Callable[..., Watched]) -> None:
    watched = watch()
    write_json(watched.folder / STOP_FILE, {"reason": "cancelled"})
    watched.agent.orders.append(signal.SIGTERM)
    assert watched.at(10.0, 12.9) == [(INT, [0, 1])]
    assert watched.at(13.0, 14.9) == [(INT, [0, 1]), (TERM, [0, 1])]
    assert watched.at(15.0, 20.0)[2:] == [(KILL, [0, 1])]
    assert watched.agent.stopped_for is StopReason.CANCELLED


def test_without_an_order_a_signal_alone_stops_nothing(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.agent.orders.append(signal.SIGTERM)
    assert watched.at(1.0) == []


def test_when_a_rank_fails_its_peers_end(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.ranks.exits[1] = 3
    assert watched.at(1.0, 3.9) == [(TERM, [0])]
    assert watched.at(4.0)[1:] == [(KILL, [0])]
    assert watched.agent.failure is not None
    assert watched.agent.failure.message == "rank 1 exited with code 3"


def test_a_rank_that_has_not_started_at_the_deadline_ends_the_attempt(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(start_deadline_s=20.0)
    watched.say(0, phase="started", pid=1)
    assert watched.at(19.9) == []
    assert watched.at(20.1, 23.2) == [(TERM, [0]), (KILL, [0, 1])]
    assert watched.agent.failure is not None
    assert watched.agent.failure.message == "rank 1 did not start within 20 s"


def test_ranks_that_have_started_meet_no_start_deadline(watch: Callable[..., Watched]) -> None:
    watched = watch(start_deadline_s=20.0, stall_after_s=10.0)
    for rank in (0, 1):
        watched.say(rank, phase="started", pid=1)
    assert watched.at(10_000.0) == []
    assert watched.agent.is_stalled


def test_a_rank_that_hangs_at_its_end_is_killed_at_the_deadline(
    watch: Callable[..., Watched],
) -> None:
    watched = watch(teardown_deadline_s=20.0)
    watched.say(1, phase="ending", code=0)
    assert watched.at(19.0) == []
    assert watched.at(25.0, 30.0) == [(KILL, [1])]


def test_a_rank_on_its_way_out_is_spared_until_force_is_needed(
    watch: Callable[..., Watched],
) -> None:
    watched = watch()
    watched.say(0, phase="ending", code=0)
    write_json(watched.folder / STOP_FILE, {"reason": "cancelled"})
    watched.agent.orders.append(signal.SIGTERM)
    assert watched.at(1.0, 4.0, 6.0) == [(INT, [1]), (TERM, [1]), (KILL, [0, 1])]


def test_the_time_limit_stops_the_attempt(watch: Callable[..., Watched]) -> None:
    watched = watch(timeout_s=5.0)
    assert watched.at(4.9) == []
    assert watched.at(5.1) == [(INT, [0, 1])]
    assert watched.agent.stopped_for is StopReason.TIMEOUT
