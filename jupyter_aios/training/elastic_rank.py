"""A rank under torch elastic: `python -m jupyter_aios.training.elastic_rank PLAN [RESUME]`.

Elastic has set RANK and its like; the agent waits at the other end of two named pipes. The standard
input is the bundle of the job's secrets, or empty.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import LaunchPlan
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training import bootstrap, checkpoint
from jupyter_aios.training.journal import read_json
from jupyter_aios.training.outputs import fifo_path
from jupyter_aios.training.processes import die_with_parent
from jupyter_aios.training.secrets import open_bundle


def main(arguments: list[str]) -> NoReturn:
    """Be the rank that the environment names."""
    die_with_parent(os.getppid())
    plan_path, *resumed = (Path(argument) for argument in arguments)
    plan = from_plain(LaunchPlan, read_json(plan_path))
    rank = int(os.environ["RANK"])
    index = next(i for i, planned in enumerate(plan.ranks) if planned.rank == rank)
    os.environ.update(plan.ranks[index].environment)
    for target, kind in ((1, EventKind.STDOUT), (2, EventKind.STDERR)):
        os.dup2(os.open(fifo_path(plan_path.parent, rank, kind), os.O_WRONLY), target)
    delivery = open_bundle(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resume = None
    if resumed:
        resume = checkpoint.Checkpoint(checkpoint.step_of(resumed[0]), resumed[0])
    bootstrap.main(plan, plan_path.parent, index, resume, None, delivery=delivery)


if __name__ == "__main__":
    main(sys.argv[1:])
