"""The wrappers in real ranks: what they write, what they leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import Launcher
from jupyter_aios.core.ports import Outcome
from jupyter_aios.training.doctor.vitals import VitalsReader, vitals_name
from tests.launching import Launchpad, eventually

if TYPE_CHECKING:
    from pathlib import Path

CALLS = """\
import os, pathlib, time, torch, torch.distributed as dist
from torch.distributed import all_reduce
dist.init_process_group("gloo")
rank = dist.get_rank()
dist.all_gather_object([None, None], {"rank": rank})
work = all_reduce(torch.ones(3), async_op=True)
work.wait()
pair = dist.new_group([0, 1])
dist.broadcast(tensor=torch.ones(2, 2), src=0, group=pair)
dist.send(torch.ones(1), 1) if rank == 0 else dist.recv(torch.ones(1), 0)
try:
    dist.broadcast("not a tensor", 0)
except TypeError:
    pass
if os.fork() == 0:
    dist.get_rank(), dist.barrier  # a child that trains nothing
    os._exit(0)
os.wait()
print("done", flush=True)
while not pathlib.Path("go").exists(): time.sleep(0.01)
"""
TRACED = """\
import torch, torch.distributed as dist, torch._dynamo
dist.init_process_group("gloo")
def step(x):
    y = x * 2
    dist.all_reduce(y)
    return y + 1
print("breaks", torch._dynamo.explain(step)(torch.ones(3)).graph_break_count)
compiled = torch.compile(step, backend="eager", fullgraph=True)
print("value", compiled(torch.ones(3)).tolist())
"""
HANDLERS = """\
import faulthandler, signal, time
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
faulthandler.register(signal.SIGUSR2)
signal.raise_signal(signal.SIGUSR1)
print("seen", seen, faulthandler.unregister(signal.SIGUSR2))
"""


def test_each_call_is_one_entry_with_its_line_and_its_shape(
    launchpad: Launchpad, tmp_path: Path
) -> None:
    ref = launchpad.run(CALLS, ranks_per_node=2, cwd=str(tmp_path))
    eventually(lambda: all("done" in launchpad.printed(ref, r) for r in (0, 1)), "it is done")
    seen = [VitalsReader(launchpad.folder(ref) / vitals_name(rank)).read() for rank in (0, 1)]
    (tmp_path / "go").touch()
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    for rank, one in enumerate(seen):
        assert one is not None
        assert [(name, line.number) for name, line in one.history] == [
            ("init_process_group", 3),
            ("all_gather_object", 5),
            ("all_reduce", 6),
            ("all_reduce", 7),
            ("new_group", 8),
            ("broadcast", 9),
            ("send" if rank == 0 else "recv", 10),
            ("broadcast", 12),
        ]
        assert one.has_raised
        whats = {(call.operation, call.what, call.peer) for call in one.entered}
        assert ("broadcast", "float32 [2, 2]", -1) in whats
        assert ("send" if rank == 0 else "recv", "float32 [1]", 1 - rank) in whats
        assert all(call.members == {0, 1} for call in one.entered)
    # Only the doctor reads them, and it is over.
    assert not list(launchpad.folder(ref).glob("*.vitals"))


@pytest.mark.parametrize(
    # Here torch's own table of traceable calls is made after the wrappers, there before.
    "launcher",
    [Launcher.WARM, pytest.param(Launcher.TORCHRUN, marks=pytest.mark.slow)],
)
def test_a_compiled_step_with_a_collective_is_still_one_graph(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    ref = launchpad.run(TRACED, launcher=launcher)
    status = launchpad.wait(ref)
    assert status.outcome is Outcome.SUCCEEDED, status.failure
    assert launchpad.printed(ref).splitlines()[-2:] == ["breaks 0", "value [3.0, 3.0, 3.0]"]


def test_the_persons_own_handlers_stay(launchpad: Launchpad) -> None:
    ref = launchpad.run(HANDLERS)
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    assert "seen [1] True" in launchpad.printed(ref)
