"""The lessons run unattended on a fresh home, and leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.homes import home_at, wait_until_gone
from tests.launching import eventually

LESSONS = Path(__file__).parents[2] / "example_notebooks"
SECRETS = LESSONS / "04_secrets_and_access.ipynb"
MADE_UP = re.compile(r"hf_MadeUp\w+|hub-MadeUp\w+|BEGIN OPENSSH|correct horse|aios_[A-Za-z0-9]{20}")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DEADLINE_S = 100


def code_cells(path: Path) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(path: Path) -> str:
    """Return all that the cells of a notebook show, without the code itself."""
    text = json.dumps([cell.outputs for cell in code_cells(path)], ensure_ascii=False)
    return _COLOURS.sub("", text)


def environments_with(text: bytes) -> list[str]:
    """Return the commands of other living processes whose environment holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if text in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_the_lesson_on_secrets_runs_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    with home_at(tmp_path / "home") as home:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        done = subprocess.run(
            [sys.executable, LESSONS / "execute.py", SECRETS],
            env={**os.environ, "TMPDIR": str(scratch)},
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert not list(scratch.glob("aios-*"))
        (executed,) = scratch.glob(f"notebook-*/{SECRETS.name}")
        shown = outputs(executed)
        assert not home.exists()
        assert wait_until_gone(home, 1) == {}
        # The lesson's own homes lie in the scratch folder; what was warm ends with its controller.
        mark = os.fsencode(scratch / "aios-lesson-")
        eventually(lambda: not environments_with(mark), "nothing of the lesson is alive")
    for told in (
        "as it is:  •••HF_TOKEN•••",
        "backwards: nosseLsihTroFpUedaM_fh",
        "fetched: 2.71 3.14",
        "token in the environment: False",
        "signs a contract: refused",
        "you are eve (student) at https://127.0.0.1:",
        "an agent is there: True",
        "may not secret:read on secret",
        "the quota of user:eve: 16 ranks wanted, 8 of 8 left",
        "asked to sign what is no login",
        "queued - waits for the vault: %aios unlock",
        "the token has 22 letters",
    ):
        assert told in shown, told
    assert MADE_UP.findall(shown) == []
    assert "BROKEN" not in shown


@pytest.mark.parametrize("path", [LESSONS / "02_allocation.ipynb", SECRETS], ids=lambda p: p.stem)
def test_a_lesson_is_saved_as_it_ran_from_its_first_cell_to_its_last(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        is_meant = "raises-exception" in cell.metadata.get("tags", ())
        assert any(one.output_type == "error" for one in cell.outputs) == is_meant, cell.source
    assert MADE_UP.findall(outputs(path)) == []
