"""The proof that an allocation may be launched. It shares no code with who proposes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.core.entities import Allocation, Node, NodeId


def faults(problem: Problem, allocation: Allocation) -> list[str]:
    """Return what is wrong with `allocation`, a sentence each; empty where it is feasible.

    Feasible: every task of the gang is placed once, on a node of its own that exists and is not
    drained; beside what is taken no capacity is exceeded, and no device gives more than itself.
    """
    nodes = {node.id: node for node in problem.nodes}
    found = _coverage(problem, allocation, nodes)
    for placement in allocation.placements:
        node = nodes.get(placement.node)
        if node is None:
            continue
        indexes = {device.index for device in node.devices}
        wanted = -(-problem.gang.demand.gpu_milli // MILLI)
        if len(set(placement.devices)) != len(placement.devices):
            found.append(f"task {placement.task} holds a device of {node.id} twice")
        if len(placement.devices) != wanted:
            found.append(
                f"task {placement.task} needs {wanted} devices and got {len(placement.devices)}"
            )
        missing = sorted(set(placement.devices) - indexes)
        if missing:
            found.append(f"{node.id} has no device {missing[0]}")
    for node_id in sorted({placement.node for placement in allocation.placements} & set(nodes)):
        found += _overload(problem, allocation, nodes[node_id])
    return found


def _coverage(problem: Problem, allocation: Allocation, nodes: dict[NodeId, Node]) -> list[str]:
    found = []
    tasks = [placement.task for placement in allocation.placements]
    if tasks != list(range(problem.gang.tasks)):
        found.append(f"tasks {tasks} are placed, 0 to {problem.gang.tasks - 1} are asked for")
    if len(set(allocation.nodes)) != len(allocation.nodes):
        found.append("two tasks of the gang share a node")
    for node_id in allocation.nodes:
        if node_id not in nodes:
            found.append(f"there is no node {node_id}")
        elif nodes[node_id].is_drained:
            found.append(f"{node_id} is drained")
    return found


def _overload(problem: Problem, allocation: Allocation, node: Node) -> list[str]:
    """Sum everything on one node from scratch and compare."""
    held = [
        (placement, problem.gang.demand)
        for placement in allocation.placements
        if placement.node == node.id
    ]
    held += [(c.placement, c.demand) for c in problem.taken if c.placement.node == node.id]
    found = []
    for what in ("cpu_milli", "memory_bytes", "disk_bytes", "gpu_milli"):
        total = sum(getattr(demand, what) for _placement, demand in held)
        capacity = getattr(node.capacity, what)
        if total > capacity:
            found.append(f"{node.id} would give {total} {what} and has {capacity}")
    for device in node.devices:
        given = sum(
            min(demand.gpu_milli, MILLI)
            for placement, demand in held
            if device.index in placement.devices
        )
        if given > MILLI:
            found.append(f"device {device.index} of {node.id} would give {given} of {MILLI} milli")
    return found
