"""Tasks that are to be together: each group gets its node, or its domain of nodes, first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.columns.room import Room
    from jupyter_aios.allocation.problem import Bools, Ints


def place_bundles(room: Room, units: Sequence[Sequence[int]]) -> None:
    """Place groups that belong on one node; narrow the zones of those that share a larger domain.

    A domain is chosen by what it has left beside the groups that chose it before; whether its tasks
    are placed then is for the columns to say.
    """
    tasks, problem = room.problem.tasks, room.problem
    groups: dict[int, list[Sequence[int]]] = {}
    for unit in units:
        tags = {int(tasks.together[task]) for task in unit}
        for tag in tags - {-1}:
            groups.setdefault(tag, []).append(unit)
    if not groups:
        return
    room.zone = room.zone.copy()
    asked = np.zeros((len(room.free), 4))
    for tag, group in groups.items():
        members = np.array([t for unit in group for t in unit if tasks.together[t] == tag])
        members = members[room.node[members] < 0]
        if not len(members):
            continue
        domains = problem.domains[problem.together_domain[tag]]
        fixed = room.domain_of(tag)
        at = _domain(room, members, domains, asked) if fixed is None else fixed
        # Where no domain is possible, nowhere: a group in force can still stay.
        inside = (domains == at) & (domains >= 0)
        room.narrow(members, inside)
        if inside.sum() > 1:
            asked[inside] += _needs(room, members) / inside.sum()
        elif len(members) > 1:
            for unit in group:
                if (room.node[list(unit)] < 0).all():
                    room.put_unit(unit)


def _needs(room: Room, members: Ints) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    tasks = room.problem.tasks
    return np.append(tasks.demand[members].sum(axis=0), tasks.gpu_milli[members].sum()).astype(
        float
    )


def _domain(room: Room, members: Ints, domains: Ints, asked: object) -> int:
    """Return the domain that holds the most of a group, the tightest of those that hold all."""
    tasks = room.problem.tasks
    allowed: Bools = room.zones[room.zone[members]].all(axis=0) & (domains >= 0)
    if not allowed.any():
        allowed = room.zones[room.zone[members]].any(axis=0) & (domains >= 0)
    if not allowed.any():
        return -1
    whole = np.where(room.devices >= MILLI, room.devices, 0).sum(axis=1)
    has_share = tasks.is_share[members].any()
    gpu = np.maximum(room.devices, 0).sum(axis=1) if has_share else whole
    has = np.column_stack([room.free, gpu]) - np.asarray(asked)
    count = int(domains.max()) + 1
    total = np.zeros((count, 4))
    np.add.at(total, domains[allowed], np.maximum(has[allowed], 0))
    needs = _needs(room, members)
    share = np.where(needs > 0, total / np.maximum(needs, 1), np.inf).min(axis=1)
    share[np.bincount(domains[allowed], minlength=count) == 0] = -1.0
    if (share >= 1).any():
        return int(np.where(share >= 1, share, np.inf).argmin())
    return int(share.argmax())
