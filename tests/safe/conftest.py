"""A home per file, on a machine whose desktop keeps no keys; passphrases are typed."""

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
def no_keyring() -> Iterator[None]:
    """Have no controller of these tests find the keyring of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        for variable in ("AIOS_PASSPHRASE_FILE", "AIOS_AUTO_LOCK_S"):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="module")
def home(no_keyring: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:  # noqa: ARG001
    """Give one home to all tests of a file."""
    with home_at(tmp_path_factory.mktemp("safe") / "home") as path:
        yield path


@pytest.fixture(scope="module")
def client(home: Path) -> Client:
    """Give a client of the file's home."""
    return Client(home)


@pytest.fixture(scope="module")
def kernels(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:  # noqa: ARG001
    """Start kernels on the file's home that live as long as it."""
    started = Kernels(tmp_path_factory.mktemp("notebooks"))
    with contextlib.closing(started):
        yield started
