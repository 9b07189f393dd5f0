"""What is left on the nodes beside a placement, and what keeps a task from each of them.

Plain books that are taken up and put back, one task at a time: an explanation asks what would be
if one thing were different, and the placer that serves a queue has other things to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jupyter_aios.allocation.problem import NO, Bools, Ints, Problem, devices_of

LACKS = ("zone", "gpus", "cpu", "memory", "disk", "apart", "together", "quota")
"""What can keep a task from a node, in the order of the columns of `Room.lacks`."""
ZONE, GPUS, CPU, MEMORY, DISK, APART, TOGETHER, QUOTA = range(8)


def lacks_nothing(lacks: Bools) -> Bools:
    """Return the rows in which nothing lacks."""
    found: Bools = np.logical_not(lacks.max(axis=1, initial=False))
    return found


@dataclass(eq=False)
class Room:
    """A placement, and what it leaves. `put` and `take` change it; `copy` is cheap."""

    problem: Problem
    assignment: Ints
    """n: the node of each task, -1 for none."""
    devices: Ints
    """n: its devices there, as bits."""
    free: Ints
    """m × 3: CPU, memory and disk that are left."""
    left: Ints
    """m × D: thousandths of each device that are left; -1 where there is none."""
    quota_left: Ints
    """q × 5: what is left of each quota; very much where there is no limit."""

    @classmethod
    def of(cls, problem: Problem, assignment: Ints, devices: Ints) -> Room:
        """Return what a placement leaves."""
        tasks, nodes = problem.tasks, problem.nodes
        placed = np.flatnonzero(assignment >= 0)
        free, left = nodes.free.copy(), nodes.devices.copy()
        np.subtract.at(free, assignment[placed], tasks.demand[placed])
        for device in range(left.shape[1]):
            on = placed[(devices[placed] >> device & 1).astype(bool)]
            np.subtract.at(left[:, device], assignment[on], tasks.milli[on])
        quota_left = problem.quota_limits.copy()
        for number in range(len(problem.quotas)):
            counts = placed[(tasks.quotas[placed] == number).any(axis=1)]
            quota_left[number] -= tasks.consumption[counts].sum(axis=0)
        return cls(problem, assignment.copy(), devices.copy(), free, left, quota_left)

    def copy(self) -> Room:
        """Return the same, to be changed on its own."""
        arrays = (self.assignment, self.devices, self.free, self.left, self.quota_left)
        return Room(self.problem, *(array.copy() for array in arrays))

    def put(self, task: int, node: int, bits: int) -> None:
        """Place a task that is not placed."""
        self.assignment[task], self.devices[task] = node, bits
        self._count(task, node, bits, -1)

    def take(self, task: int) -> tuple[int, int]:
        """Unplace a placed task and return where it was: node and devices."""
        node, bits = int(self.assignment[task]), int(self.devices[task])
        self._count(task, node, bits, 1)
        self.assignment[task], self.devices[task] = NO, 0
        return node, bits

    def _count(self, task: int, node: int, bits: int, sign: int) -> None:
        tasks = self.problem.tasks
        self.free[node] += sign * tasks.demand[task]
        self.left[node, list(devices_of(bits))] += sign * tasks.milli[task]
        for quota in set(tasks.quotas[task].tolist()) - {NO}:
            self.quota_left[quota] += sign * tasks.consumption[task]

    def on(self, node: int) -> Ints:
        """Return the tasks on a node."""
        return np.flatnonzero(self.assignment == node)

    def enough_devices(self, task: int) -> Ints:
        """Return how many devices with enough free for the task each node has (m)."""
        found: Ints = (self.left >= max(int(self.problem.tasks.milli[task]), 1)).sum(axis=1)
        return found

    def lacks(self, task: int) -> Bools:
        """Return what keeps the task from each node (m × 8, the columns of `LACKS`)."""
        problem, tasks = self.problem, self.problem.tasks
        found = np.zeros((len(problem.nodes), len(LACKS)), bool)
        found[:, ZONE] = ~problem.zones[tasks.zone[task]]
        if tasks.gpus[task]:
            found[:, GPUS] = self.enough_devices(task) < tasks.gpus[task]
        found[:, CPU : DISK + 1] = self.free < tasks.demand[task]
        if tasks.apart[task] != NO:
            mates = (tasks.apart == tasks.apart[task]) & (self.assignment >= 0)
            mates[task] = False
            found[self.assignment[mates], APART] = True
        if tasks.together[task] != NO:
            found[:, TOGETHER] = ~self.beside_mates(task)
        found[:, QUOTA] = self.is_over_quota(tasks.consumption[task], task)
        self._keep_in_force(task, found)
        return found

    def fits(self, task: int) -> Bools:
        """Return which nodes have room for the task (m)."""
        return lacks_nothing(self.lacks(task))

    def _keep_in_force(self, task: int, found: Bools) -> None:
        """A task that was stopped may come back to where it was, if not to anywhere else."""
        tasks = self.problem.tasks
        node = int(tasks.current[task])
        if node == NO:
            return
        found[node, ZONE] = False
        if not tasks.is_movable[task]:
            found[np.arange(len(found)) != node, ZONE] = True
            found[node, GPUS] = not self._are_free(task, node, int(tasks.current_devices[task]))

    def _are_free(self, task: int, node: int, bits: int) -> bool:
        return bool((self.left[node, list(devices_of(bits))] >= self._milli(task)).all())

    def _milli(self, task: int) -> int:
        return int(self.problem.tasks.milli[task])

    def beside_mates(self, task: int) -> Bools:
        """Return the nodes in the domain where the tasks it is to be together with are (m)."""
        problem, tasks = self.problem, self.problem.tasks
        tag = tasks.together[task]
        domains = problem.domains[problem.together_domain[tag]]
        mates = (tasks.together == tag) & (self.assignment >= 0)
        mates[task] = False
        first = int(np.argmax(mates))
        allowed: Bools = domains >= 0
        return allowed & (domains == domains[self.assignment[first]]) if mates.any() else allowed

    def is_over_quota(self, amounts: Ints, task: int) -> bool:
        """Return whether a quota of the task has less left than these amounts (5)."""
        of = [quota for quota in self.problem.tasks.quotas[task].tolist() if quota != NO]
        return bool((self.quota_left[of] < amounts).any())

    def choose(self, task: int, node: int) -> int:
        """Return devices of a node that has enough of them, as bits: where it was, or best fit."""
        tasks = self.problem.tasks
        if not tasks.gpus[task]:
            return 0
        bits = int(tasks.current_devices[task])
        if node == tasks.current[task] and self._are_free(task, node, bits):
            return bits
        left = self.left[node]
        enough = np.flatnonzero(left >= self._milli(task))
        best = enough[np.argsort(left[enough], kind="stable")][: int(tasks.gpus[task])]
        return sum(1 << int(device) for device in best)
