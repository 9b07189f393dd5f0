"""Cells in kept ranks: real ranks under an agent, ordered through the engine."""

from __future__ import annotations

import os
import pickle
import signal
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import Launcher, StopReason
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, CellRef, Outcome
from jupyter_aios.errors import StateError
from jupyter_aios.training.kept import orders
from tests.launching import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kept.ranks import Kept

    Keep = Callable[..., Kept]

GROUP = """\
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
def total(value):
    tensor = torch.tensor([float(value)])
    dist.all_reduce(tensor)
    return tensor.item()
"""
LOOP = "import time\nwhile True:\n    time.sleep(0.01)\n"


@pytest.mark.parametrize("launcher", list(Launcher))
def test_variables_and_the_process_group_live_from_cell_to_cell(
    keep: Keep, launcher: Launcher
) -> None:
    kept = keep(GROUP, launcher=launcher, keep_idle_s=0.5 if launcher is Launcher.WARM else 2.0)
    assert kept.values("seen = [total(rank + 1)]\nseen[0]") == ["3.0", "3.0"]
    assert kept.values("seen.append(total(10))\nseen") == ["[3.0, 20.0]"] * 2
    status = kept.pad.wait(kept.ref)
    assert status.outcome is Outcome.SUCCEEDED
    assert [item.code for item in status.exits] == [0, 0]
    # torch warns at the exit of a rank that has not destroyed its group.
    printed = [kept.pad.printed(kept.ref, rank) for rank in range(2)]
    assert printed == ["", ""]


def test_a_cell_runs_in_the_ranks_that_are_named_only(keep: Keep) -> None:
    kept = keep("import os\nrank = os.environ['RANK']")
    assert kept.run("rank", [1]).keys() == {1}
    assert kept.values("rank") == ["'0'", "'1'"]


def test_an_exception_is_told_by_cell_and_line_and_the_ranks_live_on(keep: Keep) -> None:
    kept = keep("x = 1\ndef divide(by):\n    return x / by\n")
    told = kept.run("x = 5\nx\ndivide(0)\n")[1]
    assert (told["state"], told["kind"]) == ("failed", "ZeroDivisionError")
    # The function is of the job's own code, the call of the cell.
    assert 'File "Cell In[3]", line 3, in divide' in told["traceback"]
    assert 'File "Cell In[7]", line 3' in told["traceback"]
    assert str(kept.pad.home) not in told["traceback"]
    assert kept.values("x") == ["5", "5"]


def test_a_syntax_error_and_sys_exit_end_the_cell_and_not_the_ranks(keep: Keep) -> None:
    kept = keep("import sys\nsys.exit()")
    assert kept.run("sys.exit()")[0]["state"] == "done"
    assert kept.run("sys.exit('no data')")[0]["kind"] == "SystemExit"
    assert kept.values("6 * 7") == ["42", "42"]


def test_an_interrupt_ends_the_cell_and_leaves_ranks_and_variables(keep: Keep) -> None:
    kept = keep("x = [1]")
    number = kept.begin(f"x.append(2)\n{LOOP}")
    eventually(lambda: kept.is_inside(number), "it loops")
    kept.pad.engine.interrupt_cell(kept.ref, number)
    assert {told["state"] for told in kept.wait(number).values()} == {"interrupted"}
    assert kept.values("x") == ["[1, 2]", "[1, 2]"]


def test_a_cell_that_is_interrupted_while_it_waits_in_line_never_begins(keep: Keep) -> None:
    kept = keep("x = [1]")
    first, second = kept.begin(LOOP), kept.begin("x.append(2)")
    eventually(lambda: kept.is_inside(first), "the first loops")
    kept.pad.engine.interrupt_cell(kept.ref, second)
    kept.pad.engine.interrupt_cell(kept.ref, first)
    assert kept.values("x") == ["[1]", "[1]"]
    assert {told["state"] for told in kept.told(second).values()} == {"interrupted"}


def test_a_signal_between_two_cells_is_harmless(keep: Keep) -> None:
    kept = keep("x = 1")
    kept.wait_idle()
    for pid in kept.pids().values():
        os.kill(pid, signal.SIGINT)
    assert kept.values("x") == ["1", "1"]


def test_a_signal_that_comes_late_does_not_hit_the_next_cell(keep: Keep) -> None:
    kept = keep("x = 1")
    first = kept.begin("")
    kept.wait(first)
    second = kept.begin("import os, time, pathlib\nwhile not pathlib.Path(mark).exists():\n"
                        "    time.sleep(0.01)\nx", names=["mark"],
                        brings=pickle.dumps({"mark": f"{kept.pad.home}/late"}))  # fmt: skip
    eventually(lambda: kept.is_inside(second), "the second runs")
    kept.pad.engine.interrupt_cell(kept.ref, first)
    for pid in kept.pids().values():
        os.kill(pid, signal.SIGINT)
    (kept.pad.home / "late").touch()
    assert {told["state"] for told in kept.wait(second).values()} == {"done"}


def test_what_a_rank_has_stays_its_own_unless_it_is_pushed(keep: Keep) -> None:
    kept = keep("x = 'theirs'")
    brings = pickle.dumps({"x": "the notebook's", "y": "new"})
    first = kept.run("x, y", brings=brings, names=["x", "y"])
    assert first[0]["value"] == "('theirs', 'new')"
    second = kept.run("x, y", brings=brings, names=["x", "y"], push=("x",))
    assert second[0]["value"] == "(\"the notebook's\", 'new')"


def test_each_rank_leaves_what_is_pulled_and_says_what_it_has_not(keep: Keep) -> None:
    kept = keep("import os\nrank = int(os.environ['RANK'])\nif rank:\n    own = 3")
    number = kept.begin("", pull=("rank", "own"))
    kept.wait(number)
    engine = kept.pad.engine
    for rank in range(2):
        ref = CellRef(kept.ref, number, rank)
        content = engine.result_path(ref, "rank").read_bytes()
        assert pickle.loads(content) == rank  # noqa: S301 - of this test's own ranks
    left = [engine.results(CellRef(kept.ref, number, rank))[1] for rank in range(2)]
    assert [bool(result.error) for result in left] == [True, False]


def test_the_same_cell_twice_runs_once(keep: Keep) -> None:
    kept = keep("x = 0")
    first = kept.begin("x += 1", id="abcdef0123")
    assert kept.begin("x += 1", id="abcdef0123") == first
    assert kept.values("x") == ["1", "1"]


def test_what_a_cell_prints_lies_between_the_offsets_that_are_told(keep: Keep) -> None:
    kept = keep("print('first', end='')")
    numbers = [kept.begin(f"print('of cell {number}', end='')", [0]) for number in (1, 2, 3)]
    kept.wait(numbers[-1], ranks=1)
    text = kept.pad.printed(kept.ref, 0)
    assert text == "firstof cell 1of cell 2of cell 3"
    events = [e for e in kept.pad.events(kept.ref) if e.rank == 0 and e.text]
    for number in numbers:
        words = kept._words(number)  # noqa: SLF001
        begin = next(e.data["output"] for e in words if e.data["state"] == "started")
        end = next(e.data["output"] for e in words if e.data["state"] == "over")
        own = "".join(e.text for e in events if begin <= e.offset < end)
        assert own == f"of cell {number}"


def test_idle_ranks_are_not_stalled_and_are_released(keep: Keep) -> None:
    kept = keep("x = 1", keep_idle_s=0.8, stall_after_s=0.1)
    status = kept.pad.wait(kept.ref)
    assert status.outcome is Outcome.SUCCEEDED
    states = [e.data["state"] for e in kept.events() if e.kind is EventKind.AGENT]
    assert states[-2:] == ["idle", "ended"]
    with pytest.raises(StateError, match="released"):
        kept.begin("x")


def test_a_cell_that_comes_first_keeps_the_ranks(keep: Keep) -> None:
    kept = keep("x = 1", keep_idle_s=0.5)
    begun = time.monotonic()
    # Longer than the limit: a busy rank is not idle.
    assert kept.values("import time\ntime.sleep(1.0)\nx") == ["1", "1"]
    assert time.monotonic() - begun > 1.0
    assert kept.values("x + 1") == ["2", "2"]


def test_a_rank_that_leaves_fails_the_job(keep: Keep) -> None:
    for leave in ("os._exit(0)", "os.kill(os.getpid(), 9)"):
        kept = keep("import os")
        kept.begin(leave, [1])
        status = kept.pad.wait(kept.ref, deadline_s=10)
        assert status.outcome is Outcome.FAILED
        assert status.failure is not None
        assert status.failure.rank == 1


def test_a_stop_ends_idle_and_busy_ranks_at_once(keep: Keep) -> None:
    for busy in (False, True):
        kept = keep("")
        kept.wait_idle()
        if busy:
            number = kept.begin(LOOP)
            eventually(lambda: kept.is_inside(number), "it loops")  # noqa: B023
        kept.pad.engine.stop(kept.ref, StopReason.CANCELLED)
        status = kept.pad.wait(kept.ref)
        assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.CANCELLED)
        # By themselves: no signal had to kill them.
        assert {item.code for item in status.exits} == {130}


def test_the_time_limit_holds_for_kept_ranks(keep: Keep) -> None:
    kept = keep("", timeout_s=0.5)
    status = kept.pad.wait(kept.ref)
    assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.TIMEOUT)
    assert {item.code for item in status.exits} == {130}


def test_a_cell_and_the_release_cannot_both_be_next(keep: Keep) -> None:
    kept = keep("x = 1", keep_idle_s=0.3)
    folder = kept.pad.folder(kept.ref)
    eventually(lambda: "end" in (orders.read_order(folder, 1) or {}), "the end is ordered")
    assert orders.place(folder, {"cell": {}}) is None
    assert kept.pad.wait(kept.ref, AttemptPhase.ENDED).outcome is Outcome.SUCCEEDED
