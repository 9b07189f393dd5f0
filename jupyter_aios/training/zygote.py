"""The warm process: everything that a rank needs is imported, and it forks agents on request.

It holds one end of a socketpair; the controller's engine holds the other. A request is a line of
JSON, `{"plan": PATH, "start": TEXT, "has_secrets": BOOL}`; the answer is `{"pid": N}` or
`{"refused": WHY}`. Where a request has secrets, the descriptor of their bundle comes with it
(SCM_RIGHTS); the zygote hands it on unread. When the other end is gone the zygote ends; its agents
do not.

It must stay able to fork: one thread, no open GPU device, and no tensor work at all (after one
matmul here, a child's first matmul would never finish).
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from jupyter_aios.training import agent
from jupyter_aios.training.processes import thread_count

PRELOADED = (
    "torch",
    "torch.distributed",
    "torch.nn.parallel",
    "torch.optim",
    "torch.utils.data",
    "numpy",
    # The first optimizer step imports this: 823 modules, 2 s.
    "torch._dynamo",
    "jupyter_aios.training.curves.installing",
)


_MOST_BUNDLES = 16
"""Taken with one read. Linux ends a read after the first that it meets."""


def site_stamp(paths: list[str]) -> str:
    """Return a text that changes when a package below one of `paths` is installed or removed."""
    marks = []
    for path in paths:
        try:
            entries = list(os.scandir(path))
        except OSError:
            continue
        marks += [
            f"{entry.path} {entry.stat().st_mtime_ns}"
            for entry in entries
            if entry.name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth"))
        ]
    # In a checkout our own modules change without an installation.
    own = Path(__file__).parents[1]
    training = own / "training"
    rooms = (training, *(entry for entry in training.iterdir() if entry.is_dir()))
    for room in (own, own / "core", *rooms):
        marks += [f"{module} {module.stat().st_mtime_ns}" for module in room.glob("*.py")]
    return "\n".join(sorted(marks))


def preload() -> None:
    """Import what ranks need, then keep the collector from touching (and copying) those pages."""
    # numpy's OpenBLAS would start a second thread at import, and torch would ask CUDA's driver.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    for module in PRELOADED:
        __import__(module)
    gc.collect()
    gc.freeze()


def why_not_fork() -> str:
    """Return why this process must not fork now, or an empty string."""
    threads = thread_count()
    if threads != 1:
        return f"the warm process has {threads} threads"
    for name in os.listdir("/proc/self/fd"):
        try:
            target = str(Path("/proc/self/fd", name).readlink())
        except OSError:
            continue  # the descriptor of the listing itself
        if target.startswith("/dev/nvidia"):
            return f"the warm process holds {target} open"
    return ""


def _fork_agent(
    request: dict[str, Any], connection: socket.socket, bundle: int | None, others: list[int]
) -> int:
    pid = os.fork()
    if pid:
        return pid
    # From here on this is the agent. It never returns into the zygote's loop.
    try:
        connection.close()
        for other in others:
            os.close(other)  # of a request whose end is still on its way
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        agent.main(Path(request["plan"]), start=request["start"], bundle=bundle)
    finally:
        os._exit(1)


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end closes."""
    # Agents are not waited for: they report through their own files.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def reply(**answer: object) -> None:
        connection.sendall(json.dumps(answer).encode() + b"\n")

    paths = [path for path in sys.path if path]
    stamp = site_stamp(paths)
    try:
        preload()
    except BaseException as error:  # noqa: BLE001 - whatever a broken install raises is the answer
        reply(failed=f"{type(error).__name__}: {error}")
        return
    reply(ready=True, paths=paths, stamp=stamp)
    buffered = b""
    bundles: list[int] = []
    while True:
        chunk, received, _, _ = socket.recv_fds(connection, 65536, _MOST_BUNDLES)
        if not chunk:
            return
        for descriptor in received:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's
        # A bundle arrives with the first byte of its request or later ones, never after them.
        bundles += received
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in lines:
            request = json.loads(line)
            bundle = bundles.pop(0) if request["has_secrets"] else None
            refusal = why_not_fork()
            if refusal:
                reply(refused=refusal, plan=request["plan"])
            else:
                pid = _fork_agent(request, connection, bundle, bundles)
                reply(pid=pid, plan=request["plan"])
            if bundle is not None:
                os.close(bundle)


if __name__ == "__main__":
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(0)  # the controller was killed: nobody is left to serve
