from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client, connect
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core import version
from jupyter_aios.core.entities import BlobId, Code, CodeKind, JobSpec, Resources, SourceFile
from jupyter_aios.core.home import LOCK_FILE
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import Hello, to_plain
from jupyter_aios.errors import DeniedError, StorageError, UnavailableError
from tests.controller.rig import Rig, fake_spec, wait_for
from tests.homes import wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAVY = ("torch", "sqlalchemy", "fastapi", "httpx", "numpy", "pydantic", "uvicorn", "psutil")
SLEEP = b"import time\ntime.sleep(1000)\n"


def sleeping_spec(client: Client, **changes: object) -> JobSpec:
    """Return a spec of a real job that runs until it is cancelled."""
    blob = BlobId(hashlib.sha256(SLEEP).hexdigest())
    client.put_blob(blob, SLEEP)
    fields: dict[str, object] = {
        "name": "",
        "code": Code(CodeKind.SCRIPT, (SourceFile("sleep.py", blob, "sleep.py"),)),
        "nodes": 1,
        "ranks_per_node": 1,
        "resources": Resources(),
        "interpreter": sys.executable,
        "cwd": "/",
        "environment": tuple(
            (name, os.environ[name]) for name in ("PATH", "PYTHONPATH") if name in os.environ
        ),
    }
    return JobSpec(**{**fields, **changes})  # type: ignore[arg-type]


def test_importing_the_client_imports_nothing_heavy() -> None:
    code = f"import sys, jupyter_aios.client; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_connect_starts_a_controller_and_looking_does_not(aios_home: Path) -> None:
    assert not Client().is_running()
    assert not Client().shutdown()
    assert not aios_home.exists()
    client = connect()
    assert client.is_running()
    assert client.shutdown()
    assert not wait_until_gone(aios_home, 10)


def test_a_killed_controller_is_replaced_and_the_next_adopts_its_jobs(aios_home: Path) -> None:
    client = Client()
    job = client.submit(sleeping_spec(client, name="sleeper"))
    wait_for(lambda: client.job("sleeper").state is JobState.RUNNING, 60)
    os.kill(client.hello().pid, signal.SIGKILL)
    adopted = client.job("sleeper")
    assert (adopted.id, adopted.state, adopted.attempt) == (job.id, JobState.RUNNING, 1)
    client.cancel("sleeper")
    wait_for(lambda: client.job("sleeper").state is JobState.CANCELLED, 60)
    assert [step.attempt for step in client.history("sleeper")][-1] == 1
    client.shutdown()
    assert not wait_until_gone(aios_home, 10)


def test_an_older_controller_is_restarted_with_one_sentence_and_its_jobs_are_kept(
    aios_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = version.__version__
    aios_home.mkdir(mode=0o700)
    rig = Rig(aios_home, store=SqlStore(f"sqlite:///{aios_home / 'store.sqlite'}"))
    monkeypatch.setattr(version, "__version__", "0.0.1")
    with rig.serving():
        job = Client(as_version="0.0.1").submit(fake_spec(name="kept"))
        Client(as_version="0.0.1").cancel("kept")
        monkeypatch.setattr(version, "__version__", ours)
        heard: list[str] = []
        client = Client(notice=heard.append)
        again = client.submit(sleeping_spec(client, name="new"))
        assert client.hello().pid != os.getpid()
        assert {found.id for found in client.jobs()} == {job.id, again.id}
        client.cancel("new")
    rig.store.close()
    assert heard == [
        f"the controller is version 0.0.1, this is {ours}: it is restarted, jobs go on"
    ]


def test_a_newer_controller_is_used_with_one_sentence(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    heard: list[str] = []
    with rig.serving():
        client = Client(rig.home, notice=heard.append, as_version="0.0.1")
        client.submit(fake_spec())
        assert len(client.jobs()) == 1
    (sentence,) = heard
    assert sentence == (
        f"the controller is version {version.__version__}, this is 0.0.1:"
        " restart the kernel to use the new one"
    )


class Unreliable:
    """A server that takes a request and goes away without a word, as one that is killed."""

    def __init__(self, path: Path, answers: list[bytes]) -> None:
        self.received: list[bytes] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                self.received.append(connection.recv(65536))
                connection.sendall(answer)
        self._listener.close()

    def join(self) -> None:
        self._thread.join()


def reply_of(body: bytes) -> bytes:
    ours = version.__version__.encode()
    return (
        b"HTTP/1.1 200 OK\r\nX-Aios-Version: " + ours + b"\r\nContent-Length: "
        + str(len(body)).encode() + b"\r\n\r\n" + body
    )  # fmt: skip


@pytest.fixture
def unreliable(tmp_path: Path) -> Iterator[Callable[[list[bytes]], Unreliable]]:
    """Start an unreliable server for the home `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="aios-") as folder:
        path = Path(folder) / "s"

        def start(answers: list[bytes]) -> Unreliable:
            (tmp_path / LOCK_FILE).write_text(json.dumps({"socket": str(path)}))
            return Unreliable(path, answers)

        yield start


@pytest.mark.parametrize("lost", [b"", reply_of(b'["abc"]')[:-3], b"HTTP/1.1 2"])
def test_a_reply_that_is_lost_in_the_middle_is_asked_for_again(
    unreliable: Callable[[list[bytes]], Unreliable], tmp_path: Path, lost: bytes
) -> None:
    server = unreliable([lost, reply_of(b"[]")])
    assert Client(tmp_path).jobs() == []
    server.join()
    assert server.received[0] == server.received[1]


def test_a_submission_that_is_repeated_carries_the_same_id(
    unreliable: Callable[[list[bytes]], Unreliable],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Otherwise the client would go on until a real controller answers.
    monkeypatch.setattr("jupyter_aios.client.transport._PATIENCE_S", 0.0)
    hello = Hello("", 1, 0.0, "", "", jobs_running=0, jobs_queued=0, warm=(), free_bytes=0)
    server = unreliable([reply_of(json.dumps(to_plain(hello)).encode()), b"", b"", b""])
    with pytest.raises(UnavailableError, match="was lost 3 times while it was asked to POST"):
        Client(tmp_path).submit(fake_spec())
    server.join()
    (line,) = {request.split(b"\r\n")[0] for request in server.received[1:]}
    assert line.startswith(b"POST /v1/jobs?id=20")


def test_a_socket_that_somebody_else_serves_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path / "home")
    with rig.serving():
        monkeypatch.setattr("jupyter_aios.client.transport.peer_uid", lambda _connection: 4242)
        with pytest.raises(DeniedError, match="is served by user 4242"):
            Client(rig.home).hello()


def test_a_result_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    target = tmp_path / "weights"
    target.mkdir()
    with rig.serving():
        client = Client(rig.home)
        job = client.submit(fake_spec())
        rig.turn()
        rig.fake.attempt(rig.ref(job)).leave("weights", b"12345", kind="state")
        with pytest.raises(StorageError, match="weights cannot be written"):
            client.fetch_result(job.id, "weights", target)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_one_client_serves_many_threads(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    with rig.serving():
        client = Client(rig.home)
        pids: list[int] = []
        threads = [
            threading.Thread(target=lambda: pids.append(client.hello().pid)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert pids == [os.getpid()] * 20
