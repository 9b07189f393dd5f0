"""The rank's part, done once at its start: vitals, wrappers, and stacks on demand."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.callers import Callers
from jupyter_aios.training.doctor.vitals import VitalsWriter, vitals_name

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

STACK_SIGNAL = getattr(signal, "SIGRTMAX", 0) - 5 if sys.platform == "linux" else 0
"""A real-time signal: training code, torch, Slurm and the interpreter use the ones with names."""


def stack_name(rank: int) -> str:
    """Return the name of the file, in the attempt's folder, that stacks are written to."""
    return f"rank-{rank:04d}.stack"


@dataclass
class RankVitals:
    """What the rank's own code is told of: optimizer steps."""

    writer: VitalsWriter
    callers: Callers

    def count_step(self, step: int, frame: FrameType) -> None:
        """Tell the number of steps so far; `frame` is of the call that made the last one."""
        self.writer.count_step(step, self.callers.place(frame))


def install(folder: Path, rank: int, world_size: int) -> RankVitals | None:
    """Make this rank visible to the doctor; None where this system cannot, or the disk is full.

    Torch has to be importable. The handler is C's: it writes while Python's lock is held by a
    call that never returns, and the call that it interrupted goes on (SA_RESTART).
    """
    if not STACK_SIGNAL:
        return None
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        stacks = os.open(folder / stack_name(rank), flags, 0o600)
        faulthandler.register(STACK_SIGNAL, file=stacks, all_threads=True, chain=False)
        writer = VitalsWriter(folder / vitals_name(rank))
        vitals = RankVitals(writer, Callers(writer))
        import torch.distributed as dist

        if dist.is_available():
            from jupyter_aios.training.doctor.collectives import Recorder

            Recorder(writer, vitals.callers, world_size).install()
        return vitals
    return None
