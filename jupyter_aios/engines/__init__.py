"""Engines by name: how agents reach a machine.

They are loaded by name, so that nobody pays for the engines that are not used, and none of them
knows another. Each is a class made of (home, blobs) that implements `core.ports.Engine`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from jupyter_aios.errors import UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.core.ports import BlobStore, Engine

MODULES = {
    "local": ("jupyter_aios.engines.local", "LocalEngine"),
}


def load(name: str, home: Path, blobs: BlobStore) -> Engine:
    """Return the engine of this name, working below `home`.

    Raises:
        UnknownNameError: there is no such engine.

    """
    if name not in MODULES:
        raise UnknownNameError.among("engine", name, MODULES)
    module, cls = MODULES[name]
    engine: Engine = getattr(importlib.import_module(module), cls)(home, blobs)
    return engine
