"""What is known of an attempt from its folder: who claimed it, what its agent wrote, who lives."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import Failure, RankExit, StopReason
from jupyter_aios.core.events import AGENT_STREAM, EventKind, Frame
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, AttemptStatus, Outcome
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training import checkpoint
from jupyter_aios.training.journal import CLAIM_FILE, PLAN_FILE, STOP_FILE, JournalReader, read_json
from jupyter_aios.training.processes import ProcessIdentity, is_alive, kill_members

if TYPE_CHECKING:
    from pathlib import Path

FENCED = {"fenced": True}
"""The claim of nobody: whoever holds it, the attempt never starts."""


class AttemptWatch:
    """One attempt's status, kept up to date by reading only what its agent has added."""

    def __init__(self, ref: AttemptRef, folder: Path) -> None:
        self.ref = ref
        self.folder = folder
        self.status = AttemptStatus(AttemptPhase.STARTING)
        self._reader = JournalReader(folder / AGENT_STREAM)
        self._process: ProcessIdentity | None = None

    @property
    def is_claimed(self) -> bool:
        """True once an agent, or nobody for ever, has the attempt."""
        return self._process is not None or read_json(self.folder / CLAIM_FILE) is not None

    def look(self) -> AttemptStatus:
        """Return the status as it is now."""
        if self.status.phase is AttemptPhase.ENDED:
            return self.status
        if self._process is None:
            claimed = read_json(self.folder / CLAIM_FILE)
            if claimed is None:
                return self.status
            if claimed == FENCED:
                return self._fenced()
            self._process = from_plain(ProcessIdentity, claimed)
        # Whether it lives is asked before its last words are read, or they could be missed.
        lives = is_alive(self._process)
        for frame in self._reader.read():
            self.status = _advance(self.status, frame)
        if self.status.phase is not AttemptPhase.ENDED and not lives:
            kill_members(self._process.pid, f"{self.ref.job_id}/{self.ref.number}")
            self.status = self._lost()
        return self.status

    def fail(self, failure: Failure) -> AttemptStatus:
        """Take the attempt as failed: its engine knows that no agent will ever claim it."""
        self.status = AttemptStatus(AttemptPhase.ENDED, outcome=Outcome.FAILED, failure=failure)
        return self.status

    def _ordered(self) -> StopReason | None:
        order = read_json(self.folder / STOP_FILE)
        return None if order is None else StopReason(order["reason"])

    def _fenced(self) -> AttemptStatus:
        reason = self._ordered()
        if reason is None:
            return AttemptStatus(AttemptPhase.ABSENT)
        return AttemptStatus(AttemptPhase.ENDED, outcome=Outcome.STOPPED, stopped_for=reason)

    def _lost(self) -> AttemptStatus:
        reason = self._ordered()
        if reason is not None:
            return replace(
                self.status,
                phase=AttemptPhase.ENDED,
                outcome=Outcome.STOPPED,
                stopped_for=reason,
            )
        ranks = len(read_json(self.folder / PLAN_FILE)["ranks"])
        found = checkpoint.newest(self.folder.parent, self.ref.number + 1, ranks)
        failure = Failure(
            rank=None,
            kind="AgentLost",
            message="the job's agent was killed, and its ranks ended with it",
        )
        return replace(
            self.status,
            phase=AttemptPhase.ENDED,
            outcome=Outcome.LOST,
            failure=failure,
            checkpoint_step=None if found is None else found.step,
        )


def _advance(status: AttemptStatus, frame: Frame) -> AttemptStatus:
    """Return the status after one record of the agent."""
    if frame.kind is not EventKind.AGENT:
        return status
    data: dict[str, Any] = frame.json()
    state = data["state"]
    if state == "started":
        return replace(status, start=data["start"], resumed_step=data["resumed_step"])
    if state == "running":
        return replace(status, phase=AttemptPhase.RUNNING, running_since=frame.at)
    if state in ("stalled", "moving"):
        return replace(status, is_stalled=state == "stalled")
    if state in ("idle", "busy"):
        return replace(status, is_idle=state == "idle")
    stopped_for = data["stopped_for"]
    return replace(
        status,
        phase=AttemptPhase.ENDED,
        ended_at=frame.at,
        is_stalled=False,
        is_idle=False,
        outcome=Outcome(data["outcome"]),
        stopped_for=None if stopped_for is None else StopReason(stopped_for),
        exits=from_plain(tuple[RankExit, ...], data["exits"]),
        failure=None if data["failure"] is None else from_plain(Failure, data["failure"]),
        checkpoint_step=data["checkpoint_step"],
    )
