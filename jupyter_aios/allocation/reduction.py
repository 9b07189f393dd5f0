"""The part of a problem that is open: tasks that may neither move nor stop become less capacity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, QUOTA_COLUMNS, Ints, Problem, Quota

if TYPE_CHECKING:
    from jupyter_aios.allocation.problem import Bools, Tasks


@dataclass(frozen=True, eq=False)
class Reduction:
    """`whole` without its pinned tasks; `kept` are the indexes of those that are left."""

    whole: Problem
    problem: Problem
    kept: Ints

    def expand(self, placed: Placed) -> Placed:
        """Return a placement of the whole problem: the pinned tasks are where they were."""
        tasks = self.whole.tasks
        assignment, devices = tasks.current.copy(), tasks.current_devices.copy()
        assignment[self.kept] = placed.assignment
        devices[self.kept] = placed.devices
        return Placed(assignment, devices)

    def restrict(self, placed: Placed) -> Placed:
        """Return the open part of a placement of the whole problem."""
        return Placed(placed.assignment[self.kept], placed.devices[self.kept])


def pinned(tasks: Tasks) -> Bools:
    """Return which tasks stay where they are whatever happens (n)."""
    fixed: Bools = tasks.is_in_force & ~tasks.is_movable & ~tasks.is_preemptible
    return fixed


def reduce(problem: Problem) -> Reduction:
    """Return the problem without its pinned tasks; what they hold is free no more."""
    fixed = pinned(problem.tasks)
    if not fixed.any():
        return Reduction(problem, problem, np.arange(len(problem.tasks)))
    tasks, nodes = problem.tasks, problem.nodes
    held = np.flatnonzero(fixed)
    free, devices = nodes.free.copy(), nodes.devices.copy()
    np.subtract.at(free, tasks.current[held], tasks.demand[held])
    for device in range(devices.shape[1]):
        on = held[(tasks.current_devices[held] >> device & 1).astype(bool)]
        np.subtract.at(devices[:, device], tasks.current[on], tasks.milli[on])
    kept = np.flatnonzero(~fixed)
    zoned = _zoned(problem, held, kept)
    open_part = replace(
        zoned,
        nodes=replace(nodes, free=free, devices=devices),
        quotas=quotas_left(problem, held),
    ).keep(kept)
    return Reduction(problem, _without_stopping_gangs_of(open_part, problem, held), kept)


def quotas_left(problem: Problem, held: Ints) -> tuple[Quota, ...]:
    """Return what these tasks (indexes) leave of the quotas."""
    left = []
    for number, quota in enumerate(problem.quotas):
        counts = held[(problem.tasks.quotas[held] == number).any(axis=1)]
        used = problem.tasks.consumption[counts].sum(axis=0)
        limits = {
            column: None if limit is None else max(limit - int(amount), 0)
            for column, limit, amount in zip(QUOTA_COLUMNS, quota.limits, used, strict=True)
        }
        left.append(Quota(quota.name, **limits))
    return tuple(left)


def _zoned(problem: Problem, held: Ints, kept: Ints) -> Problem:
    """Put what pinned tasks keep others from (apart) or draw them to (together) into zones."""
    tasks = problem.tasks
    zones, names = list(problem.zones), list(problem.zone_names)
    zone = tasks.zone.copy()
    known: dict[tuple[int, int, int], int] = {}
    concerned = np.zeros(len(tasks), bool)
    for tags in (tasks.apart, tasks.together):
        concerned |= np.isin(tags, tags[held][tags[held] != NO])
    for i in kept[concerned[kept]]:
        key = (int(tasks.zone[i]), int(tasks.apart[i]), int(tasks.together[i]))
        if key not in known:
            allowed = zones[key[0]].copy()
            if key[1] != NO:
                allowed[tasks.current[held[tasks.apart[held] == key[1]]]] = False
            mates = held[tasks.together[held] == key[2]] if key[2] != NO else held[:0]
            if len(mates):
                domains = problem.domains[problem.together_domain[key[2]]]
                allowed &= (domains == domains[tasks.current[mates[0]]]) & (domains >= 0)
            known[key] = len(zones)
            zones.append(allowed)
            names.append(names[key[0]])
        zone[i] = known[key]
    return replace(
        problem, zones=np.array(zones), zone_names=tuple(names), tasks=replace(tasks, zone=zone)
    )


def _without_stopping_gangs_of(open_part: Problem, whole: Problem, held: Ints) -> Problem:
    """A gang with a pinned task cannot be stopped: none of its tasks can."""
    gangs = whole.tasks.gang[held]
    tasks = open_part.tasks
    stays = np.isin(tasks.gang, gangs[gangs != NO])
    if not stays.any():
        return open_part
    # The pinned ones are gone, so the gang is one of the tasks that are left.
    return replace(open_part, tasks=replace(tasks, is_preemptible=tasks.is_preemptible & ~stays))
