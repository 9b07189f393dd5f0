"""How the allocator starts a process of its own: the same for every one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def start(module: str, **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401 - Popen's own
    """Start `python -m module` with pipes to it and from it; `options` are Popen's."""
    # It belongs to no home and no job, so nothing that sweeps their leftovers ends it.
    env = {key: value for key, value in os.environ.items() if not key.startswith("AIOS_")}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Not the user's folder, where a random.py may lie: `-m` imports from there first.
        cwd=Path(__file__).parents[2],
        env=env | {"OMP_NUM_THREADS": "1"},
        # An interrupt of the notebook is the parent's to handle.
        start_new_session=True,
        **options,
    )
