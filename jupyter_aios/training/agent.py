"""The parent of an attempt's ranks on one machine.

It claims the attempt, starts the ranks, writes down what they print, reads how they end, keeps
the deadlines, and carries a stop out by itself. It needs neither its zygote nor the controller,
and what it knows stands in `agent.events`. When it is killed its ranks end with it.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import Failure, Launcher, RankExit, StopReason
from jupyter_aios.core.events import AGENT_STREAM, EventKind, event_stream
from jupyter_aios.core.ports import LaunchPlan, Outcome
from jupyter_aios.core.spellings import MIN_BYTES
from jupyter_aios.core.units import format_duration
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training import checkpoint
from jupyter_aios.training.admission import why_denied
from jupyter_aios.training.causes import exit_failure, likely_cause
from jupyter_aios.training.curves.sameness import SameBatches
from jupyter_aios.training.doctor.watching import Doctor
from jupyter_aios.training.journal import (
    CLAIM_FILE,
    STOP_FILE,
    Journal,
    JournalReader,
    claim,
    read_json,
    write_json,
)
from jupyter_aios.training.kept.watch import KeptWatch
from jupyter_aios.training.outputs import Outputs
from jupyter_aios.training.processes import identity_of, kill_members, oom_kills
from jupyter_aios.training.ranks import ForkedRanks, Ranks, TorchrunRanks
from jupyter_aios.training.secrets import (
    NOTHING,
    Delivery,
    keep_out_of_core_dumps,
    open_bundle,
    set_readable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

TICK_S = 0.05
INTERRUPT = ((0.0, signal.SIGINT), (3.0, signal.SIGTERM), (5.0, signal.SIGKILL))
"""How a stop goes: seconds after it was asked for, and the signal."""
COLLAPSE = ((0.0, signal.SIGTERM), (3.0, signal.SIGKILL))
"""How the other ranks end after one has failed."""

BALLAST_BYTES = 2**17
"""Room kept on the disk for the agent's last words and the end of the ranks' output."""


class Agent:
    """One attempt on this machine, from its claim to its last word."""

    def __init__(
        self,
        plan: LaunchPlan,
        folder: Path,
        start: str,
        orders: list[int],
        delivery: Delivery = NOTHING,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.start = start
        self.orders = orders
        """Signals that asked to look at the stop file; the handler appends."""
        self.delivery = delivery
        self.journal = Journal(folder / AGENT_STREAM, delivery.redaction)
        self.ballast = folder / "ballast"
        self.ballast.write_bytes(bytes(BALLAST_BYTES))
        self.outputs = Outputs(folder, plan.log_limit_bytes, self.notice, delivery.redaction)
        self.readers = {r.rank: JournalReader(folder / event_stream(r.rank)) for r in plan.ranks}
        # All times are monotonic: a clock that is set meanwhile must end nothing.
        self.begun_at = time.monotonic()
        self.is_running = False
        self.moved_at = self.begun_at
        self.is_stalled = False
        self.stopped_for: StopReason | None = None
        self.failure: Failure | None = None
        self.failure_at = math.inf
        self.started: set[int] = set()
        self.ending_since: dict[int, float] = {}
        self.ending_codes: dict[int, int] = {}
        self.hung_at_exit: set[int] = set()
        self.escalation: tuple[float, list[tuple[float, signal.Signals]]] | None = None
        self.sent: set[int] = set()
        self.was_over_before_stop = False
        self.oom_before = oom_kills()
        self.kept = (
            None
            if plan.keep_idle_s is None
            else KeptWatch(folder, set(self.readers), plan.keep_idle_s, self.record)
        )
        self.checkpoints = checkpoint.Keeper(folder, len(plan.ranks))
        self.batches = SameBatches(len(plan.ranks))
        self.doctor = Doctor(plan, folder, self.record)

    def notice(self, text: str) -> None:
        """Tell the person something."""
        self.record(EventKind.NOTICE, text=text)

    def tell(self, state: str, **data: object) -> None:
        """Record a change of the attempt as a whole."""
        self.record(EventKind.AGENT, state=state, **data)

    def record(self, kind: EventKind, /, **data: object) -> None:
        """Append to the agent's own file; a full disk gives up the ballast for it."""
        if not self.journal.record(kind, **data):
            self.ballast.unlink(missing_ok=True)
            self.journal.record(kind, **data)

    def run(self) -> None:
        """Start the ranks and stay until the last of them has ended."""
        resume = checkpoint.newest(self.folder.parent, self.plan.attempt, len(self.plan.ranks))
        resumed_step = None if resume is None else resume.step
        # What the attempt began with still stands when it fails before its first own.
        self.checkpoints.newest_complete = resumed_step
        self.tell("started", start=self.start, resumed_step=resumed_step)
        if self.plan.attempt > 1:
            self.notice(
                f"attempt {self.plan.attempt} has the checkpoint of step {resumed_step}"
                if resume
                else f"attempt {self.plan.attempt} starts at step 0: the job has no checkpoint"
            )
        for name in self.delivery.redaction.too_short:
            self.notice(f"{name} has less than {MIN_BYTES} bytes and is shown where it is printed")
        if self._stop_is_ordered() or self.failure is not None:
            self._finish(())
            return
        make = ForkedRanks if self.plan.launcher is Launcher.WARM else TorchrunRanks
        ranks: Ranks = make(self.plan, self.folder, self.outputs, resume, self.delivery)
        while not ranks.have_ended:
            self.outputs.pump(TICK_S)
            ranks.reap()
            self._read_ranks()
            self._watch(ranks, time.monotonic())
        kill_members(os.getpid(), f"{self.plan.job_id}/{self.plan.attempt}")
        self._read_ranks()
        self._finish(self._exits(ranks))

    def _stop_is_ordered(self) -> bool:
        order = read_json(self.folder / STOP_FILE)
        if order is not None and self.stopped_for is None:
            self.stopped_for = StopReason(order["reason"])
        return self.stopped_for is not None

    def _read_ranks(self) -> None:
        for rank, reader in self.readers.items():
            for frame in reader.read():
                self.moved_at = time.monotonic()
                self.doctor.note(rank, frame, self.moved_at)
                if frame.kind is EventKind.PHASE:
                    self._note_phase(rank, frame.json())
                elif frame.kind is EventKind.ERROR:
                    # The first error is the cause; the others lost their peer.
                    if frame.at < self.failure_at:
                        self.failure_at = frame.at
                        self.failure = Failure(rank=rank, **frame.json())
                elif frame.kind is EventKind.CELL and self.kept is not None:
                    self.kept.note(rank, frame.json(), self.outputs)
                elif frame.kind is EventKind.CHECKPOINT:
                    self.checkpoints.note(rank, frame.json()["step"])
                elif frame.kind is EventKind.BATCHES:
                    told = self.batches.note(rank, frame.json()["fingerprints"])
                    if told:
                        self.notice(told)

    def _note_phase(self, rank: int, data: dict[str, Any]) -> None:
        if data["phase"] == "started":
            self.started.add(rank)
        else:
            self.ending_since[rank] = self.moved_at
            self.ending_codes[rank] = data["code"]

    def _note_exits(self, ranks: Ranks) -> None:
        if self.stopped_for is not None:
            return
        for rank, code in ranks.exits.items():
            if rank in self.hung_at_exit:
                continue
            is_killed_by_others = code < 0 and -code not in self.sent
            if self.failure is None and code != 0:
                self.failure = exit_failure(rank, code, self.oom_before)
            elif self.failure is None and self.kept is not None and not self.kept.is_released:
                # By os._exit(0), for example: nobody would ever answer its cells.
                message = f"rank {rank} left while the ranks were kept"
                self.failure = Failure(rank=rank, kind="Exit", message=message)
            elif is_killed_by_others and self.failure_at != -math.inf:
                # Its peers may have complained of the lost connection before it was reaped.
                self.failure = exit_failure(rank, code, self.oom_before)
                self.failure_at = -math.inf

    def _watch(self, ranks: Ranks, now: float) -> None:
        self._note_running()
        if self.kept is not None:
            self.kept.look(ranks, now)
        self._note_stall(now)
        self._kill_hung_exits(ranks, now)
        self._note_stop(now)
        self._note_exits(ranks)
        late_s = now - self.begun_at - self.plan.start_deadline_s
        if not self.is_running and late_s > 0 and self.escalation is None:
            missing = sorted(set(self.readers) - self.started)
            limit = format_duration(self.plan.start_deadline_s)
            message = f"{_ranks(missing)} did not start within {limit}"
            self.failure = Failure(rank=missing[0], kind="Deadline", message=message)
        if self.failure is not None and self.escalation is None:
            self.escalation = (now, list(COLLAPSE))
        self._escalate(ranks, now)
        if self.is_running and self.escalation is None:
            self.doctor.look(now, ranks.exits)

    def _note_stop(self, now: float) -> None:
        if self.stopped_for is not None:
            return
        limit = self.plan.timeout_s
        # Ranks that are kept see the order themselves, and may be faster than its signal.
        if self.orders or (self.kept is not None and self.ending_since):
            self.orders.clear()
            self._stop_is_ordered()
        elif limit is not None and now - self.begun_at > limit:
            self.stopped_for = StopReason.TIMEOUT
            with contextlib.suppress(OSError):  # for ranks that are kept, which look for it
                write_json(self.folder / STOP_FILE, {"reason": self.stopped_for.value})
        if self.stopped_for is not None:
            were_done = self.kept is None or self.kept.is_released
            self.was_over_before_stop = were_done and len(self.ending_since) == len(self.readers)
            self.escalation = (now, list(INTERRUPT))

    def _note_running(self) -> None:
        if not self.is_running and len(self.started) == len(self.readers):
            self.is_running = True
            self.tell("running")

    def _note_stall(self, now: float) -> None:
        self.moved_at = max(self.moved_at, self.outputs.moved_at)
        if self.kept is not None and self.kept.is_idle:
            self.moved_at = now  # nothing is asked of the ranks, so nothing has to move
        is_stalled = now - self.moved_at > self.plan.stall_after_s
        if is_stalled != self.is_stalled:
            self.is_stalled = is_stalled
            self.tell("stalled" if is_stalled else "moving")

    def _kill_hung_exits(self, ranks: Ranks, now: float) -> None:
        """Kill ranks whose work is done but which do not end, and take their own word."""
        for rank, since in self.ending_since.items():
            if rank in ranks.exits or rank in self.hung_at_exit:
                continue
            if now - since > self.plan.teardown_deadline_s:
                self.hung_at_exit.add(rank)
                ranks.signal(signal.SIGKILL, only=rank)
                self.notice(
                    f"rank {rank} had ended its work but hung at exit for"
                    f" {format_duration(now - since)} and was killed"
                )

    def _escalate(self, ranks: Ranks, now: float) -> None:
        if self.escalation is None:
            return
        since, steps = self.escalation
        while steps and now - since >= steps[0][0]:
            _, number = steps.pop(0)
            self.sent.add(number)
            # A rank on its way out still has files to flush.
            spared = set(self.ending_since) if number is not signal.SIGKILL else set()
            if self.failure is not None and self.failure.rank is not None:
                spared |= {self.failure.rank} if number is signal.SIGTERM else set()
            ranks.signal(number, spare=spared)

    def _exits(self, ranks: Ranks) -> tuple[RankExit, ...]:
        exits = []
        for rank in sorted(self.readers):
            code = ranks.exits.get(rank, -signal.SIGKILL)
            if rank in self.hung_at_exit:
                code = self.ending_codes[rank]
            cause = ""
            if code < 0:
                ours = -code in self.sent
                cause = "ended with the job" if ours else likely_cause(code, self.oom_before)
            exits.append(RankExit(rank=rank, code=code, cause=cause))
        return tuple(exits)

    def _finish(self, exits: tuple[RankExit, ...]) -> None:
        self.ballast.unlink(missing_ok=True)
        self.outputs.drain()
        if self.stopped_for is not None and not self.was_over_before_stop:
            outcome = Outcome.STOPPED
        elif self.failure is None and all(item.code == 0 for item in exits):
            outcome, self.stopped_for = Outcome.SUCCEEDED, None
        else:
            outcome = Outcome.FAILED
        if self.failure is not None:
            ended = {rank for rank, code in self.ending_codes.items() if code == 0}
            self.failure = self.doctor.explain(self.failure, ended)
        self.doctor.close()
        self.tell(
            "ended",
            outcome=outcome.value,
            stopped_for=None if self.stopped_for is None else self.stopped_for.value,
            exits=[asdict(item) for item in exits],
            failure=None if self.failure is None else asdict(self.failure),
            checkpoint_step=self.checkpoints.newest_complete,
        )


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else "ranks " + ", ".join(map(str, ranks))


def main(plan_path: Path, start: str, bundle: int | None = None) -> None:
    """Be the agent of the attempt whose plan lies at `plan_path`, if nobody fenced it.

    `bundle` is the descriptor of the attempt's secrets, where there is one.
    """
    folder = plan_path.parent
    # Before the claim: whoever sees the claim may signal at once.
    orders: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: orders.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        is_ours = claim(folder / CLAIM_FILE, asdict(identity_of(os.getpid())))
    except FileNotFoundError:
        is_ours = False  # the job was discarded while this process was on its way
    if not is_ours:
        os._exit(0)
    log = os.open(folder / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target in (1, 2):
        os.dup2(log, target)
    os.close(log)
    written = read_json(plan_path)
    plan = from_plain(LaunchPlan, written)
    try:
        delivery = _receive(bundle)
        os.dup2(null, 0)
        os.close(null)
        agent = Agent(plan, folder, start, orders, delivery)
        agent.failure = why_denied(written, plan, folder)
        agent.run()
        code = 0
    except BaseException:  # noqa: BLE001 - the last place where a fault of the agent can be kept
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _receive(bundle: int | None) -> Delivery:
    """Return the secrets that came with the launch, and let nobody else look into this process."""
    if bundle is None:
        return NOTHING
    delivery = open_bundle(bundle)
    os.close(bundle)
    if delivery.secrets:
        keep_out_of_core_dumps()
        set_readable(is_readable=False)
    return delivery


if __name__ == "__main__":
    # Cold: the process that the engine started ends at once, the agent is a session of its own.
    if os.fork():
        os._exit(0)
    os.setsid()
    main(Path(sys.argv[1]), start=sys.argv[2], bundle=0)
