"""What rungs propose, and the allocator hands around: a node and devices for each task."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_aios.allocation.problem import Ints


@dataclass(frozen=True, eq=False)
class Placed:
    """Who is where; nobody has checked it yet."""

    assignment: Ints
    """n: the node of each task, -1 for none."""
    devices: Ints
    """n: its devices there, as bits."""
