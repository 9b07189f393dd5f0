"""`%aios rerun`: the same spec again, what differs told, and what is gone told at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.commands import tree
from jupyter_aios.core.entities import CodeKind, RunRecord, SourceFile
from jupyter_aios.core.states import JobState
from jupyter_aios.core.submission import blobs_of
from jupyter_aios.errors import StateError
from jupyter_aios.training.packing.bundle import pack_script
from tests.fake_client import FakeClient, FakePlace, job

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.core.entities import Job, JobSpec


def rerun(old: Job, line: str = "", *, blobs: set[str] | None = None) -> JobSpec:
    """Return what is submitted."""
    here: set[str] = set(blobs_of(old.spec.code)) if blobs is None else blobs
    fake = FakeClient(jobs_here=[old], blobs_here=here)
    place = FakePlace(fake=fake, namespace={})
    tree.run(["rerun", "mnist", "--detach", *line.split()], place)
    (spec,) = fake.asked
    assert isinstance(spec, type(old.spec))
    return spec


def ended(**changes: Any) -> Job:
    cell = {"code": replace(job().spec.code, kind=CodeKind.CELL)}
    return job(JobState.SUCCEEDED, **{"seed": 7, "argv": ("--lr", "0.1"), **cell, **changes})


def test_everything_of_the_spec_is_submitted_again(capsys: pytest.CaptureFixture[str]) -> None:
    old = ended(pull=("model",), record=RunRecord(code_hash="c", options="--nodes 1"))
    spec = rerun(old)
    assert replace(spec, record=RunRecord()) == replace(old.spec, record=RunRecord())
    assert (spec.record.rerun_of, spec.record.code_hash) == (old.id, "c")
    assert spec.record.options == "--nodes 1"
    assert rerun(old, "--name other").name == "other"
    assert capsys.readouterr().err == ""


def test_what_differs_from_then_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    spec = rerun(ended(record=RunRecord(versions=(("torch", "1.0"),)), seed=None))
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("not as then: torch was 1.0 and is ")
    assert told[1] == "not as then: it had no seed of its own, and has one from now on"
    assert spec.seed is not None


def test_a_script_that_has_changed_runs_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    code = pack_script(script).code
    assert rerun(ended(code=code)).code == code
    assert capsys.readouterr().err == ""
    script.write_text("print(2)\n")
    assert rerun(ended(code=code)).code == code
    said = f"not as then: {script} has changed since; this runs it as it was\n"
    assert capsys.readouterr().err == said
    script.unlink()
    rerun(ended(code=code))
    assert capsys.readouterr().err == said


def test_what_is_gone_is_told_at_once_and_nothing_is_started() -> None:
    old = ended(interpreter="/nowhere/python", cwd="/nowhere")
    with pytest.raises(StateError) as caught:
        rerun(old, blobs=set())
    assert caught.value.message == (
        "mnist cannot be repeated: its interpreter /nowhere/python is gone;"
        " its folder /nowhere is gone; 1 of its 1 files of code and values are gone"
    )
    assert caught.value.hint == "submit the cell anew, with --seed 7"
    file = SourceFile("train.py", old.spec.code.files[0].blob, "train.py", "/nowhere/train.py")
    script = replace(old.spec.code, kind=CodeKind.SCRIPT, files=(file,))
    with pytest.raises(StateError) as caught:
        rerun(ended(code=script), blobs=set())
    assert caught.value.hint == "submit the script anew, with --seed 7"
