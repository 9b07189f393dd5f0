"""Bad input in a real notebook: one line and a hint, and nothing is started."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.core.states import JobState
from tests.homes import home_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.spine.kernels import Kernel, Kernels

# One worker: the file's tests share a home and a kernel.
pytestmark = pytest.mark.xdist_group("bad input")


@pytest.fixture(scope="module")
def kernel(shared_kernels: Kernels) -> Kernel:
    """Give a notebook with one finished job and a few variables."""
    kernel = shared_kernels.start()
    kernel.run("import threading\nlock, learning_rate = threading.Lock(), 0.1")
    assert kernel.run("%%aios_train --name mnist\nprint('ran')").lines == ["ran"]
    return kernel


INDENTED = "expected an indented block after 'if' statement"
LITERAL = "import torch.distributed as dist\ndist.init_process_group('nccl')"


@pytest.mark.parametrize(
    ("cell", "error", "hint"),
    [
        (
            "%%aios_train\nx = 1\nx = = 2",
            "InputError: line 3 of the cell: invalid syntax: x = = 2",
            "mend the line",
        ),
        (
            "%%aios_train\nif x:\nprint(x)",
            f"InputError: line 3 of the cell: {INDENTED} on line 2: print(x)",
            "mend the line",
        ),
        (
            "%%aios_train\nreturn 1",
            "InputError: line 2 of the cell: 'return' outside function",
            "mend the line",
        ),
        ("%%aios_train\n!ls", "InputError: line 2 of the cell is IPython's", "move it to a cell"),
        ("%%aios_train --nodes 0\nx = 1", "InputError: --nodes 0: ", "--nodes"),
        (
            "%%aios_train --nodes 10000\nx = 1",
            "InputError: --nodes 10000: at most 4096",
            "--nodes 4096",
        ),
        ("%%aios_train --nodes 10,000\nx = 1", "InputError: --nodes 10,000: ", "--nodes"),
        (
            "%%aios_train --nodes 50\nx = 1",
            "CapacityError: --nodes 50 wanted, 4 nodes",
            "--nodes 4",
        ),
        (
            "%%aios_train --backend nccl\nx = 1",
            "InputError: --backend nccl needs a GPU for each rank",
            "--backend gloo",
        ),
        (
            f"%%aios_train\n{LITERAL}",
            "InputError: line 3 asks for nccl, which needs a GPU for each rank",
            "--backend gloo overrides the line",
        ),
        (
            "%%aios_train --push learning_rat\nx = 1",
            "UnknownNameError: no variable is named 'learning_rat'",
            "did you mean learning_rate?",
        ),
        (
            "%%aios_train --push lock\nx = 1",
            "ShippingError: lock (lock) cannot travel to the ranks: cannot pickle '_thread.lock'",
            "leave it out of --push",
        ),
        (
            "%%aios_train\nprint(lock)",
            "ShippingError: lock (lock) cannot travel",
            "build it inside",
        ),
        (
            "%%aios_train --nods 2\nx = 1",
            "UnknownNameError: no option of %%aios_train is named '--nods'",
            "--nodes",
        ),
        (
            "%%aios_train --name mnist x\nx = 1",
            "InputError: more than expected: x",
            "%%aios_train -h",
        ),
        ("%%aios_train --name 'a b'\nx = 1", "InputError: --name 'a b': ", "-h explains"),
        ("%%aios_train\n\n", "InputError: the cell is empty", "write the training below"),
        ("%aios attach mnits", "UnknownNameError: no job is named 'mnits'", "did you mean mnist?"),
        (
            "%aios cancle mnist",
            "UnknownNameError: no verb is named 'cancle'",
            "did you mean cancel",
        ),
        (
            "%aios logs mnist --rnak 1",
            "UnknownNameError: no option of %aios logs is named '--rnak'",
            "--rank",
        ),
        ("%aios logs mnist --rank 3", "UnknownNameError: mnist has no rank 3", "its ranks are"),
        ("%aios logs", "InputError: ", "%aios logs"),
    ],
)
def test_bad_input_is_told_in_two_lines_and_starts_nothing(
    client: Client, kernel: Kernel, cell: str, error: str, hint: str
) -> None:
    shown = kernel.run(cell)
    first, *rest = shown.error.splitlines()
    assert first.startswith(error)
    assert len(rest) == 1
    assert rest[0].startswith("hint: ")
    assert hint in rest[0]
    assert not shown.stdout + shown.stderr
    assert [job.name for job in client.jobs()] == ["mnist"]


@pytest.mark.parametrize("cell", ["%aios logs 'mnist", "%%aios_train --name 'mnist\nx = 1"])
def test_an_open_quote_is_told_in_two_lines(client: Client, kernel: Kernel, cell: str) -> None:
    shown = kernel.run(cell)
    assert not shown.error
    first, hint = shown.stderr.strip().splitlines()
    assert first.startswith("UsageError: No closing quotation: ")
    assert hint == "hint: close the quote, or put a backslash before it"
    assert [job.name for job in client.jobs()] == ["mnist"]


# ------------------------------------------------------------------------------------ a full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a disk of one's own needs root and mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    # A process gives up its memory, by which it is counted, a moment before its files.
    end = time.monotonic() + 5
    while subprocess.run(["umount", folder], check=False).returncode:
        assert time.monotonic() < end, f"{folder} is busy"
        time.sleep(0.05)


def fill(disk: Path) -> Path:
    """Leave no room on the disk, and return the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(disk).free == 0
    return filler


def test_a_full_disk_is_told_and_after_making_room_the_same_notebook_goes_on(
    disk: Path, kernels: Kernels
) -> None:
    with home_at(disk / "home") as home, contextlib.closing(kernels):
        filler = fill(disk)
        kernel = kernels.start()
        full = "StorageError: {}: {} (0 B free)\nhint: remove finished jobs with %aios prune, or"
        store = full.format(home / "store.sqlite", "database or disk is full")
        assert kernel.run("%aios").error.startswith(store)
        filler.unlink()
        assert kernel.run("%%aios_train --name first\nprint('there is room')").stdout
        filler = fill(disk)
        refused = kernel.run("%%aios_train --name second\nprint('no room')")
        assert refused.error.startswith(store)
        assert len(refused.error.splitlines()) == 2
        assert kernel.run("%aios jobs").result.count("\n") == 1
        filler.unlink()
        kernel.run("large = bytes(6 * 2**20)")
        refused = kernel.run("%%aios_train --name third\nprint(len(large))")
        assert refused.error.startswith(f"StorageError: {home}/blobs/")
        assert shutil.disk_usage(disk).free > 3 * 2**20
        assert kernel.run("%%aios_train --name fourth\nprint('again')").lines == ["again"]
        client = Client(home)
        jobs = {job.name: job.state for job in client.jobs()}
        assert jobs == {"first": JobState.SUCCEEDED, "fourth": JobState.SUCCEEDED}
