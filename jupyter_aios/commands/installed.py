"""The versions of an interpreter's packages, without importing any of them.

Also a program for any Python that is to be asked: `PYTHON installed.py NAME…` prints them as JSON.
"""

from __future__ import annotations

import contextlib
import json
import platform
import sys


def installed(names: list[str]) -> dict[str, str]:
    """Return {distribution: version} of those that are installed, and the version of python."""
    # 15 ms for whoever has no other use for it.
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(installed(sys.argv[1:])))
