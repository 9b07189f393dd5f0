"""One JupyterLab for all browser tests of a worker, and a Chromium for those of a file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import CHROMIUM, Desk, Lab, browser
from tests.homes import home_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give a JupyterLab with a home of its own."""
    if CHROMIUM is None:
        # Root has had the chance to install it: a skip there would hide that it could not.
        assert os.geteuid() != 0, "apt-get install chromium fonts-dejavu-core"
        pytest.skip("Chromium is not installed: apt-get install chromium fonts-dejavu-core")
    home = tmp_path_factory.mktemp("lab") / "home"
    with home_at(home), contextlib.closing(Lab(home)) as started:
        yield started


# Not for the session: while playwright is open its event loop counts as running in this thread,
# and what other files run would be refused by asyncio.
@pytest.fixture(scope="module")
def chromium(lab: Lab) -> Iterator[Browser]:
    """Give a Chromium to the tests of a file."""
    assert lab
    with browser() as opened:
        yield opened


@pytest.fixture
def desk(lab: Lab, chromium: Browser) -> Iterator[Desk]:
    """Open notebooks; their pages are closed and their kernels ended with the test."""
    at = Desk(chromium, lab)
    yield at
    at.clear()
