"""Homes for controllers in tests, and what is alive of them: at the end, nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


def processes_of(home: Path) -> dict[int, str]:
    """Return pid → command of the living processes that were started with this AIOS_HOME."""
    needle = f"AIOS_HOME={home}".encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = command.decode(errors="replace")
    return found


def wait_until_gone(home: Path, deadline_s: float) -> dict[int, str]:
    """Return what is still there of a home's processes at the deadline."""
    end = time.monotonic() + deadline_s
    while (left := processes_of(home)) and time.monotonic() < end:
        time.sleep(0.02)
    return left


@contextlib.contextmanager
def home_at(home: Path) -> Iterator[Path]:
    """Make `home` the home of everything in the block; at the end nothing of it is alive."""
    # Not below the home: pytest's paths are longer than a Unix socket's may be.
    runtime = Path(tempfile.mkdtemp(prefix="aios-run-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIOS_HOME", str(home))
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.setenv("IPYTHONDIR", str(runtime / "ipython"))
        try:
            yield home
        finally:
            with contextlib.suppress(Exception):
                Client(home).shutdown()
            left = wait_until_gone(home, 10)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(runtime, ignore_errors=True)
    assert not left, f"left behind: {left}"
