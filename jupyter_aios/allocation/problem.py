"""An allocation problem: one gang, the nodes, and what others hold on them."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_aios.core.entities import Node, Placement, Resources
from jupyter_aios.core.units import MILLI


@dataclass(frozen=True)
class Gang:
    """Tasks that are placed all or none, each on a node of its own.

    `demand` is per task. Its GPUs are a whole number, or a share of a single one.
    """

    tasks: int
    demand: Resources

    @property
    def device_count(self) -> int:
        """How many devices each task touches."""
        return -(-self.demand.gpu_milli // MILLI)

    @property
    def milli_per_device(self) -> int:
        """How much of each of its devices a task takes."""
        return min(self.demand.gpu_milli, MILLI)


@dataclass(frozen=True)
class Claim:
    """A placement that is in force, and what it holds."""

    placement: Placement
    demand: Resources


@dataclass(frozen=True)
class Problem:
    """Place `gang` on `nodes` beside what is `taken`."""

    gang: Gang
    nodes: tuple[Node, ...]
    taken: tuple[Claim, ...] = ()
