"""Odd homes, broken or changed installations, old controllers, full folders: it works, or says how.

Everything is real: kernels, the controller, ranks, an sshfs mount.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.core import version
from jupyter_aios.core.states import JobState
from tests.controller import test_filesystem as filesystems
from tests.homes import home_at
from tests.launching import eventually
from tests.spine.kernels import over
from tests.spine.submitting import submit

if TYPE_CHECKING:
    from tests.spine.kernels import Kernels

# One worker: several of the file's tests share a home.
pytestmark = pytest.mark.xdist_group("surroundings")

ODD = 'it\'s "my" 家目录 $HOME; %s {x} \\n'
LONGEST = 480
"""Bytes of a home's path; SQLite opens no longer ones."""
WAIT = """\
import pathlib, time
print("begun", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
print("ended")
"""

sshfs = filesystems.sshfs


# ------------------------------------------------------------------------------------ odd places


def long_path(folder: Path, length: int) -> Path:
    """Return a path below `folder` of so many bytes."""
    while length - len(os.fsencode(folder)) > 255:
        folder /= "l" * 150
    return folder / ("m" * (length - len(os.fsencode(folder)) - 1))


def test_a_home_with_spaces_quotes_chinese_characters_and_a_very_long_path_works(
    tmp_path: Path, kernels: Kernels
) -> None:
    notebooks = tmp_path / f"notebooks {ODD}"
    notebooks.mkdir()
    with home_at(long_path(tmp_path / ODD, LONGEST - 40)), contextlib.closing(kernels):
        kernel = kernels.start(cwd=notebooks)
        kernel.run("class Point:\n    pass\nscale = 3")
        trained = kernel.run(
            "%%aios_train --nodes 2 --name 漢字 --pull point,model\n"
            "import os, torch\nimport jupyter_aios as aios\n"
            "point, model = Point(), torch.nn.Linear(scale, 1)\npoint.x = scale\n"
            "aios.checkpoint(1, model=model)\nprint(os.getcwd())"
        )
        assert not trained.error
        assert sorted(trained.lines) == [f"[0] {notebooks}", f"[1] {notebooks}"]
        assert "Point" in kernel.run("%aios pull 漢字").result
        assert kernel.value("point.x, type(point) is Point, list(model)") == (
            "(3, True, ['weight', 'bias'])"
        )
        cold = kernel.run("%%aios_train --nodes 2 --launcher torchrun\nraise ValueError('no')")
        assert "line 2, in <module>\n    raise ValueError('no')" in cold.error
        assert kernel.run("%aios prune 漢字").result.startswith("removed 1 job, freed ")


def test_a_path_that_is_too_long_is_refused_with_what_to_set(
    tmp_path: Path, kernels: Kernels
) -> None:
    with home_at(long_path(tmp_path, LONGEST + 1)), contextlib.closing(kernels):
        error, hint = kernels.start().run("%aios").error.splitlines()
        assert "longer than 480 bytes" in error
        assert hint == "hint: set AIOS_HOME=/a/shorter/path"


def test_a_relative_home_is_refused_with_what_to_type(kernels: Kernels) -> None:
    with home_at(Path("relative")), contextlib.closing(kernels):
        error, hint = kernels.start().run("%aios").error.splitlines()
        assert error == "InputError: AIOS_HOME is 'relative', which is not an absolute path"
        assert hint == "hint: export AIOS_HOME=$PWD/relative"


@pytest.mark.skipif(os.geteuid() != 0, reason="an sshd of one's own needs root")
@pytest.mark.skipif(filesystems.SSHD is None, reason="needs sshd")
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse")
def test_a_home_on_a_network_file_system_is_refused_with_what_to_set(
    sshfs: Path, kernels: Kernels
) -> None:
    with home_at(sshfs / "home") as home, contextlib.closing(kernels):
        kernel = kernels.start()
        error, hint = kernel.run("%%aios_train\nprint(1)").error.splitlines()
        assert "lies on a network file system (fuse.sshfs at" in error
        assert hint == "hint: set AIOS_HOME=/a/local/folder"
        assert not Client(home).is_running()
        assert kernel.run("%aios doctor").result.count("network file system") == 1


# --------------------------------------------------------------------------------- installations


def test_packages_that_change_under_a_warm_process_make_the_next_start_cold(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "dummy-1.0.dist-info").mkdir(parents=True)
    (site / "dummy.py").write_text("__version__ = '1.0'\n")
    monkeypatch.setenv("PYTHONPATH", str(site))

    def start_of(name: str) -> str:
        submit(client, "import dummy\nprint(dummy.__version__)", name=name)
        job = over(client, name)
        assert job.state is JobState.SUCCEEDED, job.reason
        return job.attempts[0].start

    assert start_of("first").startswith("cold: ")
    assert start_of("second") == "warm"
    (site / "dummy-1.0.dist-info").rename(site / "dummy-2.0.dist-info")
    assert start_of("third") == "cold: packages have changed since the last launch"
    assert start_of("fourth") == "warm"


def test_a_torch_that_does_not_import_is_told_with_what_to_do(
    client: Client, tmp_path: Path, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    fault = "libtorch_cpu.so: cannot open shared object file"
    (broken / "__init__.py").write_text(f"raise ImportError({fault!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    kernel = kernels.start()
    error = kernel.run("%%aios_train --nodes 2 --name broken\nprint(1)").error
    assert fault in error.splitlines()[0]
    assert "hint: %aios doctor tells" in error.splitlines()[-1]
    examined = kernel.run("%aios doctor").result
    assert fault in examined
    assert "-m pip install torch" in examined
    assert client.job("broken").state is JobState.FAILED


# ------------------------------------------------------------------------------- other versions


def test_a_newer_client_replaces_the_controller_and_the_job_runs_on(
    aios_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The interpreter's own hook makes a real controller of another version.
    old = tmp_path / "old"
    old.mkdir()
    (old / "sitecustomize.py").write_text(
        "from jupyter_aios.core import version\nversion.__version__ = '0.0.1'\n"
    )
    heard: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(old))
        before = Client(aios_home, as_version="0.0.1", notice=heard.append)
        job = submit(before, WAIT, name="kept", environment=())
        eventually(lambda: before.job("kept").state is JobState.RUNNING, "it runs")
        first = before.hello()
    assert (first.version, heard) == ("0.0.1", [])
    client = Client(aios_home, notice=heard.append)
    second = client.hello()
    assert (second.version, second.pid != first.pid) == (version.__version__, True)
    told = f"the controller is version 0.0.1, this is {version.__version__}"
    assert heard == [f"{told}: it is restarted, jobs go on"]
    assert client.job("kept").state is JobState.RUNNING
    (aios_home / "go").touch()
    ended = over(client, "kept")
    assert (ended.id, ended.state, ended.attempt) == (job.id, JobState.SUCCEEDED, 1)
    # The old client goes on with the new controller, and says what would help.
    assert before.job("kept").state is JobState.SUCCEEDED
    assert heard[1].endswith("restart the kernel to use the new one")


# ------------------------------------------------------------------------------------- retention


def test_prune_frees_what_is_over_and_keeps_what_runs(
    client: Client, kernels: Kernels, tmp_path: Path
) -> None:
    kernel = kernels.start()
    kernel.run("%%aios_train --name done\nprint('x' * 100_000)")
    kernel.run(f"%%aios_train --name running --detach\n{WAIT}")
    eventually(lambda: client.job("running").state is JobState.RUNNING, "it runs")
    folders = [client.home / "jobs" / client.job(name).id for name in ("done", "running")]
    assert [folder.is_dir() for folder in folders] == [True, True]
    assert kernel.run("%aios prune").error.startswith("InputError: prune removes jobs for good")
    assert kernel.run("%aios prune --older-than 1h").result == "removed 0 jobs, freed 0 B"
    refused = kernel.run("%aios prune running").error
    assert refused.startswith("UnknownNameError: no finished job is named 'running'")
    assert kernel.run("%aios prune done").result.startswith("removed 1 job, freed 1")
    kernel.run("%aios prune --keep 0")
    assert [folder.is_dir() for folder in folders] == [False, True]
    (tmp_path / "go").touch()
    assert kernel.run("%aios attach running").lines == ["begun", "ended"]
    assert "running" in [job.name for job in client.jobs()]
    assert "done" not in [job.name for job in client.jobs()]


@pytest.mark.usefixtures("shared_home")
def test_what_a_rank_prints_above_its_limit_is_left_out_and_announced(kernels: Kernels) -> None:
    kernel = kernels.start()
    flood = "for number in range(40_000):\n    print(number, 'x' * 60)\nprint('the end')"
    cell = kernel.run(f"%%aios_train --name flood --log-limit 1MiB\n{flood}")
    assert not cell.error
    # A notebook thins out a flood, but not what is said about it.
    told = [line for line in cell.lines if line.startswith("notice: ")]
    assert told[0].endswith("except its end: it is larger than --log-limit 1 MiB")
    assert told[1].endswith(" MiB of output were left out here")
    assert cell.lines[-1] == "the end"
    kernel.run("log = %aios logs flood")
    assert kernel.value("log.splitlines()[0][:3], log.splitlines()[-1]") == ("('0 x', 'the end')")
    assert kernel.value("len(log) < 1.2 * 2**20") == "True"
    assert all(kernel.value(f"{line!r} in log.splitlines()") == "True" for line in told)
