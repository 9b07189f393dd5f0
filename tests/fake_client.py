# ruff: noqa: ARG002 - a fake takes what the client takes, and anything for its fields
"""A client whose controller is a script: what it replies, one reply after the other."""

from __future__ import annotations

import dataclasses
import getpass
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_aios.client import Client
from jupyter_aios.commands.place import Place
from jupyter_aios.core.entities import (
    Allocation,
    Job,
    Node,
    NodeId,
    Placement,
    Resources,
    Transition,
)
from jupyter_aios.core.events import Event, EventKind
from jupyter_aios.core.ports import EventBatch, Result
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import EventReply, Hello, PruneReport
from jupyter_aios.errors import UnknownNameError
from jupyter_aios.testing.examples import example_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jupyter_aios.core.entities import BlobId, JobSpec
    from jupyter_aios.core.ports import LaunchPlan, WarmStatus
    from jupyter_aios.core.wire import PruneRequest


def node(name: str, cpu_milli: int = 2000, gpu_milli: int = 0) -> Node:
    capacity = Resources(cpu_milli=cpu_milli, memory_bytes=2**32, gpu_milli=gpu_milli)
    return Node(NodeId(name), "here", "local", capacity, is_virtual=True)


def job(state: JobState = JobState.RUNNING, **changes: Any) -> Job:
    """Return a job named mnist; `changes` are fields of Job, or of its spec."""
    fields = {f.name for f in dataclasses.fields(Job)}
    own = {key: value for key, value in changes.items() if key in fields}
    of_spec = {key: value for key, value in changes.items() if key not in fields}
    made = example_job(owner=getpass.getuser(), **{"name": "mnist", **of_spec})
    if state.holds_allocation:
        places = tuple(Placement(i, NodeId(f"v{i}")) for i in range(made.spec.nodes))
        own = {"allocation": Allocation(places), "attempt": 1, "started_at": 1005.0, **own}
    return dataclasses.replace(made, state=state, **own)


def output(text: str, rank: int = 0, kind: EventKind = EventKind.STDOUT, attempt: int = 1) -> Event:
    return Event(attempt, f"{attempt}/rank-{rank:04d}.output", 0, 0.0, kind, rank, text)


def record(kind: EventKind, rank: int = 0, attempt: int = 1, **data: Any) -> Event:
    return Event(attempt, f"{attempt}/rank-{rank:04d}.events", 0, 0.0, kind, rank, "", data)


@dataclass
class FakeClient(Client):
    """Answers from `jobs_here` and `replies`; what was asked to change is in `asked`."""

    jobs_here: list[Job] = field(default_factory=list)
    replies: list[tuple[Job, list[Event]] | BaseException] = field(default_factory=list)
    nodes_here: list[Node] = field(default_factory=lambda: [node("v0"), node("v1")])
    history_here: list[Transition] = field(default_factory=list)
    kept: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    on_cancel: Callable[[], None] | None = None
    blobs_here: set[str] = field(default_factory=set)
    trouble: str = ""

    def hello(self) -> Hello:
        user = getpass.getuser()
        return Hello(
            "0.1.0", 7, 990.0, "/home", user, 1, 2, ("python: warm, 300 MiB",), 2**33, self.trouble
        )

    def is_running(self) -> bool:
        return True

    def warm(self, interpreter: str, environment: Mapping[str, str]) -> WarmStatus:
        self.asked.append(("warm", interpreter))
        return None  # type: ignore[return-value] # nobody reads it

    def nodes(self) -> list[Node]:
        return self.nodes_here

    def jobs(self, *, states: Iterable[JobState] = (), limit: int | None = None) -> list[Job]:
        wanted = set(states)
        return [job for job in self.jobs_here if not wanted or job.state in wanted][:limit]

    def job(self, key: str) -> Job:
        for one in self.jobs_here:
            if key in {one.name, one.id}:
                return one
        raise UnknownNameError.among("job", key, (one.name for one in self.jobs_here))

    def history(self, key: str) -> list[Transition]:
        return self.history_here

    def events(self, key: str, cursor: Mapping[str, int], **_: Any) -> EventReply:
        if not self.replies:
            return EventReply(EventBatch((), dict(cursor)), self.job(key))
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return EventReply(EventBatch(tuple(reply[1]), dict(cursor)), reply[0])

    def cancel(self, key: str) -> Job:
        self.asked.append(("cancel", key))
        if self.on_cancel:
            self.on_cancel()
        return self.job(key)

    def missing_blobs(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        return [blob for blob in blobs if blob not in self.blobs_here]

    def put_blob(self, blob: BlobId, content: bytes | Path) -> None:
        self.asked.append(("blob", blob))

    def submit(self, spec: JobSpec) -> Job:
        self.asked.append(spec)
        made = dataclasses.replace(job(JobState.QUEUED), spec=spec)
        self.jobs_here.insert(0, made)
        return made

    def dry_run(self, spec: JobSpec) -> LaunchPlan:
        raise NotImplementedError

    def prune(self, request: PruneRequest) -> PruneReport:
        self.asked.append(request)
        return PruneReport(("a", "b"), 3 * 2**20)

    def results(self, key: str) -> list[Result]:
        return [
            Result(name, kind if kind in {"state", "pickle"} else "none", len(data),
                   "" if kind in {"state", "pickle"} else kind)
            for name, (kind, data) in self.kept.items()
        ]  # fmt: skip

    def fetch_result(
        self, key: str, name: str, target: Path, *, cell: tuple[int, int] | None = None
    ) -> None:
        target.write_bytes(self.kept[name][1])


@dataclass
class FakePlace(Place):
    """A place whose controller is a script."""

    fake: FakeClient | None = None

    @property
    def client(self) -> FakeClient:
        assert self.fake is not None
        return self.fake
