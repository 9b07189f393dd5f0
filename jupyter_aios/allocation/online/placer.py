"""The incremental placer: it follows a cluster, event by event, and answers each at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jupyter_aios.allocation.greedy.choice import Choice
from jupyter_aios.allocation.greedy.policies import policy_of
from jupyter_aios.allocation.greedy.state import State
from jupyter_aios.allocation.online.moves import make_room
from jupyter_aios.allocation.online.outlook import Outlook
from jupyter_aios.allocation.online.preemption import stop_for
from jupyter_aios.allocation.placed import Placed
from jupyter_aios.allocation.problem import NO, TASK_COLUMNS
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.allocation.greedy.fragmentation import Typical
    from jupyter_aios.allocation.greedy.policies import Policy
    from jupyter_aios.allocation.problem import Bools, Ints, Problem, Tasks


class Place(NamedTuple):
    """Where one task is."""

    task: int
    node: int
    devices: int
    """As bits."""


@dataclass(frozen=True)
class Admission:
    """A unit that was placed, and what had to change for it."""

    places: tuple[Place, ...]
    moved: tuple[Place, ...] = ()
    """Other tasks that are elsewhere now."""
    stopped: tuple[int, ...] = ()
    """Other tasks that are nowhere now."""


class Placer:
    """Places tasks of a problem as they come and go; FGD if nothing else is said.

    Tasks are numbers of the problem's; `add` brings new ones. What is in force when it begins is
    placed. Every step keeps to zones, quotas, gangs, `apart` and `together`; one that cannot be
    done changes nothing. Deterministic: ties go to the first node. At 1,200 nodes an event takes
    less than a millisecond; moves take some, and `preempt` some hundred for each task, since they
    look at all placed tasks.

    Example:
        >>> import numpy as np
        >>> from jupyter_aios.allocation.problem import nodes_of, problem_of, tasks_of
        >>> nodes = nodes_of(["a"], np.array([[1000, 0, 0]]), np.zeros((1, 0), np.int64))
        >>> tasks = tasks_of(["t", "u"], np.array([[600, 0, 0], [600, 0, 0]]))
        >>> placer = Placer(problem_of(nodes, tasks))
        >>> placer.submit([0]).places, placer.submit([1])
        ((Place(task=0, node=0, devices=0),), None)
        >>> placer.finish(0)
        >>> placer.submit([1]).places
        (Place(task=1, node=0, devices=0),)

    """

    def __init__(
        self,
        problem: Problem,
        policy: str | Policy = "fgd",
        *,
        seed: int = 0,
        typical: Typical | None = None,
    ) -> None:
        """Take the nodes and what is in force on them.

        `policy` is a name of `greedy.POLICIES`, `outlook`, or an object of one's own; `typical` are
        the tasks that `fgd` and `outlook` expect, the problem's own if None.

        Raises:
            InputError: no such policy.

        """
        self.state = State(problem)
        if policy == "outlook":
            policy = Outlook(problem, typical)
        elif isinstance(policy, str):
            policy = policy_of(policy, problem, seed=seed, typical=typical)
        self._choice = Choice(self.state, policy)
        self._choice.expect(range(len(problem.tasks)))
        self.state.take_all(Placed(problem.tasks.current, problem.tasks.current_devices))
        self._drained: dict[int, Bools] = {}

    @property
    def problem(self) -> Problem:
        """The nodes, and all tasks that are known."""
        return self.state.problem

    # ------------------------------------------------------------------------ events

    def add(self, tasks: Tasks) -> range:
        """Make new tasks known and return their numbers; none is placed yet.

        Their zones, quotas and groups are numbers of the placer's problem; a group number that is
        higher than all known ones is a new group, in which `together` means one node.
        """
        before, known = len(self.problem.tasks), self.problem.tasks
        columns = {
            key: np.concatenate([getattr(known, key), getattr(tasks, key)]) for key in TASK_COLUMNS
        }
        names = [*known.names, *tasks.names]
        groups = int(columns["together"].max(initial=NO)) + 1
        more = groups - len(self.problem.together_domain)
        domain = np.append(self.problem.together_domain, np.zeros(max(more, 0), np.int64))
        joined = replace(known, names=names, **columns)  # type: ignore[arg-type]
        self.state.extend(replace(self.problem, tasks=joined, together_domain=domain))
        added = range(before, len(names))
        self._choice.expect(added)
        return added

    def submit(self, tasks: Sequence[int], *, most_moves: int = 0) -> Admission | None:
        """Place tasks, all or none; None where they do not fit.

        With `most_moves`, so many other tasks may go elsewhere for it.

        Raises:
            InputError: a task is placed already, or comes without the rest of its gang.

        """
        self._refuse(tasks)
        if self._choice.place(tasks):
            return Admission(self._places(tasks))
        if not most_moves:
            return None
        moved = self._place_with_moves(tasks, most_moves)
        return None if moved is None else Admission(self._places(tasks), self._places(moved))

    def finish(self, task: int) -> None:
        """Free what a task holds; one that is nowhere holds nothing."""
        if self.state.assignment[task] != NO:
            self.state.give_back(task)

    def drain(self, node: int) -> Ints:
        """Let a node take nothing new and return the tasks that are on it; twice is as once."""
        if node not in self._drained:
            self._drained[node] = self.state.zones[:, node].copy()
            self.state.open(node, np.zeros(len(self.state.zones), bool))
        return self.tasks_on(node)

    def undrain(self, node: int) -> None:
        """Let a node that was drained here take tasks again."""
        zones = self._drained.pop(node, None)
        if zones is not None:
            self.state.open(node, zones)

    def preempt(self, tasks: Sequence[int]) -> Admission | None:
        """Place tasks, all or none; stop preemptible ones of lower priority where it takes that.

        Gangs are stopped as a whole. Few are stopped, of equally many those of the least size ×
        priority, and none of them could have been left where it was. None, and nothing has changed,
        where stopping does not help.

        Raises:
            InputError: a task is placed already, or comes without the rest of its gang.

        """
        placed = self.submit(tasks)
        if placed is not None:
            return placed
        stopped = stop_for(self._choice, tasks)
        return None if stopped is None else Admission(self._places(tasks), stopped=stopped)

    # ------------------------------------------------------------------------ questions

    def placed(self) -> Placed:
        """Return where all tasks are now."""
        return Placed(self.state.assignment.copy(), self.state.bits.copy())

    def tasks_on(self, node: int) -> Ints:
        """Return the tasks that are on a node."""
        return np.flatnonzero(self.state.assignment == node)

    def free(self) -> Ints:
        """Return what is free of CPU, memory and disk on each node (m × 3)."""
        return np.column_stack(self.state.free)

    def free_devices(self) -> Ints:
        """Return the thousandths that are free of each device (m × D), -1 where there is none."""
        return np.where(self.problem.nodes.devices < 0, NO, self.state.devices)

    # ------------------------------------------------------------------------ steps

    def _refuse(self, tasks: Sequence[int]) -> None:
        state = self.state
        known = self.problem.tasks
        for task in tasks:
            if state.assignment.item(task) != NO:
                node = self.problem.nodes.names[state.assignment[task]]
                raise InputError(
                    f"{known.names[task]} is on {node} already", hint="finish it before"
                )
        if len(tasks) == 1 and known.gang.item(tasks[0]) == NO:
            return
        for number in np.unique(known.gang[list(tasks)]).tolist():
            missing = np.setdiff1d(np.flatnonzero(known.gang == number), tasks)
            if number != NO and len(missing):
                raise InputError(
                    f"{known.names[missing[0]]} is missing from its gang",
                    hint="submit a gang's tasks together",
                )

    def _places(self, tasks: Sequence[int]) -> tuple[Place, ...]:
        state = self.state
        return tuple(Place(i, state.assignment.item(i), state.bits.item(i)) for i in tasks)

    def _place_with_moves(self, tasks: Sequence[int], most_moves: int) -> list[int] | None:
        """Place the tasks one by one; return who moved, or None when all is as before."""
        state = self.state
        before = self.placed()
        movable = self.problem.tasks.is_movable.copy()
        movable[list(tasks)] = False
        moved: list[int] = []
        for task in tasks:
            if self._choice.place([task]):
                continue
            others = make_room(self._choice, task, movable, most_moves - len(moved))
            if not others:
                state.restore(before)
                return None
            moved += others
            movable[others] = False
        return moved
