"""Where the controller keeps its things: paths, from an environment that the caller hands in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCK_FILE = "controller.lock"
"""Held by the living controller; its JSON says who that is and where its socket lies."""
START_LOCK_FILE = "start.lock"
"""Held by whoever is starting a controller, so that twenty starters start one."""
LOG_FILE = "controller.log"
SOCKET_FILE = "ctl.sock"

MAX_SOCKET_PATH_BYTES = 100
"""The kernel's limit is 107 on Linux and 103 on macOS."""


def home_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of store, blobs and jobs: AIOS_HOME, or the place for a user's data.

    Raises:
        InputError: AIOS_HOME is relative, or nothing says where the user's home is.

    Example:
        >>> home_folder({"HOME": "/home/ada"}).as_posix()
        '/home/ada/.local/share/jupyter_aios'

    """
    user_home = environ.get("HOME", "")
    for variable, below in (("AIOS_HOME", ""), ("XDG_DATA_HOME", "jupyter_aios")):
        value = environ.get(variable, "")
        if value.startswith("~/") and user_home:
            value = user_home + value[1:]
        if value.startswith("/"):
            return Path(value) / below
        if value and variable == "AIOS_HOME":
            # A relative one would mean another home in every working directory.
            msg = f"AIOS_HOME is {value!r}, which is not an absolute path"
            raise InputError(msg, hint=f"export AIOS_HOME=$PWD/{value}")
    if not user_home:
        msg = "neither AIOS_HOME nor HOME says where to keep jobs"
        raise InputError(msg, hint="export AIOS_HOME=/a/folder/of/yours")
    return Path(user_home) / ".local" / "share" / "jupyter_aios"


def socket_candidates(home: Path, environ: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Return where the socket may lie, best first; a Unix socket's path must be short.

    The hash keeps the sockets of several homes apart.

    Example:
        >>> [path.as_posix() for path in socket_candidates(Path("/home/ada"), {}, 1000)]
        ['/tmp/aios-1000/cf2d52428457/ctl.sock']

    """
    name = hashlib.sha256(str(home).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    folders = [Path(runtime) / "jupyter_aios"] if runtime.startswith("/") else []
    folders.append(Path("/tmp") / f"aios-{uid}")  # noqa: S108 - checked before it is used
    paths = [folder / name / SOCKET_FILE for folder in folders]
    return tuple(path for path in paths if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES)
