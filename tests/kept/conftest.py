"""Kept ranks in tests: by the engine alone, and as people meet them in kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kept.ranks import Kept
from tests.spine.conftest import client, shared_home, shared_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.launching import Launchpad

__all__ = ["client", "keep", "shared_home", "shared_kernels"]


@pytest.fixture
def keep(launchpad: Launchpad) -> Iterator[Callable[..., Kept]]:
    """Start ranks that stay; those that are still there at the end are stopped."""
    started: list[Kept] = []

    def start(source: str = "", **spec: object) -> Kept:
        settings = {"ranks_per_node": 2, "keep_idle_s": 60.0} | spec
        kept = Kept(launchpad, launchpad.run(source, **settings))
        started.append(kept)
        return kept

    yield start
    for kept in started:
        kept.end()
