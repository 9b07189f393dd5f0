"""Real attempts for tests: a local engine with its own home, programs in, statuses out."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import (
    Allocation,
    BlobId,
    Code,
    CodeKind,
    Job,
    JobId,
    JobSpec,
    NodeId,
    Placement,
    Resources,
    SourceFile,
    UserId,
)
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, AttemptStatus
from jupyter_aios.core.states import JobState
from jupyter_aios.engines.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from jupyter_aios.core.events import Event

KEPT_VARIABLES = ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR")


def eventually(condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
    """Return as soon as `condition()` is true; fail naming `what` at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            msg = f"{what}: not within {deadline_s} s"
            raise AssertionError(msg)
        time.sleep(0.01)


class FolderBlobs:
    """The least that an engine needs of a blob store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, content: bytes) -> BlobId:
        blob = BlobId(hashlib.sha256(content).hexdigest())
        if not self.path(blob).exists():  # equal ones must not be cut while another launch reads
            whole = self.folder / f".{secrets.token_hex(8)}"
            whole.write_bytes(content)
            whole.replace(self.path(blob))
        return blob

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        return [blob for blob in blobs if not self.path(blob).exists()]

    def path(self, blob: BlobId) -> Path:
        return self.folder / blob


class Launchpad:
    """A local engine on a home of its own; every job gets an id of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.blobs = FolderBlobs(home / "blobs")
        self.engine = LocalEngine(home, self.blobs)
        self._ids = itertools.count(1)

    def job(self, source: str, *, nodes: int = 1, ranks_per_node: int = 1, **spec: Any) -> Job:
        """Return a job that runs `source` as its cell."""
        number = next(self._ids)
        file = SourceFile("cell.py", self.blobs.put(source.encode()), "Cell In[3]")
        environment = {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES}
        environment.update(spec.pop("environment", {}))
        settings: dict[str, Any] = {
            "resources": Resources(),
            "interpreter": sys.executable,
            "cwd": str(self.home),
        } | spec
        job_spec = JobSpec(
            name=f"job-{number}",
            code=Code(CodeKind.CELL, (file,)),
            nodes=nodes,
            ranks_per_node=ranks_per_node,
            environment=tuple(environment.items()),
            **settings,
        )
        # Unlike any other worker's: a job's processes are found by it.
        job_id = JobId(f"j{number}-{secrets.token_hex(4)}")
        return Job(job_id, UserId("ada"), job_spec, JobState.PLACED, time.time())

    def launch(self, job: Job, attempt: int = 1) -> AttemptRef:
        """Launch a job as the controller would."""
        placements = (Placement(i, NodeId(f"v{i}")) for i in range(job.spec.nodes))
        self.engine.launch(self.engine.plan(job, Allocation(tuple(placements)), attempt))
        return AttemptRef(job.id, attempt)

    def run(self, source: str, **spec: Any) -> AttemptRef:
        """Launch `source` and return its attempt."""
        return self.launch(self.job(source, **spec))

    def wait(
        self,
        ref: AttemptRef,
        phase: AttemptPhase = AttemptPhase.ENDED,
        deadline_s: float = 60.0,
    ) -> AttemptStatus:
        """Return the status once the attempt has reached `phase`, or has ended."""
        awaited = {phase, AttemptPhase.ENDED}

        def has_come() -> bool:
            return self.engine.status(ref).phase in awaited

        eventually(has_come, f"{ref} is {phase.value}", deadline_s)
        return self.engine.status(ref)

    def finish(self, source: str, **spec: Any) -> AttemptStatus:
        """Run `source` to its end."""
        return self.wait(self.run(source, **spec))

    def events(self, ref: AttemptRef) -> tuple[Event, ...]:
        """Return all events of the job."""
        events: list[Event] = []
        cursor: dict[str, int] = {}
        while (batch := self.engine.read(ref.job_id, cursor, 2**24)).events:
            events += batch.events
            cursor = batch.cursor
        return tuple(events)

    def printed(self, ref: AttemptRef, rank: int = 0) -> str:
        """Return what a rank printed, stdout and stderr as they came."""
        return "".join(e.text for e in self.events(ref) if e.rank == rank)

    def folder(self, ref: AttemptRef) -> Path:
        """Return the attempt's folder."""
        return self.home / "jobs" / ref.job_id / "attempts" / str(ref.number)
