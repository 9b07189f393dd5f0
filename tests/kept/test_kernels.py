"""Kept ranks as people meet them: real kernels, a real controller, real ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.states import JobState
from tests.launching import eventually
from tests.spine.kernels import over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.client import Client
    from tests.spine.kernels import Kernel, Kernels

# One worker: the file's tests share a home with its warm process.
pytestmark = pytest.mark.xdist_group("kept")

GROUP = """\
%%aios_train --nodes 2 --name kept --keep 2min
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
history = [rank]
print("first code of", rank)
"""
LOOP = "print('loops', flush=True)\nimport time\nwhile True:\n    time.sleep(0.01)\n"


@pytest.fixture(scope="module")
def kernel(shared_kernels: Kernels) -> Iterator[Kernel]:
    """Give a kernel whose job keeps two ranks."""
    kernel = shared_kernels.start()
    cell = kernel.run(GROUP)
    assert not cell.error, cell.error
    assert sorted(cell.lines) == ["[0] first code of 0", "[1] first code of 1"]
    assert cell.status.startswith("kept · kept, idle · 2 ranks")
    yield kernel
    kernel.run("%aios cancel kept")


@pytest.fixture
def home(client: Client, kernel: Kernel) -> Iterator[Client]:
    """Give the controller, whose job must be there before and after the test."""
    assert kernel.is_alive
    assert client.job("kept").state is JobState.RUNNING
    yield client
    assert client.job("kept").state is JobState.RUNNING


def cells(client: Client) -> int:
    """Return how many cells the job has been given."""
    folder = client.home / "jobs" / client.job("kept").id / "attempts" / "1" / "cells"
    return len(list(folder.glob("*.json")))


def on(code: str, options: str = "") -> str:
    """Return a cell for the kept ranks."""
    return f"%%aios_train --on kept {options}\n{code}"


def test_the_next_cell_runs_in_the_ranks_and_shows_each_of_them(
    home: Client, kernel: Kernel
) -> None:
    kernel.run("def grow(items, by):\n    return [item + by for item in items]\nstep = 10")
    cell = kernel.run(on("total = torch.tensor([float(rank + 1)])\ndist.all_reduce(total)\n"
                         "print('sum', total.item())\ngrow(history, step)"))  # fmt: skip
    assert not cell.error, cell.error
    assert sorted(cell.lines[:2]) == ["[0] sum 3.0", "[1] sum 3.0"]
    assert cell.lines[2:] == ["Out[0]: [10]", "Out[1]: [11]"]
    assert kernel.run(on("grow(history, 1)", "--ranks 1")).lines == ["Out[1]: [2]"]
    eventually(lambda: home.job("kept").is_idle, "screens say that it is idle")
    assert "kept, idle; released after 2 min without a cell" in kernel.value("%aios jobs")


def test_what_a_rank_set_in_a_library_stays_until_the_notebook_sets_another(
    home: Client, kernel: Kernel
) -> None:
    assert home
    kernel.run("import textwrap\ntextwrap.limit = 1")
    assert kernel.run(on("textwrap.limit", "--ranks 0")).lines == ["Out[0]: 1"]
    kernel.run(on("textwrap.limit = 2", "--ranks 0"))
    assert kernel.run(on("textwrap.limit", "--ranks 0")).lines == ["Out[0]: 2"]
    kernel.run("textwrap.limit = 3")
    assert kernel.run(on("textwrap.limit", "--ranks 0")).lines == ["Out[0]: 3"]


def test_variables_go_in_and_out(home: Client, kernel: Kernel) -> None:
    assert home
    kernel.run("history = ['mine']\nlr = 0.5\nimport torch\nmodel = torch.nn.Linear(2, 1)")
    # What the ranks have is theirs, what they lack comes along.
    lines = kernel.run(on("history, lr")).lines
    assert sorted(lines) == ["Out[0]: ([0], 0.5)", "Out[1]: ([1], 0.5)"]
    assert kernel.value("%aios push kept history --ranks 1") == "history to rank 1 of kept"
    assert sorted(kernel.run(on("history")).lines) == ["Out[0]: [0]", "Out[1]: ['mine']"]
    assert kernel.value("%aios pull kept history") == "history: list (17 B)"
    assert kernel.value("history") == "[0]"
    kernel.run("%aios pull kept history --ranks 0,1")
    assert kernel.value("history") == "{0: [0], 1: ['mine']}"
    assert "2 weights loaded into the notebook's own" in kernel.value("%aios pull kept model")
    assert kernel.value("model.weight.sum().item()") == kernel.run(
        on("print(model.weight.sum().item())", "--ranks 0")
    ).lines[0].removeprefix("[0] ")  # fmt: skip
    pulled = kernel.run(on("loss = 1 / (rank + 1)", "--pull loss --ranks all"))
    assert pulled.result == "loss: {rank: value} of ranks 0, 1 (float)"
    assert kernel.value("loss") == "{0: 1.0, 1: 0.5}"
    kernel.run(on("history = [rank]"))


def test_a_function_that_was_mended_in_the_notebook_is_told(home: Client, kernel: Kernel) -> None:
    assert home
    kernel.run("def answer():\n    return 1", on("answer()", "--ranks 0"))
    assert kernel.run(on("answer()", "--ranks 0")).stderr == ""
    kernel.run("def answer():\n    return 2")
    stale = kernel.run(on("answer()", "--ranks 0"))
    assert stale.lines == ["Out[0]: 1"]
    assert stale.stderr.startswith("answer: the ranks have another one than the notebook")
    mended = kernel.run(on("answer()", "--ranks 0 --push answer"))
    assert (mended.lines, mended.stderr) == (["Out[0]: 2"], "")


def test_the_same_in_python(home: Client, kernel: Kernel) -> None:
    assert home
    kernel.run("import jupyter_aios as aios\njob = aios.job('kept')")
    assert kernel.value("job.run('print(rank)\\nrank * 2', ranks=1)") == "[1] 1\nOut[1]: 2"
    kernel.run("job.push(depth=3, ranks=[0, 1])")
    assert kernel.value("job.pull('depth', ranks=[0, 1])") == "{0: 3, 1: 3}"
    assert kernel.value("job.pull('rank', 'depth')") == "{'rank': 0, 'depth': 3}"
    assert kernel.value("job.pull('rank', ranks=1)") == "1"


def test_an_exception_shows_cell_and_line_and_leaves_the_ranks(
    home: Client, kernel: Kernel
) -> None:
    assert home
    cell = kernel.run(on("if rank == 1:\n    print(undefined)\nhistory.append('x')"))
    first, *_ = cell.error.splitlines()
    assert first.startswith("TrainingError: rank 1 of kept raised NameError: name 'undefined'")
    assert "line 3, in <module>" in cell.error
    assert 'File "Cell In[' in cell.error
    assert cell.error.splitlines()[-1].startswith("hint: the ranks and their variables are still")
    lines = kernel.run(on("history.pop() if history[-1] == 'x' else 'as before'")).lines
    assert sorted(lines) == ["Out[0]: 'x'", "Out[1]: 'as before'"]


def test_an_interrupt_ends_the_cell_and_leaves_the_ranks(home: Client, kernel: Kernel) -> None:
    assert home
    cell = kernel.begin(on(f"before = rank\n{LOOP}"))
    cell.until(lambda c: len(c.lines) == 2, "both ranks loop")
    kernel.interrupt()
    cell.end()
    assert cell.error.startswith("Interrupted: the cell on kept; its ranks and their variables are")
    assert sorted(kernel.run(on("before")).lines) == ["Out[0]: 0", "Out[1]: 1"]


def test_a_rank_that_does_not_come_back_is_named_with_what_to_do(
    client: Client, shared_kernels: Kernels
) -> None:
    alone = shared_kernels.start()
    alone.run("import jupyter_aios.commands.cells as cells\ncells.RETURN_S = 1.0")
    alone.run(GROUP.replace("--name kept", "--name stuck"))
    waits = "if rank == 0:\n    print('waits', flush=True)\n    dist.barrier()\n"
    cell = alone.begin(f"%%aios_train --on stuck\n{waits}{LOOP}")
    cell.until(lambda c: {"[0] waits", "[1] loops"} <= set(c.lines), "one waits, one loops")
    alone.interrupt()
    first, hint = cell.end().error.splitlines()
    assert first.startswith("Interrupted: rank 0 of stuck does not come back: inside a collective")
    assert hint.startswith("hint: %aios cancel stuck ends all of its ranks")
    alone.run("%aios cancel stuck")
    assert over(client, "stuck").state is JobState.CANCELLED


def test_a_second_notebook_waits_in_line_and_may_interrupt(
    home: Client, kernel: Kernel, shared_kernels: Kernels
) -> None:
    assert home
    second = shared_kernels.start()
    first = kernel.begin(on(LOOP))
    first.until(lambda c: len(c.lines) == 2, "both ranks loop")
    waiting = second.begin(on("rank + 1"))
    waiting.until(lambda c: "waits for kept's ranks" in c.status, "it waits")
    third = shared_kernels.start()
    assert third.value("%aios interrupt kept") == "2 cells of kept interrupted; its ranks stay"
    assert first.end().error.startswith("Interrupted")
    assert waiting.end().error.startswith("Interrupted")
    assert sorted(second.run(on("rank + 1")).lines) == ["Out[0]: 1", "Out[1]: 2"]
    assert third.value("%aios interrupt kept") == "no cell runs in the ranks of kept"


def test_a_restarted_kernel_finds_the_ranks_as_they_were(
    home: Client, kernel: Kernel, shared_kernels: Kernels
) -> None:
    assert home
    doomed = shared_kernels.start()
    doomed.run("marker = 'of the lost kernel'", on("kept_marker = marker"))
    doomed.kill()
    attached = kernel.run("%aios attach kept")
    assert not attached.error
    assert "[1] first code of 1" in attached.lines
    fresh = shared_kernels.start()
    assert fresh.run(on("kept_marker", "--ranks 0")).lines == ["Out[0]: 'of the lost kernel'"]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (on("rank", "--ranks 2"), "there is no rank 2"),
        (on("rank", "--ranks x"), "'x' names no rank"),
        (on("rank", "--nodes 4"), "--nodes cannot be changed any more"),
        (on("rank", "--push nothing"), "no variable is named 'nothing'"),
        ("%%aios_train --on kpet\nrank", "no job is named 'kpet'"),
        ("%%aios_train --ranks 0\nrank", "--ranks chooses among ranks that are kept"),
        ("%%aios_train --keep --max-restarts 1\npass", "--keep and --max-restarts"),
        ("%aios pull kept historie", "no variable of rank 0 is named 'historie'"),
        ("%aios push kept nothing", "no variable is named 'nothing'"),
        (on("def broken(:"), "line 2 of the cell"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_runs(
    home: Client, kernel: Kernel, cell: str, says: str
) -> None:
    before = cells(home)
    assert says in kernel.run(cell).error
    assert cells(home) == before


def test_ranks_that_are_not_kept_or_not_any_more_are_said(
    home: Client, kernel: Kernel, client: Client
) -> None:
    assert home
    kernel.run("%%aios_train --name plain\npass")
    assert "the ranks of plain are not kept" in kernel.run("%%aios_train --on plain\n1").error
    kernel.run("%%aios_train --name brief --keep 500ms --pull x\nx = 1")
    assert over(client, "brief").reason == "released after 0.5 s without a cell"
    cell = kernel.run("%%aios_train --on brief\n1")
    assert "brief has no ranks: it is succeeded: released after" in cell.error
    assert kernel.value("%aios pull brief") == "x: int (5 B)"


def test_kept_ranks_hold_their_nodes_until_they_are_cancelled(
    client: Client, kernel: Kernel
) -> None:
    nodes = len(client.nodes())
    kernel.run(f"%%aios_train --nodes {nodes - 1} --name waits --detach\npass")
    eventually(lambda: client.job("waits").reason.startswith("waits for"), "it waits")
    assert client.job("waits").state is JobState.QUEUED
    kernel.run("%aios cancel kept")
    assert over(client, "kept").state is JobState.CANCELLED
    assert over(client, "waits").state is JobState.SUCCEEDED
