"""Policies that place one task after the other: never the best answer, always an answer."""

from __future__ import annotations

from jupyter_aios.allocation.greedy.ordering import place_in_order, sorted_greedy
from jupyter_aios.allocation.greedy.policies import POLICIES

__all__ = ["POLICIES", "place_in_order", "sorted_greedy"]
