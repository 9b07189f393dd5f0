"""The version: one number, read by the build, the package and both ends of the socket.

It stands here because every room may import core, while the package itself offers the names of
rooms above them.
"""

from __future__ import annotations

__version__ = "0.1.0"
