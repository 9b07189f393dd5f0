"""Who is at the other end of the controller's socket, for both ends of it."""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Protocol

from jupyter_aios.core.home import LOCK_FILE

if TYPE_CHECKING:
    from pathlib import Path

_UCRED = struct.Struct("3i")
"""Linux, man 7 unix: pid, uid, gid."""
_XUCRED = struct.Struct("IIh16I")
"""macOS, sys/ucred.h: version, uid, number of groups, groups."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


class _Socket(Protocol):
    """A socket, or what an event loop gives out instead of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return an option as bytes."""


def peer_uid(connection: _Socket) -> int:
    """Return the user id of the process at the other end; the operating system vouches for it.

    Raises:
        OSError: not a connected Unix socket.

    """
    if sys.platform == "linux":
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(data)[1])
    data = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
    return int(_XUCRED.unpack(data)[1])


def read_lock(home: Path) -> dict[str, Any]:
    """Return what the controller wrote into its lock, whether it still lives or not.

    Host, boot id, pid, version, socket; empty where nobody did.
    """
    try:
        facts = json.loads((home / LOCK_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
