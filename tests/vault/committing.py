"""Opens a vault, sets one secret and closes it, again and again, beside others that do the same.

`python -m tests.vault.committing FOLDER NAME COMMITS`
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.errors import StateError
from tests.vault.safes import put, reopen

if TYPE_CHECKING:
    from jupyter_aios.vault import Vault


def open_in_turn(folder: Path) -> Vault:
    """Return the vault when nobody else has it."""
    while (vault := open_if_free(folder)) is None:
        # Wait for its lock as long as that takes; another one may be faster again.
        descriptor = os.open(folder / "vault.lock", os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.close(descriptor)
    return vault


def open_if_free(folder: Path) -> Vault | None:
    """Return the vault, or None while another process has it."""
    try:
        return reopen(folder)
    except StateError:
        return None


def main() -> None:
    """Commit as the command line says."""
    folder, name, commits = sys.argv[1:]
    for number in range(int(commits)):
        vault = open_in_turn(Path(folder))
        put(vault, name, str(number))
        vault.close()


if __name__ == "__main__":
    main()
