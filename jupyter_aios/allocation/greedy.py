"""Best fit: every task goes to the node that it leaves the least free."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import Allocation, Node, Placement, Resources
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.allocation.problem import Claim, Gang, Problem
    from jupyter_aios.core.entities import NodeId


@dataclass
class _Usage:
    """What others hold on one node."""

    total: Resources = field(default_factory=Resources)
    gpu_milli: Counter[int] = field(default_factory=Counter)


def allocate(problem: Problem) -> Allocation | None:
    """Return a placement of the whole gang, or None where it does not fit beside what is taken.

    Deterministic: equal problems give equal allocations, ties go to the first node by id. It
    finds one wherever there is one, since the tasks are alike and each has a node to itself.
    Order n log n in the nodes.

    Example:
        >>> from jupyter_aios.allocation import Gang, Problem
        >>> from jupyter_aios.core.entities import NodeId
        >>> nodes = tuple(Node(NodeId(i), "m", "local", Resources(cpu_milli=500)) for i in "ab")
        >>> allocate(Problem(Gang(2, Resources(cpu_milli=500)), nodes)).nodes
        ('a', 'b')

    """
    candidates = placeable(problem.gang, problem.nodes, problem.taken)
    chosen = sorted(candidates)[: problem.gang.tasks]
    if len(chosen) < problem.gang.tasks:
        return None
    return Allocation(
        tuple(
            Placement(task=task, node=node, devices=devices)
            for task, (_left, node, devices) in enumerate(chosen)
        )
    )


def placeable(
    gang: Gang, nodes: Iterable[Node], taken: Iterable[Claim] = ()
) -> list[tuple[tuple[float, float, float], NodeId, tuple[int, ...]]]:
    """Return (what would be left free, node, devices) for every node that can take one task."""
    usage = _usage(taken)
    found = []
    for node in nodes:
        used = usage[node.id]
        devices = _deal(gang, node, used.gpu_milli)
        if node.is_drained or devices is None:
            continue
        total = used.total + gang.demand
        if total.fits_in(node.capacity):
            found.append((_left(total, node.capacity), node.id, devices))
    return found


def _usage(taken: Iterable[Claim]) -> defaultdict[NodeId, _Usage]:
    usage: defaultdict[NodeId, _Usage] = defaultdict(_Usage)
    for claim in taken:
        used = usage[claim.placement.node]
        used.total += claim.demand
        for device in claim.placement.devices:
            used.gpu_milli[device] += min(claim.demand.gpu_milli, MILLI)
    return usage


def _deal(gang: Gang, node: Node, used: Counter[int]) -> tuple[int, ...] | None:
    """Devices for one task: whole ones lowest first, a share where it fits most tightly."""
    room = [
        (MILLI - used[device.index], device.index)
        for device in node.devices
        if used[device.index] + gang.milli_per_device <= MILLI
    ]
    if len(room) < gang.device_count:
        return None
    return tuple(sorted(index for _free, index in sorted(room)[: gang.device_count]))


def _left(total: Resources, capacity: Resources) -> tuple[float, float, float]:
    """Free shares after placing: GPUs first, because they are what others wait for."""

    def share(used: int, whole: int) -> float:
        return (whole - used) / whole if whole else 0.0

    return (
        # Absolute, not a share: a task without GPUs keeps off the nodes that have some.
        float(capacity.gpu_milli - total.gpu_milli),
        share(total.cpu_milli, capacity.cpu_milli),
        share(total.memory_bytes, capacity.memory_bytes),
    )
