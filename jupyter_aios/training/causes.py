"""What an exit code says about why a rank ended, in words that a person can act on."""

from __future__ import annotations

import signal

from jupyter_aios.core.entities import Failure
from jupyter_aios.training.processes import oom_kills


def exit_failure(rank: int, code: int, oom_kills_before: int) -> Failure:
    """Return the failure that a rank's exit code tells of; negative codes are signals."""
    if code > 0:
        return Failure(rank=rank, kind="Exit", message=f"rank {rank} exited with code {code}")
    cause = likely_cause(code, oom_kills_before)
    message = f"rank {rank} was killed by {signal_name(-code)}: {cause}"
    return Failure(rank=rank, kind="Signal", message=message)


def likely_cause(code: int, oom_kills_before: int) -> str:
    """Return what most likely sent the signal, for a rank that its agent did not signal."""
    if code == -signal.SIGKILL:
        if oom_kills() > oom_kills_before:
            return "out of memory (the kernel's out-of-memory killer struck meanwhile)"
        return "somebody outside the job killed it"
    if code == -signal.SIGBUS:
        return "a bus error: is /dev/shm or the disk full?"
    if code in (-signal.SIGSEGV, -signal.SIGABRT):
        return "a crash in native code"
    return "somebody outside the job ended it"


def signal_name(number: int) -> str:
    """Return SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
