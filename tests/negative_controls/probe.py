"""Run in the unbroken copy, whose version is marked: whose code do its processes import?

If they imported the installed package, no patch could break anything, and none of the named tests
would say anything about the copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.core import version
from jupyter_aios.core.entities import Launcher

if TYPE_CHECKING:
    from tests.launching import Launchpad

ROOT = Path(__file__).parents[1]


def test_the_tests_import_the_copy() -> None:
    assert Path(version.__file__).is_relative_to(ROOT)
    assert version.__version__.endswith("+copy")


@pytest.mark.usefixtures("aios_home")
def test_the_controller_imports_the_copy() -> None:
    assert Client().hello().version == version.__version__


@pytest.mark.parametrize("launcher", list(Launcher))
def test_zygote_agent_and_ranks_import_the_copy(launchpad: Launchpad, launcher: Launcher) -> None:
    source = "from jupyter_aios.core import version; print(version.__version__, version.__file__)"
    ref = launchpad.run(source, launcher=launcher)
    launchpad.wait(ref)
    assert launchpad.printed(ref).split() == [version.__version__, version.__file__]
