"""How ranks end when nobody looks after them, and in which order one takes itself apart."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, Outcome
from jupyter_aios.training.journal import read_json
from jupyter_aios.training.processes import identity_of, is_alive
from tests.launching import eventually

if TYPE_CHECKING:
    from tests.launching import Launchpad


def test_ranks_end_with_their_agent_though_no_controller_looks(launchpad: Launchpad) -> None:
    ref = launchpad.run("import time; time.sleep(60)", nodes=2)
    launchpad.wait(ref, AttemptPhase.RUNNING)
    phases = [e.data for e in launchpad.events(ref) if e.kind is EventKind.PHASE]
    ranks = [identity_of(data["pid"]) for data in phases if data]
    assert len(ranks) == 2
    os.kill(read_json(launchpad.folder(ref) / "agent.json")["pid"], signal.SIGKILL)
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
