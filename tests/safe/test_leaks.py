"""Planted secrets, looked for wherever something could have written them down: none is found.

In each of these places a control, which nobody keeps, is found: so the search looks there.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import psutil
import pytest

from jupyter_aios.client import Client
from jupyter_aios.core.safe import KeyKind, VaultKey
from jupyter_aios.core.secrets import SecretUse
from jupyter_aios.core.states import JobState
from tests.homes import home_at, processes_of
from tests.launching import eventually
from tests.safe.needles import Needles
from tests.safe.planting import controls, draw, plant
from tests.spine.kernels import Kernels, over
from tests.spine.submitting import submit
from tests.spine.test_kernels import ShortPath

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nbformat import NotebookNode

# One worker: the file's tests share a home.
pytestmark = [
    pytest.mark.xdist_group("leaks"),
    pytest.mark.usefixtures("no_keyring"),
    pytest.mark.timeout(300),
]

PASSPHRASE = "correct horse battery staple of the leaks"
USED = 20
CONTROLS = (
    "source", "printed", "metric", "raised", "widget", "argument", "environment", "log", "core",
)  # fmt: skip

TELLS_EVERYTHING = """\
import base64, html, json, logging, os, subprocess, urllib.parse, warnings
import jupyter_aios as aios

def ways(raw):
    yield from (raw, repr(raw).encode(), raw.hex().encode(), raw.hex().upper().encode())
    yield from (base64.b64encode(raw), base64.urlsafe_b64encode(raw))
    yield from (base64.b64encode(b"ada:" + raw), urllib.parse.quote(raw, safe="").encode())
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    yield from (json.dumps([text]).encode(), repr(text).encode(), ascii(text).encode())
    yield html.escape(text).encode()

values = [aios.secret(name, binary=True) for name in NAMES]
for raw in values:
    for way in ways(raw):
        os.write(1, way + b"\\n")
    for piece in (raw[:7], raw[7:]):
        os.write(1, piece)
    subprocess.run(["cat"], input=raw + b"\\n")
    text = raw.decode(errors="replace")
    print(text)
    warnings.warn(text)
    logging.error("it is %s", text)
    aios.log(**{f"loss of {text}": 1.0})
"""
RAISES = """\
try:
    raise ValueError(*[raw.decode(errors="replace") for raw in values])
except ValueError as error:
    raise RuntimeError(f"with {values}") from error
"""
WAITS = """\
import pathlib, time
print("ready", flush=True)
while not pathlib.Path("over").exists():
    time.sleep(0.02)
"""


def backwards(value: bytes) -> str:
    """Return code that makes a value which itself does not stand in it."""
    return f"{value.decode()[::-1]!r}[::-1]"


@dataclass
class Scene:
    """A notebook that did everything with secrets that is not wise, and what was looked into."""

    home: Path
    folder: Path
    values: dict[str, bytes]
    planted: dict[str, bytes]
    needles: Needles = field(init=False)
    in_files: dict[str, set[str]] = field(default_factory=dict)
    in_processes: dict[str, set[str]] = field(default_factory=dict)
    looked_into: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        typed = {"PASSPHRASE": PASSPHRASE.encode()}
        self.needles = Needles({**self.values, **self.planted, **typed})

    @property
    def notebook(self) -> Path:
        return self.folder / "notebook.ipynb"

    def cells(self) -> list[str]:
        """Return the notebook's cells."""
        names = [f"S{number}" for number in range(USED)]
        asked = " ".join(f"--secret {name}" for name in names)
        tells = TELLS_EVERYTHING.replace("NAMES", repr(names))
        control = {name: backwards(value) for name, value in self.planted.items()}
        # Without secrets: what these tell is found.
        tells_controls = (
            f"# {self.planted['source'].decode()}\nimport jupyter_aios as aios\n"
            f"print({control['printed']})\naios.log(**{{{control['metric']}: 1.0}})\n"
            f"raise ValueError({control['raised']})"
        )
        shows_controls = (
            "import os, subprocess, sys\nchild = subprocess.Popen("
            f"[sys.executable, '-c', 'input()', {control['argument']}], stdin=subprocess.PIPE,"
            f" env={{**os.environ, 'CONTROL': {control['environment']}}})\n"
            f"{WAITS}\nchild.communicate(b'over')"
        )
        return [
            "%load_ext jupyter_aios",
            f"import ipywidgets\nipywidgets.Text(value={control['widget']})",
            "%aios secret list",
            "%aios vault",
            "%aios unlock",
            f"%%aios_train --dry-run {asked}\n{tells}",
            f"%%aios_train --nodes 2 --name tells {asked}\n{tells}{RAISES}",
            "%aios logs tells",
            "%aios attach tells",
            f"%%aios_train --name kept --keep 60s {asked}\n{tells}",
            f"%%aios_train --on kept\n{tells}",
            f"%%aios_train --on kept\n{RAISES}",
            "%aios cancel kept",
            f"%%aios_train --name controls\n{tells_controls}",
            "%aios audit --limit 500",
            f"%%aios_train --name shows --detach\n{shows_controls}",
            f"%%aios_train --name running --detach {asked} --secret S20:TOKEN\n{tells}{WAITS}",
            "%aios",
        ]

    def look_around(self, client: Client) -> None:
        """Look into everything, while the notebook and two jobs are there."""
        for name in ("shows", "running"):
            until_ready(client, name)
        pids = processes_of(self.home)
        self.looked_into = list(pids.values())
        self.in_processes = self.needles.in_processes(pids)

    def search(self) -> None:
        """Look into everything that was left in files."""
        roots = (self.home, self.folder, Path(os.environ["XDG_RUNTIME_DIR"]))
        self.in_files = self.needles.in_files(*roots)

    def found(self, *kinds: str) -> dict[str, set[str]]:
        """Return place → names of all that was found of these kinds (all secrets by default)."""
        wanted = set(kinds) or {*self.values, "PASSPHRASE"}
        everything = {**self.in_files, **self.in_processes}
        return {place: names & wanted for place, names in everything.items() if names & wanted}


def printed(client: Client, key: str) -> str:
    """Return what a job has printed up to now."""
    events = client.events(key, {}, limit_bytes=2**22).batch.events
    return "".join(event.text or "" for event in events)


def until_ready(client: Client, key: str) -> None:
    """Return when a job has come to where it waits."""
    eventually(lambda: "ready" in printed(client, key), f"{key} is ready")


def execute(scene: Scene, client: Client) -> NotebookNode:
    """Run the notebook as nbclient does, with a history as people have one, and save it."""
    cells = [nbformat.v4.new_code_cell(text) for text in scene.cells()]
    notebook: NotebookNode = nbformat.v4.new_notebook(cells=cells)

    def look(cell: NotebookNode, **_: object) -> None:
        if cell.source == "%aios":
            scene.look_around(client)

    ShortPath(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(scene.folder)}},
        timeout=120,
        allow_errors=True,
        ipython_hist_file=str(scene.folder / "history.sqlite"),
        on_cell_executed=look,
    ).execute()
    nbformat.write(notebook, scene.notebook)
    return notebook


@pytest.fixture(scope="module", params=[200, pytest.param(1000, marks=pytest.mark.slow)])
def scene(
    request: pytest.FixtureRequest,
    no_keyring: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """Give a home whose notebook and jobs told all that they could."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "notebooks").mkdir()
    with home_at(folder / "home") as home:
        client = Client(home)
        client.safe.unlock(VaultKey(KeyKind.PASSPHRASE, PASSPHRASE))
        values = draw(request.param)
        plant(client, values)
        scene = Scene(home, folder / "notebooks", values, controls(CONTROLS))
        execute(scene, client)
        (scene.folder / "over").touch()
        for name in ("shows", "running"):
            assert over(client, name).state is JobState.SUCCEEDED
        with (home / "controller.log").open("ab") as log:
            log.write(scene.planted["log"])
        scene.search()
        yield scene


def places(found: dict[str, set[str]]) -> str:
    """Return where something was found, as a text in which one can look for a part."""
    return "\n".join(sorted(found))


# ------------------------------------------------------------------------------- what is written


def test_the_notebook_told_what_it_was_meant_to_tell(scene: Scene) -> None:
    notebook = nbformat.read(scene.notebook, as_version=4)
    shown = {cell.source: str(cell.outputs) for cell in notebook.cells}
    for number in range(USED):
        assert f"•••S{number}•••" in shown["%aios logs tells"], number
    tells = next(text for source, text in shown.items() if "--name tells" in source)
    assert "RuntimeError: with [" in tells
    assert "S199" in shown["%aios secret list"]
    on_kept = [text for source, text in shown.items() if "--on kept" in source]
    assert all("•••S0•••" in text for text in on_kept)
    assert "secret:read" in shown["%aios audit --limit 500"]


def test_no_planted_secret_is_found_anywhere(scene: Scene) -> None:
    assert scene.found() == {}


@pytest.mark.parametrize(
    ("control", "sinks"),
    [
        ("source", ("history.sqlite", "notebook.ipynb", "/blobs/", "/code/")),
        ("printed", ("rank-0000.output", "notebook.ipynb")),
        ("metric", ("rank-0000.events",)),
        ("raised", ("store.sqlite", ".events", "notebook.ipynb")),
        ("widget", ("notebook.ipynb",)),
        ("argument", ("cmdline of ",)),
        ("environment", ("environ of ",)),
        ("log", ("controller.log",)),
    ],
)
def test_what_nobody_keeps_is_found_where_it_was_put(
    scene: Scene, control: str, sinks: tuple[str, ...]
) -> None:
    told = places(scene.found(control))
    for sink in sinks:
        assert sink in told


def test_all_kinds_of_processes_were_looked_into(scene: Scene) -> None:
    told = "\n".join(scene.looked_into)
    for part in ("jupyter_aios.controller", "jupyter_aios.training.zygote", "ipykernel_launcher"):
        assert part in told
    assert len(scene.looked_into) >= 7  # a controller, a zygote, a kernel, two agents, two ranks


def test_the_state_of_widgets_was_looked_into(scene: Scene) -> None:
    notebook = nbformat.read(scene.notebook, as_version=4)
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert scene.needles.in_bytes(repr(states).encode()) == {"widget"}


def test_what_is_typed_is_in_no_history(tmp_path: Path) -> None:
    typed = controls(["passphrase", "value", "next"])
    seen = controls(["seen"])
    phrase, value, later = (text.decode() for text in typed.values())
    kernels = Kernels(tmp_path)
    with home_at(tmp_path / "home") as home:
        with contextlib.closing(kernels):
            kernel = kernels.start()
            kernel.run(f"# {seen['seen'].decode()}")
            assert kernel.answer("%aios secret set TOKEN", phrase, phrase, value).result
            kernel.run("%aios lock")
            assert kernel.answer("%aios secret rotate TOKEN", phrase, later).result
        runtime = Path(os.environ["XDG_RUNTIME_DIR"])
        found = Needles(typed | seen).in_files(home, runtime, tmp_path)
    assert {Path(path).name for path in found} == {"history.sqlite"}
    assert set().union(*found.values()) == {"seen"}


# --------------------------------------------------------------------------------- what crashes


@pytest.fixture
def cores_are_written() -> Iterator[None]:
    """Let what is started from here on write its memory to a file when it crashes."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"cores go elsewhere here: {pattern}")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] != resource.RLIM_INFINITY:
        pytest.skip("this user may write no cores")
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


def cores_in(folder: Path) -> list[Path]:
    """Return the core files in a folder."""
    return sorted(path for path in folder.glob("core*") if path.name[4:].strip(".0123456789") == "")


def crash(pid: int) -> Path:
    """Crash a process; return the folder where its memory would have been written."""
    folder = Path(f"/proc/{pid}/cwd").readlink()
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: not process.is_running() or process.status() == "zombie", "it is gone")
    return folder


def look_into_cores(
    needles: Needles, folder: Path, before: Collection[Path] = ()
) -> list[set[str]]:
    """Return what each core in a folder holds, and remove them: they are large."""
    found = []
    for path in cores_in(folder):
        if path not in before:
            found.append(needles.in_bytes(path.read_bytes()))
            path.unlink()
    return found


@pytest.mark.usefixtures("cores_are_written")
def test_a_crash_leaves_no_secret_behind(tmp_path: Path) -> None:
    planted = {"TOKEN": draw(1)["S0"], "PASSPHRASE": PASSPHRASE.encode()}
    control = controls(["core"])
    needles = Needles(planted | control)
    with home_at(tmp_path / "home") as home:
        client = Client(home)
        client.safe.unlock(VaultKey(KeyKind.PASSPHRASE, PASSPHRASE))
        plant(client, {"TOKEN": planted["TOKEN"]})
        uses = (SecretUse("TOKEN"),)
        kept = f"import os, signal\nkept = {backwards(control['core'])}\n"
        for name, secrets in (("control", ()), ("crashes", uses), ("waits", uses)):
            (tmp_path / name).mkdir()
            rest = WAITS if name == "waits" else "os.kill(os.getpid(), signal.SIGSEGV)"
            submit(client, kept + rest, name=name, cwd=str(tmp_path / name), secrets=secrets)
        for name in ("control", "crashes"):
            assert "SIGSEGV" in over(client, name).reason
        assert look_into_cores(needles, tmp_path / "control") == [{"core"}]
        assert look_into_cores(needles, tmp_path / "crashes") == []
        until_ready(client, "waits")
        place = home / "jobs" / client.job("waits").id / "attempts" / "1" / "agent.json"
        for pid in (json.loads(place.read_text())["pid"], client.hello().pid):
            before = cores_in(Path(f"/proc/{pid}/cwd").readlink())
            assert look_into_cores(needles, crash(pid), before) == []
        assert needles.in_files(home, tmp_path / "waits") == {}
