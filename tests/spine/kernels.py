"""Real kernels with somebody who types into them, and homes that outlive a single test."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tests.launching import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.client import Client
    from jupyter_aios.core.entities import Job

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DEADLINE_S = 60.0


def over(client: Client, key: str) -> Job:
    """Return the job once it is over."""
    eventually(lambda: client.job(key).state.is_terminal, f"{key} is over")
    return client.job(key)


def typed_in_a_shell(line: str, cwd: Path) -> subprocess.Popen[str]:
    """Start a command as a person does whose environment is activated."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        # exec: signals that are meant for the command reach it and not the shell.
        ["bash", "-c", f"exec {line}"],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class Cell:
    """What a cell has shown so far."""

    kernel: Kernel
    message: str
    stdout: str = ""
    stderr: str = ""
    result: str = ""
    error: str = ""
    """The traceback as it is shown, without colours."""
    status: str = ""
    """The last state of what is updated in place."""
    answers: list[str] = field(default_factory=list)
    """What the person will type, one answer per question."""
    asked: list[str] = field(default_factory=list)
    """The questions, all of which the frontend was told to show no answer to."""
    is_over: bool = False

    @property
    def lines(self) -> list[str]:
        """What was printed."""
        return self.stdout.splitlines()

    def until(self, condition: Callable[[Cell], bool], what: str) -> Cell:
        """Read along until the condition is true."""
        deadline = time.monotonic() + _DEADLINE_S
        while not condition(self):
            assert time.monotonic() < deadline, f"{what}: not within {_DEADLINE_S} s: {self}"
            assert not self.is_over, f"{what}: the cell ended before: {self}"
            self._read_one()
        return self

    def end(self) -> Cell:
        """Read along until the kernel is idle again."""
        return self.until(lambda cell: cell.is_over, "the cell ends")

    def _read_one(self) -> None:
        if self.answers:
            self._answer()
        try:
            # Who waits for an answer says nothing meanwhile.
            message = self.kernel.client.get_iopub_msg(timeout=0.02 if self.answers else 1)
        except queue.Empty:
            assert self.kernel.is_alive, f"the kernel has died: {self}"
            return
        if message["parent_header"].get("msg_id") == self.message:
            self._take(message["msg_type"], message["content"])

    def _answer(self) -> None:
        with contextlib.suppress(queue.Empty):
            question = self.kernel.client.get_stdin_msg(timeout=0)
            assert question["parent_header"].get("msg_id") == self.message
            assert question["content"]["password"], f"{question['content']['prompt']} is echoed"
            self.asked.append(question["content"]["prompt"].removesuffix(": "))
            self.kernel.client.input(self.answers.pop(0))

    def _take(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind in {"display_data", "update_display_data"}:
            self.status = content["data"]["text/plain"]
        elif kind == "execute_result":
            self.result = content["data"]["text/plain"]
        elif kind == "error":
            self.error = _COLOURS.sub("", "\n".join(content["traceback"]))
        elif kind == "status":
            self.is_over = content["execution_state"] == "idle"


@dataclass
class Kernel:
    """A real ipykernel of some interpreter; its sockets and files lie in a folder of its own."""

    cwd: Path
    python: str = sys.executable
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kernel-"))
        spec = self.folder / "kernels" / "ours" / "kernel.json"
        spec.parent.mkdir(parents=True)
        start = [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": start, "display_name": "ours", "language": "python"}))
        specs = KernelSpecManager(
            kernel_dirs=[str(self.folder / "kernels")], ensure_native_kernel=False
        )
        # Ports of TCP could be taken by another test in between.
        self.manager = KernelManager(
            kernel_name="ours",
            kernel_spec_manager=specs,
            transport="ipc",
            ip=str(self.folder / "socket"),
            connection_file=str(self.folder / "connection.json"),
        )
        # What is printed can be read here; the live view is looked at in a browser.
        self.manager.start_kernel(cwd=str(self.cwd), env={**os.environ, "AIOS_VIEW": "text"})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=_DEADLINE_S)

    @property
    def is_alive(self) -> bool:
        """True while the process lives."""
        return bool(self.manager.is_alive())

    def begin(self, code: str, *typed: str) -> Cell:
        """Start a cell; without anything to be typed the frontend has no keyboard."""
        message = self.client.execute(code, allow_stdin=bool(typed))
        return Cell(self, message, answers=list(typed))

    def run(self, *cells: str) -> Cell:
        """Run cells one after the other, and return the last one."""
        for code in cells:
            cell = self.begin(code).end()
        return cell

    def answer(self, code: str, *typed: str) -> Cell:
        """Run a cell and type what it asks for, unseen; all of it is asked for."""
        cell = self.begin(code, *typed).end()
        assert not cell.answers, f"{len(cell.answers)} answers were not asked for: {cell}"
        return cell

    def value(self, expression: str) -> str:
        """Return the repr of an expression that must not fail."""
        cell = self.run(expression)
        assert not cell.error, cell.error
        return cell.result

    def interrupt(self) -> None:
        """Do what the stop button does."""
        self.manager.interrupt_kernel()

    def kill(self) -> None:
        """Kill the process as the kernel's out-of-memory killer does."""
        provisioner: Any = self.manager.provisioner
        os.kill(provisioner.pid, signal.SIGKILL)
        eventually(lambda: not self.is_alive, "the kernel is dead")

    def close(self) -> None:
        """End the kernel and remove its files."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        shutil.rmtree(self.folder)


@dataclass
class Kernels:
    """Starts kernels with the magics loaded, and ends them all."""

    cwd: Path
    started: list[Kernel] = field(default_factory=list)

    def start(self, python: str = sys.executable, cwd: Path | None = None) -> Kernel:
        """Return a fresh kernel."""
        kernel = Kernel(cwd or self.cwd, python)
        self.started.append(kernel)
        loaded = kernel.run("%load_ext jupyter_aios")
        assert not loaded.error, loaded.error
        return kernel

    def close(self) -> None:
        """End all of them. Harmless the second time."""
        while self.started:
            self.started.pop().close()
