"""The bound that prices prove, once more and by other means: nothing here is used to find it.

`evaluation` fills devices by a recursion over capacities and asks three maxima whether a task fits;
this file squares in the max-plus algebra and asks the nodes. What both share is the theorem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.objectives import weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jupyter_aios.allocation.certificate import Certificate
    from jupyter_aios.allocation.problem import Bools, Ints, Problem

_ROWS = 4096
"""Tasks that are compared with nodes at a time."""
_WHOLE = 1000
"""Milli of a whole device."""


def prove(certificate: Certificate, problem: Problem) -> int:
    """Return the bound that a certificate's prices prove for a problem."""
    nodes, tasks = problem.nodes, problem.tasks
    weight = [int(w) for w in weights(problem, certificate.objective)]
    if not len(nodes):
        return 0
    vector = np.array(_vectors(certificate, problem), np.int64)
    worth = _nodes_worth(certificate, problem, vector) + _quotas_worth(certificate, problem)
    least = _least(certificate, problem, vector)
    quota = _quotas_paid(certificate, problem)
    total, possible = worth, 0
    gangs: dict[int, list[int]] = {}
    for i, gang in enumerate(tasks.gang.tolist()):
        gangs.setdefault(gang if gang >= 0 else -2 - i, []).append(i)
    for members in gangs.values():
        is_held = any(tasks.must_be_placed[i] for i in members)
        if all(least[i] is not None for i in members) or is_held:
            gain = sum(weight[i] * certificate.scale - quota[i] - (least[i] or 0)
                       for i in members if least[i] is not None)  # fmt: skip
            total += gain if is_held else max(gain, 0)
            possible += sum(weight[i] for i in members)
    proven = min(max(total, 0) // certificate.scale, possible)
    common = int(np.gcd.reduce(np.array(weight, np.int64))) if weight else 0
    return proven - proven % common if common else 0


# ------------------------------------------------------------------------------------------ worth


def _vectors(certificate: Certificate, problem: Problem) -> list[int]:
    """Any choice is valid; of one that a node's name does not make, take the cheapest."""
    nodes = problem.nodes
    found = []
    for j, name in enumerate(nodes.names):
        vector = certificate.vectors.get(name)
        if vector is None:
            model = nodes.model_names[nodes.models[j]] if nodes.models[j] >= 0 else ""
            among = certificate.vectors_of_model.get(model, ()) or range(len(certificate.prices))
            only = np.array([j])
            vector = min(
                among,
                key=lambda v, only=only: _nodes_worth(certificate, problem, np.array([v]), only),
            )
        found.append(vector)
    return found


def closure(prices: Ints) -> Ints:
    """Return the most that any multiset of items pays within each capacity (K × capacities).

    `prices[:, s]` is the price of one item of size s. A set of items is split into two halves over
    and over, so squaring in the max-plus algebra as often as a capacity can be halved is enough.
    """
    best = np.maximum.accumulate(prices, axis=1)
    best[:, 0] = 0
    size = best.shape[1]
    while True:
        longer = best.copy()
        for part in range(1, size):
            # The other half is the smaller one, or the same sums would be looked at twice.
            of_other = min(part, size - 1 - part)
            if of_other > 0:
                reach = slice(part + 1, part + of_other + 1)
                np.maximum(
                    longer[:, reach], best[:, part, None] + best[:, 1 : of_other + 1],
                    out=longer[:, reach],
                )  # fmt: skip
        longer = np.maximum.accumulate(longer, axis=1)
        if (longer == best).all():
            return longer
        best = longer


def _nodes_worth(
    certificate: Certificate, problem: Problem, vector: Ints, only: Ints | None = None
) -> int:
    free = problem.nodes.free if only is None else problem.nodes.free[only]
    devices = problem.nodes.devices if only is None else problem.nodes.devices[only]
    device, node = _fillings(certificate)
    total = 0
    for v in set(vector.tolist()):
        mine = vector == v
        for column, unit in enumerate(certificate.units):
            amount = sum(max(x, 0) // unit for x in free[mine, column].tolist())
            total += amount * int(certificate.prices[v, column])
        milli, count = np.unique(devices[mine], return_counts=True)
        for f, times in zip(milli.tolist(), count.tolist(), strict=True):
            total += int(device[v, f]) * times if 0 < f < device.shape[1] - 1 else 0
        whole, count = np.unique((devices[mine] >= _WHOLE).sum(axis=1), return_counts=True)
        for k, times in zip(whole.tolist(), count.tolist(), strict=True):
            total += int(node[v, k]) * times
    return total


def _fillings(certificate: Certificate) -> tuple[Ints, Ints]:
    """The most that a device and a set of whole devices can bring, of every vector."""
    kept: tuple[Ints, Ints] | None = getattr(certificate, "_proven_fillings", None)
    if kept is None:
        none = np.zeros((len(certificate.shares), 1), np.int64)
        device = closure(np.hstack([certificate.shares, none]))
        items = certificate.wholes.copy()
        items[:, 1] = np.maximum(items[:, 1], device[:, -1])
        kept = device, closure(items)
        object.__setattr__(certificate, "_proven_fillings", kept)
    return kept


def _quotas_worth(certificate: Certificate, problem: Problem) -> int:
    total = 0
    for quota in problem.quotas:
        if quota.name in certificate.quota_prices:
            for column, price in enumerate(certificate.quota_prices[quota.name]):
                limit = quota.limits[column]
                if limit is not None:
                    total += limit // certificate.quota_units[column] * price
    return total


# -------------------------------------------------------------------------------------------- pay


def _quotas_paid(certificate: Certificate, problem: Problem) -> list[int]:
    """What each task pays to its quotas; a quota without a limit costs nothing."""
    tasks = problem.tasks
    paid = [0] * len(tasks)
    amounts = tasks.consumption // np.array(certificate.quota_units)
    for number, quota in enumerate(problem.quotas):
        prices = certificate.quota_prices.get(quota.name)
        if prices is None or not any(prices):
            continue
        bound = [c for c in range(len(prices)) if quota.limits[c] is not None and prices[c]]
        for i in np.flatnonzero((tasks.quotas == number).any(axis=1)).tolist():
            paid[i] += sum(prices[c] * int(amounts[i, c]) for c in bound)
    return paid


def _least(certificate: Certificate, problem: Problem, vector: Ints) -> list[int | None]:
    """The least that each task pays to a node; None where it fits on none."""
    tasks = problem.tasks
    least: list[int | None] = [None] * len(tasks)
    stays = tasks.is_in_force & ~tasks.is_movable
    for v in np.unique(vector).tolist():
        pay = _pay(certificate, problem, v)
        for zone in np.unique(tasks.zone).tolist():
            nodes = np.flatnonzero(problem.zones[zone] & (vector == v))
            those = np.flatnonzero((tasks.zone == zone) & ~stays)
            if len(nodes) and len(those):
                fitting = those[_fit_on_one(problem, those, nodes)]
                _note(least, fitting.tolist(), pay)
        here = np.flatnonzero(tasks.is_in_force)
        _note(least, here[vector[tasks.current[here]] == v].tolist(), pay)
    return least


def _note(least: list[int | None], tasks: list[int], pay: NDArray[np.object_]) -> None:
    for i in tasks:
        before = least[i]
        if before is None or pay[i] < before:
            least[i] = pay[i]


def _pay(certificate: Certificate, problem: Problem, v: int) -> NDArray[np.object_]:
    """What each task pays by one vector, in integers without limits."""
    tasks = problem.tasks
    share = np.zeros(len(tasks), np.int64)
    parts = (tasks.gpus == 1) & (tasks.milli < _WHOLE)
    share[parts] = certificate.shares[v, tasks.milli[parts]]
    whole = (tasks.gpus > 0) & ~parts
    share[whole] = certificate.wholes[v, tasks.gpus[whole]]
    paid = share.astype(object)
    for column, unit in enumerate(certificate.units):
        price = int(certificate.prices[v, column])
        if price:
            paid = paid + (tasks.demand[:, column] // unit).astype(object) * price
    return np.asarray(paid, object)


def _fit_on_one(problem: Problem, tasks: Ints, nodes: Ints) -> Bools:
    """Whether each task fits on one of the nodes when it is empty."""
    front = _largest(problem, nodes)
    has = problem.nodes.devices[front]
    whole = (has >= _WHOLE).sum(axis=1)
    most = has.max(axis=1, initial=-1)
    fits = np.zeros(len(tasks), bool)
    for at in range(0, len(tasks), _ROWS):
        some = tasks[at : at + _ROWS]
        gpus, milli = problem.tasks.gpus[some, None], problem.tasks.milli[some, None]
        ok = np.where(milli < _WHOLE, most >= milli, whole >= gpus) | (gpus == 0)
        for column in range(3):
            ok &= problem.nodes.free[front, column] >= problem.tasks.demand[some, column, None]
        fits[at : at + _ROWS] = ok.any(axis=1)
    return fits


def _largest(problem: Problem, nodes: Ints) -> Ints:
    """The nodes that no other exceeds in everything: a task that fits fits on one of these."""
    devices = problem.nodes.devices[nodes]
    whole = (devices >= _WHOLE).sum(axis=1)
    most = devices.max(axis=1, initial=-1)
    size = np.column_stack([problem.nodes.free[nodes], whole, most])
    size, first = np.unique(size, axis=0, return_index=True)
    kept: list[int] = []
    for at in range(len(size) - 1, -1, -1):
        # Sorted ascending: only one that comes later can be as large in everything.
        if not (size[kept] >= size[at]).all(axis=1).any():
            kept.append(at)
    return nodes[first[kept]]
