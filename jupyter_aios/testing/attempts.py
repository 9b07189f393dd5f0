"""One attempt without processes: what its agent and ranks would have left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import Failure, RankExit, StopReason
from jupyter_aios.core.events import (
    AGENT_STREAM,
    EventKind,
    encode,
    encode_json,
    event_stream,
    output_stream,
)
from jupyter_aios.core.ports import AttemptPhase, AttemptStatus, LaunchPlan, Outcome, Result
from jupyter_aios.testing.cells import FakeCells
from jupyter_aios.training.secrets import NOTHING, Delivery

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERRUPTED = -2
KILLED = -9
KILL_AFTER_S = 5.0


class FakeAttempt:
    """An attempt that scripts and tests drive; `now` is its virtual clock."""

    def __init__(self, plan: LaunchPlan, now: float, delivery: Delivery = NOTHING) -> None:
        self.plan = plan
        self.delivery = delivery
        self.now = now
        self.status = AttemptStatus(AttemptPhase.STARTING, start="warm")
        self.streams: dict[str, bytearray] = {}
        self.results: dict[str, Result] = {}
        self.ignores_signals = False
        """Like a program that must be killed: a stop takes 5 s."""
        self.stop_at: float | None = None
        self.stop_reason: StopReason | None = None
        self.script: Iterator[float] | None = None
        self.due = now
        self.cells = FakeCells(self)
        self.tell(state="started", start="warm", resumed_step=None)

    @property
    def ranks(self) -> range:
        """The numbers of the ranks."""
        return range(len(self.plan.ranks))

    def tell(self, **data: object) -> None:
        """Append to the agent's account."""
        self._append(AGENT_STREAM, encode_json(EventKind.AGENT, self.now, **data))

    def emit(self, rank: int, text: str, kind: EventKind = EventKind.STDOUT) -> None:
        """Have `rank` print `text`."""
        shown = self.delivery.redaction.redact(text.encode())
        self._append(output_stream(rank), encode(kind, self.now, shown))

    def record(self, rank: int, kind: EventKind, /, **data: object) -> None:
        """Have `rank` record a step, metrics, a phase or an error."""
        data = self.delivery.redaction.redact_data(data)
        self._append(event_stream(rank), encode_json(kind, self.now, **data))

    def leave(self, name: str, content: bytes, kind: str = "pickle", error: str = "") -> None:
        """Leave a result for `pull`."""
        if not error:
            self.result_path(name, kind).parent.mkdir(parents=True, exist_ok=True)
            self.result_path(name, kind).write_bytes(content)
        self.results[name] = Result(name, kind, len(content), error)

    def result_path(self, name: str, kind: str) -> Path:
        """Return where a result lies."""
        folder = Path(self.plan.folder) / "attempts" / str(self.plan.attempt) / "results"
        return folder / f"{name}.{kind}"

    def advance(self, phase: AttemptPhase, **changes: Any) -> None:  # noqa: ANN401 - status fields
        """Move to `phase`; `changes` are fields of AttemptStatus. Times default to now."""
        if phase is AttemptPhase.RUNNING:
            changes.setdefault("running_since", self.now)
            self.tell(state="running")
        if phase is AttemptPhase.ENDED:
            changes.setdefault("ended_at", self.now)
            self.script = None
            self.tell(state="ended")
        self.status = replace(self.status, phase=phase, **changes)

    def end(
        self,
        outcome: Outcome,
        exits: Mapping[int, int] | None = None,
        failure: Failure | None = None,
        **changes: Any,  # noqa: ANN401 - status fields
    ) -> None:
        """End with the exit code of each rank, 0 where none is given."""
        codes = dict.fromkeys(self.ranks, 0) | dict(exits or {})
        causes = {KILLED: "killed by SIGKILL"}
        changes.setdefault(
            "exits", tuple(RankExit(r, code, causes.get(code, "")) for r, code in codes.items())
        )
        self.advance(AttemptPhase.ENDED, outcome=outcome, failure=failure, **changes)

    def order_stop(self, reason: StopReason) -> None:
        """Do what an agent does with a stop; the first one counts."""
        if self.stop_at is None and self.status.phase is not AttemptPhase.ENDED:
            self.stop_at = self.now + (KILL_AFTER_S if self.ignores_signals else 0.0)
            self.stop_reason = reason

    def be_kept(self, names: tuple[str, ...]) -> None:
        """Have done with the code, and wait for cells; the ranks have variables of these names."""
        self.cells.begin(names)

    def go_on(self, until: float) -> None:
        """Let time pass: the script goes on, a stop or the time limit ends it."""
        while self.status.phase is not AttemptPhase.ENDED:
            moment, act = min(self._next_acts(), key=lambda pair: pair[0], default=(until, None))
            if act is None or moment > until:
                break
            self.now = max(self.now, moment)
            act()
        self.now = until

    def _next_acts(self) -> Iterator[tuple[float, Callable[[], None]]]:
        if self.stop_at is not None:
            yield self.stop_at, self._end_stopped
        since, limit = self.status.running_since, self.plan.timeout_s
        if since is not None and limit is not None and self.stop_at is None:
            yield since + limit, lambda: self.order_stop(StopReason.TIMEOUT)
        if self.script is not None:
            yield self.due, self._play
        if self.cells.release_at is not None:
            yield self.cells.release_at, self.cells.release
        if self.cells.waiting:
            yield self.now, self.cells.play

    def _end_stopped(self) -> None:
        code = KILLED if self.ignores_signals else INTERRUPTED
        codes = dict.fromkeys(self.ranks, code)
        self.end(Outcome.STOPPED, codes, stopped_for=self.stop_reason)

    def _play(self) -> None:
        script = self.script
        delay = next(script, None) if script is not None else None
        if delay is None:
            self.script = None
        else:
            self.due += delay

    def _append(self, stream: str, frame: bytes) -> None:
        self.streams.setdefault(f"{self.plan.attempt}/{stream}", bytearray()).extend(frame)


Script = Callable[[FakeAttempt], Iterator[float]]
"""Acts on an attempt and yields the seconds until it goes on."""
