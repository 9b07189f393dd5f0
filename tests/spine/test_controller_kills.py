"""The controller is killed again and again while ranks print: no line is lost, none comes twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_aios import client as clients
from jupyter_aios.core.states import JobState
from jupyter_aios.training.journal import JournalReader
from jupyter_aios.training.peers import read_lock
from tests.launching import eventually
from tests.spine.submitting import follow, submit

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 100
PRINTER = """\
import pathlib, sys, time
begun, number = time.monotonic(), 0
while not pathlib.Path("enough").exists():
    print(number, "line of", "a rank", flush=True)
    number += 1
    time.sleep(max(0, begun + number / 1000 - time.monotonic()))
print("end", number)
"""


def rank_file_text(home: Path, job_id: str, rank: int) -> str:
    """Return what the rank's own file holds."""
    path = home / "jobs" / job_id / "attempts" / "1" / f"rank-{rank:04d}.output"
    return b"".join(frame.payload for frame in JournalReader(path).read()).decode()


@pytest.mark.timeout(400)
def test_100_kills_of_the_controller_lose_no_line_and_double_none(aios_home: Path) -> None:
    client = clients.Client(notice=lambda _text: None)
    begun = time.monotonic()
    client.hello()
    # A busy machine starts controllers slowly: some of them must live to reply, else no client can
    # be patient enough.
    pause_s = max(0.8, time.monotonic() - begun)
    job = submit(client, PRINTER, name="printer", nodes=4)
    draw = random.Random(0)
    killed: list[int] = []
    failures: list[BaseException] = []

    is_over = threading.Event()

    def kill_again_and_again() -> None:
        try:
            while len(killed) < KILLS and not is_over.is_set():
                time.sleep(draw.random() * pause_s)
                pid = read_lock(aios_home).get("pid")
                if pid and pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        except ProcessLookupError as error:
            failures.append(error)
        finally:
            (aios_home / "enough").touch()

    eventually(lambda: client.job(job.id).state is JobState.RUNNING, "it runs")
    killer = threading.Thread(target=kill_again_and_again)
    killer.start()
    try:
        ended, printed = follow(client, job.id)
    finally:
        is_over.set()
        killer.join()
    assert not failures
    assert len(set(killed)) == KILLS
    assert ended.state is JobState.SUCCEEDED, ended.reason
    assert ended.attempt == 1
    for rank in range(4):
        lines = printed[rank].splitlines()
        count = int(lines[-1].split()[1])
        assert lines[:-1] == [f"{number} line of a rank" for number in range(count)]
        assert printed[rank] == rank_file_text(aios_home, job.id, rank)
        assert count > 1000


def test_jobs_queued_and_running_outlive_a_killed_controller(aios_home: Path) -> None:
    client = clients.Client(notice=lambda _text: None)
    wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint('ran')"
    first = submit(client, wait, name="first", nodes=4)
    second = submit(client, "print('ran')", name="second", nodes=4)
    eventually(lambda: client.job(first.id).state is JobState.RUNNING, "the first runs")
    assert client.job(second.id).state is JobState.QUEUED
    os.kill(client.hello().pid, signal.SIGKILL)
    assert client.job(first.id).state is JobState.RUNNING
    (aios_home / "go").touch()
    for key in ("first", "second"):
        job, printed = follow(client, key)
        assert job.state is JobState.SUCCEEDED
        assert set(printed.values()) == {"ran\n"}
        assert job.attempt == 1


@pytest.mark.usefixtures("aios_home")
def test_a_lost_agent_is_restarted_by_the_next_attempt() -> None:
    client = clients.Client(notice=lambda _text: None)
    source = (
        "import os, signal, time\n"
        "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(60)\n"
        "print('second try')"
    )
    job = submit(client, source, name="twice", max_restarts=1)
    ended, printed = follow(client, job.id)
    assert ended.state is JobState.SUCCEEDED, ended.reason
    assert ended.attempt == 2
    assert printed[0] == "second try\n"
    states = [step.new.value for step in client.history(job.id)]
    assert states.count("queued") == 2
