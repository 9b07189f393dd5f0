"""A notebook for tests: an IPython shell in this process, and a rank in another one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_aios.core.wire import to_plain
from jupyter_aios.training.journal import write_json

if TYPE_CHECKING:
    from jupyter_aios.training.packing.bundle import Packed

ROOT = Path(__file__).parents[1]
_RANK = """
import json, sys
from pathlib import Path
from jupyter_aios.core.entities import Code
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training import loading
folder = Path(sys.argv[1])
code = from_plain(Code, json.loads((folder / "code.json").read_text()))
try:
    returned = loading.run(code, folder, loading.make_main())
except BaseException as error:
    print(loading.format_error(error, code, folder), file=sys.stderr)
    sys.exit(1)
if code.function:
    print("returned", repr(returned))
"""


@dataclass
class Notebook:
    """Cells run here as they do in a kernel."""

    shell: InteractiveShell
    folder: Path

    @property
    def names(self) -> dict[str, Any]:
        """The notebook's globals."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def run(self, *cells: str) -> Any:
        """Run cells; return the last one's value."""
        result = None
        for cell in cells:
            done = self.shell.run_cell(cell, store_history=True)
            done.raise_error()
            result = done.result
        return result


def run_rank(packed: Packed, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run packed code as a rank does, in a fresh process."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "values").mkdir(exist_ok=True)
    for file in packed.code.files:
        (folder / "code" / file.path).write_bytes(packed.blobs[file.blob])
    for blob, data in packed.blobs.items():
        (folder / "values" / blob).write_bytes(data)
    write_json(folder / "code.json", to_plain(packed.code))
    return subprocess.run(
        [sys.executable, "-c", _RANK, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )


def output_of(packed: Packed, folder: Path) -> str:
    """Return what packed code prints as a rank; it has to succeed."""
    done = run_rank(packed, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
