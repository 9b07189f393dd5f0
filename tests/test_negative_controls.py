"""Each patch in `negative_controls/` breaks one defence, and its named test turns red.

All of it happens in copies: the tree under test is never changed, so these run beside the others.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.training.processes import identity_of, send

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leftovers are found in /proc")

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "negative_controls"
IS_ROOT = os.geteuid() == 0
TEST_DEADLINE_S = 40
"""A broken defence may mean a hang; that is red too, but a faster test is better."""
RUN_DEADLINE_S = 110
ALL_DEADLINE_S = 400
"""Of all named tests together, one after the other."""
TESTS_FAILED = 1
"""pytest's exit code; 2 and above would be a test that could not even be collected."""


@dataclass(frozen=True)
class Control:
    """A patch and what its first lines say of it."""

    path: Path
    breaks: str
    test: str
    because: str
    needs_root: bool


def read_control(path: Path) -> Control:
    """Return what a patch says of itself."""
    told = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        key, _, value = line[1:].partition(":")
        told[key.strip()] = value.strip()
    return Control(
        path=path,
        breaks=told["breaks"],
        test=told["turns red"],
        because=told["because"],
        needs_root="needs root" in told,
    )


CONTROLS = [read_control(path) for path in sorted(FOLDER.glob("*.patch"))]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """Give a copy of the package and its tests; what runs out of it ends with the test."""
    root = tmp_path / "copy"
    root.mkdir()
    for name in ("jupyter_aios", "tests", "docs"):
        # Compiled modules come along with their times; those of a moment ago may just be renamed.
        ignored = shutil.ignore_patterns("*.pyc.*", "negative_controls", Path(__file__).name)
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", root)
    yield root
    end_processes_of(root)


def environment_of(tree: Path) -> dict[str, str]:
    """Return the environment in which everything imports the copy rather than what is installed."""
    # A pytest above this one, a git hook or a controller must not reach into it.
    foreign = ("PYTEST_", "GIT_", "AIOS_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
    return environment | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        # Else git would take the copy for a part of a repository that lies around it.
        "GIT_CEILING_DIRECTORIES": str(tree.parent),
    }


def run_tests(
    tree: Path, *tests: str, deadline_s: float = RUN_DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Run tests in the copy; pytest's report is its stdout."""
    options = ["-p", "pytest_timeout", "-p", "no:cacheprovider", "--tb=short", "--color=no"]
    options += [f"--timeout={TEST_DEADLINE_S}", f"--basetemp={tree.parent / 'run'}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=tree,
        env=environment_of(tree),
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


def end_processes_of(tree: Path) -> None:
    """Kill what a broken defence has left running: everything that would import this copy."""
    needle = f"PYTHONPATH={tree}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        identity = identity_of(int(entry.name))
        try:
            found = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is somebody else's
        if any(one == needle or one.startswith(needle + b":") for one in found):
            send(identity, signal.SIGKILL)


def break_defence(tree: Path, control: Control) -> None:
    """Apply the patch to the copy."""
    arguments = ["git", "apply", "--whitespace=nowarn", "--verbose", str(control.path)]
    applied = subprocess.run(
        arguments, cwd=tree, env=environment_of(tree), capture_output=True, text=True, check=False
    )
    if applied.returncode or "Applied patch" not in applied.stderr:
        pytest.fail(
            f"{control.path.name} no longer applies: regenerate it as"
            f" {FOLDER.name}/README.md says\n{applied.stderr}"
        )
    for line in control.path.read_text(encoding="utf-8").splitlines():
        if line.startswith("+++ b/"):
            changed = tree / line[len("+++ b/") :]
            # A file of the same size, patched within the second of its time, would go unnoticed.
            for compiled in (changed.parent / "__pycache__").glob(f"{changed.stem}.*.pyc"):
                compiled.unlink()


@pytest.mark.timeout(ALL_DEADLINE_S + 30)
def test_in_an_unbroken_copy_every_named_test_passes(tree: Path) -> None:
    version = tree / "jupyter_aios" / "core" / "version.py"
    with version.open("a") as file:
        file.write('\n__version__ += "+copy"\n')
    shutil.copy2(FOLDER / "probe.py", tree / "tests" / "test_probe.py")
    named = dict.fromkeys(c.test for c in CONTROLS if IS_ROOT or not c.needs_root)
    done = run_tests(tree, *named, "tests/test_probe.py", deadline_s=ALL_DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    # A skipped test would fail in no broken copy either.
    assert " skipped" not in done.stdout, done.stdout


@pytest.mark.timeout(RUN_DEADLINE_S + 30)
@pytest.mark.parametrize("control", CONTROLS, ids=[control.path.stem for control in CONTROLS])
def test_a_broken_defence_turns_its_test_red(tree: Path, control: Control) -> None:
    if control.needs_root and not IS_ROOT:
        pytest.skip("its test needs root")
    break_defence(tree, control)
    done = run_tests(tree, control.test)
    found = f"{control.path.stem} ({control.breaks}):\n{done.stdout}{done.stderr}"
    # Not assert: it would show the report a second time.
    if done.returncode != TESTS_FAILED or f"\nFAILED {control.test}" not in done.stdout:
        pytest.fail(f"the test did not turn red: {found}")
    if control.because not in done.stdout:
        pytest.fail(f"red, but not because of {control.because!r}: {found}")
