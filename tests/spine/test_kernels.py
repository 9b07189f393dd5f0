"""What people see in notebooks: real kernels, a real controller, real ranks."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient

from jupyter_aios.core.states import JobState
from tests.launching import eventually
from tests.spine.kernels import over, typed_in_a_shell

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager
    from nbformat import NotebookNode

    from jupyter_aios.client import Client
    from tests.spine.kernels import Kernels

# One worker: the file's tests share a home with its warm process.
pytestmark = [pytest.mark.xdist_group("kernels"), pytest.mark.usefixtures("shared_home")]

EXECUTE = Path(__file__).parents[2] / "example_notebooks" / "execute.py"
RANKS = range(4)
PRINTER = """\
import os, pathlib, time
rank, number = int(os.environ["RANK"]), 0
while not pathlib.Path("enough").exists():
    print("line", number, "of", rank, flush=True)
    number += 1
    time.sleep(0.02 if number < 300 else 0.3)  # a notebook thins out what is above 2000 lines
print("end", number, "of", rank)
"""
WAITER = """\
import os, pathlib, time
print("waiting", flush=True)
while not pathlib.Path("{file}").exists():
    time.sleep(0.02)
print("goes on")
"""


def read_to(process: subprocess.Popen[str], text: str) -> None:
    """Read what a program prints up to a line with `text`; pytest's timeout is the deadline."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"it ended without {text!r}")


def shown_by_rank(lines: list[str]) -> dict[int, list[str]]:
    """Return what a notebook shows of each rank, without the prefix."""
    shown: dict[int, list[str]] = {}
    for line in lines:
        if match := re.fullmatch(r"\[(\d+)\] (.*)", line):
            shown.setdefault(int(match[1]), []).append(match[2])
    return shown


def runs(client: Client, name: str) -> None:
    """Return when the job runs: a rank's first line may be here before the controller knows."""
    eventually(lambda: client.job(name).state is JobState.RUNNING, f"{name} runs")


# ------------------------------------------------------------------------- kernels that are lost


def test_a_new_kernel_has_every_line_of_every_rank_after_the_old_one_was_killed(
    client: Client, kernels: Kernels, tmp_path: Path
) -> None:
    first = kernels.start()
    cell = first.begin(f"%%aios_train --nodes 4 --name mnist\n{PRINTER}")
    cell.until(lambda c: all(f"[{r}] line 5 of {r}" in c.lines for r in RANKS), "all ranks print")
    first.kill()
    before = len(cell.lines)
    second = kernels.start()
    runs(client, "mnist")
    attached = second.begin("%aios attach mnist")
    attached.until(lambda c: len(c.lines) > before + 40, "it prints more than the old kernel saw")
    (tmp_path / "enough").touch()
    attached.end()
    assert not attached.error
    shown = shown_by_rank(attached.lines)
    assert sum(map(len, shown.values())) == len(attached.lines)
    for rank in RANKS:
        count = int(shown[rank][-1].split()[1])
        lines = [f"line {number} of {rank}" for number in range(count)]
        assert shown[rank] == [*lines, f"end {count} of {rank}"]
    assert attached.status.startswith("mnist · succeeded")


def test_a_job_that_is_over_is_shown_from_its_first_line_too(
    client: Client, kernels: Kernels, tmp_path: Path
) -> None:
    first = kernels.start()
    cell = first.begin(f"%%aios_train --name over\n{WAITER.format(file='over')}")
    cell.until(lambda c: "waiting" in c.lines, "it prints")
    first.kill()
    (tmp_path / "over").touch()
    assert over(client, "over").state is JobState.SUCCEEDED
    attached = kernels.start().run("%aios attach over")
    assert attached.lines == ["waiting", "goes on"]


# ------------------------------------------------------------------------------------ interrupts


def test_an_interrupt_cancels_the_job_and_leaves_the_kernel_usable(
    client: Client, kernels: Kernels
) -> None:
    kernel = kernels.start()
    cell = kernel.begin(f"%%aios_train --nodes 2 --name stopped\n{WAITER.format(file='never')}")
    cell.until(lambda c: "[1] waiting" in c.lines and "[0] waiting" in c.lines, "both print")
    kernel.interrupt()
    cell.end()
    assert client.job("stopped").state is JobState.CANCELLED
    assert cell.error.splitlines()[0].startswith("Interrupted: stopped is cancelled")
    assert cell.error.splitlines()[1:] == ["hint: %aios logs stopped"]
    assert "stopped is being cancelled" in cell.stdout
    assert kernel.value("1 + 1") == "2"
    assert kernel.run("%%aios_train\nprint('again')").lines == ["again"]


def test_an_interrupt_with_detach_leaves_the_job_running(
    client: Client, kernels: Kernels, tmp_path: Path
) -> None:
    kernel = kernels.start()
    line = "%%aios_train --name alone --on-interrupt detach"
    cell = kernel.begin(f"{line}\n{WAITER.format(file='alone')}")
    cell.until(lambda c: "waiting" in c.lines, "it prints")
    kernel.interrupt()
    cell.end()
    assert cell.error.splitlines() == [
        "Interrupted: alone goes on without this cell",
        "hint: %aios attach alone, or %aios cancel alone",
    ]
    runs(client, "alone")
    (tmp_path / "alone").touch()
    assert kernel.run("%aios attach alone").lines == ["waiting", "goes on"]


def test_an_interrupt_while_attached_leaves_the_job_running(
    client: Client, kernels: Kernels, tmp_path: Path
) -> None:
    kernel = kernels.start()
    kernel.run(f"%%aios_train --name watched --detach\n{WAITER.format(file='watched')}")
    cell = kernel.begin("%aios attach watched")
    cell.until(lambda c: "waiting" in c.lines, "it prints")
    kernel.interrupt()
    assert "watched goes on without this cell" in cell.end().error
    runs(client, "watched")
    (tmp_path / "watched").touch()
    assert over(client, "watched").state is JobState.SUCCEEDED


class ShortPath(NotebookClient):
    """A notebook client whose kernel is reached by Unix sockets."""

    def create_kernel_manager(self) -> KernelManager:
        manager: KernelManager = super().create_kernel_manager()
        manager.transport = "ipc"
        manager.ip = str(Path(tempfile.mkdtemp(dir=os.environ["XDG_RUNTIME_DIR"])) / "kernel")
        return manager


def executed(folder: Path, *cells: str, timeout_s: dict[str, int]) -> NotebookNode:
    """Run a notebook as nbclient does, with the timeouts of some cells."""
    notebook: NotebookNode = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in cells]
    )
    ShortPath(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        timeout_func=lambda cell: timeout_s.get(cell.source, 60),
        interrupt_on_timeout=True,
        allow_errors=True,
    ).execute()
    return notebook


def test_nbclient_interrupts_a_cell_that_takes_too_long_and_goes_on(
    client: Client, tmp_path: Path
) -> None:
    slow = f"%%aios_train --nodes 2 --name slow\n{WAITER.format(file='never')}"
    cells = ("%load_ext jupyter_aios", slow, "print('the next cell')")
    notebook = executed(tmp_path, *cells, timeout_s={slow: 2})
    assert client.job("slow").state is JobState.CANCELLED
    *_, error = notebook.cells[1].outputs
    assert error.output_type == "error"
    assert error.traceback[0].startswith("Interrupted: slow is cancelled")
    assert notebook.cells[2].outputs[0].text == "the next cell\n"


def test_ctrl_c_ends_a_demo_as_interrupted(client: Client, tmp_path: Path) -> None:
    slow = f"%%aios_train --name demo\n{WAITER.format(file='never')}"
    cells = [nbformat.v4.new_code_cell(text) for text in ("%load_ext jupyter_aios", slow)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "demo.ipynb")
    demo = subprocess.Popen(
        [sys.executable, EXECUTE, tmp_path / "demo.ipynb"],
        env={**os.environ, "TMPDIR": os.environ["XDG_RUNTIME_DIR"]},  # the executed copy
        stdout=subprocess.PIPE,
        text=True,
    )
    read_to(demo, "waiting")
    demo.send_signal(signal.SIGINT)
    told, _ = demo.communicate(timeout=60)
    assert "demo.ipynb: interrupted" in told
    assert demo.returncode == 130
    assert client.job("demo").state is JobState.CANCELLED


# ---------------------------------------------------------------------------------- side by side


def test_two_kernels_run_two_jobs_at_once_and_outputs_are_not_mixed(kernels: Kernels) -> None:
    meet = """\
import pathlib, time
pathlib.Path("{me}").touch()
while not pathlib.Path("{other}").exists():
    time.sleep(0.02)
for number in range(200):
    print("{me}", number)
"""
    pairs = [("left", "right"), ("right", "left")]
    cells = [
        kernels.start().begin(
            f"%%aios_train --nodes 2 --name {me}\n{meet.format(me=me, other=other)}"
        )
        for me, other in pairs
    ]
    for cell, (me, _) in zip(cells, pairs, strict=True):
        shown = shown_by_rank(cell.end().lines)
        assert not cell.error
        assert shown == {rank: [f"{me} {number}" for number in range(200)] for rank in range(2)}


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """Make an environment of its own that sees the packages of this one."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python3.*/site-packages"))
    here = next(path for path in sys.path if path.endswith("site-packages"))
    # addsitedir also reads the .pth files there: an editable installation is one.
    (site / "first.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return str(folder / "bin" / "python")


def test_ranks_run_in_the_environment_of_their_kernel(
    client: Client, kernels: Kernels, other_python: str
) -> None:
    train = "%%aios_train --nodes 2\nimport sys\nprint(sys.executable, sys.prefix)"
    first, second = kernels.start(), kernels.start(other_python)
    begun = [kernel.begin(train) for kernel in (first, second)]
    for cell, python in zip(begun, (sys.executable, other_python), strict=True):
        prefix = Path(python).parents[1]
        shown = shown_by_rank(cell.end().lines)
        assert shown == {rank: [f"{python} {prefix}"] for rank in range(2)}
    warm = client.hello().warm
    assert any(line.startswith(f"{sys.executable}: warm") for line in warm)
    assert any(line.startswith(f"{other_python}: warm") for line in warm)


# ------------------------------------------------------------------------------ what comes back

MODEL = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs):
        return self.layer(inputs)

class Epoch:
    def __init__(self, number, loss):
        self.number, self.loss = number, loss
"""
TRAIN = """\
%%aios_train --nodes 2 --name fit --pull model,epochs
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group()
model = DistributedDataParallel(Net())
with torch.no_grad():
    model.module.layer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
epochs = [Epoch(number, 0.5) for number in range(3)]
"""


def test_definitions_travel_and_weights_come_back_into_the_notebooks_own_model(
    kernels: Kernels,
) -> None:
    kernel = kernels.start()
    trained = kernel.run(MODEL, TRAIN)
    assert not trained.error, trained.error
    kernel.run("model = Net()\nown, weight = model, model.layer.weight")
    pulled = kernel.run("%aios pull fit")
    assert "model: 2 weights loaded into the notebook's own" in pulled.result
    assert kernel.value("model is own and model.layer.weight is weight") == "True"
    assert kernel.value("model.layer.weight.tolist()") == "[[1.0, 2.0, 3.0]]"
    assert kernel.value("[type(e) is Epoch for e in epochs], epochs[2].number") == (
        "([True, True, True], 2)"
    )
    # A wrapper on this side prefixes all names with "module.".
    kernel.run("model = nn.DataParallel(Net())", "%aios pull fit model")
    assert kernel.value("model.module.layer.weight.tolist()") == "[[1.0, 2.0, 3.0]]"
    kernel.run("model = nn.Linear(7, 1)")
    refused = kernel.run("%aios pull fit model")
    assert "InputError: the weights of model do not fit the notebook's model" in refused.error
    assert kernel.value("model.weight.shape[1]") == "7"


def test_a_variable_above_the_limit_is_not_kept_or_not_fetched_and_says_so(
    kernels: Kernels,
) -> None:
    kernel = kernels.start()
    train = "%%aios_train --name big --pull small,large --pull-limit 10KiB\n"
    cell = kernel.run(train + "small, large = bytes(9000), bytes(11000)")
    assert "notice: --pull large: larger than --pull-limit 10 KiB" in cell.lines
    error = kernel.run("%aios pull big large").error
    assert error == "ShippingError: large of big was not kept: larger than --pull-limit 10 KiB"
    error = kernel.run("%aios pull big --limit 1KiB").error
    assert re.fullmatch(
        r"CapacityError: small is 8\.\d+ KiB, the limit is 1 KiB\n"
        r"hint: %aios pull big small --limit \d+",
        error,
    )
    assert kernel.run("%aios pull big").result.startswith("small: bytes")
    assert kernel.value("len(small), 'large' in globals()") == "(9000, False)"


# ------------------------------------------------------------------------- the job in one's hands


def test_a_dry_run_shows_the_plan_and_starts_nothing(client: Client, kernels: Kernels) -> None:
    known = [job.id for job in client.jobs()]
    kernel = kernels.start()
    kernel.run("rate = 0.5")
    plan = kernel.run("%%aios_train --nodes 2 --name planned --dry-run\nprint(rate)").result
    told = "launcher warm, backend auto (gloo); nothing was started"
    assert plan.startswith(f"planned: 2 ranks, {told}")
    assert re.search(r"^seed +[0-9]+$", plan, re.MULTILINE)
    assert re.search(r"^versions +python .*torch ", plan, re.MULTILINE)
    assert "rank 1 on v1" in plan
    assert "WORLD_SIZE=2" in plan
    assert re.search(r"^rate +value", plan, re.MULTILINE)
    assert [job.id for job in client.jobs()] == known


def test_doctor_with_a_name_tells_of_a_job_that_never_hung(kernels: Kernels) -> None:
    kernel = kernels.start()
    kernel.run("%%aios_train --nodes 2 --name healthy\nprint('well')")
    told = kernel.run("%aios doctor healthy")
    assert not told.error, told.error
    assert told.result.splitlines()[0] == "healthy: no hang was found"


def test_a_detached_job_is_held_by_its_object(kernels: Kernels, tmp_path: Path) -> None:
    kernel = kernels.start()
    train = f"%%aios_train --nodes 2 --name held --pull net --detach\n{WAITER.format(file='held')}"
    shown = kernel.run(f"{train}import torch\nnet = torch.nn.Linear(1, 1)")
    assert shown.result.splitlines()[0].startswith("Job held: ")
    assert shown.result.splitlines()[1] == "%aios attach held · %aios logs held · %aios cancel held"
    kernel.run("job = _")
    assert kernel.value("job.state in {'queued', 'placed', 'starting', 'running'}") == "True"
    refused = kernel.run("job.state_dict()").error.splitlines()
    assert refused[0].startswith("StateError: held is ")
    assert refused[1] == "hint: %aios attach held"
    (tmp_path / "held").touch()
    assert kernel.value("job.wait()") == "'succeeded'"
    assert kernel.value("job.logs(1)") == "waiting\ngoes on"
    assert kernel.value("[step.state for step in job.history]") == (
        "['queued', 'placed', 'starting', 'running', 'succeeded']"
    )
    assert kernel.value("[one.outcome for one in job.attempts], job.attempts[0].number") == (
        "(['succeeded'], 1)"
    )
    assert kernel.value("list(job.state_dict()) == list(job.result['net'])") == "True"
    kernel.run(f"%%aios_train --name ended --detach\n{WAITER.format(file='never')}", "job = _")
    assert kernel.value("job.cancel().wait(), job.cancel().state") == "('cancelled', 'cancelled')"
    assert kernel.run("job.result").error.startswith("StateError: ended was cancelled")


def test_functions_and_scripts_are_submitted_from_python(kernels: Kernels, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys\nprint(sys.argv[1:], __file__)\n")
    kernel = kernels.start()
    kernel.run(
        "import os\nimport jupyter_aios as aios",
        "def rank(base, step=1):\n    return base + step * int(os.environ['RANK'])",
    )
    assert kernel.value("aios.submit(rank, args=[40], kwargs={'step': 2}, nodes=2).result") == "40"
    kernel.run("job = aios.submit('train.py', args=['--lr', 0.1], nodes=2)", "job.wait()")
    assert ast.literal_eval(kernel.value("job.logs(0)").partition("] ")[0] + "]") == ["--lr", "0.1"]
    assert kernel.value("job.logs(1)").endswith(str(tmp_path / "train.py"))
    failed = kernel.run("aios.submit('print(1)\\nraise ValueError(\"no\")').result")
    assert failed.error.startswith("TrainingError: ")
    assert "ValueError: no" in failed.error


# --------------------------------------------------------------------------------------- a shell


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Write a script that prints its arguments, fails at `fail`, and waits at `wait`."""
    path = tmp_path / "train.py"
    path.write_text(
        "import os, sys, time\n"
        "print('rank', os.environ['RANK'], *sys.argv[1:], flush=True)\n"
        "if 'fail' in sys.argv: sys.exit(3)\n"
        "while 'wait' in sys.argv: time.sleep(0.02)\n"
    )
    return path


@pytest.mark.usefixtures("shared_home")
def test_a_script_is_submitted_from_the_shell(script: Path) -> None:
    lines = {
        "submit train.py --nodes 2 -- --lr 0.1": (0, "[1] rank 1 --lr 0.1", ""),
        "submit train.py --name bad -- fail": (1, "rank 0 fail", "TrainingError: bad failed"),
        "submit train.py --nodes 0": (2, "", "InputError: --nodes 0"),
        "submit nowhere.py": (2, "", "InputError: the script nowhere.py cannot be read"),
        "submit train.py --nodes 2x9 --cpus 99": (1, "", "CapacityError"),
    }
    started = {line: typed_in_a_shell(f"jupyter aios {line}", script.parent) for line in lines}
    for line, (code, out, error) in lines.items():
        stdout, stderr = started[line].communicate(timeout=60)
        assert started[line].returncode == code, (line, stdout, stderr)
        assert out in stdout
        assert stderr.startswith(error)


def test_ctrl_c_in_the_shell_cancels_the_job(client: Client, script: Path) -> None:
    typed = typed_in_a_shell("jupyter aios submit train.py --name typed -- wait", script.parent)
    read_to(typed, "rank 0 wait")
    typed.send_signal(signal.SIGINT)
    _, stderr = typed.communicate(timeout=60)
    assert typed.returncode == 130
    assert stderr.splitlines()[0].startswith("Interrupted: typed is cancelled")
    assert client.job("typed").state is JobState.CANCELLED
