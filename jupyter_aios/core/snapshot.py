"""What screens show of the entities: one row per job, node or attempt, the same for all screens.

Rows are frozen dataclasses of plain values (`core.wire.to_plain` makes JSON of them), so that the
notebook, the panel and the command line cannot disagree. Time arrives as `now`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import Resources
from jupyter_aios.core.states import JobState
from jupyter_aios.core.units import format_bytes, format_duration, format_milli

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.core.entities import Attempt, Job, Node, NodeId, Transition
    from jupyter_aios.core.wire import Hello

_SHOWN_NODES = 4


@dataclass(frozen=True)
class JobRow:
    """One job as every screen shows it."""

    name: str
    id: str
    owner: str
    state: str
    is_terminal: bool
    is_stalled: bool
    is_idle: bool
    """Its ranks are kept for more cells, and none runs."""
    attempt: int
    ranks: int
    where: str
    """Its nodes; nothing while it waits, and the last ones when it is over."""
    elapsed_s: float
    """How long it waits, runs, or ran."""
    elapsed: str
    priority: int
    reason: str


@dataclass(frozen=True)
class AttemptRow:
    """One start of a job."""

    number: int
    outcome: str
    elapsed: str
    start: str
    resumed: str
    failure: str


@dataclass(frozen=True)
class HistoryRow:
    """One step of a job's history; `after` is the time since its submission."""

    state: str
    at: float
    after: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class JobDetail:
    """All that is known of one job."""

    job: JobRow
    attempts: tuple[AttemptRow, ...]
    history: tuple[HistoryRow, ...]


@dataclass(frozen=True)
class NodeRow:
    """One node, with what is free on it."""

    name: str
    label: str
    machine: str
    engine: str
    is_virtual: bool
    is_drained: bool
    cpus: str
    memory: str
    gpus: str
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """The whole at a glance."""

    controller: str
    trouble: str
    counts: str
    nodes: str
    disk: str
    warm: tuple[str, ...]
    jobs: tuple[JobRow, ...]
    """Those that are not over."""


def job_row(job: Job, now: float) -> JobRow:
    """Return a job as screens show it."""
    elapsed_s = _elapsed_s(job, now)
    return JobRow(
        name=job.name,
        id=str(job.id),
        owner=str(job.owner),
        state=job.state.value,
        is_terminal=job.state.is_terminal,
        is_stalled=job.is_stalled and not job.state.is_terminal,
        is_idle=job.is_idle and not job.state.is_terminal,
        attempt=job.attempt,
        ranks=job.spec.world_size,
        where=_where(job.allocation.nodes if job.allocation else ()),
        elapsed_s=elapsed_s,
        elapsed=format_duration(elapsed_s),
        priority=job.spec.priority,
        # "cancelled" is no reason for being cancelled.
        reason="" if job.reason == job.state.value else job.reason,
    )


def _elapsed_s(job: Job, now: float) -> float:
    end = job.ended_at if job.ended_at is not None else now
    is_waiting = job.state in {JobState.QUEUED, JobState.PLACED, JobState.PREEMPTED}
    start = job.submitted_at if is_waiting or job.started_at is None else job.started_at
    return max(end - start, 0.0)


def _where(nodes: Sequence[NodeId]) -> str:
    """Return node names, the many shortened: `v0, v1` or `v0 … v15 (16 nodes)`.

    Example:
        >>> _where(["v0", "v1"])
        'v0, v1'

    """
    if len(nodes) <= _SHOWN_NODES:
        return ", ".join(nodes)
    return f"{nodes[0]} … {nodes[-1]} ({len(nodes)} nodes)"


def job_rows(jobs: Iterable[Job], now: float) -> tuple[JobRow, ...]:
    """Return jobs as screens show them, in the order in which they come."""
    return tuple(job_row(job, now) for job in jobs)


def attempt_row(attempt: Attempt, now: float) -> AttemptRow:
    """Return one start of a job as screens show it."""
    end = attempt.ended_at if attempt.ended_at is not None else now
    failure = attempt.failure
    who = "" if failure is None or failure.rank is None else f"rank {failure.rank}: "
    return AttemptRow(
        number=attempt.number,
        outcome=attempt.outcome or "under way",
        elapsed=format_duration(end - attempt.started_at),
        start=attempt.start,
        resumed="" if attempt.resumed_step is None else f"step {attempt.resumed_step}",
        failure="" if failure is None else who + _first_line(failure.message),
    )


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def job_detail(job: Job, history: Iterable[Transition], now: float) -> JobDetail:
    """Return all that screens show of one job."""
    rows = tuple(
        HistoryRow(
            state=step.new.value,
            at=step.at,
            after=format_duration(step.at - job.submitted_at),
            attempt=step.attempt,
            reason=step.reason,
        )
        for step in history
    )
    attempts = tuple(attempt_row(attempt, now) for attempt in job.attempts)
    return JobDetail(job_row(job, now), attempts, rows)


def node_rows(nodes: Iterable[Node], jobs: Iterable[Job]) -> tuple[NodeRow, ...]:
    """Return nodes with what `jobs` leave of them; jobs that hold no nodes do not count."""
    used: dict[NodeId, Resources] = {}
    names: dict[NodeId, list[str]] = {}
    for job in jobs:
        if not job.state.holds_allocation or job.allocation is None:
            continue
        for node_id in job.allocation.nodes:
            used[node_id] = used.get(node_id, Resources()) + job.spec.resources
            names.setdefault(node_id, []).append(job.name)
    return tuple(_node_row(n, used.get(n.id, Resources()), names.get(n.id, [])) for n in nodes)


def _node_row(node: Node, used: Resources, jobs: Sequence[str]) -> NodeRow:
    capacity = node.capacity
    free_cpu = max(capacity.cpu_milli - used.cpu_milli, 0)
    free_memory = max(capacity.memory_bytes - used.memory_bytes, 0)
    free_gpu = max(capacity.gpu_milli - used.gpu_milli, 0)
    models = ", ".join(dict.fromkeys(device.model for device in node.devices))
    gpus = f"{format_milli(free_gpu)} of {format_milli(capacity.gpu_milli)} {models}".strip()
    return NodeRow(
        name=str(node.id),
        label=node.label,
        machine=node.machine,
        engine=node.engine,
        is_virtual=node.is_virtual,
        is_drained=node.is_drained,
        cpus=f"{format_milli(free_cpu)} of {format_milli(capacity.cpu_milli)}",
        memory=f"{format_bytes(free_memory)} of {format_bytes(capacity.memory_bytes)}",
        gpus=gpus if capacity.gpu_milli else "",
        jobs=tuple(jobs),
    )


def status(hello: Hello, nodes: Sequence[Node], jobs: Sequence[Job], now: float) -> Status:
    """Return the whole at a glance; `jobs` are those that are not over."""
    busy = {n for job in jobs if job.allocation for n in job.allocation.nodes}
    virtual = sum(node.is_virtual for node in nodes)
    gpus = sum(len(node.devices) for node in nodes)
    counted = f"{len(nodes)} nodes ({virtual} virtual)" if virtual else f"{len(nodes)} nodes"
    has_gpus = f"{gpus} GPUs" if gpus else "no GPU"
    return Status(
        controller=f"version {hello.version}, process {hello.pid},"
        f" up {format_duration(now - hello.started_at)}, home {hello.home}",
        trouble=hello.trouble,
        counts=f"{hello.jobs_running} running, {hello.jobs_queued} waiting",
        nodes=f"{counted}, {len(nodes) - len(busy)} free, {has_gpus}",
        disk=f"{format_bytes(hello.free_bytes)} free",
        warm=hello.warm,
        jobs=job_rows(jobs, now),
    )
