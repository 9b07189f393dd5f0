"""What every test stands on: homes of their own, and nothing left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.launching import Launchpad
from tests.notebook import Notebook

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


@pytest.fixture
def aios_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a home of its own for a controller; the test ends with nothing of it alive."""
    from jupyter_aios import client

    home = tmp_path / "home"
    # Not below tmp_path: pytest's paths are longer than a Unix socket's may be.
    runtime = Path(tempfile.mkdtemp(prefix="aios-run-"))
    monkeypatch.setenv("AIOS_HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    yield home
    with contextlib.suppress(Exception):
        client.Client(home).shutdown()
    left = wait_until_gone(home, 10)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(runtime, ignore_errors=True)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="session")
def launchpad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launchpad]:
    """Give one local engine, with its warm process, to all tests of a worker."""
    home = tmp_path_factory.mktemp("engine")
    before = os.environ.get("AIOS_HOME")
    os.environ["AIOS_HOME"] = str(home)
    pad = Launchpad(home)
    yield pad
    pad.engine.close()
    left = wait_until_gone(home, 10)
    os.environ.pop("AIOS_HOME") if before is None else os.environ.update(AIOS_HOME=before)
    assert not left, f"left behind: {left}"


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """Give a fresh IPython shell whose globals are `__main__`, as a kernel's are."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    before = sys.modules["__main__"]
    hook, breakpoint_hook = sys.displayhook, sys.excepthook
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    try:
        yield Notebook(shell, tmp_path)
    finally:
        shell.atexit_operations()
        atexit.unregister(shell.atexit_operations)
        shell.restore_sys_module_state()
        InteractiveShell.clear_instance()
        sys.modules["__main__"] = before
        sys.displayhook, sys.excepthook = hook, breakpoint_hook
