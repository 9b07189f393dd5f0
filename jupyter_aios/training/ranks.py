"""The ranks as their agent sees them: started one of two ways, signalled and reaped."""

from __future__ import annotations

import contextlib
import os
import signal as signals  # the ranks' method is called signal
import socket
import subprocess
import sys
import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from jupyter_aios.core.events import EventKind, event_stream
from jupyter_aios.training.journal import JournalReader, read_json
from jupyter_aios.training.processes import (
    ProcessIdentity,
    die_with_parent,
    identity_of,
    send,
)
from jupyter_aios.training.secrets import bundle, set_readable

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from jupyter_aios.core.ports import LaunchPlan
    from jupyter_aios.training.checkpoint import Checkpoint
    from jupyter_aios.training.outputs import Outputs
    from jupyter_aios.training.secrets import Delivery

HOST = "127.0.0.1"


class Ranks(Protocol):
    """The running ranks of an attempt on this machine."""

    exits: dict[int, int]
    """Rank → exit code, negative for a signal."""

    @property
    def have_ended(self) -> bool:
        """True when every rank has ended."""

    def reap(self) -> None:
        """Take note of ranks that have ended. Does not block."""

    def signal(
        self, number: signals.Signals, *, only: int | None = None, spare: Container[int] = ()
    ) -> None:
        """Send a signal to the process groups of the living ranks."""


class ForkedRanks:
    """Ranks forked from the agent, which was forked from the zygote: they start in 0.1 s."""

    def __init__(
        self,
        plan: LaunchPlan,
        folder: Path,
        outputs: Outputs,
        resume: Checkpoint | None,
        delivery: Delivery,
    ) -> None:
        self.exits: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        # The agent hosts the store, as torchrun's does: rank 0 may end before the others. The
        # socket listens before any rank exists, so no port is guessed and none is lost.
        listener = socket.create_server((HOST, 0))
        port = listener.getsockname()[1]
        agent_pid = os.getpid()
        pipes = {item.rank: outputs.open_pipes(item.rank) for item in plan.ranks}
        for index, item in enumerate(plan.ranks):
            pid = os.fork()
            if pid:
                # Both sides set the group: whoever comes first, a signal finds it.
                with contextlib.suppress(OSError):
                    os.setpgid(pid, pid)
                self._pids[item.rank] = pid
                continue
            try:
                _become_rank(agent_pid, pipes, item.rank, outputs, listener)
                if delivery.secrets:
                    # The agent lets nobody look into it; the doctor and debuggers look into ranks.
                    set_readable(is_readable=True)
                from jupyter_aios.training import bootstrap

                bootstrap.main(plan, folder, index, resume, (HOST, port), delivery=delivery)
            except BaseException:  # noqa: BLE001 - nothing may return into the agent's loop
                traceback.print_exc()
            finally:
                os._exit(1)
        for pair in pipes.values():
            os.close(pair[0])
            os.close(pair[1])
        self._store = _host_store(listener, port)

    @property
    def have_ended(self) -> bool:
        """True when every rank has been reaped."""
        return len(self.exits) == len(self._pids)

    def reap(self) -> None:
        """Ask the kernel for those that have ended."""
        for rank, pid in self._pids.items():
            if rank in self.exits:
                continue
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                self.exits[rank] = os.waitstatus_to_exitcode(status)

    def signal(
        self, number: signals.Signals, *, only: int | None = None, spare: Container[int] = ()
    ) -> None:
        """Signal the process groups of the living ranks."""
        for rank, pid in self._pids.items():
            if rank in self.exits or rank in spare or only not in (None, rank):
                continue
            # A child that was not waited for keeps its pid, so this cannot hit a stranger.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)


def _become_rank(
    agent_pid: int,
    pipes: dict[int, tuple[int, int]],
    rank: int,
    outputs: Outputs,
    listener: socket.socket,
) -> None:
    os.setpgid(0, 0)
    die_with_parent(agent_pid)
    os.dup2(pipes[rank][0], 1)
    os.dup2(pipes[rank][1], 2)
    for pair in pipes.values():
        os.close(pair[0])
        os.close(pair[1])
    outputs.forget_in_child()
    listener.close()


def _host_store(listener: socket.socket, port: int) -> object:
    """Serve the process group's store on a socket that already listens.

    It starts threads, so it comes after the last fork; a rank that connects earlier waits.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore(
        HOST,
        port,
        None,
        is_master=True,
        timeout=timedelta(seconds=60),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
        use_libuv=True,
    )


class TorchrunRanks:
    """Ranks started by torch elastic, one elastic agent per node, as `torchrun` would."""

    def __init__(
        self,
        plan: LaunchPlan,
        folder: Path,
        outputs: Outputs,
        resume: Checkpoint | None,
        delivery: Delivery,
    ) -> None:
        self.exits: dict[int, int] = {}
        self._folder = folder
        self._readers = {r.rank: JournalReader(folder / event_stream(r.rank)) for r in plan.ranks}
        self._processes: dict[int, ProcessIdentity] = {}
        self._endings: dict[int, int] = {}
        self._signalled: dict[int, int] = {}
        self._nodes: list[tuple[subprocess.Popen[bytes], list[int]]] = []
        # Bound but not listening: nobody else is given the port, elastic may still listen on it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((HOST, 0))
        port = self._reserved.getsockname()[1]
        names = list(dict.fromkeys(item.node for item in plan.ranks))
        for index in range(len(names)):
            members = [item for item in plan.ranks if item.node == names[index]]
            for item in members:
                outputs.open_fifos(item.rank)
            environment = dict(plan.environment) | dict(members[0].environment)
            arguments = [folder / "plan.json", index, len(names), len(members), port]
            arguments += [resume.folder] if resume else []
            with bundle(delivery.secrets) as descriptor:
                process = subprocess.Popen(
                    [sys.executable, "-m", "jupyter_aios.training.elastic", *map(str, arguments)],
                    env=environment,
                    # Elastic closes every other descriptor in the ranks that it starts.
                    stdin=subprocess.DEVNULL if descriptor is None else descriptor,
                    start_new_session=False,
                )
            self._nodes.append((process, [item.rank for item in members]))

    @property
    def have_ended(self) -> bool:
        """True when every rank has been reaped."""
        return len(self.exits) == sum(len(ranks) for _, ranks in self._nodes)

    def reap(self) -> None:
        """Read which ranks have started and ended, and ask elastic for the exits."""
        for rank, reader in self._readers.items():
            for frame in reader.read():
                if frame.kind is EventKind.PHASE:
                    data = frame.json()
                    if data["phase"] == "started":
                        with contextlib.suppress(OSError):
                            self._processes[rank] = identity_of(data["pid"])
                    else:
                        self._endings[rank] = data["code"]
        for index, (process, ranks) in enumerate(self._nodes):
            if ranks[0] in self.exits or process.poll() is None:
                continue
            told = read_json(self._folder / f"exits-{index}.json") or {}
            for rank in ranks:
                # Elastic tells only of ranks that failed by themselves.
                ended = self._endings.get(rank, -self._signalled.get(rank, signals.SIGTERM))
                self.exits[rank] = told.get(str(rank), 0 if process.returncode == 0 else ended)

    def signal(
        self, number: signals.Signals, *, only: int | None = None, spare: Container[int] = ()
    ) -> None:
        """Signal the ranks that have started, and elastic where none has."""
        for rank, process in self._processes.items():
            if rank not in self.exits and rank not in spare and only in (None, rank):
                send(process, number)
                self._signalled[rank] = number
        for elastic, ranks in self._nodes:
            # Elastic ends by itself when its ranks do; before they exist, or when nothing else
            # helped, it is told directly.
            unborn = not any(rank in self._processes for rank in ranks)
            is_last_word = number is signals.SIGKILL and only is None
            if elastic.poll() is None and (unborn or is_last_word):
                elastic.send_signal(number if is_last_word else signals.SIGTERM)
