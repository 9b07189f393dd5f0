"""`%%aios_allocate` in a real IPython shell."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError

from jupyter_aios.errors import InputError, UnknownNameError
from tests.notebook import ROOT, Notebook

if TYPE_CHECKING:
    from pathlib import Path

CELL = """\
%%aios_allocate --time-limit 2
nodes: {count: 2, cpus: 8, gpus: 2}
tasks:
  - {name: a, count: 3, gpus: 1, cpus: 1}
"""
_FRESH = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
for cell in ("%load_ext jupyter_aios", "%%aios_allocate -h", "%aios allocate -h", "%aios -h"):
    shell.run_cell(cell).raise_error()
loaded = {"numpy", "ortools", "highspy", "yaml", "pandas", "matplotlib", "anywidget", "torch"}
print("loaded:", sorted(loaded & sys.modules.keys()))
import jupyter_aios
jupyter_aios.allocate
print("then:", sorted(loaded & sys.modules.keys()))
answer = shell.run_cell("%%aios_allocate --time-limit 1\\nr: [1]\\nc: [1]").result
print("status:", answer.allocation.status)
print("at last:", sorted({"pandas", "matplotlib", "anywidget", "torch"} & sys.modules.keys()))
"""


@pytest.fixture
def here(notebook: Notebook) -> Notebook:
    notebook.run("%load_ext jupyter_aios")
    return notebook


def test_loading_help_and_the_public_name_bring_in_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FRESH],
        check=False, capture_output=True, text=True, cwd=ROOT, timeout=100,
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "AIOS_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
    assert "then: []" in done.stdout
    assert "status: feasible" in done.stdout
    assert "at last: []" in done.stdout


def test_a_cell_is_placed_and_its_answer_is_a_value(here: Notebook) -> None:
    answer = here.run(CELL)
    assert (answer.allocation.assignment >= 0).all()
    assert "3 of 3 tasks placed" in repr(answer)
    assert here.run("_.explain('a')").startswith("a-0")


def test_an_answer_can_be_given_a_name(here: Notebook) -> None:
    answer = here.run(CELL.replace("--time-limit 2", "--time-limit 2 --name told --view text"))
    assert here.names["told"] is answer


def test_the_line_alone_takes_variables(here: Notebook) -> None:
    here.run("machines = {'cpus': 4, 'count': 2}", "jobs = [{'cpus': 3, 'user': 'ada'}] * 2")
    answer = here.run("%aios_allocate --nodes machines --tasks jobs --time-limit 1")
    assert sorted(answer.allocation.assignment.tolist()) == [0, 1]
    limited = "%%aios_allocate --nodes machines --tasks jobs --time-limit 1\nquotas: "
    answer = here.run(limited + "{user ada: {tasks: 1}}")
    assert len(answer.allocation.unplaced) == 1
    with pytest.raises(InputError, match="there may only be quotas"):
        here.run("%%aios_allocate --nodes machines --tasks jobs\ntasks: {cpus: 1}")


@pytest.mark.parametrize(
    "cell", ["%%aios_allocate -h", "%%aios_allocate -h\nx", "%aios_allocate -h"]
)
def test_help_comes_with_and_without_a_body(here: Notebook, cell: str) -> None:
    text = repr(here.run(cell))
    assert "--objective NAME[,NAME]" in text
    assert "--nodes VARIABLE" in text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%aios_allocate", "there is nothing to place"),
        ("%%aios_allocate\n  \n", "there is nothing to place"),
        ("%%aios_allocate\nnodes: {cpus: 1}\ntasks: {cpus: x}", "line 3: cpus: x is no number"),
        ("%%aios_allocate\nnodes: {cpus: 1\n", "is no YAML"),
        ("%%aios_allocate p.yaml\nr: [1]", "FILE and the cell: one of them"),
        ("%%aios_allocate --objective priorty\nr: [1]", "no objective is named 'priorty'"),
        ("%%aios_allocate --objektive gpu\nr: [1]", "is named '--objektive'"),
        ("%%aios_allocate --view map\nr: [1]", "--view map: one of live, text"),
    ],
)
def test_what_cannot_be_meant_is_told_shortly(
    here: Notebook, capsys: pytest.CaptureFixture[str], cell: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        here.run(cell)
    assert len(capsys.readouterr().out.splitlines()) <= 2


def test_an_open_quote_is_a_usage_error(here: Notebook) -> None:
    with pytest.raises(UsageError, match="No closing quotation"):
        here.run("%%aios_allocate --name 'a\nr: [1]")


def test_an_unknown_variable_is_told_with_the_nearest(here: Notebook) -> None:
    here.run("machines = 1")
    with pytest.raises(UnknownNameError, match="no variable is named 'machine'") as caught:
        here.run("%aios_allocate --nodes machine --tasks jobs")
    assert "machines" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%%aios_allocate --obj", {"--objective"}),
        ("%%aios_allocate --objective f", {"feasible"}),
        ("%%aios_allocate --objective gpu,mo", {"gpu,moves"}),
        (
            "%%aios_allocate --objective gpu,moves,",
            {"gpu,moves,balance", "gpu,moves,fragmentation"},
        ),
        ("%aios_allocate --view t", {"text"}),
        ("%aios_allocate --nodes mach", {"machines"}),
        ("%aios allo", {"allocate"}),
        ("%aios allocate --objective pri", {"priority"}),
    ],
)
def test_lines_are_completed(here: Notebook, line: str, expected: set[str]) -> None:
    here.run("class Table:\n    columns = ()", "machines = Table()\nmachine_count = 3")
    with provisionalcompleter():
        found = list(here.shell.Completer.completions(line, len(line)))
    word = line.rsplit(maxsplit=1)[-1]
    start = len(line) - len(word)
    assert {line[start : one.start] + one.text for one in found} == expected
