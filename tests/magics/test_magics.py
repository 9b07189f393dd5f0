"""The magics in a real IPython shell; with a real controller where it says so."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError

from jupyter_aios.errors import InputError, TrainingError, UnknownNameError
from tests.fake_client import FakeClient, job
from tests.notebook import ROOT, Notebook

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = (
    "torch ortools highspy numpy pandas matplotlib fastapi sqlalchemy httpx ipywidgets anywidget"
)
_FRESH = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
for cell in {cells!r}:
    shell.run_cell(cell).raise_error()
    loaded = [name for name in {heavy!r}.split() if name in sys.modules]
    assert not loaded, (cell, loaded)
"""


@pytest.fixture
def here(notebook: Notebook) -> Notebook:
    """Give a notebook with the extension, and a controller that is a script."""
    notebook.run("%load_ext jupyter_aios")
    place = magics(notebook).place
    place._client = FakeClient(jobs_here=[job(nodes=2, name="mnist")])  # noqa: SLF001
    place._home = place_home()  # noqa: SLF001
    return notebook


def place_home() -> str:
    import os

    return os.environ.get("AIOS_HOME", "")


def magics(notebook: Notebook) -> Any:
    return notebook.shell.magics_manager.registry["AiosMagics"]


def fake(notebook: Notebook) -> FakeClient:
    client = magics(notebook).place.client
    assert isinstance(client, FakeClient)
    return client


def test_loading_and_the_first_verb_bring_in_nothing_heavy(aios_home: Path, tmp_path: Path) -> None:
    cells = ["%load_ext jupyter_aios", "%aios", "%aios status", "%aios jobs"]
    code = _FRESH.format(cells=cells, heavy=HEAVY)
    import os

    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "AIOS_HOME": str(aios_home)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "virtual nodes free" in done.stdout
    assert "jobs        0 running, 0 waiting" in done.stdout


def test_a_verb_gives_a_value_that_draws_itself(here: Notebook) -> None:
    assert "mnist  running" in repr(here.run("%aios jobs"))
    assert here.run("found = %aios jobs\nfound[0].name") == "mnist"


def test_errors_are_two_lines(here: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownNameError):
        here.run("%aios logs mnits")
    assert capsys.readouterr().out.splitlines() == [
        "UnknownNameError: no job is named 'mnits'", "hint: did you mean mnist?",
    ]  # fmt: skip


def test_an_open_quote_is_a_usage_error(here: Notebook) -> None:
    with pytest.raises(UsageError, match="No closing quotation"):
        here.run("%aios logs 'mnist")


def test_quotes_hold_words_together(here: Notebook) -> None:
    with pytest.raises(UnknownNameError, match="no job is named 'two words'"):
        here.run("%aios logs 'two words'")


@pytest.mark.parametrize("cell", ["%%aios_train -h", "%%aios_train -h\nx", "%%aios_train --help\n"])
def test_help_comes_with_and_without_a_body(here: Notebook, cell: str) -> None:
    text = repr(here.run(cell))
    assert "--nodes N|NxP" in text
    assert "--on-interrupt cancel|detach" in text


def test_magics_can_be_loaded_twice(here: Notebook) -> None:
    here.run("%reload_ext jupyter_aios")
    matchers = here.shell.Completer.custom_matchers
    assert [getattr(m, "matcher_identifier", "") for m in matchers].count("jupyter_aios") == 1


def test_a_cell_is_submitted_with_what_it_reads(here: Notebook) -> None:
    here.run("lr = 0.5")
    shown = here.run("%%aios_train --nodes 2 --detach --name one\nprint(lr)")
    assert repr(shown).startswith("Job one: queued, 2 ranks")
    spec = fake(here).asked[-1]
    assert (spec.nodes, spec.name, spec.interpreter) == (2, "one", sys.executable)
    assert [entry.name for entry in spec.code.manifest] == ["lr"]
    assert spec.code.files[-1].origin == f"Cell In[{here.shell.execution_count - 1}]"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%aios_train --nodes 0\nx", "--nodes 0"),
        ("%%aios_train --nodes 10000\nx", "at most 4096 nodes"),
        ("%%aios_train --backend nccl\nx", "needs a GPU for each rank"),
        ("%%aios_train\nx = = 1", "line 2 of the cell: invalid syntax"),
        ("%%aios_train\n%time x", "line 2 of the cell is IPython's"),
        ("%%aios_train --push nowhere\nx", "no variable is named 'nowhere'"),
        ("%%aios_train\n  \n", "the cell is empty"),
        ("%%aios_train stray\nx", "more than expected: stray"),
    ],
)
def test_bad_input_starts_nothing(here: Notebook, cell: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        here.run(cell)
    assert not [spec for spec in fake(here).asked if not isinstance(spec, tuple)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%aios ca", {"cancel"}),
        ("%aios cancel mn", {"mnist"}),
        ("%aios logs mnist --r", {"--rank"}),
        ("%aios jobs --state fa", {"failed"}),
        ("%%aios_train --backend g", {"gloo"}),
        ("%%aios_train --nodes 2 --on", {"--on", "--on-interrupt"}),
        ("%%aios_train --push learning_", {"learning_rate"}),
    ],
)
def test_lines_are_completed(here: Notebook, line: str, expected: set[str]) -> None:
    from jupyter_aios.magics import completion

    completion._known = (float("-inf"), [])  # noqa: SLF001 - what an earlier test has asked for
    here.run("learning_rate = 1")
    with provisionalcompleter():
        found = list(here.shell.Completer.completions(line, len(line)))
    word = line.rsplit(maxsplit=1)[-1]
    start = len(line) - len(word)
    assert {line[start : one.start] + one.text for one in found} == expected


@pytest.mark.timeout(120)
def test_a_cell_trains_on_ranks_and_its_variables_come_back(
    aios_home: Path, notebook: Notebook, capfd: pytest.CaptureFixture[str]
) -> None:
    assert aios_home
    notebook.run("%load_ext jupyter_aios", "scale = 10")
    notebook.run("class Point:\n    def __init__(self, x):\n        self.x = x * scale")
    cell = """\
        %%aios_train --nodes 2 --name real --pull point
        import os
        point = Point(int(os.environ["WORLD_SIZE"]))
        print("rank", os.environ["RANK"], "has", point.x)
    """
    job_handle = notebook.run(textwrap.dedent(cell))
    assert job_handle.state == "succeeded"
    shown = capfd.readouterr().out
    assert "[0] rank 0 has 20" in shown
    assert "[1] rank 1 has 20" in shown
    notebook.run("%aios pull real")
    assert notebook.run("point.x, type(point) is Point") == (20, True)
    with pytest.raises(TrainingError) as caught:
        notebook.run("%%aios_train --name bad\nx = 1\nraise ValueError('no')")
    assert "line 3, in <module>\n    raise ValueError('no')" in caught.value.message
    notebook.run("import jupyter_aios as aios\ndef f(a, b=1):\n    return Point(a + b).x")
    assert notebook.run("aios.submit(f, args=[2], kwargs={'b': 3}, nodes=2).result") == 50
    assert notebook.run("aios.job('real').logs(1)") == "rank 1 has 20"
    assert len(notebook.run("aios.jobs()")) == 3
