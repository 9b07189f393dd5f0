"""Processes by identity: a signal meets the one that was meant, and nobody is left over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.training.processes import (
    MARKER,
    identity_of,
    is_alive,
    kill_members,
    members_of,
    send,
)
from tests.launching import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="identities are read from /proc")
NOBODY = "no-job/0"
NO_SESSION = 2**30
"""More than a pid can be. Not 0: in a container that is whatever was started from outside of it."""


@contextlib.contextmanager
def sleeper(*, marker: str = NOBODY) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process in a session of its own, marked as an attempt's."""
    environment = {**os.environ, MARKER: marker}
    with subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_later_process_with_the_same_pid_is_left_alone() -> None:
    with sleeper() as process:
        meant = replace(identity_of(process.pid), start_ticks=1)
        assert not is_alive(meant)
        assert not send(meant, signal.SIGKILL)
        assert process.poll() is None
        assert send(identity_of(process.pid), signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


def test_a_process_of_another_boot_is_left_alone() -> None:
    with sleeper() as process:
        meant = replace(identity_of(process.pid), boot_id="another")
        assert not send(meant, signal.SIGKILL)
        assert process.poll() is None


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = identity_of(process.pid)
        assert is_alive(identity)
        process.kill()
        eventually(lambda: not is_alive(identity), "it has ended, although nobody waited for it", 5)


def test_what_left_the_session_is_found_by_its_mark_and_nobody_else_is() -> None:
    marker = f"job-{os.getpid()}/1"
    with sleeper(marker=marker) as ours, sleeper(marker=f"{marker}0") as other:
        # For a moment of its exec a process has no environment that could be read.
        eventually(lambda: any(members_of(NO_SESSION, marker)), "its mark can be read", 3)
        assert kill_members(NO_SESSION, marker) == 1
        assert ours.wait(5) == -signal.SIGKILL
        assert other.poll() is None


def test_what_lost_its_mark_is_found_by_its_session() -> None:
    with sleeper() as process:
        assert kill_members(process.pid, f"job-{os.getpid()}/2") == 1
        assert process.wait(5) == -signal.SIGKILL


def test_whoever_looks_for_members_is_none() -> None:
    assert os.getpid() not in [found.pid for found in members_of(os.getsid(0), NOBODY)]


CHILD = """\
import os, time
from jupyter_aios.training.processes import die_with_parent
parent = os.getpid()
if not os.fork():
    die_with_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


def test_a_child_ends_with_its_parent() -> None:
    arguments = [sys.executable, "-c", CHILD]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = identity_of(int(parent.stdout.readline()))
        try:
            assert is_alive(child)
            parent.kill()
            eventually(lambda: not is_alive(child), "the child has ended", 3)
        finally:
            parent.kill()
            send(child, signal.SIGKILL)


def test_a_child_whose_parent_has_gone_already_ends_at_once() -> None:
    code = (
        "import os; from jupyter_aios.training.processes import die_with_parent\n"
        "die_with_parent(os.getppid() + 1)\nprint('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
