"""Torch elastic under an agent of ours: what `torchrun` does, by its own API.

`python -m jupyter_aios.training.elastic PLAN NODE NODES RANKS_PER_NODE PORT [RESUME]`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from jupyter_aios.core.ports import LaunchPlan
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training.journal import read_json, write_json
from jupyter_aios.training.processes import die_with_parent


def main(arguments: list[str]) -> int:
    """Run one node's ranks and leave their exit codes in `exits-NODE.json`."""
    die_with_parent(os.getppid())
    plan_path, node, nodes, ranks_per_node, port, *resume = arguments
    plan = from_plain(LaunchPlan, read_json(Path(plan_path)))
    config = LaunchConfig(
        min_nodes=int(nodes),
        max_nodes=int(nodes),
        nproc_per_node=int(ranks_per_node),
        run_id=str(plan.job_id),
        role="default",
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": int(node), "timeout": 900},
        max_restarts=0,
        monitor_interval=0.1,
        # Not in /tmp, where elastic would leave a folder per run.
        logs_specs=DefaultLogsSpecs(log_dir=str(Path(plan_path).parent / "elastic")),
    )
    command = ["-u", "-m", "jupyter_aios.training.elastic_rank", plan_path, *resume]
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        exits = {rank: failure.exitcode for rank, failure in error.failures.items()}
        write_json(Path(plan_path).parent / f"exits-{node}.json", exits)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
