"""What the nodes still have while tasks are placed: every rule of the problem, kept as it goes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, bits_of
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jupyter_aios.allocation.problem import Bools, Ints, Problem


class Room:
    """A partial allocation, and what it leaves free. What was put in obeys every rule but gangs."""

    def __init__(self, problem: Problem) -> None:
        tasks, nodes = problem.tasks, problem.nodes
        self.problem = problem
        self.free = nodes.free.copy()
        self.devices = nodes.devices.copy()
        self.quotas_left = problem.quota_limits.copy()
        self.node = np.full(len(tasks), NO, np.int64)
        self.bits = np.zeros(len(tasks), np.int64)
        self.zones = problem.zones
        """Rows of nodes; those of the problem first, narrower ones after them."""
        self.zone = tasks.zone
        """n: rows of `zones`."""
        self.quotas_of = [
            sorted({q for q in pair if q >= 0}) for pair in tasks.quotas.tolist()
        ] if len(problem.quotas) else None  # fmt: skip
        self._apart: dict[tuple[int, int], int] = {}
        """(number of `apart`, node) → the task that is there."""
        self._together: dict[int, list[int]] = {}
        """Number of `together` → the placed tasks."""

    def copy(self) -> Room:
        """Return a room of its own with the same content."""
        other = object.__new__(Room)
        other.__dict__ = dict(self.__dict__)
        for name in ("free", "devices", "quotas_left", "node", "bits"):
            setattr(other, name, getattr(self, name).copy())
        other._apart = dict(self._apart)
        other._together = {tag: list(content) for tag, content in self._together.items()}
        return other

    def become(self, other: Room) -> None:
        """Take the content of another room, which is not to be used any more."""
        self.__dict__ = other.__dict__

    def placed(self) -> Placed:
        """Return the allocation."""
        return Placed(self.node.copy(), self.bits.copy())

    def put(self, task: int, node: int, bits: int) -> None:
        """Place a task; whoever asks has made sure that it fits."""
        self._change(task, node, bits, 1)
        self.node[task], self.bits[task] = node, bits

    def take(self, task: int) -> None:
        """Take a placed task out."""
        self._change(task, int(self.node[task]), int(self.bits[task]), -1)
        self.node[task], self.bits[task] = NO, 0

    def _change(self, task: int, node: int, bits: int, sign: int) -> None:
        tasks = self.problem.tasks
        self.free[node] -= sign * tasks.demand[task]
        milli = sign * int(tasks.milli[task])
        device = 0
        while bits >> device:
            if bits >> device & 1:
                self.devices[node, device] -= milli
            device += 1
        if self.quotas_of is not None and self.quotas_of[task]:
            self.quotas_left[self.quotas_of[task]] -= sign * tasks.consumption[task]
        apart, together = int(tasks.apart[task]), int(tasks.together[task])
        if apart >= 0:
            if sign > 0:
                self._apart[apart, node] = task
            else:
                self._apart.pop((apart, node))
        if together >= 0:
            group = self._together.setdefault(together, [])
            if sign > 0:
                group.append(task)
            else:
                group.remove(task)

    def put_many(self, who: Ints, node: Ints, bits: Ints) -> None:
        """Place many tasks at once, which fit together."""
        tasks = self.problem.tasks
        special = (tasks.apart[who] >= 0) | (tasks.together[who] >= 0)
        if self.quotas_of is not None:
            special |= (tasks.quotas[who] >= 0).any(axis=1)
        for task, at, on in zip(
            who[special].tolist(), node[special].tolist(), bits[special].tolist(), strict=True
        ):
            self.put(task, at, on)
        who, node, bits = who[~special], node[~special], bits[~special]
        np.subtract.at(self.free, node, tasks.demand[who])
        for device in range(self.devices.shape[1]):
            uses = (bits >> device & 1).astype(bool)
            np.subtract.at(self.devices[:, device], node[uses], tasks.milli[who[uses]])
        self.node[who], self.bits[who] = node, bits

    def may_enter(self, task: int) -> bool:
        """True where no quota forbids the task."""
        if self.quotas_of is None or not self.quotas_of[task]:
            return True
        left = self.quotas_left[self.quotas_of[task]]
        return bool((left >= self.problem.tasks.consumption[task]).all())

    def holders(self, task: int) -> Bools:
        """Return which nodes (m) could take a task that waits."""
        tasks = self.problem.tasks
        fits: Bools = self.zones[self.zone[task]].copy()
        at = int(tasks.current[task])
        if at >= 0:
            # It may stay even where nothing new may go; what may not move goes nowhere else.
            fits[at] = True
            if not tasks.is_movable[task]:
                fits[:] = False
                fits[at] = self._is_free(at, int(tasks.current_devices[task]), task)
        fits &= (self.free >= tasks.demand[task]).all(axis=1)
        if gpus := int(tasks.gpus[task]):
            fits &= (self.devices >= tasks.milli[task]).sum(axis=1) >= gpus
        if (apart := int(tasks.apart[task])) >= 0:
            fits[[node for tag, node in self._apart if tag == apart]] = False
        if (together := int(tasks.together[task])) >= 0:
            domains = self.problem.domains[self.problem.together_domain[together]]
            fits &= domains >= 0
            if others := self._together.get(together):
                fits &= domains == domains[self.node[others[0]]]
        return fits

    def may_join(self, task: int, node: int) -> bool:
        """True where those who are on a node or elsewhere already do not mind the task there."""
        tasks = self.problem.tasks
        if (int(tasks.apart[task]), node) in self._apart:
            return False
        together = int(tasks.together[task])
        others = self._together.get(together) if together >= 0 else None
        if not others:
            return True
        domains = self.problem.domains[self.problem.together_domain[together]]
        return bool(domains[node] == domains[self.node[others[0]]])

    def _is_free(self, node: int, bits: int, task: int) -> bool:
        devices = self.devices[node]
        milli = self.problem.tasks.milli[task]
        return all(devices[d] >= milli for d in range(len(devices)) if bits >> d & 1)

    def devices_for(self, task: int, node: int) -> int:
        """Return devices of a node that can take the task: its own before, else the fullest."""
        tasks = self.problem.tasks
        if not tasks.gpus[task]:
            return 0
        if tasks.current[task] == node and self._is_free(
            node, int(tasks.current_devices[task]), task
        ):
            return int(tasks.current_devices[task])
        has = self.devices[node]
        fits = np.flatnonzero(has >= tasks.milli[task])
        if tasks.milli[task] < MILLI:
            return 1 << int(fits[has[fits].argmin()])
        return bits_of(fits[: int(tasks.gpus[task])].tolist())

    def domain_of(self, together: int) -> int | None:
        """Return the domain where a group is already; None while none of it is placed."""
        others = self._together.get(together)
        if not others:
            return None
        domains = self.problem.domains[self.problem.together_domain[together]]
        return int(domains[self.node[others[0]]])

    def narrow(self, members: Ints, inside: Bools) -> None:
        """Allow tasks only nodes that are `inside` from now on."""
        zone = self.zone.copy()
        for old in np.unique(zone[members]).tolist():
            row = self.zones[old] & inside
            same = np.flatnonzero((self.zones == row).all(axis=1))
            if not len(same):
                self.zones = np.concatenate([self.zones, row[None]])
            zone[members[zone[members] == old]] = same[0] if len(same) else len(self.zones) - 1
        self.zone = zone
        self.__dict__.pop("likeness", None)

    @cached_property
    def likeness(self) -> Ints:
        """A number for each task (n), equal for tasks that fit the same places."""
        tasks = self.problem.tasks
        keys = np.column_stack(
            [
                tasks.demand, tasks.gpus, tasks.milli, self.zone, tasks.apart, tasks.together,
                tasks.quotas, tasks.current, tasks.current_devices, tasks.is_movable,
            ]
        )  # fmt: skip
        number: Ints = np.unique(keys, axis=0, return_inverse=True)[1].ravel().astype(np.int64)
        return number

    def put_unit(self, unit: Sequence[int]) -> bool:
        """Place tasks all or none, each where it fits best; True where it was done."""
        done: list[int] = []
        for task in unit:
            node = self.best_node(task) if self.may_enter(task) else NO
            if node == NO:
                for other in done:
                    self.take(other)
                return False
            self.put(task, node, self.devices_for(task, node))
            done.append(task)
        return True

    def best_node(self, task: int) -> int:
        """Return the node with the least left over that may take the task; its own one first."""
        fits = self.holders(task)
        at = int(self.problem.tasks.current[task])
        if at >= 0 and fits[at]:
            return at
        nodes = np.flatnonzero(fits)
        if not len(nodes):
            return NO
        return int(nodes[self._looseness(task, nodes).argmin()])

    def _looseness(self, task: int, nodes: Ints) -> NDArray[np.float64]:
        """Return how much a task leaves over on each node, in shares of the largest node."""
        free, has = self.free[nodes], self.devices[nodes]
        most = np.maximum(self.problem.nodes.free.max(axis=0), 1)
        left: NDArray[np.float64] = (free[:, :2] / most[:2]).sum(axis=1)
        gpu = np.maximum(has, 0).sum(axis=1) / MILLI
        milli = int(self.problem.tasks.milli[task])
        if 0 < milli < MILLI:
            tight = np.where(has >= milli, has, 10 * MILLI).min(axis=1) / MILLI
            left += gpu / 8 + 4 * tight
        else:
            left += gpu
        return left
