"""What is recorded of a run: versions, commit, hash, seed; and what it may cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.commands.handle import JobHandle
from jupyter_aios.commands.options import TrainOptions
from jupyter_aios.commands.record import (
    GitQuestion,
    begin_record,
    differences,
    record_now,
    record_table,
)
from jupyter_aios.commands.submitting import make_spec, send, warn_of_crowd
from jupyter_aios.core.entities import RunRecord
from jupyter_aios.core.submission import code_hash
from jupyter_aios.core.version import __version__
from jupyter_aios.testing.examples import example_spec
from jupyter_aios.training.packing.bundle import pack_cell, pack_script
from tests.fake_client import FakeClient, node

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a repository with one commit."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    git(tmp_path, "init", "-q")
    (tmp_path / "data.py").write_text("rows = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def answer(folder: Path) -> tuple[str, bool]:
    with GitQuestion(str(folder)) as question:
        return question.answer()


# ------------------------------------------------------------------------------------------ git


def test_the_commit_is_recorded_and_whether_something_has_changed_since(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert answer(repository) == (commit, False)
    (repository / "notes.txt").write_text("untracked")
    assert answer(repository) == (commit, False)
    (repository / "data.py").write_text("rows = 2\n")
    assert answer(repository) == (commit, True)


def test_where_there_is_no_repository_no_git_or_no_folder_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert answer(tmp_path) == ("", False)
    assert answer(tmp_path / "gone") == ("", False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert answer(tmp_path) == ("", False)


def test_a_git_that_does_not_answer_holds_nothing_up_and_is_not_left_behind(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = repository / "tools"
    tools.mkdir()
    (tools / "git").write_text(f"#!/bin/sh\necho $$ >> {repository}/pids\nexec sleep 6\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    begun = time.monotonic()
    assert answer(repository) == ("", False)
    assert time.monotonic() - begun < 5
    pids = (repository / "pids").read_text().split() if (repository / "pids").exists() else []
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110


def test_changes_are_assumed_where_only_the_status_does_not_answer(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, real = git(repository, "rev-parse", "HEAD"), git(repository, "--exec-path")
    tools = repository / "tools"
    tools.mkdir()
    script = f'#!/bin/sh\ncase "$*" in *status*) exec sleep 100;; esac\nexec {real}/git "$@"\n'
    (tools / "git").write_text(script)
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("jupyter_aios.commands.record._GIT_S", 2.0)
    assert answer(repository) == (commit, True)


def test_a_submission_records_what_git_says(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    packed = pack_cell("print(1)", {})
    client = FakeClient()
    spec = make_spec(packed, TrainOptions(typed="--nodes 1"), client.nodes())
    record = send(client, packed, spec).spec.record
    assert record.git_commit == git(repository, "rev-parse", "HEAD")
    assert not record.git_is_dirty
    assert record.options == "--nodes 1"


# ----------------------------------------------------------------------------- versions and code


def test_versions_are_those_of_what_runs_and_nothing_is_imported_for_it() -> None:
    cell = "import sklearn.svm, os\nfrom mlxtend.data import x\nimport nothing_of_that_name\n"
    program = (
        "import sys\n"
        "from jupyter_aios.commands.record import begin_record\n"
        "from jupyter_aios.training.packing.bundle import pack_cell\n"
        f"print(begin_record(pack_cell({cell!r}, {{}}), '').versions)\n"
        "print([name for name in ('torch', 'numpy', 'sklearn') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    versions, imported = done.stdout.splitlines()
    named = [name for name, _ in eval(versions)]  # noqa: S307 - what repr has just printed
    assert named == ["python", "jupyter-aios", "torch", "numpy", "mlxtend", "scikit-learn"]
    assert f"('jupyter-aios', '{__version__}')" in versions
    assert imported == "[]"


def test_the_hash_is_that_of_the_code_wherever_it_comes_from(tmp_path: Path) -> None:
    here = pack_cell("print(rate)", {"rate": 1}, name="Cell In[3]", first_line=2)
    there = pack_cell("print(rate)", {"rate": 1}, name="Cell In[9]", first_line=2)
    other = pack_cell("print(rate)", {"rate": 2}, name="Cell In[3]", first_line=2)
    assert code_hash(here.code) == code_hash(there.code) != code_hash(other.code)
    (tmp_path / "train.py").write_text("import torch\n")
    first = pack_script(tmp_path / "train.py")
    (tmp_path / "train.py").write_text("import torch \n")
    assert code_hash(first.code) != code_hash(pack_script(tmp_path / "train.py").code)
    assert begin_record(first, "").code_hash == code_hash(first.code)


def test_every_job_has_a_seed_and_a_given_one_is_kept() -> None:
    packed, nodes = pack_cell("1", {}), [node("v0")]
    drawn = {make_spec(packed, TrainOptions(), nodes).seed for _ in range(5)}
    assert len(drawn) == 5
    assert None not in drawn
    assert make_spec(packed, TrainOptions(seed=0), nodes).seed == 0


# --------------------------------------------------------------------------------------- showing


def test_the_record_draws_itself() -> None:
    record = RunRecord(
        versions=(("python", "3.12"), ("torch", "2.4")), git_commit="a" * 40, git_is_dirty=True,
        code_hash="b" * 64, options="--nodes 2", rerun_of="20260101-000000-aaaaaa",
    )  # fmt: skip
    assert repr(record_table(example_spec(seed=7, record=record))).splitlines() == [
        "RECORD    VALUE",
        "seed      7",
        "code      bbbbbbbbbbbb",
        "git       aaaaaaaaaaaa, and changes that are not committed",
        "options   --nodes 2",
        "versions  python 3.12, torch 2.4",
        "rerun of  20260101-000000-aaaaaa",
    ]
    assert repr(record_table(example_spec())) == "nothing was recorded"
    client = FakeClient()
    packed = pack_cell("1", {})
    job = send(client, packed, make_spec(packed, TrainOptions(seed=3), client.nodes()))
    assert repr(JobHandle(client, job).record).splitlines()[1] == "seed      3"


def test_more_ranks_than_processors_can_serve_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    packed, nodes = pack_cell("1", {}), [node("v0", 500) for _ in range(4)]
    for ranks, said in ((2, ""), (100, "300 ranks will take turns on 2 CPUs\n")):
        options = TrainOptions(nodes=3, ranks_per_node=ranks)
        warn_of_crowd(make_spec(packed, options, nodes), nodes)
        assert capsys.readouterr().err == said


# ------------------------------------------------------------------------------------- comparing


def test_only_what_is_known_to_differ_is_told() -> None:
    then = RunRecord(versions=(("torch", "2.4"), ("numpy", "2.0")), git_commit="a" * 40)
    assert differences(then, then) == []
    assert differences(then, RunRecord()) == []
    now = replace(then, versions=(("torch", "2.5"),), git_commit="b" * 40, git_is_dirty=True)
    assert differences(then, now) == [
        "torch was 2.4 and is 2.5",
        "numpy was 2.0 and is not installed any more",
        "the git commit of the folder was aaaaaaaaaaaa and is bbbbbbbbbbbb",
        "the folder has changes now that are not committed",
    ]


def test_the_versions_of_another_interpreter_are_asked_of_it(tmp_path: Path) -> None:
    record = RunRecord(versions=(("python", "3.0"), ("torch", "2.4")))
    # The same Python under another path knows no package of this environment.
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    other.chmod(0o755)
    spec = example_spec(record=record, interpreter=str(other), cwd=str(tmp_path))
    now = record_now(spec)
    assert [name for name, _ in now.versions] == ["python"]
    assert "torch was 2.4 and is not installed any more" in differences(record, now)
    gone = record_now(replace(spec, interpreter="/nowhere/python"))
    assert gone.versions == ()
