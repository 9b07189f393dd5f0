"""Placing tasks as they come: a gang for the queue, a placer that follows a cluster, and moves."""

from __future__ import annotations

from jupyter_aios.allocation.online.gang import place_gang
from jupyter_aios.allocation.online.placer import Admission, Place, Placer
from jupyter_aios.allocation.online.reallocation import reallocate

__all__ = ["Admission", "Place", "Placer", "place_gang", "reallocate"]
