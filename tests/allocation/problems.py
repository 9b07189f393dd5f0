"""Small allocation problems for Hypothesis, and the oracle that tries everything."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from jupyter_aios.allocation import Claim, Gang, Problem, allocate, faults
from jupyter_aios.core.entities import (
    Allocation,
    Device,
    Node,
    NodeId,
    Placement,
    Resources,
)

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
        devices=tuple(Device(index, "A100", 1) for index in range(gpus)),
        is_drained=drained,
    )


demands = st.builds(
    Resources,
    cpu_milli=st.sampled_from((0, 250, 500, 1000)),
    memory_bytes=st.integers(0, 8),
    gpu_milli=st.sampled_from(GPU_AMOUNTS),
)
gangs = st.builds(Gang, st.integers(1, 3), demands)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw a problem whose nodes are partly taken, by gangs that were placed before."""
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
    taken: tuple[Claim, ...] = ()
    for gang in draw(st.lists(gangs, max_size=4)):
        placed = allocate(Problem(gang, nodes, taken))
        if placed is not None:
            taken += tuple(Claim(placement, gang.demand) for placement in placed.placements)
    return Problem(draw(gangs), nodes, taken)


def every_allocation(problem: Problem) -> Iterator[Allocation]:
    """Yield all ways to put the gang on nodes and devices, feasible or not."""
    count = problem.gang.device_count
    for chosen in itertools.permutations(problem.nodes, problem.gang.tasks):
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


def is_possible(problem: Problem) -> bool:
    return any(not faults(problem, candidate) for candidate in every_allocation(problem))
