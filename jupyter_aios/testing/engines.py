"""An engine without processes: its attempts go on when a test says so, or by a virtual clock."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import (
    Backend,
    JobId,
    Launcher,
    Node,
    NodeId,
    Resources,
    StopReason,
)
from jupyter_aios.core.events import (
    OUTPUTS,
    Event,
    decode,
    stream_rank,
)
from jupyter_aios.core.ports import (
    NO_SECRETS,
    AttemptPhase,
    AttemptRef,
    AttemptStatus,
    CellRef,
    EventBatch,
    LaunchPlan,
    Outcome,
    RankPlan,
    Result,
    WarmStatus,
)
from jupyter_aios.errors import InputError, UnknownNameError
from jupyter_aios.testing.attempts import FakeAttempt, Script
from jupyter_aios.training.secrets import Delivery, chosen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
    from jupyter_aios.core.entities import Allocation, Job
    from jupyter_aios.core.secrets import Secret
    from jupyter_aios.errors import AiosError


@dataclass
class FakeMachine:
    """What outlives an engine object: the claimed and fenced attempts, and the clock."""

    root: Path
    nodes: tuple[Node, ...]
    scripts: Mapping[str, Script]
    now: float = 1_000.0
    claims: dict[AttemptRef, FakeAttempt | None] = field(default_factory=dict)
    """None: fenced before any agent claimed it."""
    fenced_for: dict[AttemptRef, StopReason] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)


def fake_nodes(count: int, engine: str = "fake", cpu_milli: int = 1000) -> tuple[Node, ...]:
    """Return virtual nodes without GPUs, named v0, v1, …."""
    capacity = Resources(cpu_milli=cpu_milli, memory_bytes=2**33)
    return tuple(
        Node(NodeId(f"v{number}"), "fake", engine, capacity, is_virtual=True)
        for number in range(count)
    )


class FakeEngine:
    """Implements `core.ports.Engine` in memory; only results are files, below `root`.

    An attempt whose name has a script plays it as `pass_time` lets time pass; others go where
    `advance`, `emit` and `attempt(ref)` lead them. `FakeEngine.beside(engine)` is a second
    object for the same machine, as after a restart of the controller.
    """

    name = "fake"

    def __init__(
        self,
        root: Path,
        *,
        node_count: int = 4,
        scripts: Mapping[str, Script] | None = None,
        machine: FakeMachine | None = None,
    ) -> None:
        self.machine = machine or FakeMachine(root, fake_nodes(node_count), scripts or {})
        self.refusal: AiosError | None = None
        """Raised by every launch while it is set."""

    @classmethod
    def beside(cls, other: FakeEngine) -> FakeEngine:
        """Return a second engine over the same machine."""
        return cls(other.machine.root, machine=other.machine)

    def pass_time(self, seconds: float) -> None:
        """Let the virtual clock go on."""
        with self.machine.lock:
            self.machine.now += seconds
            for attempt in self._attempts():
                attempt.go_on(self.machine.now)

    def attempt(self, ref: AttemptRef) -> FakeAttempt:
        """Return a launched attempt, to drive it by hand.

        Raises:
            UnknownNameError: it was not launched.

        """
        found = self.machine.claims.get(ref)
        if found is None:
            launched = [f"{r.job_id}/{r.number}" for r, a in self.machine.claims.items() if a]
            raise UnknownNameError.among("attempt", f"{ref.job_id}/{ref.number}", launched)
        return found

    def advance(self, ref: AttemptRef, phase: AttemptPhase, **changes: Any) -> None:  # noqa: ANN401
        """Move an attempt to `phase`; `changes` are fields of AttemptStatus."""
        with self.machine.lock:
            self.attempt(ref).advance(phase, **changes)

    def emit(self, ref: AttemptRef, rank: int, text: str) -> None:
        """Have a rank print `text`."""
        with self.machine.lock:
            self.attempt(ref).emit(rank, text)

    def nodes(self) -> tuple[Node, ...]:
        """Return the virtual nodes."""
        return self.machine.nodes

    def plan(self, job: Job, allocation: Allocation, attempt: int) -> LaunchPlan:
        """Return the attempt as data; pure."""
        spec = job.spec
        fewest = min(len(placement.devices) for placement in allocation.placements)
        if spec.backend is Backend.NCCL and fewest < spec.ranks_per_node:
            msg = f"--backend nccl needs a GPU per rank: {spec.ranks_per_node} per node"
            raise InputError(msg, hint="use --backend gloo, or ask for --gpus")
        return LaunchPlan(
            job_id=job.id,
            name=spec.name,
            attempt=attempt,
            launcher=Launcher.WARM,
            interpreter=spec.interpreter,
            cwd=spec.cwd,
            sys_path=spec.sys_path,
            argv=spec.argv,
            environment=spec.environment,
            backend=spec.backend,
            code=spec.code,
            ranks=tuple(_rank_plans(job, allocation, attempt)),
            folder=str(self.machine.root / "jobs" / job.id),
            pull=spec.pull,
            pull_limit_bytes=spec.pull_limit_bytes,
            log_limit_bytes=spec.log_limit_bytes,
            memory_limit_bytes=0,
            timeout_s=spec.timeout_s,
            start_deadline_s=spec.start_deadline_s,
            teardown_deadline_s=spec.teardown_deadline_s,
            stall_after_s=spec.stall_after_s,
            keep_idle_s=spec.keep_idle_s,
            secrets=spec.secrets,
        )

    def launch(self, plan: LaunchPlan, secrets: Mapping[str, Secret] = NO_SECRETS) -> str:
        """Claim the attempt, unless it is claimed or fenced."""
        delivery = Delivery.of(chosen(plan.secrets, secrets))
        ref = AttemptRef(plan.job_id, plan.attempt)
        with self.machine.lock:
            if self.refusal is not None:
                raise self.refusal
            if ref not in self.machine.claims:
                attempt = FakeAttempt(plan, self.machine.now, delivery)
                script = self.machine.scripts.get(plan.name)
                attempt.script = script(attempt) if script else None
                self.machine.claims[ref] = attempt
        return "warm"

    def status(self, ref: AttemptRef) -> AttemptStatus:
        """Return what is known of an attempt; one that nobody knows may still start."""
        with self.machine.lock:
            if ref not in self.machine.claims:
                return AttemptStatus(AttemptPhase.STARTING)
            attempt = self.machine.claims[ref]
            if attempt is not None:
                return attempt.status
            reason = self.machine.fenced_for.get(ref)
        if reason is None:
            return AttemptStatus(AttemptPhase.ABSENT)
        return AttemptStatus(AttemptPhase.ENDED, outcome=Outcome.STOPPED, stopped_for=reason)

    def fence(self, ref: AttemptRef) -> None:
        """Take the claim, unless an agent has it."""
        with self.machine.lock:
            self.machine.claims.setdefault(ref, None)

    def stop(self, ref: AttemptRef, reason: StopReason) -> None:
        """Order the stop; it is done as time passes."""
        with self.machine.lock:
            self.fence(ref)
            attempt = self.machine.claims[ref]
            if attempt is None:
                self.machine.fenced_for.setdefault(ref, reason)
            else:
                attempt.order_stop(reason)

    def read(self, job_id: JobId, cursor: Mapping[str, int], limit_bytes: int) -> EventBatch:
        """Return events after `cursor` in the order of their time, at least one if there is any."""
        pairs: list[tuple[Event, int]] = []
        with self.machine.lock:
            for attempt in self._attempts(job_id):
                for stream, content in attempt.streams.items():
                    begin = cursor.get(stream, 0)
                    pairs += _events(bytes(content[begin:]), begin, attempt.plan.attempt, stream)
        pairs.sort(key=lambda pair: (pair[0].attempt, pair[0].at))
        taken: list[Event] = []
        after, left = dict(cursor), limit_bytes
        for event, end in pairs:
            left -= end - event.offset
            if taken and left < 0:
                break
            taken.append(event)
            after[event.stream] = end
        return EventBatch(tuple(taken), after)

    def run_cell(self, ref: AttemptRef, cell: Cell) -> CellTicket:
        """Order a cell; a script, or whoever drives the attempt, runs it."""
        with self.machine.lock:
            return self.attempt(ref).cells.order(cell)

    def interrupt_cell(self, ref: AttemptRef, number: int) -> None:
        """Order an interrupt; it is done as time passes."""
        with self.machine.lock:
            self.attempt(ref).cells.interrupt(number)

    def kept(self, ref: AttemptRef) -> KeptStatus:
        """Return what the ranks have and are at."""
        with self.machine.lock:
            return self.attempt(ref).cells.status()

    def results(self, ref: AttemptRef | CellRef) -> tuple[Result, ...]:
        """Return what the attempt, or one rank in one cell, left for `pull`."""
        if isinstance(ref, CellRef):
            return self.attempt(ref.attempt).cells.results(ref)
        attempt = self.machine.claims.get(ref)
        return tuple(attempt.results.values()) if attempt else ()

    def result_path(self, ref: AttemptRef | CellRef, name: str) -> Path:
        """Return the file of one result."""
        left = {result.name: result for result in self.results(ref)}
        if name not in left:
            raise UnknownNameError.among("result", name, left)
        if left[name].error:
            raise InputError(f"{name}: {left[name].error}", hint="see --pull")
        if isinstance(ref, CellRef):
            return self.attempt(ref.attempt).cells.result_path(ref, name)
        return self.attempt(ref).result_path(name, left[name].kind)

    def warm(self, interpreter: str, environment: Mapping[str, str]) -> WarmStatus:
        """Return that all is warm: there is nothing to warm up."""
        del interpreter, environment
        return WarmStatus(is_warm=True, detail="warm")

    def warm_processes(self) -> tuple[str, ...]:
        """Return nothing: there are no processes."""
        return ()

    def discard(self, job_id: JobId) -> int:
        """Forget a finished job and remove its files."""
        with self.machine.lock:
            freed = 0
            for attempt in list(self._attempts(job_id)):
                freed += sum(map(len, attempt.streams.values()))
                freed += sum(result.size_bytes for result in attempt.results.values())
            self.machine.claims = {
                ref: claim for ref, claim in self.machine.claims.items() if ref.job_id != job_id
            }
            shutil.rmtree(self.machine.root / "jobs" / job_id, ignore_errors=True)
        return freed

    def close(self) -> None:
        """Do nothing: attempts go on."""

    def _attempts(self, job_id: JobId | None = None) -> Iterator[FakeAttempt]:
        for ref, attempt in sorted(self.machine.claims.items(), key=lambda item: item[0].number):
            if attempt is not None and job_id in (None, ref.job_id):
                yield attempt


def _rank_plans(job: Job, allocation: Allocation, attempt: int) -> Iterator[RankPlan]:
    spec, per_node = job.spec, job.spec.ranks_per_node
    for placement in allocation.placements:
        for local in range(per_node):
            rank = placement.task * per_node + local
            environment = {
                "RANK": str(rank),
                "WORLD_SIZE": str(spec.world_size),
                "LOCAL_RANK": str(local),
                "LOCAL_WORLD_SIZE": str(per_node),
                "GROUP_RANK": str(placement.task),
                "GROUP_WORLD_SIZE": str(spec.nodes),
                "ROLE_RANK": str(rank),
                "ROLE_WORLD_SIZE": str(spec.world_size),
                "ROLE_NAME": "default",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": "29500",
                "TORCHELASTIC_RUN_ID": str(job.id),
                "TORCHELASTIC_RESTART_COUNT": str(attempt - 1),
                "TORCHELASTIC_MAX_RESTARTS": str(spec.max_restarts),
            }
            yield RankPlan(rank, placement.node, tuple(environment.items()), threads=1)


def _events(content: bytes, begin: int, attempt: int, stream: str) -> Iterator[tuple[Event, int]]:
    for frame in decode(content, begin):
        is_output = frame.kind in OUTPUTS
        yield (
            Event(
                attempt=attempt,
                stream=stream,
                offset=frame.offset,
                at=frame.at,
                kind=frame.kind,
                rank=stream_rank(stream),
                text=frame.payload.decode() if is_output else "",
                data=None if is_output else frame.json(),
            ),
            frame.end,
        )
