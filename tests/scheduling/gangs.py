"""Jobs and nodes for Hypothesis, and the oracle that tries every placement of one gang."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from jupyter_aios.core.entities import (
    Allocation,
    Device,
    Job,
    JobSpec,
    Node,
    NodeId,
    Placement,
    Resources,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.scheduling.room import Claim, Room, claims, launch_faults
from jupyter_aios.testing.examples import example_job, example_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

GPU_AMOUNTS = (0, 0, 250, 500, 750, 1000, 2000)


def node(
    name: str, cpu_milli: int = 1000, memory_bytes: int = 8, gpus: int = 0, *, drained: bool = False
) -> Node:
    return Node(
        NodeId(name),
        machine="m",
        engine="local",
        capacity=Resources(cpu_milli=cpu_milli, memory_bytes=memory_bytes, gpu_milli=1000 * gpus),
        # Indexes as a machine has them that lends only some of its GPUs.
        devices=tuple(Device(2 * index + 1, "A100", 1) for index in range(gpus)),
        is_drained=drained,
    )


demands = st.builds(
    Resources,
    cpu_milli=st.sampled_from((0, 250, 500, 1000)),
    memory_bytes=st.integers(0, 8),
    gpu_milli=st.sampled_from(GPU_AMOUNTS),
)
specs = st.builds(
    lambda tasks, demand: example_spec(nodes=tasks, resources=demand), st.integers(1, 3), demands
)


@dataclass(frozen=True)
class Case:
    """A job to be placed beside jobs that hold what they hold."""

    spec: JobSpec
    nodes: tuple[Node, ...]
    holding: tuple[Job, ...]

    @property
    def taken(self) -> list[Claim]:
        return [claim for job in self.holding for claim in claims(job.spec, job.allocation)]


def held(spec: JobSpec, *placements: Placement) -> Job:
    job = replace(example_job("holding"), spec=spec, state=JobState.RUNNING)
    return replace(job, allocation=Allocation(placements))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a job, and nodes that are partly taken by jobs that were placed before."""
    nodes = tuple(
        node(
            f"n{number}",
            cpu_milli=draw(st.sampled_from((500, 1000, 2000))),
            memory_bytes=draw(st.integers(0, 16)),
            gpus=draw(st.integers(0, 3)),
            drained=draw(st.integers(0, 5)) == 0,
        )
        for number in range(draw(st.integers(0, 4)))
    )
    room = Room(nodes)
    holding = []
    for spec in draw(st.lists(specs, max_size=4)):
        allocation = room.place(spec)
        if allocation is not None:
            holding.append(held(spec, *allocation.placements))
    return Case(draw(specs), nodes, tuple(holding))


def every_allocation(case: Case) -> Iterator[Allocation]:
    """Yield all ways to put the gang on nodes and devices, feasible or not."""
    count = -(-case.spec.resources.gpu_milli // 1000)
    for chosen in itertools.permutations(case.nodes, case.spec.nodes):
        deals = [
            list(itertools.combinations([device.index for device in one.devices], count))
            for one in chosen
        ]
        for devices in itertools.product(*deals):
            yield Allocation(
                tuple(
                    Placement(task, one.id, dealt)
                    for task, (one, dealt) in enumerate(zip(chosen, devices, strict=True))
                )
            )


def is_possible(case: Case) -> bool:
    return any(
        not launch_faults(case.spec, case.nodes, case.holding, candidate)
        for candidate in every_allocation(case)
    )
