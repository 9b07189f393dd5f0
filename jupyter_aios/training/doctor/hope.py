"""Whether a tree of processes might go on by itself: pure, from two readings of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.signs import Process, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.training.doctor.signs import Thread


class Pulse(Enum):
    """What can be said of a rank from outside."""

    GONE = "gone"
    STOPPED = "stopped"
    HOPE = "hope"
    STILL = "still"
    """Its main thread waits without a time limit, and nothing in the tree could wake it."""
    STARVED = "starved"
    """Its main thread waits as one does for a DataLoader, and a worker of it is still."""


@dataclass(frozen=True)
class Outlook:
    """The pulse of a rank and what supports it."""

    pulse: Pulse
    suspects: tuple[Process, ...] = ()
    """Descendants that are still or stopped: the first is the one to look at."""
    timed: int = 0
    """Side threads that wait for a lock with a time limit: hope, unless they are known watchers."""


HOPE = Outlook(Pulse.HOPE)
_HOPELESS = (Wait.WATCHING, Wait.STOPPED, Wait.OVER, Wait.TIMED_LOCK)
_LOADER_WAITS = (Wait.LOADER_POLL, Wait.TIMED_LOCK, Wait.SOCKET)
"""As a process waits that wants a batch of its workers."""
_MOST_LOAD = 0.05
"""Of one processor: what gloo's idle threads and a progress bar's monitor take is far below it."""


def outlook(before: Sequence[Process], now: Sequence[Process], elapsed_s: float) -> Outlook:
    """Return what can be said of the rank whose tree was read twice, itself first."""
    if not now or now[0].main.wait is Wait.OVER:
        return Outlook(Pulse.GONE)
    main = now[0].main.wait
    if main is Wait.STOPPED:
        return Outlook(Pulse.STOPPED)
    ran = _Ran(before)
    relevant = [p for p in now[1:] if not p.is_watcher and p.main.wait is not Wait.OVER]
    threads = [thread for process in (now[0], *relevant) for thread in process.threads[1:]]
    suspects = [p for p in relevant if p.main.wait is Wait.STOPPED or _is_still(p.main, ran)]
    idle = [p for p in relevant if p.is_loader_worker and p.main.wait is Wait.LOADER_POLL]
    is_moving = (
        not before
        or _load(before, now, elapsed_s) > _MOST_LOAD
        or len(suspects) + len(idle) < len(relevant)
        or not all(thread.wait in _HOPELESS or _is_still(thread, ran) for thread in threads)
    )
    timed = sum(thread.wait is Wait.TIMED_LOCK for thread in threads)
    workers = [process for process in suspects if process.is_loader_worker]
    if not is_moving and _is_still(now[0].main, ran):
        return Outlook(Pulse.STILL, tuple(suspects), timed)
    if not is_moving and main in _LOADER_WAITS and workers:
        return Outlook(Pulse.STARVED, tuple(workers), timed)
    return HOPE


def _load(before: Sequence[Process], now: Sequence[Process], elapsed_s: float) -> float:
    """Return the share of one processor that the tree has used; bytes under way cost some."""
    known = {(process.pid, process.start_ticks): process.cpu_ticks for process in before}
    ticks = sum(p.cpu_ticks - known.get((p.pid, p.start_ticks), p.cpu_ticks) for p in now)
    # One tick may be the rest of what came before.
    return max(ticks - 1, 0) / os.sysconf("SC_CLK_TCK") / max(elapsed_s, 0.1)


class _Ran:
    """Which threads have run since a reading."""

    def __init__(self, before: Sequence[Process]) -> None:
        self._known = {
            thread.id: (thread.switches, thread.call)
            for process in before
            for thread in process.threads
        }

    def has(self, thread: Thread) -> bool:
        """Return whether it has run; a thread that was not there has."""
        return self._known.get(thread.id) != (thread.switches, thread.call)


def _is_still(thread: Thread, ran: _Ran) -> bool:
    return thread.wait is Wait.LOCK and not ran.has(thread)
