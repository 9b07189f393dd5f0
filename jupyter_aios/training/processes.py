"""Processes by identity, never by name or by number alone.

A pid is reused; a pid with its start time and the machine's boot id is not. All of it reads
`/proc`, so it is Linux's; elsewhere the answers are the best that `os.kill(pid, 0)` can give.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_LINUX = sys.platform == "linux"
MARKER = "AIOS_ATTEMPT"
"""In the environment of every process of an attempt: `JOB_ID/NUMBER`."""

_PR_SET_PDEATHSIG = 1
_MOST_SWEEPS = 100
_libc = ctypes.CDLL(None, use_errno=True) if IS_LINUX else None


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, told apart from every later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str


@cache
def boot_id() -> str:
    """Return the id of this boot of the machine, or an empty string where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name, which may itself hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def identity_of(pid: int) -> ProcessIdentity:
    """Return the identity of a living process; start ticks are 0 where /proc has none."""
    fields = _stat_fields(pid)
    return ProcessIdentity(pid, int(fields[19]) if fields else 0, boot_id())


def is_alive(process: ProcessIdentity) -> bool:
    """True while this very process runs; a zombie has ended."""
    if process.boot_id != boot_id():
        return False
    if not IS_LINUX:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, 0)
            return True
        return False
    fields = _stat_fields(process.pid)
    return fields is not None and int(fields[19]) == process.start_ticks and fields[0] not in "ZX"


def send(process: ProcessIdentity, signal_number: int) -> bool:
    """Signal this very process; False where it has ended.

    The pidfd is opened before the identity is checked, so the pid cannot change hands in between.
    """
    if not IS_LINUX:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal_number)
            return True
        return False
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(pidfd, signal_number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends; exit now if it already has."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def members_of(session: int, marker: str) -> Iterator[ProcessIdentity]:
    """Yield the processes of a session, or with `MARKER=marker` in their environment.

    The first finds what was forked from a rank, the second what was executed by one and made a
    session of its own. The caller itself is never among them.
    """
    if not IS_LINUX:
        return
    needle = f"{MARKER}={marker}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        pid = int(entry)
        fields = _stat_fields(pid)
        if fields is None or fields[0] in "ZX":
            continue
        # Session 0 is everything that was started before there was one.
        is_member = int(fields[3]) == session > 0
        if not is_member:
            with contextlib.suppress(OSError):
                is_member = needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if is_member:
            yield ProcessIdentity(pid, int(fields[19]), boot_id())


def kill_members(session: int, marker: str) -> int:
    """Kill what is left of an attempt's processes and return how many there were.

    It looks again until it finds nothing: a process in the middle of an exec shows no environment
    for a moment, and one that is being killed may just have forked.
    """
    killed: set[ProcessIdentity] = set()
    for _ in range(_MOST_SWEEPS):
        found = list(members_of(session, marker))
        if not found:
            break
        killed.update(process for process in found if send(process, signal.SIGKILL))
        time.sleep(0.002)
    return len(killed)


def thread_count() -> int:
    """Return the number of threads of this process, native ones included."""
    if not IS_LINUX:
        return 1
    return len(os.listdir("/proc/self/task"))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 where it cannot be read."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def oom_kills() -> int:
    """Return how often the kernel's out-of-memory killer has struck since boot."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
