"""A home and a kernel that the tests of a file share, where starting their own would be slow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from tests.homes import home_at
from tests.spine.kernels import Kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give one home to all tests of a file; its jobs need names of their own."""
    with home_at(tmp_path_factory.mktemp("shared") / "home") as home:
        yield home


@pytest.fixture(scope="module")
def shared_kernels(
    shared_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernels]:
    """Start kernels on the file's home that live as long as it."""
    assert shared_home
    kernels = Kernels(tmp_path_factory.mktemp("notebooks"))
    with contextlib.closing(kernels):
        yield kernels


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[Kernels]:
    """Start kernels that end with the test; ask for a home before them."""
    started = Kernels(tmp_path)
    with contextlib.closing(started):
        yield started


@pytest.fixture
def client(shared_home: Path) -> Client:
    """Give a client of the file's home."""
    return Client(shared_home)
