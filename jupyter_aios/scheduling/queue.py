"""Who starts next: strict order by priority, then arrival, and why the others wait."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import MAX_VIRTUAL_NODES, Allocation, Job, JobId, Node, Resources
from jupyter_aios.core.units import MILLI, format_bytes, format_milli
from jupyter_aios.errors import AiosError, CapacityError, InputError
from jupyter_aios.scheduling.room import Room, claims

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.core.entities import JobSpec


@dataclass(frozen=True)
class Placing:
    """This job starts now, there."""

    job_id: JobId
    allocation: Allocation


@dataclass(frozen=True)
class Decisions:
    """What to place, in order, and one sentence for each job that waits."""

    placings: tuple[Placing, ...]
    waiting: dict[JobId, str]


def decide(queue: Iterable[Job], nodes: Sequence[Node], holding: Iterable[Job]) -> Decisions:
    """Return which waiting jobs start now and why the others do not.

    The first that does not fit blocks those behind it on its engine, so nobody is overtaken for
    ever; one that could not fit on empty nodes either (a node is gone) blocks nobody. Whoever
    launches a placing checks it first (`room.launch_faults`).
    """
    taken = [claim for job in holding for claim in claims(job.spec, job.allocation)]
    rooms: dict[str, Room] = {}
    placings: list[Placing] = []
    waiting: dict[JobId, str] = {}
    blocked: Counter[str] = Counter()
    for job in sorted(queue, key=queue_order):
        engine = job.spec.engine
        if engine not in rooms:
            rooms[engine] = Room(nodes_for(job.spec, nodes), taken)
        try:
            refuse_impossible(job.spec, nodes)
        except AiosError as error:
            waiting[job.id] = f"waits for nodes that are not there: {error.message}"
            continue
        allocation = None if blocked[engine] else rooms[engine].place(job.spec)
        if allocation is None:
            waiting[job.id] = _reason(job.spec, rooms[engine].count(job.spec), blocked[engine])
            blocked[engine] += 1
            continue
        placings.append(Placing(job.id, allocation))
    return Decisions(tuple(placings), waiting)


def queue_order(job: Job) -> tuple[int, float, JobId]:
    """Return the key that sorts the queue: higher priority first, then who came first."""
    return (-job.spec.priority, job.submitted_at, job.id)


def refuse_impossible(spec: JobSpec, nodes: Sequence[Node]) -> None:
    """Return when the job would fit on these nodes if they were empty.

    Raises:
        CapacityError: it never will; the figures say what is short.
        InputError: more than one GPU, and not a whole number of them.

    """
    demand = spec.resources
    if demand.gpu_milli > MILLI and demand.gpu_milli % MILLI:
        msg = f"--gpus {format_milli(demand.gpu_milli)} is neither whole GPUs nor a share of one"
        raise InputError(msg, hint=f"--gpus {demand.gpu_milli // MILLI}, or --gpus 0.5")
    usable = [node for node in nodes_for(spec, nodes) if not node.is_drained]
    if spec.nodes > len(usable):
        raise _too_many(spec, usable)
    if Room(usable).count(spec) < spec.nodes:
        raise _too_large(spec, usable)


def nodes_for(spec: JobSpec, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Return the nodes of the engine that the job names."""
    return tuple(node for node in nodes if node.engine == spec.engine)


def _too_many(spec: JobSpec, usable: Sequence[Node]) -> CapacityError:
    exist = "exists" if len(usable) == 1 else "exist"
    hints = [f"ask for --nodes {len(usable)}"] if usable else []
    if not usable or any(node.is_virtual for node in usable):
        hints += _divided(spec.nodes)
    return CapacityError(
        f"--nodes {spec.nodes} wanted, {_count(len(usable), 'node')} {exist}",
        hint=", or ".join(hints),
    )


def _too_large(spec: JobSpec, usable: Sequence[Node]) -> CapacityError:
    demand, hints, short = spec.resources, [], []
    for what, option, show in (
        ("cpu_milli", "--cpus", lambda n: f"{format_milli(n)} CPUs"),
        ("memory_bytes", "--memory", format_bytes),
        ("disk_bytes", "--disk", lambda n: f"{format_bytes(n)} of disk"),
        ("gpu_milli", "--gpus", lambda n: f"{format_milli(n)} GPUs"),
    ):
        wanted = getattr(demand, what)
        # The n-th largest is what n nodes can all give.
        held = sorted((getattr(node.capacity, what) for node in usable), reverse=True)
        if wanted <= held[spec.nodes - 1]:
            continue
        where = "the largest node has" if wanted > held[0] else f"{spec.nodes} nodes have"
        shown = show(held[0] if wanted > held[0] else held[spec.nodes - 1])
        short.append(f"{show(wanted)} per node wanted, {where} {shown}")
        hints.append(f"ask for {option} {_typable(what, held[spec.nodes - 1])} or less")
    if not short:
        short.append(f"no {spec.nodes} nodes have {_demand(demand)} each")
    if len(usable) > spec.nodes and any(node.is_virtual for node in usable):
        # Fewer shares of the same machine are larger ones.
        hints += _divided(spec.nodes)
    return CapacityError("; ".join(short), hint=", or ".join(hints))


def _divided(count: int) -> list[str]:
    """Return how to have so many virtual nodes, where a machine may be divided so."""
    if count > MAX_VIRTUAL_NODES:
        return []
    return [f"set AIOS_VIRTUAL_NODES={count} and type %aios restart"]


def _typable(what: str, amount: int) -> str:
    if what.endswith("milli"):
        return format_milli(amount)
    return f"{amount >> 20}MiB"


def _reason(spec: JobSpec, free: int, ahead: int) -> str:
    each = " each" if spec.nodes > 1 else ""
    sentence = (
        f"waits for {_count(spec.nodes, 'node')} with {_demand(spec.resources)}{each}:"
        f" {free} {'is' if free == 1 else 'are'} free now"
    )
    if ahead:
        sentence += f"; {_count(ahead, 'job')} {'is' if ahead == 1 else 'are'} ahead"
    return sentence


def _demand(demand: Resources) -> str:
    parts = [f"{format_milli(demand.cpu_milli)} CPUs"]
    if demand.gpu_milli:
        parts.append(f"{format_milli(demand.gpu_milli)} GPUs")
    if demand.memory_bytes:
        parts.append(format_bytes(demand.memory_bytes))
    if demand.disk_bytes:
        parts.append(f"{format_bytes(demand.disk_bytes)} of disk")
    return " and ".join(parts) if len(parts) < 3 else ", ".join(parts)  # noqa: PLR2004


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
