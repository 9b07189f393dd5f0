"""The warm processes of this machine: one zygote per interpreter and import-time environment.

A zygote holds one end of a socketpair and dies with this process. A launch is written to the
socket at once, ready or not: a zygote that is still warming reads it when it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.ports import WarmStatus
from jupyter_aios.core.units import format_bytes
from jupyter_aios.training.processes import resident_bytes
from jupyter_aios.training.zygote import site_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

IMPORT_PREFIXES = ("OMP_", "MKL_", "OPENBLAS_", "PYTHON", "LD_", "TORCH_")
"""Variables that count when torch is imported; a fork cannot change them any more."""
REPEATABLE = {"PYTHONHASHSEED": "0"}
"""What ranks begin with where the person has not set it: the order of a set of words is part of a
run that can be repeated."""
MOST = 4
"""Warm processes at once; the one unused for longest gives way."""


@dataclass(frozen=True)
class WarmKey:
    """What must be equal for a zygote to serve a launch."""

    interpreter: str
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, interpreter: str, environment: Mapping[str, str]) -> WarmKey:
        """Return the key of a launch."""
        kept = {k: v for k, v in environment.items() if k.startswith(IMPORT_PREFIXES)}
        return cls(interpreter, tuple(sorted(kept.items())))


@dataclass
class Zygote:
    """One warm process, or one that is becoming warm, or one that could not."""

    key: WarmKey
    process: subprocess.Popen[bytes]
    connection: socket.socket
    log: Path
    used_at: float
    paths: list[str] = field(default_factory=list)
    stamp: str = ""
    is_ready: bool = False
    failure: str = ""
    pending: dict[str, str] = field(default_factory=dict)
    """Plan path → how it starts, for launches that were not answered yet."""
    refused: dict[str, str] = field(default_factory=dict)
    _buffered: bytes = b""

    def launch(self, plan_path: str, start: str, bundle: int | None) -> None:
        """Ask for an agent, with the descriptor of its secrets; the answer is taken by `poll`."""
        self.used_at = time.monotonic()
        self.pending[plan_path] = start
        request = {"plan": plan_path, "start": start, "has_secrets": bundle is not None}
        message = json.dumps(request).encode() + b"\n"
        try:
            if bundle is None:
                self.connection.sendall(message)
            else:
                sent = socket.send_fds(self.connection, [message], [bundle])
                self.connection.sendall(message[sent:])
        except OSError:
            self._note_end()

    def poll(self) -> None:
        """Take the answers that have arrived. Does not block."""
        while True:
            try:
                chunk = self.connection.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            if not chunk:
                self._note_end()
                return
            *lines, self._buffered = (self._buffered + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, answer: dict[str, Any]) -> None:
        if answer.get("ready"):
            self.is_ready, self.paths, self.stamp = True, answer["paths"], answer["stamp"]
        elif "failed" in answer:
            self.failure = answer["failed"]
        elif "refused" in answer:
            self.refused[answer["plan"]] = answer["refused"]
            self.pending.pop(answer["plan"], None)
        else:
            self.pending.pop(answer["plan"], None)

    def _note_end(self) -> None:
        if not self.failure:
            said = self.log.read_text(errors="replace").strip().splitlines()
            last = said[-1] if said else f"see {self.log}"
            self.failure = f"the warm process ended: {last}"

    def has_stale_packages(self) -> bool:
        """True where packages were installed or removed since the zygote imported them."""
        return self.is_ready and site_stamp(self.paths) != self.stamp

    def close(self) -> None:
        """End the zygote; its agents go on."""
        self.connection.close()
        try:
            self.process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            # Still importing: it has no agent yet, and nothing to lose.
            self.process.kill()
            self.process.wait()

    def describe(self) -> str:
        """Return one line about it."""
        state = "warm" if self.is_ready else "failed" if self.failure else "warming"
        memory = format_bytes(resident_bytes(self.process.pid))
        return f"{self.key.interpreter}: {state}, {memory}"


class WarmPool:
    """The zygotes by key."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._zygotes: dict[WarmKey, Zygote] = {}
        # Requests warm and describe while the loop launches.
        self._lock = threading.RLock()

    def warm(self, key: WarmKey) -> WarmStatus:
        """Have a zygote for `key`, and say how far it is."""
        with self._lock:
            zygote, _ = self._get(key)
            zygote.poll()
            if zygote.failure:
                return WarmStatus(is_warm=False, detail=zygote.failure)
            return WarmStatus(zygote.is_ready, "warm" if zygote.is_ready else "warming")

    def launch(self, key: WarmKey, plan_path: str, bundle: int | None = None) -> str:
        """Ask a zygote for the agent of a plan; return how the launch starts."""
        with self._lock:
            zygote, start = self._get(key)
            zygote.launch(plan_path, start, bundle)
            return start

    def _get(self, key: WarmKey) -> tuple[Zygote, str]:
        """Return a zygote that may serve `key` now, and how a launch through it starts."""
        zygote = self._zygotes.get(key)
        reason = self._why_first(key)
        if zygote is not None:
            zygote.poll()
            if zygote.failure:
                reason = "cold: the warm process had ended"
            elif zygote.has_stale_packages():
                reason = "cold: packages have changed since the last launch"
            else:
                zygote.used_at = time.monotonic()
                return zygote, "warm" if zygote.is_ready else "cold: still warming up"
            self._retire(key)
        while len(self._zygotes) >= MOST:
            self._retire(min(self._zygotes.values(), key=lambda z: z.used_at).key)
        self._zygotes[key] = self._start(key)
        return self._zygotes[key], reason

    def _why_first(self, key: WarmKey) -> str:
        for other in self._zygotes:
            if other.interpreter == key.interpreter:
                changed = {k for k, _ in set(other.environment) ^ set(key.environment)}
                return "cold: changed " + ", ".join(sorted(changed))
        return "cold: first launch with this interpreter"

    def _start(self, key: WarmKey) -> Zygote:
        ours, theirs = socket.socketpair()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(IMPORT_PREFIXES)}
        # One file per key, begun anew with each process: its last line is why it ended.
        path = self._logs / f"zygote-{hashlib.sha256(repr(key).encode()).hexdigest()[:8]}.log"
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with theirs:
                process = subprocess.Popen(
                    [key.interpreter, "-m", "jupyter_aios.training.zygote", str(theirs.fileno())],
                    env=inherited | REPEATABLE | dict(key.environment),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        finally:
            os.close(log)
        return Zygote(key, process, ours, path, used_at=time.monotonic())

    def _retire(self, key: WarmKey) -> None:
        self._zygotes.pop(key).close()

    def pending_failure(self, plan_path: str) -> str:
        """Return why a launch that nobody claimed will never start, or an empty string."""
        with self._lock:
            for key, zygote in list(self._zygotes.items()):
                zygote.poll()
                if plan_path in zygote.refused:
                    return zygote.refused.pop(plan_path)
                if zygote.failure and plan_path in zygote.pending:
                    del zygote.pending[plan_path]
                    if not zygote.pending:
                        self._retire(key)
                    return zygote.failure
            return ""

    def describe(self) -> tuple[str, ...]:
        """Return one line per zygote."""
        with self._lock:
            for zygote in self._zygotes.values():
                zygote.poll()
            return tuple(zygote.describe() for zygote in self._zygotes.values())

    def close(self) -> None:
        """End all zygotes."""
        with self._lock:
            for key in list(self._zygotes):
                self._retire(key)
