"""The local engine keeps every promise of the port, under both launchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import Launcher
from jupyter_aios.engines.local import LocalEngine
from jupyter_aios.testing.engine_contract import EngineContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_aios.core.ports import BlobStore


class LocalContract(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, home: Path, blobs: BlobStore) -> Iterator[LocalEngine]:
        engine = LocalEngine(home, blobs)
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    @classmethod
    def reopened(cls, home: Path, blobs: BlobStore, engine: LocalEngine) -> Iterator[LocalEngine]:
        assert engine.name == "local"
        other = LocalEngine(home, blobs)
        yield other
        other.close()


@pytest.mark.xdist_group("local-warm")
class TestWarm(LocalContract):
    launcher = Launcher.WARM


@pytest.mark.xdist_group("local-torchrun")
class TestTorchrun(LocalContract):
    launcher = Launcher.TORCHRUN


del LocalContract, EngineContract
