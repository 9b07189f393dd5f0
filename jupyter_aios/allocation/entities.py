"""The system's nodes and amounts as the allocator's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import NO, USUAL_MODEL, Nodes
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.core.entities import Node, Resources


def amount_of(amount: Resources) -> tuple[int, int, int]:
    """Return CPU, memory and disk, the columns of a demand or a capacity."""
    return amount.cpu_milli, amount.memory_bytes, amount.disk_bytes


def nodes_of_cluster(nodes: Sequence[Node]) -> Nodes:
    """Return the nodes, empty, in the order in which they come; there may be none."""
    capacity = np.array([amount_of(node.capacity) for node in nodes], np.int64).reshape(-1, 3)
    most = max((len(node.devices) for node in nodes), default=0)
    slots = np.arange(most)[None, :]
    has = np.array([len(node.devices) for node in nodes], np.int64)[:, None]
    models = ["+".join(sorted({one.model or USUAL_MODEL for one in n.devices})) for n in nodes]
    known = list(dict.fromkeys(model for model in models if model))
    return Nodes(
        names=[str(node.id) for node in nodes],
        free=capacity.copy(),
        devices=np.where(slots < has, MILLI, NO).astype(np.int64),
        capacity=capacity,
        models=np.array([known.index(model) if model else NO for model in models], np.int64),
        model_names=tuple(known),
        labels=tuple(_labels(node) for node in nodes),
        is_drained=np.array([node.is_drained for node in nodes], bool),
    )


def _labels(node: Node) -> tuple[tuple[str, str], ...]:
    found = [("engine", node.engine), ("machine", node.machine)]
    return tuple(found + [("virtual", "true")] * node.is_virtual)
