from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vault.safes import ANN, new_vault, reopen, values

ROOT = Path(__file__).parents[2]


def kill_many(folder: Path, kills: int, seed: int, *, synced: bool) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.vault.killing",
            str(folder), str(kills), str(seed), "synced" if synced else "unsynced",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("synced", [True, False], ids=["real disk", "fast disk"])
def test_a_kill_in_a_commit_loses_nothing_that_was_acknowledged(
    synced: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    outcome = kill_many(tmp_path, 30, 1, synced=synced)
    assert (outcome["kills"], outcome["lost"], outcome["unopened"]) == (30, 0, 0)
    assert outcome["acknowledged"] >= 30


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("synced", [True, False], ids=["real disk", "fast disk"])
def test_a_thousand_kills_lose_nothing_that_was_acknowledged(
    synced: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    outcome = kill_many(tmp_path, 1000, 2, synced=synced)
    assert (outcome["kills"], outcome["lost"], outcome["unopened"]) == (1000, 0, 0)
    # Else the kills missed the commits.
    assert outcome["halves"] > 10


def commit_side_by_side(folder: Path, processes: int, commits: int) -> None:
    vault = new_vault(folder)
    before = vault.anchor.generation
    vault.close()
    running = [
        subprocess.Popen(
            [
                sys.executable, "-m", "tests.vault.committing",
                str(folder), f"P{number}", str(commits),
            ],
            cwd=ROOT,
        )
        for number in range(processes)
    ]  # fmt: skip
    assert [process.wait() for process in running] == [0] * processes
    vault = reopen(folder)
    assert vault.anchor.generation == before + processes * commits
    assert {vault.info(ANN, name).version for _, name in values(vault)} == {commits}
    assert len(values(vault)) == processes
    vault.close()


def test_eight_processes_commit_one_after_the_other(tmp_path: Path) -> None:
    commit_side_by_side(tmp_path, 8, 6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_processes_commit_a_thousand_times_each(tmp_path: Path) -> None:
    commit_side_by_side(tmp_path, 8, 1000)


def test_whoever_checks_permits_loads_nothing_of_the_vault() -> None:
    # The agent does; it starts in a fraction of the time that Argon2id's bindings take to load.
    program = (
        "import sys, jupyter_aios.vault.permits;"
        "print([name for name in sys.modules if name.startswith('jupyter_aios.vault.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['jupyter_aios.vault.permits']"
