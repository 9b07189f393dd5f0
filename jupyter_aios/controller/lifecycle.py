"""The controller as a process: it starts apart from its starter, alone, and ends when idle.

Whoever starts it reads one line of JSON from its stdout: {"socket": …} when it answers, or
{"error": …}. Then stdout is closed, and everything goes to the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from jupyter_aios.controller.folders import (
    AlreadyRunningError,
    Lock,
    listen,
    open_log,
    prepare_home,
)
from jupyter_aios.core.home import LOG_FILE, home_folder
from jupyter_aios.core.wire import ErrorBody, to_plain
from jupyter_aios.errors import AiosError, InputError
from jupyter_aios.training.processes import boot_id
from jupyter_aios.training.secrets import set_readable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jupyter_aios.controller.assembly import Controller

IDLE_S = 1800.0
ENGINES = ("local",)

log = logging.getLogger(__name__)


class Starter:
    """The process that waits for one line about how the start went."""

    def __init__(self) -> None:
        self._fd: int | None = os.dup(1)

    def tell(self, message: dict[str, object]) -> None:
        """Say how it went, and let the starter go; only the first word counts."""
        if self._fd is None:
            return
        try:
            os.write(self._fd, json.dumps(message).encode() + b"\n")
        except OSError:
            log.debug("the starter has gone")
        os.close(self._fd)
        self._fd = None

    def tell_error(self, error: BaseException, home: Path | None) -> None:
        """Pass an error on to the person who waits."""
        if not isinstance(error, AiosError):
            where = home / LOG_FILE if home else "its output"
            error = AiosError(
                f"the controller cannot start: {type(error).__name__}: {error}",
                hint=f"see {where}",
            )
        body = ErrorBody(type(error).__name__, error.message, error.hint)
        self.tell({"error": to_plain(body)})


def main() -> None:
    """Become the controller of this user's home; return when it has ended."""
    starter, home = Starter(), None
    try:
        os.umask(0o077)
        home = home_folder(os.environ)
        prepare_home(home, os.getuid())
        detach()
        open_log(home)
        run(home, os.environ, starter)
    except AlreadyRunningError as running:
        starter.tell({"socket": running.socket})
    except Exception as error:
        # The last place where it can be said; nobody watches a daemon's exit code.
        logging.basicConfig()
        log.exception("the controller ends")
        starter.tell_error(error, home)
        sys.exit(1)


def detach() -> None:
    """Go on in a process that is nobody's child and has no terminal.

    A kernel that shuts down ends its children; and this runs before the heavy imports, so that
    forking copies little and the starter is free at once.
    """
    for is_first in (True, False):
        if os.fork():
            os._exit(0)
        if is_first:
            os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def shut_out_debuggers() -> None:
    """Keep this process's memory, where the vault's keys are, from its user's other processes.

    They cannot trace it, read its /proc/PID/mem, or find it in a core file. What it starts is not
    covered: execve makes a process as it was.
    """
    set_readable(is_readable=False)


def run(home: Path, environ: Mapping[str, str], starter: Starter) -> None:
    """Serve `home` until idle, told to stop, or displaced.

    Raises:
        AlreadyRunningError: another controller serves it.
        AiosError: it cannot be served; the message says why.

    """
    from jupyter_aios.controller.filesystem import refuse_network_filesystem
    from jupyter_aios.controller.launching import JOBS_FOLDER
    from jupyter_aios.core import version

    idle_s = _idle_limit(environ)
    refuse_network_filesystem(home)
    lock = Lock(home)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("jupyter_aios").setLevel(logging.INFO)
    shut_out_debuggers()
    controller = _assemble(home, environ)
    try:
        listener, path = listen(home, environ, os.getuid())
        try:
            controller.launching.folder = path.parent
            controller.keeper.open_by_itself()
            controller.loop.start()
            lock.describe(
                host=os.uname().nodename,
                boot_id=boot_id(),
                pid=os.getpid(),
                version=version.__version__,
                socket=str(path),
            )
            # Whoever starts it has until the idle limit from now on, however long it took.
            controller.gate.last_request_at = time.monotonic()
            log.info("controller %s answers at %s", version.__version__, path)
            starter.tell({"socket": str(path)})
            _serve(controller, listener, _should_end(controller, home, lock, path, idle_s))
        finally:
            if lock.is_current():
                # Else another controller may have its socket here by now.
                path.unlink(missing_ok=True)
            listener.close()
    finally:
        controller.close()
        # Jobs' sockets have lain there until now.
        for folder in (controller.launching.folder / JOBS_FOLDER, controller.launching.folder):
            with contextlib.suppress(OSError):
                folder.rmdir()
        lock.release()
    log.info("controller ends; jobs go on")


def _assemble(home: Path, environ: Mapping[str, str]) -> Controller:
    from jupyter_aios import engines
    from jupyter_aios.controller.assembly import assemble
    from jupyter_aios.controller.blobs import FileBlobs
    from jupyter_aios.controller.store import SqlStore

    blobs = FileBlobs(home / "blobs")
    return assemble(
        home=home,
        uid=os.getuid(),
        store=SqlStore(f"sqlite:///{home / 'store.sqlite'}"),
        engines={name: engines.load(name, home, blobs) for name in ENGINES},
        blobs=blobs,
        environ=environ,
    )


def _serve(controller: Controller, listener: socket.socket, should_end: Callable[[], bool]) -> None:
    from jupyter_aios.controller.http import create_server

    def watch() -> None:
        if should_end():
            server.should_exit = True

    server = create_server(controller.app, watch)
    # uvicorn ends well on these and then raises them once more, for the handler set before it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    server.run(sockets=[listener])


def _should_end(
    controller: Controller, home: Path, lock: Lock, path: Path, idle_s: float
) -> Callable[[], bool]:
    def should_end() -> bool:
        open_log(home)
        controller.keeper.lock_if_left()
        if controller.idle_s > idle_s:
            log.info("nobody has asked for anything for %.0f s", controller.idle_s)
            return True
        # At a logout XDG_RUNTIME_DIR goes away, and with it the socket: nobody can reach this
        # process any more, and the next one waits for its lock.
        if not path.is_socket() or not lock.is_current():
            log.warning("the socket or the lock has been removed")
            return True
        return False

    return should_end


def _idle_limit(environ: Mapping[str, str]) -> float:
    text = environ.get("AIOS_IDLE_S", "")
    try:
        return float(text) if text else IDLE_S
    except ValueError:
        raise InputError(f"AIOS_IDLE_S is {text!r}", hint="export AIOS_IDLE_S=1800") from None
