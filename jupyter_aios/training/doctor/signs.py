"""What the kernel knows of a rank's processes: which thread runs, which waits, and for what.

The question is hope: might this tree of processes go on by itself? A thread that runs, sleeps for a
time, or waits for a disk, a network or an unknown thing has hope. A thread that waits for a lock
without a time limit has none of its own: only another thread of the tree can wake it. So a tree is
without hope when every thread of it waits so, or is known to be only a watcher, and none of them
has run since the last look.

Linux only, from /proc alone: nothing here touches the processes.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOADER_NAME = "pt_data_worker"
"""What torch calls the process of a DataLoader's worker."""
_POLL_MS = 5000
"""torch.utils.data: MP_STATUS_CHECK_INTERVAL, with which idle workers and their master poll."""

_NUMBERS = {
    "x86_64": {
        202: "futex", 0: "read", 1: "write", 61: "wait", 247: "wait",
        43: "accept", 288: "accept", 7: "poll", 271: "ppoll",
    },
    "aarch64": {
        98: "futex", 63: "read", 64: "write", 260: "wait", 95: "wait", 202: "accept",
        242: "accept", 73: "ppoll",
    },
}  # fmt: skip
_CALLS = _NUMBERS.get(platform.machine(), {})
_WATCHERS = (
    "gloo_", "pt_gloo", "pt_tcpstore", "pt_nccl", "pt_autograd", "pt_elastic", "pt_data_pin",
    "NCCL", "cuda-EvtHandlr", "cuda00", "torch_shm_mana",
)  # fmt: skip
"""Threads and processes that only serve others, by the beginning of their names."""
_WATCHING_PROGRAMS = (b"multiprocessing.forkserver", b"multiprocessing.resource_tracker")


class Wait(Enum):
    """What a thread is doing, as far as it tells about hope."""

    STOPPED = "stopped"
    TRACED = "traced"
    OVER = "over"
    LOCK = "lock"
    """For ever, for something that only another thread or a relative can do."""
    TIMED_LOCK = "timed lock"
    LOADER_POLL = "loader poll"
    """As a DataLoader's idle worker and the process that waits for one do."""
    SOCKET = "socket"
    """Reads from a socket: from the world, or from a DataLoader's worker."""
    WATCHING = "watching"
    BUSY = "busy"
    """Runs, sleeps, or waits for the world outside."""


_STATES = {"T": Wait.STOPPED, "t": Wait.TRACED, "Z": Wait.OVER, "X": Wait.OVER}


@dataclass(frozen=True)
class Thread:
    """One thread at one moment."""

    id: int
    name: str
    wait: Wait
    switches: int
    """How often it has been given a processor or taken off it: equal numbers, it never ran."""
    call: str
    """The system call with its arguments."""


@dataclass(frozen=True)
class Process:
    """One process at one moment; its main thread comes first."""

    pid: int
    parent: int
    start_ticks: int
    cpu_ticks: int
    threads: tuple[Thread, ...]
    catches: int
    """Bits of the signals that it has a handler for and does not block."""
    is_watcher: bool = False

    @property
    def main(self) -> Thread:
        """The main thread."""
        return self.threads[0]

    @property
    def is_loader_worker(self) -> bool:
        """True for a worker of a DataLoader."""
        return self.main.name == LOADER_NAME

    def catches_signal(self, number: int) -> bool:
        """True where the signal would reach a handler; elsewhere it could kill."""
        return bool(self.catches >> (number - 1) & 1)


def read_tree(pid: int, children: Mapping[int, Iterable[int]]) -> tuple[Process, ...]:
    """Return a process and its descendants, itself first; empty where it is gone."""
    found: list[Process] = []
    pending = [pid]
    while pending:
        process = read_process(pending.pop(0))
        if process is not None:
            found.append(process)
            pending += children.get(process.pid, ())
    return tuple(found) if found and found[0].pid == pid else ()


def children_of_all() -> dict[int, list[int]]:
    """Return for every process of the machine its children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(f"/proc/{entry}/stat")):
            children.setdefault(int(fields[1]), []).append(int(entry))
    return children


def main_state(pid: int) -> tuple[str, int]:
    """Return state letter and processor time in ticks; an empty letter where it is gone."""
    fields = _stat(f"/proc/{pid}/stat")
    return (fields[0], int(fields[11]) + int(fields[12])) if fields else ("", 0)


def read_process(pid: int) -> Process | None:
    """Return a process as it is now, or None where it is gone."""
    folder = f"/proc/{pid}"
    fields = _stat(f"{folder}/stat")
    try:
        threads = [_read_thread(pid, int(name)) for name in os.listdir(f"{folder}/task")]
        status = _status(f"{folder}/status")
        command = Path(f"{folder}/cmdline").read_bytes()
    except OSError:
        return None
    known = sorted((t for t in threads if t is not None), key=lambda t: (t.id != pid, t.id))
    if fields is None or not known or known[0].id != pid:
        return None
    if fields[0] in "ZX":
        known[0] = Thread(pid, known[0].name, Wait.OVER, 0, "")
    return Process(
        pid=pid,
        parent=int(fields[1]),
        start_ticks=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        threads=tuple(known),
        catches=int(status.get("SigCgt", "0"), 16) & ~int(status.get("SigBlk", "0"), 16),
        is_watcher=known[0].name.startswith(_WATCHERS)
        or any(program in command for program in _WATCHING_PROGRAMS),
    )


def _read_thread(pid: int, thread: int) -> Thread | None:
    folder = f"/proc/{pid}/task/{thread}"
    fields = _stat(f"{folder}/stat")
    if fields is None:
        return None
    try:
        name = Path(f"{folder}/comm").read_text(errors="replace").rstrip("\n")
        status = _status(f"{folder}/status")
    except OSError:
        return None
    try:
        call = Path(f"{folder}/syscall").read_text().strip()
    except OSError:
        call = ""  # not permitted here: then it counts as busy
    switches = int(status.get("voluntary_ctxt_switches", 0)) + int(
        status.get("nonvoluntary_ctxt_switches", 0)
    )
    return Thread(
        thread, name, _wait(pid, fields[0], name, call, is_main=thread == pid), switches, call
    )


def _wait(  # noqa: PLR0911 - one answer per kind
    pid: int, state: str, name: str, call: str, *, is_main: bool
) -> Wait:
    if state in _STATES:
        return _STATES[state]
    if not is_main and name.startswith(_WATCHERS):
        return Wait.WATCHING
    words = call.split()
    if state != "S" or len(words) < 7:  # noqa: PLR2004 - the number and six arguments
        return Wait.BUSY
    kind = _CALLS.get(int(words[0]), "")
    arguments = [int(word, 16) for word in words[1:7]]
    if kind in ("read", "write"):
        return _of_descriptor(pid, arguments[0])
    if kind == "accept":
        return Wait.BUSY if is_main else Wait.WATCHING
    if kind == "poll" and not 0 < arguments[2] <= _POLL_MS:
        return Wait.BUSY
    if kind == "futex" and arguments[3]:
        return Wait.TIMED_LOCK
    # The time limit of ppoll is not among its arguments.
    return {
        "futex": Wait.LOCK, "wait": Wait.LOCK, "poll": Wait.LOADER_POLL, "ppoll": Wait.LOADER_POLL,
    }.get(kind, Wait.BUSY)  # fmt: skip


def _of_descriptor(pid: int, descriptor: int) -> Wait:
    """Only relatives have the other end of a pipe without a name; 0, 1, 2 lead to the agent."""
    try:
        target = str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
    except OSError:
        return Wait.BUSY
    if target.startswith("pipe:"):
        return Wait.LOCK if descriptor > 2 else Wait.BUSY  # noqa: PLR2004
    return Wait.SOCKET if target.startswith("socket:") else Wait.BUSY


def _stat(path: str) -> list[str] | None:
    try:
        text = Path(path).read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _status(path: str) -> dict[str, str]:
    lines = Path(path).read_text(errors="replace").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
