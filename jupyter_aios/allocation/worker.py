"""A process of our own that computes, says what it finds on the way, and can be killed.

CP-SAT overruns its limits, and neither it nor HiGHS can be stopped from outside. So what may take
long runs in a child: when time is up the child is killed, and what it had told is what was found.
The child is kept for the next call, because importing the solver takes half a second.

    parent → child   length, pickle of (module, function, arguments)
    child → parent   length, pickle of ("news" | "done" | "failed", value)
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import pickle
import queue
import struct
import sys
import threading
import time
import traceback
from typing import IO, TYPE_CHECKING, Any

from jupyter_aios.allocation.children import start

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from jupyter_aios.allocation.effort import Effort

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<Q")
GRACE_S = 0.05
"""How long a child may go on after its time, to tell what it has."""
_POLL_S = 0.05
_ORPHAN_POLL_S = 2.0


class Worker:
    """One child, started at the first call and again after it was killed. Thread-safe."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Start the child, so that it is there when it is called."""
        with self._lock:
            self._started()

    def call(self, module: str, function: str, arguments: tuple[Any, ...], effort: Effort) -> Any:  # noqa: ANN401 - whatever the function returns
        """Return what `module.function(*arguments, tell)` returns, or the last it told in time.

        None where it told nothing. A child that does not end in time is killed, and the next call
        has a new one; so does this call, where the child was killed between two calls.

        Raises:
            RuntimeError: it raised; the traceback is in the message.

        """
        with self._lock:
            try:
                return self._asked((module, function, arguments), effort)
            except BaseException:
                # An interrupt too: what the child is at nobody waits for.
                self._kill()
                raise

    def _asked(self, call: tuple[str, str, tuple[Any, ...]], effort: Effort) -> Any:  # noqa: ANN401
        self._ask(call)
        ended, found = self._answer(effort)
        if ended and found is None and not effort.is_over():
            # Most likely it was dead before it was asked. Once more, and no more than that.
            self._ask(call)
            _, found = self._answer(effort)
        return found

    def _ask(self, call: tuple[str, str, tuple[Any, ...]]) -> None:
        try:
            _write(self._started(), call)
        except BrokenPipeError:
            # It died between the look whether it lives and the call.
            self._kill()
            _write(self._started(), call)

    def _answer(self, effort: Effort) -> tuple[bool, Any]:
        """Return whether the child ended by itself, and what it told."""
        last = None
        until = float("inf")
        while True:
            left_s = effort.left_s()
            if left_s <= 0.0:
                until = min(until, time.monotonic() + GRACE_S)
                left_s = until - time.monotonic()
            if left_s <= 0.0:
                self._kill()
                return False, last
            try:
                kind, value = self._heard.get(timeout=min(left_s, _POLL_S))
            except queue.Empty:
                continue
            if kind == "news":
                last = value
            elif kind == "done":
                return False, value
            elif kind == "ended":
                # Killed by somebody else, who was out of memory perhaps: what it told still holds.
                log.warning("the solver's process ended before its time; the next call has another")
                self._kill()
                return True, last
            else:
                raise RuntimeError(value)

    def _started(self) -> IO[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._kill()
            self._heard = queue.SimpleQueue()
            self._child = start("jupyter_aios.allocation.worker")
            listen = threading.Thread(
                target=_listen, args=(self._child.stdout, self._heard), daemon=True
            )
            listen.start()
        if self._child.stdin is None:
            raise RuntimeError("the solver's process has no pipe")
        return self._child.stdin

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    def close(self) -> None:
        """End the child. Harmless when there is none."""
        self._kill()


def _listen(pipe: IO[bytes], heard: queue.SimpleQueue[tuple[str, Any]]) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed under us: the child was killed
        while (message := _read(pipe)) is not None:
            heard.put(message)
    heard.put(("ended", None))


def _write(pipe: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:  # noqa: ANN401
    """Return the next message; None when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(head)[0]
    data = pipe.read(size)
    # Only the two ends of our own pipe write to it.
    return pickle.loads(data) if len(data) == size else None  # noqa: S301


def serve() -> None:
    """Be the child: take calls until the parent is gone, whatever is being computed then."""
    out = os.fdopen(os.dup(1), "wb")
    # What solvers print belongs to nobody.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take() -> None:
        while (call := _read(sys.stdin.buffer)) is not None:
            calls.put(call)
        os._exit(0)

    def watch(parent: int) -> None:
        # A fork of the parent may hold the pipe open after the parent is gone.
        while os.getppid() == parent:
            time.sleep(_ORPHAN_POLL_S)
        os._exit(0)

    threading.Thread(target=take, daemon=True).start()
    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
    for module in ("jupyter_aios.allocation.exact.search", "ortools.sat.python.cp_model"):
        importlib.import_module(module)
    while True:
        module, function, arguments = calls.get()
        try:
            act: Callable[..., Any] = getattr(importlib.import_module(module), function)
            value = ("done", act(*arguments, lambda told: _write(out, ("news", told))))
        except Exception:  # noqa: BLE001 - the parent raises it
            value = ("failed", traceback.format_exc())
        _write(out, value)


_WORKER = Worker()
atexit.register(_WORKER.close)


def worker() -> Worker:
    """Return this process's worker. A fork does not share its parent's."""
    global _WORKER, _OWNER
    if os.getpid() != _OWNER:
        _WORKER, _OWNER = Worker(), os.getpid()
        atexit.register(_WORKER.close)
    return _WORKER


_OWNER = os.getpid()

if __name__ == "__main__":
    serve()
