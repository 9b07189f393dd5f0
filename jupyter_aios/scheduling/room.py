"""What is free on the nodes of one engine, as the allocator's columns; jobs are placed into it.

A job is a gang of equal tasks, each on a node of its own. The columns say what is free, so that a
long queue costs a few array operations a job; what is proposed is checked from the entities
themselves (`launch_faults`), which asks no free column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.check import faults
from jupyter_aios.allocation.entities import amount_of, nodes_of_cluster
from jupyter_aios.allocation.online import place_gang
from jupyter_aios.allocation.problem import (
    NO,
    Problem,
    Tasks,
    bits_of,
    devices_of,
    problem_of,
    tasks_of,
)
from jupyter_aios.core.entities import Allocation, Placement, Resources
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.core.entities import Job, JobSpec, Node


@dataclass(frozen=True)
class Claim:
    """A placement that is in force, and what it holds."""

    placement: Placement
    demand: Resources


def claims(spec: JobSpec, allocation: Allocation | None) -> list[Claim]:
    """Return what a job with this allocation holds."""
    placements = allocation.placements if allocation else ()
    return [Claim(placement, spec.resources) for placement in placements]


class Room:
    """The free columns of some nodes; `place` takes what it gives."""

    def __init__(self, nodes: Sequence[Node], taken: Iterable[Claim] = ()) -> None:
        # By name, so that ties do not depend on the order in which nodes were registered.
        self.nodes = sorted(nodes, key=lambda node: node.id)
        self._row = {node.id: row for row, node in enumerate(self.nodes)}
        self._columns = nodes_of_cluster(self.nodes)
        for claim in taken:
            self._hold(claim)

    def place(self, spec: JobSpec) -> Allocation | None:
        """Return where the whole gang goes, and count it as taken; None where it does not fit."""
        placed = place_gang(self._problem(spec))
        if placed is None:
            return None
        allocation = Allocation(
            tuple(
                Placement(task, self.nodes[row].id, self._indexes(row, bits))
                for task, (row, bits) in enumerate(
                    zip(placed.assignment.tolist(), placed.devices.tolist(), strict=True)
                )
            )
        )
        for claim in claims(spec, allocation):
            self._hold(claim)
        return allocation

    def count(self, spec: JobSpec) -> int:
        """Return how many nodes could take one task of the job now."""
        return int(self._problem(spec).may_hold(0).sum())

    def _problem(self, spec: JobSpec) -> Problem:
        return problem_of(self._columns, _gang(spec))

    def _indexes(self, row: int, bits: int) -> tuple[int, ...]:
        return tuple(self.nodes[row].devices[position].index for position in devices_of(bits))

    def _hold(self, claim: Claim) -> None:
        row = self._row.get(claim.placement.node)
        if row is None:
            return  # its node is gone
        self._columns.free[row] -= amount_of(claim.demand)
        for position, device in enumerate(self.nodes[row].devices):
            if device.index in claim.placement.devices:
                self._columns.devices[row, position] -= min(claim.demand.gpu_milli, MILLI)


def launch_faults(
    spec: JobSpec, nodes: Sequence[Node], holding: Iterable[Job], allocation: Allocation
) -> list[str]:
    """Return what is wrong with launching the job there, beside what `holding` holds.

    The allocator's checker sums it all from scratch: what is in force are tasks of the problem.
    """
    row = {node.id: number for number, node in enumerate(nodes)}
    taken = [
        claim
        for job in holding
        for claim in claims(job.spec, job.allocation)
        if claim.placement.node in row
    ]
    placements = [claim.placement for claim in taken] + list(allocation.placements)
    if [one.task for one in allocation.placements] != list(range(spec.nodes)):
        return [f"{len(allocation.placements)} tasks are placed, {spec.nodes} are asked for"]
    strangers = [one.node for one in allocation.placements if one.node not in row]
    if strangers:
        return [f"there is no node {strangers[0]}"]
    where = np.array([row[one.node] for one in placements], np.int64)
    try:
        bits = np.array([_bits(nodes[row[one.node]], one) for one in placements], np.int64)
    except ValueError as error:
        return [str(error)]
    demands = [claim.demand for claim in taken]
    tasks = _tasks([*demands, *[spec.resources] * spec.nodes])
    old, new = len(taken), spec.nodes
    group = np.array([NO] * old + [0] * new, np.int64)
    current = np.where(group == NO, where, NO)
    tasks = replace(
        tasks,
        gang=group,
        apart=group,
        current=current,
        current_devices=np.where(group < 0, bits, 0),
    )
    return faults(problem_of(nodes_of_cluster(nodes), tasks), where, bits)


def _bits(node: Node, placement: Placement) -> int:
    positions = {device.index: position for position, device in enumerate(node.devices)}
    missing = sorted(set(placement.devices) - positions.keys())
    if missing:
        msg = f"{node.id} has no device {missing[0]}"
        raise ValueError(msg)
    if len(set(placement.devices)) != len(placement.devices):
        msg = f"task {placement.task} holds a device of {node.id} twice"
        raise ValueError(msg)
    return bits_of([positions[index] for index in placement.devices])


def _gang(spec: JobSpec) -> Tasks:
    group = np.zeros(spec.nodes, np.int64)
    return replace(_tasks([spec.resources] * spec.nodes), gang=group, apart=group)


def _tasks(demands: Sequence[Resources]) -> Tasks:
    n = len(demands)
    milli = np.array([demand.gpu_milli for demand in demands], np.int64)
    return tasks_of(
        [f"task {number}" for number in range(n)],
        np.array([amount_of(demand) for demand in demands], np.int64).reshape(n, 3),
        gpus=-(-milli // MILLI),
        milli=np.minimum(milli, MILLI),
    )
