"""What every test stands on: homes of their own, and nothing left behind."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.homes import home_at, wait_until_gone
from tests.launching import Launchpad
from tests.notebook import Notebook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def aios_home(tmp_path: Path) -> Iterator[Path]:
    """Give a home of its own for a controller; the test ends with nothing of it alive."""
    with home_at(tmp_path / "home") as home:
        yield home


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
