"""The controller as a real process, over real sockets, locks and folders."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.controller import folders, lifecycle
from jupyter_aios.core.home import LOCK_FILE, LOG_FILE, home_folder, socket_candidates
from jupyter_aios.errors import AiosError, InputError, StorageError, UnavailableError
from jupyter_aios.training.peers import read_lock
from tests.controller.rig import wait_for
from tests.homes import processes_of, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

ASK = "from jupyter_aios.client import Client; print(Client().hello().pid)"


def controllers_of(home: Path) -> list[int]:
    return [pid for pid, line in processes_of(home).items() if "jupyter_aios.controller" in line]


def test_twenty_racing_starters_make_one_controller(aios_home: Path) -> None:
    starters = [
        subprocess.Popen([sys.executable, "-c", ASK], stdout=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    pids = {starter.communicate(timeout=100)[0].strip() for starter in starters}
    assert pids == {str(pid) for pid in controllers_of(aios_home)}
    assert len(pids) == 1


def test_starters_that_know_nothing_of_each_other_make_one_controller(aios_home: Path) -> None:
    # Without the client's start lock: the controllers' own lock decides.
    start = [sys.executable, "-m", "jupyter_aios.controller"]
    starters = [subprocess.Popen(start, stdout=subprocess.PIPE) for _ in range(3)]
    told = [json.loads(starter.communicate(timeout=100)[0]) for starter in starters]
    assert told == [{"socket": read_lock(aios_home)["socket"]}] * 3
    wait_for(lambda: len(controllers_of(aios_home)) == 1)


def test_it_is_nobody_s_child_and_its_files_are_private(aios_home: Path) -> None:
    pid = Client().hello().pid
    assert os.getsid(pid) != os.getsid(0)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[1]) != os.getpid()
    assert Path(f"/proc/{pid}/cwd").resolve() == Path("/")
    assert stat.S_IMODE(aios_home.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in aios_home.iterdir()}
    assert modes[LOG_FILE] == modes[LOCK_FILE] == modes["store.sqlite"] == 0o600
    assert not [name for name, mode in modes.items() if mode & 0o077]
    address = Path(read_lock(aios_home)["socket"])
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700


def test_after_a_kill_the_next_call_starts_a_new_one(aios_home: Path) -> None:
    client = Client()
    first = client.hello().pid
    os.kill(first, signal.SIGKILL)
    wait_until_gone(aios_home, 10)
    second = client.hello().pid
    assert second != first
    assert read_lock(aios_home)["pid"] == second


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_is_left(aios_home: Path, number: signal.Signals) -> None:
    os.kill(Client().hello().pid, number)
    assert not wait_until_gone(aios_home, 10)
    assert not Path(read_lock(aios_home)["socket"]).exists()
    assert "controller ends; jobs go on" in (aios_home / LOG_FILE).read_text()


def test_it_ends_when_nobody_asks_for_anything(
    aios_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_IDLE_S", "0.1")
    client = Client()
    client.hello()
    assert not wait_until_gone(aios_home, 20)
    assert not client.is_running()


def test_it_ends_when_its_socket_is_taken_away(aios_home: Path) -> None:
    client = Client()
    first = client.hello().pid
    # As at a logout, which empties XDG_RUNTIME_DIR.
    Path(read_lock(aios_home)["socket"]).unlink()
    assert client.hello().pid != first
    assert len(controllers_of(aios_home)) == 1


def test_what_a_controller_of_another_boot_left_is_in_nobody_s_way(aios_home: Path) -> None:
    aios_home.mkdir(mode=0o700)
    facts = {"host": "elsewhere", "boot_id": "another", "pid": 1, "socket": "/nowhere/ctl.sock"}
    (aios_home / LOCK_FILE).write_text(json.dumps(facts))
    pid = Client().hello().pid
    assert read_lock(aios_home)["pid"] == pid


def test_two_homes_have_two_controllers(aios_home: Path, tmp_path: Path) -> None:
    other_home = tmp_path / "other"
    here, other = Client(), Client(other_home)
    pid = here.hello().pid
    try:
        assert other.hello().pid != pid
        assert here.hello().pid == pid
        assert other.hello().home == str(other_home)
        assert here.hello().home == str(aios_home)
    finally:
        other.shutdown()
        assert not wait_until_gone(other_home, 10)


@pytest.mark.parametrize(
    "name", ["with space 'and' \"quotes\"", "中文目录", "x" * 150 + "/" + "y" * 150]
)
def test_a_home_of_an_unusual_name_works(aios_home: Path, name: str) -> None:
    home = aios_home.parent / name
    client = Client(home)
    try:
        assert client.hello().home == str(home)
        assert (home / "store.sqlite").exists()
    finally:
        client.shutdown()
        assert not wait_until_gone(home, 10)


def test_a_home_whose_path_is_too_long_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "/".join(["z" * 100] * 6)
    monkeypatch.setenv("AIOS_HOME", str(home))
    with pytest.raises(StorageError, match="is longer than 480 bytes") as caught:
        Client().hello()
    assert caught.value.hint == "set AIOS_HOME=/a/shorter/path"


def test_a_home_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "open"
    home.mkdir()
    home.chmod(0o777)
    monkeypatch.setenv("AIOS_HOME", str(home))
    with pytest.raises(StorageError, match="others can write to") as caught:
        Client().hello()
    assert caught.value.hint == f"chmod 700 '{home}'"


def test_a_home_that_is_a_file_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIOS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StorageError, match="cannot be used: Not a directory"):
        Client().hello()


def test_a_fault_at_the_start_is_told_to_the_one_who_waits(
    aios_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOS_IDLE_S", "soon")
    with pytest.raises(InputError, match="AIOS_IDLE_S is 'soon'"):
        Client().hello()
    assert not wait_until_gone(aios_home, 10)


def test_a_controller_that_cannot_even_begin_is_told_too(
    aios_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An installation that is broken in its first import.
    (tmp_path / "json.py").write_text("raise ImportError('no such thing')\n")
    monkeypatch.setattr(
        "jupyter_aios.client.starting._controller_environment",
        lambda _home: {**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    with pytest.raises(UnavailableError, match=r"ended while it started: .*no such thing"):
        Client().hello()
    assert not controllers_of(aios_home)


def test_a_network_file_system_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise StorageError(f"{path} lies on a network file system")

    monkeypatch.setattr("jupyter_aios.controller.filesystem.refuse_network_filesystem", refuse)
    with pytest.raises(StorageError, match="lies on a network file system"):
        lifecycle.run(tmp_path, {}, lifecycle.Starter())
    assert list(tmp_path.iterdir()) == []


def test_tokens_of_the_kernel_stay_in_the_kernel(
    aios_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "hunter2")
    monkeypatch.setenv("JPY_SESSION_NAME", "nb.ipynb")
    pid = Client().hello().pid
    assert aios_home.exists()
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"hunter2" not in environ
    assert b"JPY_" not in environ


# ------------------------------------------------------------------------ folders, in this process


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aios-run-") as folder:
        yield Path(folder)


def listen_below(runtime: Path, home: Path, uid: int | None = None) -> Path:
    environ = {"XDG_RUNTIME_DIR": str(runtime)}
    listener, path = folders.listen(home, environ, os.getuid() if uid is None else uid)
    listener.close()
    return path


def test_a_socket_folder_of_somebody_else_is_refused(runtime: Path, tmp_path: Path) -> None:
    # Everything in the way belongs to this user, and 54321 asks.
    (runtime / "jupyter_aios").mkdir(mode=0o700)
    with pytest.raises(UnavailableError) as caught:
        listen_below(runtime, tmp_path, uid=54321)
    Path("/tmp/aios-54321").rmdir()  # noqa: S108
    assert f"{runtime}/jupyter_aios belongs to user {os.getuid()}" in caught.value.message
    assert "/tmp/aios-54321 belongs to user" in caught.value.message  # noqa: S108
    assert "XDG_RUNTIME_DIR" in caught.value.hint


@pytest.mark.parametrize("trap", ["link", "loose", "file"])
def test_a_socket_folder_that_is_a_trap_is_not_used(
    runtime: Path, tmp_path: Path, trap: str
) -> None:
    place = runtime / "jupyter_aios"
    if trap == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "theirs")
    elif trap == "loose":
        place.mkdir()
        place.chmod(0o755)
    else:
        place.write_text("")
    path = listen_below(runtime, tmp_path)
    path.unlink()
    path.parent.rmdir()
    assert path.parent.parent == Path(f"/tmp/aios-{os.getuid()}")  # noqa: S108


def test_a_runtime_folder_whose_path_is_too_long_is_passed_over() -> None:
    (only,) = socket_candidates(Path("/home/ada"), {"XDG_RUNTIME_DIR": "/run/" + "x" * 90}, 7)
    assert str(only).startswith("/tmp/aios-7/")  # noqa: S108


def test_a_lock_whose_file_was_replaced_is_not_current(tmp_path: Path) -> None:
    lock = folders.Lock(tmp_path)
    assert lock.is_current()
    (tmp_path / LOCK_FILE).unlink()
    assert not lock.is_current()
    second = folders.Lock(tmp_path)
    assert second.is_current()
    assert not lock.is_current()
    lock.release()
    second.release()


def test_a_lock_held_by_a_silent_process_says_whom_to_end(tmp_path: Path) -> None:
    lock = folders.Lock(tmp_path)
    lock.describe(pid=4242, socket="/nowhere")
    with pytest.raises(UnavailableError, match=r"process 4242") as caught:
        folders.Lock(tmp_path, patience_s=0.05)
    assert caught.value.hint == "kill 4242; its jobs go on"
    lock.release()


def test_a_large_log_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).write_bytes(b"x" * (folders.LOG_LIMIT_BYTES + 1))
    code = (
        "from pathlib import Path; from jupyter_aios.controller.folders import open_log;"
        f"open_log(Path({str(tmp_path)!r})); print('new')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / LOG_FILE).read_text() == "new\n"
    assert (tmp_path / (LOG_FILE + ".1")).stat().st_size > folders.LOG_LIMIT_BYTES


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"AIOS_HOME": "/data/a b", "HOME": "/home/ada"}, "/data/a b"),
        ({"AIOS_HOME": "~/here", "HOME": "/home/ada"}, "/home/ada/here"),
        ({"XDG_DATA_HOME": "/xdg", "HOME": "/home/ada"}, "/xdg/jupyter_aios"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/jupyter_aios"),
    ],
)
def test_the_home_is_where_the_environment_says(environ: dict[str, str], home: str) -> None:
    assert str(home_folder(environ)) == home


@pytest.mark.parametrize("environ", [{}, {"AIOS_HOME": "here", "HOME": "/home/ada"}])
def test_an_environment_that_names_no_home_says_what_to_set(environ: dict[str, str]) -> None:
    with pytest.raises(AiosError, match="AIOS_HOME") as caught:
        home_folder(environ)
    assert caught.value.hint.startswith("export AIOS_HOME=")
