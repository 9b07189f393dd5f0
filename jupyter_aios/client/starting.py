"""Starting the controller: one, however many ask for it, and apart from whoever does."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from jupyter_aios.core.home import LOG_FILE
from jupyter_aios.core.wire import ErrorBody, from_plain
from jupyter_aios.errors import AiosError, UnavailableError

START_DEADLINE_S = 30.0

_INHERITED = frozenset({
    "DBUS_SESSION_BUS_ADDRESS", "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL",
    "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
})  # fmt: skip
_INHERITED_PREFIXES = (
    "AIOS_", "CONDA_", "CUDA_", "DYLD_", "LC_", "LD_", "NVIDIA_", "PYTHON", "ROCR_", "XDG_",
)  # fmt: skip
"""What a controller takes from the kernel that happens to start it. It outlives that kernel, so
tokens and the kernel's own variables stay behind."""


def wait_for_lock(descriptor: int, home: Path) -> None:
    """Return when this process holds the lock.

    Raises:
        UnavailableError: somebody else has held it for too long.

    """
    deadline = time.monotonic() + START_DEADLINE_S
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"somebody has been starting the controller for {START_DEADLINE_S:.0f} s",
                hint=f"see {home / LOG_FILE}",
            )
        time.sleep(0.02)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def spawn(home: Path) -> None:
    """Start a controller and return when it answers.

    Raises:
        AiosError: what kept it from starting, as it says itself.
        ConnectionError: it was killed in the middle.

    """
    with subprocess.Popen(
        [sys.executable, "-m", "jupyter_aios.controller"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_controller_environment(home),
        # Not the notebook's folder: a random.py there would be imported.
        cwd=home,
        start_new_session=True,
    ) as process:
        try:
            # Its stdout ends when it has spoken or died: a crash is known at once.
            out, err = process.communicate(timeout=START_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise UnavailableError(
                f"the controller did not answer within {START_DEADLINE_S:.0f} s of its start",
                hint=f"see {home / LOG_FILE}",
            ) from error
    if not out and not err:
        # A crash would have spoken: it was killed, and the next one may live.
        raise ConnectionAbortedError("the controller was killed while it started")
    try:
        message = json.loads(out)
    except ValueError:
        lines = err.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise UnavailableError(
            f"the controller ended while it started: {lines[-1]}", hint=f"see {home / LOG_FILE}"
        ) from None
    if "error" in message:
        told = from_plain(ErrorBody, message["error"])
        raise AiosError.from_kind(told.kind, told.message, told.hint)


def _controller_environment(home: Path) -> dict[str, str]:
    environment = {
        name: value
        for name, value in environ().items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    environment["AIOS_HOME"] = str(home)
    # The code that asks is the code that answers, also where it runs from a checkout.
    package = Path(__file__).resolve().parents[2]
    if package.name not in {"site-packages", "dist-packages"}:
        paths = [str(package), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


def environ() -> dict[str, str]:
    """Return the environment, with the home that the user database knows where HOME is not set."""
    return {"HOME": str(Path.home()), **os.environ}
