"""The rules of the house that no single room can keep: who imports whom, one version."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import grimp
import importlinter.api
import pytest

import jupyter_aios

REPOSITORY = Path(__file__).parents[1]
SKINS = {"client", "commands", "magics", "server", "widgets"}
BEHIND_THE_SOCKET = {"controller", "engines", "vault"}


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("jupyter_aios", include_external_packages=True, cache_dir=None)


def test_the_import_rule_holds() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as lint; lint()",
            "--no-cache",
            "--no-logo",
        ],
        cwd=REPOSITORY,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_and_errors_import_only_the_standard_library(imports: grimp.ImportGraph) -> None:
    house = {"jupyter_aios.errors"} | {
        module for module in imports.modules if f"{module}.".startswith("jupyter_aios.core.")
    }
    strangers = {
        f"{module} imports {imported}"
        for module in house
        for imported in imports.find_modules_directly_imported_by(module) - house
        if imported.partition(".")[0] not in sys.stdlib_module_names
    }
    assert not strangers


def test_every_screen_is_held_away_from_every_room_behind_the_socket(
    imports: grimp.ImportGraph,
) -> None:
    settings = importlinter.api.read_configuration(str(REPOSITORY / "pyproject.toml"))
    contract = next(each for each in settings["contracts_options"] if each["id"] == "skins")
    rooms = {module.rpartition(".")[2] for module in imports.find_children("jupyter_aios")}
    assert set(contract["source_modules"]) == _modules(SKINS & rooms)
    assert set(contract["forbidden_modules"]) == _modules(BEHIND_THE_SOCKET & rooms)


def test_the_installed_version_is_the_package_s() -> None:
    installed = importlib.metadata.version("jupyter-aios")
    assert installed == jupyter_aios.__version__, "touch pyproject.toml, then make test"


def _modules(rooms: set[str]) -> set[str]:
    return {f"jupyter_aios.{room}" for room in rooms}
