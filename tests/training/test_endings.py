"""How ranks end when nobody looks after them, and in which order one takes itself apart."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, Outcome
from jupyter_aios.training.journal import read_json
from jupyter_aios.training.processes import identity_of, is_alive, send
from tests.launching import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.core.ports import AttemptRef
    from tests.launching import Launchpad

LEAVE_A_CHILD = """\
import subprocess
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
print(child.pid, flush=True)
"""


def printed_pid(pad: Launchpad, ref: AttemptRef) -> int:
    """Return the pid that rank 0 has printed, as soon as it has."""
    eventually(lambda: pad.printed(ref).endswith("\n"), "the rank has its child")
    return int(pad.printed(ref))


def expect_end_of(pid: int) -> None:
    """Fail, and kill it, where the process does not end soon."""
    try:
        eventually(lambda: not is_alive(identity_of(pid)), "the child has ended", 3)
    finally:
        send(identity_of(pid), signal.SIGKILL)


def kill_agent(pad: Launchpad, ref: AttemptRef) -> None:
    os.kill(read_json(pad.folder(ref) / "agent.json")["pid"], signal.SIGKILL)


def test_what_a_rank_left_running_ends_with_its_attempt(launchpad: Launchpad) -> None:
    ref = launchpad.run(LEAVE_A_CHILD)
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    expect_end_of(printed_pid(launchpad, ref))


def test_what_a_rank_left_running_ends_with_a_killed_agent(launchpad: Launchpad) -> None:
    ref = launchpad.run(LEAVE_A_CHILD + "import time; time.sleep(60)")
    child = printed_pid(launchpad, ref)
    kill_agent(launchpad, ref)
    assert launchpad.wait(ref).outcome is Outcome.LOST
    expect_end_of(child)


def test_ranks_end_with_their_agent_though_no_controller_looks(launchpad: Launchpad) -> None:
    ref = launchpad.run("import time; time.sleep(60)", nodes=2)
    launchpad.wait(ref, AttemptPhase.RUNNING)
    phases = [e.data for e in launchpad.events(ref) if e.kind is EventKind.PHASE]
    ranks = [identity_of(data["pid"]) for data in phases if data]
    assert len(ranks) == 2
    kill_agent(launchpad, ref)
    try:
        # Nobody asks for the status: the engine would kill what is left.
        eventually(lambda: not any(map(is_alive, ranks)), "the ranks have ended", 3)
    finally:
        assert launchpad.wait(ref).outcome is Outcome.LOST


def test_the_person_s_objects_go_before_the_process_group(launchpad: Launchpad) -> None:
    # The other order hung: a reducer's end waits for a group that is being destroyed.
    ref = launchpad.run(
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "class Model:\n"
        "    def __del__(self, is_up=dist.is_initialized): print('the group is up:', is_up())\n"
        "model = Model()\n"
    )
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    assert launchpad.printed(ref) == "the group is up: True\n"


def test_a_model_that_outlives_its_group_does_not_wait_for_the_groups_threads(
    launchpad: Launchpad,
) -> None:
    # The last reference in ~Reducer joined them with the interpreter's lock in its hand: a hang
    # about once in a hundred tutorials. Here: are they there after it?
    ref = launchpad.run(
        "import gc, pathlib, time, torch\n"
        "import torch.distributed as dist\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "def threads():\n"
        "    names = [p.read_text() for p in pathlib.Path('/proc/self/task').glob('*/comm')]\n"
        "    return names.count('pt_gloo_runloop\\n')\n"
        "def train():\n"
        "    dist.init_process_group('gloo')\n"
        "    model = DistributedDataParallel(torch.nn.Linear(2, 2))\n"
        "    model(torch.ones(1, 2)).sum().backward()\n"
        "    dist.destroy_process_group()\n"
        "for _ in range(3):\n"
        "    train()\n"
        "    gc.collect()\n"
        # A thread gives itself its name, some time after it began.
        "    end = time.monotonic() + 5\n"
        "    while threads() != 2 and time.monotonic() < end: time.sleep(0.01)\n"
        "    print(threads(), dist.is_initialized())\n"
    )
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    assert launchpad.printed(ref) == "2 False\n" * 3


@pytest.mark.parametrize(
    "end", ["import sys; sys.exit(3)", "1 / 0", "import builtins; builtins.kept_elsewhere = kept"]
)
def test_open_files_are_flushed_however_a_rank_ends(
    launchpad: Launchpad, tmp_path: Path, end: str
) -> None:
    path = tmp_path / "kept.txt"
    launchpad.finish(f"kept = open({str(path)!r}, 'w')\nkept.write('kept')\n{end}")
    assert path.read_text() == "kept"
