from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.entities import (
    Allocation,
    Device,
    Job,
    JobId,
    Node,
    NodeId,
    Placement,
    Resources,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import CapacityError, InputError
from jupyter_aios.scheduling import decide, refuse_impossible
from jupyter_aios.scheduling.queue import queue_order
from jupyter_aios.scheduling.room import launch_faults
from jupyter_aios.testing.examples import example_job, example_spec


def virtual_nodes(count: int = 4, cpu_milli: int = 500, gpus: int = 0) -> tuple[Node, ...]:
    return tuple(
        Node(
            NodeId(f"v{number}"),
            machine="here",
            engine="local",
            capacity=Resources(cpu_milli=cpu_milli, memory_bytes=2**30, gpu_milli=1000 * gpus),
            devices=tuple(Device(index, "A100", 1) for index in range(gpus)),
            is_virtual=True,
        )
        for number in range(count)
    )


def waiting_job(number: int, **changes: Any) -> Job:
    changes.setdefault("resources", Resources(cpu_milli=500))
    return example_job(f"job-{number}", submitted_at=float(number), **changes)


def running(job: Job, *nodes: str) -> Job:
    placements = tuple(Placement(task, NodeId(name)) for task, name in enumerate(nodes))
    return replace(job, state=JobState.RUNNING, allocation=Allocation(placements))


jobs = st.lists(
    st.builds(
        lambda number, nodes, cpu, priority: waiting_job(
            number, nodes=nodes, priority=priority, resources=Resources(cpu_milli=cpu)
        ),
        st.integers(0, 50),
        st.integers(1, 5),
        st.sampled_from((100, 250, 500, 600)),
        st.integers(-1, 1),
    ),
    max_size=8,
    unique_by=lambda job: job.id,
)


@given(jobs, st.randoms(use_true_random=False))
def test_nobody_is_overtaken_and_nothing_is_given_twice(queue: list[Job], random: Any) -> None:
    nodes = virtual_nodes()
    decisions = decide(queue, nodes, [])
    by_id = {job.id: job for job in queue}
    placed = [by_id[placing.job_id] for placing in decisions.placings]
    assert placed == sorted(placed, key=queue_order)
    assert {job.id for job in placed} | decisions.waiting.keys() == by_id.keys()
    assert not {job.id for job in placed} & decisions.waiting.keys()
    waiting = [by_id[job_id] for job_id in decisions.waiting if _is_possible(by_id[job_id], nodes)]
    if waiting and placed:
        assert queue_order(placed[-1]) < min(map(queue_order, waiting))
    held: list[Job] = []
    for placing in decisions.placings:
        job = by_id[placing.job_id]
        assert launch_faults(job.spec, nodes, held, placing.allocation) == []
        held.append(replace(job, state=JobState.RUNNING, allocation=placing.allocation))
    random.shuffle(queue)
    assert decide(queue, nodes, []) == decisions


def _is_possible(job: Job, nodes: tuple[Node, ...]) -> bool:
    try:
        refuse_impossible(job.spec, nodes)
    except CapacityError:
        return False
    return True


def test_a_higher_priority_goes_first_and_among_equals_who_came_first() -> None:
    queue = [waiting_job(1), waiting_job(2, priority=5), waiting_job(0)]
    order = [placing.job_id for placing in decide(queue, virtual_nodes(), []).placings]
    assert order == ["job-2", "job-0", "job-1"]


def test_a_waiting_job_says_what_it_waits_for_and_who_is_ahead() -> None:
    holding = [running(waiting_job(0, nodes=2), "v0", "v1")]
    queue = [waiting_job(1, nodes=4), waiting_job(2)]
    decisions = decide(queue, virtual_nodes(), holding)
    assert decisions.placings == ()
    assert decisions.waiting == {
        "job-1": "waits for 4 nodes with 0.5 CPUs each: 2 are free now",
        "job-2": "waits for 1 node with 0.5 CPUs: 2 are free now; 1 job is ahead",
    }


def test_a_job_whose_nodes_are_gone_blocks_nobody() -> None:
    decisions = decide([waiting_job(1, nodes=9), waiting_job(2)], virtual_nodes(), [])
    assert [placing.job_id for placing in decisions.placings] == ["job-2"]
    assert decisions.waiting[JobId("job-1")] == (
        "waits for nodes that are not there: --nodes 9 wanted, 4 nodes exist"
    )


def test_a_job_of_another_engine_is_not_blocked() -> None:
    elsewhere = replace(virtual_nodes(1)[0], id=NodeId("s0"), engine="slurm")
    holding = [running(waiting_job(0, nodes=4), "v0", "v1", "v2", "v3")]
    queue = [waiting_job(1), waiting_job(2, engine="slurm")]
    decisions = decide(queue, (*virtual_nodes(), elsewhere), holding)
    assert [placing.allocation.nodes for placing in decisions.placings] == [("s0",)]


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"nodes": 9},
            "--nodes 9 wanted, 4 nodes exist",
            "ask for --nodes 4, or set AIOS_VIRTUAL_NODES=9 and type %aios restart",
        ),
        (
            {"nodes": 2, "resources": Resources(cpu_milli=900)},
            "0.9 CPUs per node wanted, the largest node has 0.5 CPUs",
            "ask for --cpus 0.5 or less, or set AIOS_VIRTUAL_NODES=2 and type %aios restart",
        ),
        (
            {"nodes": 4, "resources": Resources(memory_bytes=2**31, gpu_milli=1000)},
            (
                "2 GiB per node wanted, the largest node has 1 GiB;"
                " 1 GPUs per node wanted, the largest node has 0 GPUs"
            ),
            "ask for --memory 1024MiB or less, or ask for --gpus 0 or less",
        ),
    ],
)
def test_what_can_never_fit_is_refused_with_figures_and_a_way_out(
    changes: dict[str, Any], message: str, hint: str
) -> None:
    spec = example_spec(**{"resources": Resources(cpu_milli=500), **changes})
    with pytest.raises(CapacityError) as caught:
        refuse_impossible(spec, virtual_nodes())
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_one_and_a_half_gpus_are_refused() -> None:
    spec = example_spec(resources=Resources(gpu_milli=1500))
    with pytest.raises(InputError, match=r"--gpus 1.5 is neither whole GPUs nor a share"):
        refuse_impossible(spec, virtual_nodes(gpus=2))


def test_nodes_that_are_large_enough_but_too_few_are_counted() -> None:
    small, large = virtual_nodes(3, cpu_milli=500), virtual_nodes(1, cpu_milli=2000)
    nodes = (*small, replace(large[0], id=NodeId("w0")))
    spec = example_spec(nodes=2, resources=Resources(cpu_milli=1000))
    with pytest.raises(CapacityError, match=r"1 CPUs per node wanted, 2 nodes have 0.5 CPUs"):
        refuse_impossible(spec, nodes)
