"""A bench for engines: launches programs on one, and looks until something is so."""
# ruff: noqa: S101 - parts of tests: they assert

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyter_aios.controller.blobs import FileBlobs, blob_id
from jupyter_aios.core.cells import Cell
from jupyter_aios.core.entities import (
    Allocation,
    Code,
    CodeKind,
    Job,
    JobId,
    JobSpec,
    Launcher,
    Placement,
    Resources,
    SourceFile,
    StopReason,
    UserId,
)
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import NO_SECRETS, AttemptPhase, AttemptRef, AttemptStatus
from jupyter_aios.core.states import JobState
from jupyter_aios.testing.programs import ORIGIN, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jupyter_aios.core.events import Event
    from jupyter_aios.core.ports import Engine, LaunchPlan
    from jupyter_aios.core.secrets import Secret

PATIENCE_S = 90.0
"""A deadline for what should take seconds: cold starts on a busy machine are slow."""
INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
JOB_VARIABLES = {"OF_THE_JOB": "schön"}
EVERYTHING = 2**30
"""A limit above all that the programs print."""


class Bench:
    """An engine on the bench: it makes plans of programs, and looks until something is so."""

    def __init__(
        self,
        engine: Engine,
        blobs: FileBlobs,
        launcher: Launcher,
        cwd: Path,
        pass_time: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.blobs = blobs
        self.launcher = launcher
        self.cwd = cwd
        self.pass_time = pass_time
        self.launched: list[AttemptRef] = []

    def plan(self, program: Program, **changes: object) -> LaunchPlan:
        """Return the plan of a new job that runs `program`; `changes` are fields of its spec."""
        return self.engine.plan(self.job(program, **changes), self.places(program), 1)

    def job(self, program: Program, **changes: object) -> Job:
        """Return a new job that runs `program`."""
        content = program.source.encode()
        self.blobs.put(blob_id(content), [content])
        file = SourceFile("program.py", blob_id(content), ORIGIN)
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        variables |= JOB_VARIABLES
        fields: dict[str, Any] = {
            "name": program.name,
            "code": Code(CodeKind.CELL, (file,)),
            "nodes": program.nodes,
            "ranks_per_node": program.ranks_per_node,
            "resources": Resources(),
            "interpreter": sys.executable,
            "cwd": str(self.cwd),
            "environment": tuple(variables.items()),
            "launcher": self.launcher,
            "engine": self.engine.name,
            **program.spec,
            **changes,
        }
        return Job(
            id=JobId(f"20261123-231502-{secrets.token_hex(3)}"),
            owner=UserId("ada"),
            spec=JobSpec(**fields),
            state=JobState.PLACED,
            submitted_at=0.0,
            attempt=1,
        )

    def cell(self, source: str, ranks: Sequence[int], **changes: Any) -> Cell:  # noqa: ANN401
        """Return a new cell for kept ranks."""
        content = source.encode()
        self.blobs.put(blob_id(content), [content])
        file = SourceFile("001-cell.py", blob_id(content), ORIGIN)
        code = Code(CodeKind.CELL, (file,))
        fields: dict[str, Any] = {"id": secrets.token_hex(8), **changes}
        return Cell(code=code, ranks=tuple(ranks), **fields)

    def told(self, ref: AttemptRef, number: int) -> dict[int, str]:
        """Return how each rank ended a cell, for those with which it is over."""
        states, over = {}, set()
        for event in self.events(ref):
            data = event.data or {}
            if event.kind is EventKind.CELL and data["number"] == number:
                if data["state"] == "over":
                    over.add(data["rank"])
                elif event.rank is not None:
                    states[event.rank] = data["state"]
        return {rank: states[rank] for rank in sorted(over)}

    def places(self, program: Program) -> Allocation:
        """Return the engine's first nodes, a task on each, without GPUs."""
        nodes = self.engine.nodes()[: program.nodes]
        assert len(nodes) == program.nodes, "the contract needs an engine of two nodes or more"
        return Allocation(tuple(Placement(task, node.id) for task, node in enumerate(nodes)))

    def launch(self, program: Program, **changes: object) -> AttemptRef:
        """Launch a new job that runs `program`."""
        return self.start(self.plan(program, **changes))

    def start(self, plan: LaunchPlan, secrets: Mapping[str, Secret] = NO_SECRETS) -> AttemptRef:
        """Launch a plan and remember it for the cleaning up."""
        ref = AttemptRef(plan.job_id, plan.attempt)
        self.launched.append(ref)
        assert self.engine.launch(plan, secrets), "launch() says how the attempt starts"
        return ref

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Look until `holds()`, or fail and say `what` did not come."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"after {PATIENCE_S} s still not: {what}"
            self.pass_time()

    def ended(self, ref: AttemptRef) -> AttemptStatus:
        """Return the status of an attempt when it has ended."""
        self.until("the attempt has ended", lambda: self._phase(ref) is AttemptPhase.ENDED)
        return self.engine.status(ref)

    def ready(self, ref: AttemptRef, ranks: int) -> None:
        """Look until the attempt runs and each of its ranks has printed `ready`."""
        self.until("all ranks are ready", lambda: self._is_ready(ref, ranks))

    def events(self, ref: AttemptRef, limit_bytes: int = EVERYTHING) -> list[Event]:
        """Return all events of a job, read in as many pieces as it takes."""
        events: list[Event] = []
        cursor: dict[str, int] = {}
        while True:
            batch = self.engine.read(ref.job_id, cursor, limit_bytes)
            if not batch.events and batch.cursor == cursor:
                return events
            events += batch.events
            cursor = json.loads(json.dumps(batch.cursor))  # clients keep it as JSON

    def text(self, ref: AttemptRef, rank: int, kind: EventKind = EventKind.STDOUT) -> str:
        """Return all that a rank has printed."""
        return "".join(e.text for e in self.events(ref) if e.rank == rank and e.kind is kind)

    def clean_up(self) -> None:
        """Stop what still runs and remove all files."""
        refs, self.launched = dict.fromkeys(self.launched), []
        for ref in refs:
            self.engine.stop(ref, StopReason.CANCELLED)
        for ref in refs:
            self.until("the attempt is over", partial(self._is_over, ref))
            self.engine.discard(ref.job_id)

    def _phase(self, ref: AttemptRef) -> AttemptPhase:
        return self.engine.status(ref).phase

    def _is_over(self, ref: AttemptRef) -> bool:
        return self._phase(ref) in {AttemptPhase.ENDED, AttemptPhase.ABSENT}

    def _is_ready(self, ref: AttemptRef, ranks: int) -> bool:
        status = self.engine.status(ref)
        assert status.phase is not AttemptPhase.ENDED, status
        return status.phase is AttemptPhase.RUNNING and all(
            "ready" in self.text(ref, rank) for rank in range(ranks)
        )
