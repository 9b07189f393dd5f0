"""The assignment problem for CP-SAT: how many of each unit on each node, devices one by one.

- x[u, j]: how many of unit u are newly put on node j
- y[u, j, d]: how many of unit u, a share, are on device d of node j
- w[j, d]: whether device d goes to tasks that take whole devices
- stays[i]: whether task i, in force, stays exactly where it is
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.exact.units import units_of
from jupyter_aios.allocation.objectives import weights
from jupyter_aios.allocation.problem import NO, QUOTA_COLUMNS, Ints, Problem, devices_of
from jupyter_aios.core.units import MILLI

if TYPE_CHECKING:
    from jupyter_aios.allocation.exact.units import Unit


class Model:
    """The constraints of one problem; goals come and go (`goals`)."""

    def __init__(self, problem: Problem, first: str) -> None:
        """Build it; `first` is the level whose weights tell tasks apart."""
        from ortools.sat.python import cp_model

        self.model = cp_model.CpModel()
        self.problem = problem
        self.weight = weights(problem, first)
        self.units = units_of(problem, self.weight)
        self.zero = self.model.new_constant(0)
        self.x: dict[tuple[int, int], Any] = {}
        self.y: dict[tuple[int, int, int], Any] = {}
        self.w: dict[tuple[int, int], Any] = {}
        self.stays: dict[int, Any] = {}
        self.used: dict[tuple[int, int], tuple[Any, int]] = {}
        """(node, column of demand) → (how much is given, in units of, this)."""
        self.given: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
        """(node, device) → milli that are given, by whom."""
        self.alike: dict[int, list[list[int]]] = {}
        """Node → its devices in groups; within each, the first are used first."""
        self.placed_count: list[Any] = []
        self._nodes_of: dict[int, list[tuple[int, Any]]] = {}
        self._devices_of: dict[tuple[int, int], list[tuple[int, Any]]] = {}
        for u, unit in enumerate(self.units):
            self._add_variables(u, unit)
        self.on_node = self._on_node()
        self._add_capacities()
        self._add_devices()
        self._add_counts()
        self._add_quotas()
        self._add_apart_and_together()

    def nodes_of(self, u: int) -> list[tuple[int, Any]]:
        """Return (node, how many of the unit are newly there), nodes ascending."""
        return self._nodes_of.get(u, [])

    def devices_of(self, u: int, j: int) -> list[tuple[int, Any]]:
        """Return (device, how many of the unit, a share, are newly on it)."""
        return self._devices_of.get((u, j), [])

    def most(self, u: int) -> int:
        """Return how many of a unit its nodes could hold if nothing else were there."""
        i = self.units[u].task
        return sum(self._most(self.units[u], j) for j, _ in self.nodes_of(u)) + (i in self.stays)

    # --------------------------------------------------------------------- variables

    def _add_variables(self, u: int, unit: Unit) -> None:
        tasks, nodes, i = self.problem.tasks, self.problem.nodes, unit.task
        if tasks.current[i] != NO:
            self.stays[i] = self.model.new_bool_var("")
            if not tasks.is_movable[i]:
                return
        for j in np.flatnonzero(self._may_hold(i)).tolist():
            most = self._most(unit, j)
            if not most:
                continue
            var = self.x[u, j] = self.model.new_int_var(0, most, "")
            self._nodes_of.setdefault(u, []).append((j, var))
            if not tasks.is_share[i]:
                continue
            for d in np.flatnonzero(nodes.devices[j] >= tasks.milli[i]).tolist():
                many = min(most, int(nodes.devices[j, d] // tasks.milli[i]))
                on = self.y[u, j, d] = self.model.new_int_var(0, many, "")
                self._devices_of.setdefault((u, j), []).append((d, on))
            self.model.add(sum(on for _, on in self.devices_of(u, j)) == var)

    def _may_hold(self, task: int) -> Any:  # noqa: ANN401 - booleans per node
        may = self.problem.may_hold(task)
        current = self.problem.tasks.current[task]
        if current != NO:
            # Whatever its zone says it may stay on its node, on other devices too.
            may[current] = True
        return may

    def _most(self, unit: Unit, j: int) -> int:
        """Return how many of a unit fit on an empty node."""
        tasks, nodes, i = self.problem.tasks, self.problem.nodes, unit.task
        most = len(unit.members) // (unit.step if unit.is_apart else 1)
        for column in range(3):
            if tasks.demand[i, column]:
                most = min(most, int(nodes.free[j, column] // tasks.demand[i, column]))
        if tasks.gpus[i]:
            fits = nodes.devices[j][nodes.devices[j] >= tasks.milli[i]] // tasks.milli[i]
            most = min(most, int(fits.sum()) // int(tasks.gpus[i]))
        return max(most, 0)

    def _on_node(self) -> defaultdict[int, list[tuple[int, Any]]]:
        """Return (a task, how many such) for each node."""
        on: defaultdict[int, list[tuple[int, Any]]] = defaultdict(list)
        for (u, j), var in self.x.items():
            on[j].append((self.units[u].task, var))
        for i, var in self.stays.items():
            on[int(self.problem.tasks.current[i])].append((i, var))
        return on

    # --------------------------------------------------------------------- constraints

    def _add_capacities(self) -> None:
        tasks, nodes = self.problem.tasks, self.problem.nodes
        for column in range(3):
            unit = _gcd(tasks.demand[:, column])
            for j in range(len(nodes)):
                terms = [
                    int(tasks.demand[i, column] // unit) * var
                    for i, var in self.on_node[j]
                    if tasks.demand[i, column]
                ]
                self.used[j, column] = (sum(terms), unit)
                if terms:
                    self.model.add(sum(terms) <= int(nodes.free[j, column] // unit))

    def _add_devices(self) -> None:
        """Whole devices go to whole tasks or to shares; what stays keeps its own."""
        tasks, nodes = self.problem.tasks, self.problem.nodes
        wholes: defaultdict[int, list[Any]] = defaultdict(list)
        for (u, j), var in self.x.items():
            i = self.units[u].task
            if tasks.gpus[i] and not tasks.is_share[i]:
                wholes[j].append(int(tasks.gpus[i]) * var)
        for (u, j, d), var in self.y.items():
            self.given[j, d].append(int(tasks.milli[self.units[u].task]) * var)
        held = set(tasks.current[list(self.stays)].tolist())
        for j in range(len(nodes)):
            if j not in held:
                # Before wholes are given too, so that these are sums of shares.
                self._order_shares(j, has_wholes=j in wholes)
        for i, stays in self.stays.items():
            for d in devices_of(int(tasks.current_devices[i])):
                self.given[int(tasks.current[i]), d].append(int(tasks.milli[i]) * stays)
        for j, terms in sorted(wholes.items()):
            self._add_wholes(j, terms)
        for (j, d), given in self.given.items():
            self.model.add(sum(given) <= int(nodes.devices[j, d]))

    def _order_shares(self, j: int, *, has_wholes: bool) -> None:
        """Of devices that are equally free, the first ones are used first."""
        free = self.problem.nodes.devices[j]
        groups = [np.flatnonzero(free == amount).tolist() for amount in np.unique(free[free > 0])]
        self.alike[j] = groups
        for group in groups:
            if has_wholes and free[group[0]] == MILLI:
                continue
            for one, two in pairwise(group):
                if (j, one) in self.given and (j, two) in self.given:
                    self.model.add(sum(self.given[j, one]) >= sum(self.given[j, two]))

    def _add_wholes(self, j: int, wholes: list[Any]) -> None:
        """Give whole devices of a node to as many as its tasks take; the first ones first."""
        taken = {}
        for d in np.flatnonzero(self.problem.nodes.devices[j] == MILLI).tolist():
            var = taken[d] = self.w[j, d] = self.model.new_bool_var("")
            self.given[j, d].append(MILLI * var)
        self.model.add(sum(wholes) == sum(taken.values()))
        for group in self.alike.get(j, []):
            for one, two in pairwise(group):
                if one in taken and two in taken:
                    self.model.add(taken[one] >= taken[two])

    def _add_counts(self) -> None:
        """Each task once; gangs all or none; what must be placed is."""
        tasks = self.problem.tasks
        gangs: dict[int, Any] = {}
        for u, unit in enumerate(self.units):
            i = unit.task
            placed = sum(var for _, var in self.nodes_of(u)) + self.stays.get(i, self.zero)
            self.placed_count.append(placed)
            if unit.step > 1:
                times = self.model.new_int_var(0, len(unit.members) // unit.step, "")
                self.model.add(placed == unit.step * times)
                if unit.is_apart:
                    for _, var in self.nodes_of(u):
                        self.model.add(var <= times)
                continue
            if tasks.must_be_placed[i]:
                self.model.add(placed == 1)
            else:
                self.model.add(placed <= len(unit.members))
            if len(unit.members) == 1 and tasks.gang[i] != NO:
                gang = int(tasks.gang[i])
                if gang not in gangs:
                    gangs[gang] = self.model.new_bool_var("")
                self.model.add(placed == gangs[gang])

    def _add_quotas(self) -> None:
        tasks = self.problem.tasks
        for number, quota in enumerate(self.problem.quotas):
            counts = [
                u for u, unit in enumerate(self.units) if (tasks.quotas[unit.task] == number).any()
            ]
            for column in range(len(QUOTA_COLUMNS)):
                limit = quota.limits[column]
                if limit is None or not counts:
                    continue
                amounts = tasks.consumption[[self.units[u].task for u in counts], column]
                unit = _gcd(amounts)
                terms = [
                    int(amount // unit) * self.placed_count[u]
                    for u, amount in zip(counts, amounts.tolist(), strict=True)
                    if amount
                ]
                if terms:
                    self.model.add(sum(terms) <= limit // unit)

    def _add_apart_and_together(self) -> None:
        tasks = self.problem.tasks
        apart: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
        domain: dict[tuple[int, int], Any] = {}
        for i, j, var in self._alone():
            if tasks.apart[i] != NO:
                apart[int(tasks.apart[i]), j].append(var)
            group = int(tasks.together[i])
            if group == NO:
                continue
            value = int(self.problem.domains[self.problem.together_domain[group], j])
            if value == NO:
                self.model.add(var == 0)
                continue
            if (group, value) not in domain:
                domain[group, value] = self.model.new_bool_var("")
            self.model.add(var <= domain[group, value])
        for terms in apart.values():
            if len(terms) > 1:
                self.model.add(sum(terms) <= 1)
        for group in sorted({group for group, _ in domain}):
            self.model.add(sum(var for (g, _), var in domain.items() if g == group) <= 1)

    def _alone(self) -> list[tuple[int, int, Any]]:
        """Return (task, node, whether it is there) of units that stand alone."""
        found = [
            (self.units[u].task, j, var)
            for (u, j), var in self.x.items()
            if len(self.units[u].members) == 1
        ]
        current = self.problem.tasks.current
        return found + [(i, int(current[i]), var) for i, var in self.stays.items()]


def _gcd(amounts: Ints) -> int:
    return max(int(np.gcd.reduce(amounts)) if len(amounts) else 1, 1)
