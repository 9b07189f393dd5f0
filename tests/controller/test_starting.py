"""Starting alone and apart, and where a socket must not lie; nothing here starts a controller."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jupyter_aios.client import Client
from jupyter_aios.controller import folders
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core.home import START_LOCK_FILE
from jupyter_aios.errors import StorageError, UnavailableError


def test_while_somebody_starts_a_controller_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spawn(home: Path) -> None:
        pytest.fail(f"a second controller was started for {home}")

    monkeypatch.setattr("jupyter_aios.client.transport.spawn", spawn)
    monkeypatch.setattr("jupyter_aios.client.starting.START_DEADLINE_S", 0.1)
    with (tmp_path / START_LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="somebody has been starting the controller"):
            Client(tmp_path).hello()


def test_a_detached_process_is_nobody_s_child_and_can_get_no_terminal() -> None:
    code = (
        "import json, os; from jupyter_aios.controller.lifecycle import detach\n"
        "detach()\n"
        "facts = [os.getpid(), os.getsid(0), os.getcwd(), os.read(0, 1).decode()]\n"
        "os.write(1, json.dumps(facts).encode())"
    )
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        pid, session, folder, read = json.loads(starter.communicate(b"keys")[0])
        assert pid != starter.pid
    # A leader of its session would get the first terminal that it opens.
    assert session not in (pid, os.getsid(0))
    assert (folder, read) == ("/", "")


def test_a_socket_folder_that_belongs_to_another_user_is_not_used(tmp_path: Path) -> None:
    # Everything in the way belongs to this user, and somebody else asks.
    other = 10**6 + os.getpid()
    own = Path("/tmp") / f"aios-{other}"  # noqa: S108 - where that user's socket would lie
    with tempfile.TemporaryDirectory(prefix="aios-run-") as runtime:
        (Path(runtime) / "jupyter_aios").mkdir(mode=0o700)
        try:
            with pytest.raises(UnavailableError, match=f"belongs to user {os.getuid()}, you are"):
                folders.listen(tmp_path, {"XDG_RUNTIME_DIR": runtime}, other)
        finally:
            own.rmdir()


def test_a_store_on_a_network_file_system_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise StorageError(f"{path} lies on a network file system")

    monkeypatch.setattr("jupyter_aios.controller.sqlite.refuse_network_filesystem", refuse)
    with pytest.raises(StorageError, match="lies on a network file system"):
        SqlStore(f"sqlite:///{tmp_path / 'home' / 'store.sqlite'}")
    assert list(tmp_path.iterdir()) == []
