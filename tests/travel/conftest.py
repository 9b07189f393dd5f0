"""A notebook that definitions leave: one kernel and one home for all tests of the folder."""

from __future__ import annotations

import contextlib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.homes import home_at
from tests.spine.kernels import Kernel, Kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.spine.kernels import Cell


@dataclass
class Traveller:
    """A person at a kernel: cells here, training cells on real ranks."""

    kernel: Kernel

    @property
    def folder(self) -> Path:
        """Where the notebook lies."""
        return self.kernel.cwd

    def define(self, *cells: str) -> Cell:
        """Run cells that must not fail; return the last one."""
        for text in cells:
            cell = self.kernel.run(textwrap.dedent(text).lstrip("\n"))
            assert not cell.error, cell.error
        return cell

    def train(self, text: str, options: str = "") -> Cell:
        """Run a cell on ranks, whatever comes of it."""
        return self.kernel.run(
            f"%%aios_train --no-autolog {options}\n{textwrap.dedent(text).lstrip()}"
        )

    def shown(self, text: str, options: str = "") -> list[str]:
        """Return what the ranks print of a cell that must not fail."""
        cell = self.train(text, options)
        assert not cell.error, cell.error
        return cell.lines

    def manifest(self, text: str) -> dict[str, str]:
        """Return name → how and why, as `--dry-run` shows it."""
        planned = self.train(text, "--dry-run")
        assert not planned.error, planned.error
        lines = planned.result.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("NAME"))
        rows = [line.split(maxsplit=1) for line in lines[start + 1 :] if line[:1].strip()]
        return {name: " ".join(rest.split()) for name, rest in rows}


@pytest.fixture(scope="package")
def travel_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give one home to all tests of the folder."""
    with home_at(tmp_path_factory.mktemp("travel") / "home") as home:
        yield home


@pytest.fixture(scope="package")
def travel_kernels(
    travel_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernels]:
    """Start kernels on that home that live as long as it."""
    assert travel_home
    kernels = Kernels(tmp_path_factory.mktemp("notebooks"))
    with contextlib.closing(kernels):
        yield kernels


@pytest.fixture(scope="package")
def travel_kernel(travel_kernels: Kernels) -> Kernel:
    """Start the one kernel of most tests."""
    return travel_kernels.start()


@pytest.fixture
def book(travel_kernel: Kernel) -> Traveller:
    """Give the notebook with nothing defined in it."""
    travel_kernel.run("%reset -f")
    return Traveller(travel_kernel)
