"""An attempt on this machine as pure data: every variable of every rank, and nothing started."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import Backend, Launcher
from jupyter_aios.core.ports import LaunchPlan, RankPlan
from jupyter_aios.engines.local.machine import usable_cpus
from jupyter_aios.engines.local.warm import REPEATABLE
from jupyter_aios.errors import InputError
from jupyter_aios.training.processes import IS_LINUX, MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_aios.core.entities import Allocation, Job


def plan_of(job: Job, allocation: Allocation, attempt: int, jobs: Path) -> LaunchPlan:
    """Return the plan of one attempt; `jobs` is the folder of all jobs.

    Raises:
        InputError: nccl is asked for where not every rank has a GPU.

    """
    spec = job.spec
    _check_backend(spec.backend, allocation, spec.ranks_per_node)
    environment = dict(spec.environment)
    environment.update(
        AIOS_JOB_ID=job.id,
        AIOS_JOB_NAME=spec.name,
        TORCHELASTIC_RUN_ID=job.id,
        TORCHELASTIC_RESTART_COUNT=str(attempt - 1),
        TORCHELASTIC_MAX_RESTARTS=str(spec.max_restarts),
        TORCHELASTIC_USE_AGENT_STORE="True",
        WORLD_SIZE=str(spec.world_size),
        LOCAL_WORLD_SIZE=str(spec.ranks_per_node),
        GROUP_WORLD_SIZE=str(spec.nodes),
        ROLE_WORLD_SIZE=str(spec.world_size),
        ROLE_NAME="default",
    )
    environment[MARKER] = f"{job.id}/{attempt}"
    folder = jobs / job.id
    return LaunchPlan(
        job_id=job.id,
        name=spec.name,
        attempt=attempt,
        # Forking a process that has imported torch is safe on Linux only.
        launcher=spec.launcher if IS_LINUX else Launcher.TORCHRUN,
        interpreter=spec.interpreter,
        cwd=spec.cwd,
        sys_path=spec.sys_path,
        argv=spec.argv,
        environment=tuple(sorted(environment.items())),
        backend=spec.backend,
        code=spec.code,
        ranks=tuple(_rank_plans(job, allocation, attempt, folder)),
        folder=str(folder),
        pull=spec.pull,
        pull_limit_bytes=spec.pull_limit_bytes,
        log_limit_bytes=spec.log_limit_bytes,
        memory_limit_bytes=spec.resources.memory_bytes // spec.ranks_per_node,
        timeout_s=spec.timeout_s,
        start_deadline_s=spec.start_deadline_s,
        teardown_deadline_s=spec.teardown_deadline_s,
        stall_after_s=spec.stall_after_s,
        autolog=spec.autolog,
        seed=spec.seed,
        keep_idle_s=spec.keep_idle_s,
        secrets=spec.secrets,
    )


def _check_backend(backend: Backend, allocation: Allocation, ranks_per_node: int) -> None:
    fewest = min(len(placement.devices) for placement in allocation.placements)
    if backend is Backend.NCCL and fewest < ranks_per_node:
        msg = f"--backend nccl needs a GPU per rank: {ranks_per_node} per node, {fewest} there"
        raise InputError(msg, hint="use --backend gloo, or ask for --gpus")


def _rank_plans(job: Job, allocation: Allocation, attempt: int, folder: Path) -> Iterator[RankPlan]:
    per_node = job.spec.ranks_per_node
    own = dict(job.spec.environment)
    threads = max(1, usable_cpus() // job.spec.world_size)
    with contextlib.suppress(ValueError):
        threads = int(own.get("OMP_NUM_THREADS", threads))
    # Per rank, not per job: the job's variables choose the warm process, and the number of ranks
    # must not make it cold.
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        # gloo would look the host's name up, and may find an address that is not up.
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        **REPEATABLE,
    }
    common = {name: value for name, value in defaults.items() if name not in own}
    for placement in allocation.placements:
        for local in range(per_node):
            rank = placement.task * per_node + local
            environment = common | {
                "RANK": str(rank),
                "LOCAL_RANK": str(local),
                "GROUP_RANK": str(placement.task),
                "ROLE_RANK": str(rank),
                "CUDA_VISIBLE_DEVICES": ",".join(map(str, placement.devices)),
                "TORCHELASTIC_ERROR_FILE": str(
                    folder / "attempts" / str(attempt) / f"rank-{rank:04d}.error.json"
                ),
            }
            yield RankPlan(rank, placement.node, tuple(environment.items()), threads)
