"""What `%%aios_allocate` and `aios.allocate` return: an allocation that draws and explains itself.

In a notebook it is the map of nodes, elsewhere text. Numpy and the allocator are loaded by whoever
makes one, the view only where it is drawn.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.allocation.explain import explain, what_if
from jupyter_aios.commands.place import is_live
from jupyter_aios.errors import InputError, UnknownNameError
from jupyter_aios.widgets.allocation import text as drawn
from jupyter_aios.widgets.allocation.model import AllocationModel
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.figure import Figure

    from jupyter_aios.allocation.assignment import AssignmentProblem, AssignmentSolution
    from jupyter_aios.allocation.explain import Explanation, WhatIf
    from jupyter_aios.allocation.problem import Names, Problem
    from jupyter_aios.allocation.result import Allocation
    from jupyter_aios.widgets.allocation.view import AllocationView
    from jupyter_aios.widgets.text.table import Table


class Told(Text):
    """A sentence that a notebook shows as it is; `explanation` is what it was made of."""

    __slots__ = ("explanation",)
    explanation: Explanation | None


class WhatIfTold(Text):
    """What would be different, in a sentence; `answer` is the allocation that would be."""

    __slots__ = ("answer", "found")
    answer: AllocationAnswer
    found: WhatIf


class AllocationAnswer:
    """An allocation with all that can be asked about it."""

    def __init__(
        self,
        allocation: Allocation,
        comparison: Sequence[Allocation] = (),
        *,
        view: str = "",
    ) -> None:
        self.allocation = allocation
        self.comparison = tuple(comparison)
        """What the usual schedulers' rules give on the same problem, by `rung`."""
        self._view = view

    @property
    def problem(self) -> Problem:
        """What was to be placed."""
        return self.allocation.problem

    @cached_property
    def _model(self) -> AllocationModel:
        return AllocationModel(self.allocation, self._compared, self._why)

    @property
    def _compared(self) -> list[tuple[str, Allocation]]:
        return [(other.rung, other) for other in self.comparison]

    # ------------------------------------------------------------------------ looking

    def table(self, of: str = "tasks") -> Table[Any]:
        """Return rows for each of the `tasks`, `jobs`, `nodes`, or `policies` that are compared.

        Raises:
            UnknownNameError: there is no such table.

        """
        return drawn.table(self._model, of)

    def text(self) -> Text:
        """Return what a terminal shows."""
        return Text(drawn.text(self._model))

    def figure(self) -> Figure:
        """Return the picture as a matplotlib figure."""
        return self.view().figure()

    def view(self) -> AllocationView:
        """Return the map as a widget, for a box of ipywidgets; the same one every time."""
        return self._widget

    @cached_property
    def _widget(self) -> AllocationView:
        from jupyter_aios.widgets.allocation.view import AllocationView

        return AllocationView(self.allocation, comparison=self._compared, explain=self._why)

    # ------------------------------------------------------------------------ asking

    def explain(self, task: str | int) -> Told:
        """Return why a task is where it is or left out, and what would mend that.

        `task` is a name, a number, or the name of a job: then it is the first of its tasks that is
        left out.

        Raises:
            UnknownNameError: no task or job of that name.
            InputError: no task of that number.

        """
        number = self._task(task)
        if not 0 <= number < len(self.problem.tasks):
            most = len(self.problem.tasks) - 1
            raise InputError(f"there is no task number {number}", hint=f"0 to {most}")
        return self._told(number)

    def _told(self, task: int) -> Told:
        found = explain(self.allocation, task)
        told = Told(f"{self.problem.tasks.names[task]}: {_lines(found)}")
        told.explanation = found
        return told

    def _why(self, task: int) -> str:
        """Return the same where the task's name stands already."""
        return _lines(explain(self.allocation, task))

    def _task(self, named: str | int) -> int:
        if not isinstance(named, str):
            return int(named)
        tasks = self.problem.tasks
        if (number := _index(tasks.names, named)) is not None:
            return number
        if named not in tasks.job_names:
            raise UnknownNameError.among("task or job", named, [*tasks.names, *tasks.job_names])
        mine = np.flatnonzero(tasks.job == tasks.job_names.index(named))
        left_out = mine[self.allocation.assignment[mine] < 0]
        return int(left_out[0] if len(left_out) else mine[0])

    def what_if(
        self,
        *,
        add_nodes: Mapping[str, int] | int | None = None,
        remove: Iterable[str] | str = (),
        drain: Iterable[str] | str = (),
        priority: Mapping[str, int] | None = None,
        quota: Mapping[str, Mapping[str, int]] | None = None,
        add_tasks: Mapping[str, int] | None = None,
        time_limit_s: float = 1.0,
    ) -> WhatIfTold:
        """Return what would be different if something were; `answer` of it is the allocation.

        `add_nodes` is how many more of the most usual node, or how many like which node or of which
        GPU model; `remove` names nodes, tasks or jobs, `drain` nodes; `priority` says it for tasks
        or jobs; `quota` gives new limits; `add_tasks` says how many more like which task.

        Raises:
            InputError: nothing is different, or what is in force has no place any more.
            UnknownNameError: no node, model, task, job or quota of that name.

        Example:
            answer.what_if(add_nodes=2).answer.table("jobs")

        """
        if isinstance(add_nodes, int):
            add_nodes = {_usual_node(self.problem): add_nodes}
        found = what_if(
            self.allocation,
            add_nodes=add_nodes,
            remove=[remove] if isinstance(remove, str) else remove,
            drain=[drain] if isinstance(drain, str) else drain,
            priority=priority,
            quota=quota,
            add_tasks=add_tasks,
            time_limit_s=time_limit_s,
        )
        told = WhatIfTold(found.sentence)
        told.answer, told.found = AllocationAnswer(found.after, view=self._view), found
        return told

    # ------------------------------------------------------------------------ drawing

    def __repr__(self) -> str:
        return str(self.text())

    def _ipython_display_(self) -> None:
        if not is_live(self._view):
            raise NotImplementedError  # IPython then shows the text
        self.view().show()


class AssignmentAnswer(AllocationAnswer):
    """The answer to a generalized assignment problem: every task on a node, at the least cost."""

    def __init__(
        self, costs: AssignmentProblem, solution: AssignmentSolution, *, view: str = ""
    ) -> None:
        super().__init__(allocation_of(costs, solution), view=view)
        self.costs = costs
        self.solution = solution

    def _told(self, task: int) -> Told:
        told = Told(self._sentence(task))
        told.explanation = None
        return told

    def _why(self, task: int) -> str:
        return self._sentence(task)

    def _sentence(self, task: int) -> str:
        name, nodes = self.costs.task_names[task], self.costs.node_names
        if self.solution.assignment is None:
            return f"{name} is on no node: no assignment of all tasks was found"
        node = int(self.solution.assignment[task])
        row = self.costs.costs[task]
        best = int(row.argmin())
        said = f"{name} is on {nodes[node]} at a cost of {row[node]:,}"
        if row[best] == row[node]:
            return f"{said}; no node is cheaper for it"
        others = self.solution.assignment == best
        room = int(self.costs.capacities[best] - self.costs.demands[others, best].sum())
        return (
            f"{said}; {nodes[best]} would cost {row[best]:,} and has {room:,} left"
            f" of the {self.costs.demands[task, best]:,} that it would take"
        )

    def what_if(self, **_: object) -> WhatIfTold:
        """Say that this is for problems without costs.

        Raises:
            InputError: always.

        """
        raise InputError(
            "what_if is for problems without costs", hint="change cost and solve again"
        )


def allocation_of(costs: AssignmentProblem, solution: AssignmentSolution) -> Allocation:
    """Return a solution as an allocation that can be drawn; a task's demand is that on its node."""
    import math

    from jupyter_aios.allocation.problem import nodes_of, problem_of, tasks_of
    from jupyter_aios.allocation.result import Allocation, Level

    tasks, nodes = costs.size
    assignment = solution.assignment
    if assignment is None:
        taken, assignment = costs.demands.min(axis=1), np.full(tasks, -1, np.int64)
    else:
        taken = costs.demands[np.arange(tasks), assignment]
    problem = problem_of(
        nodes_of(costs.node_names, _as_cpus(costs.capacities), np.zeros((nodes, 0), np.int64)),
        tasks_of(costs.task_names, _as_cpus(taken)),
    )
    level = Level("feasible", 0, None)  # without an assignment there is no cost
    if solution.objective is not None:
        bound = math.ceil(solution.bound) if math.isfinite(solution.bound) else None
        level = Level("cost", solution.objective, bound)
    return Allocation(
        problem,
        np.asarray(assignment, np.int64),
        np.zeros(tasks, np.int64),
        (level,),
        solution.rung,
        solution.time_s,
        solution.status,
    )


def _as_cpus(amounts: Any) -> Any:  # noqa: ANN401 - numpy's arrays
    from jupyter_aios.core.units import MILLI

    found = np.zeros((len(amounts), 3), np.int64)
    found[:, 0] = amounts * MILLI
    return found


def _lines(found: Explanation) -> str:
    return "\n".join([found.sentence, *(f"→ {fix.sentence}" for fix in found.fixes)])


def _index(names: Names, name: str) -> int | None:
    return next((number for number, one in enumerate(names) if one == name), None)


def _usual_node(problem: Problem) -> str:
    """Return the first of the nodes of which there are most, or its model where that says it."""
    nodes = problem.nodes
    kinds = np.column_stack([nodes.capacity, nodes.device_count, nodes.models, nodes.is_drained])
    _, first, counts = np.unique(kinds, axis=0, return_index=True, return_counts=True)
    node = int(first[counts == counts.max()].min())
    model = nodes.models[node]
    alike = (kinds[nodes.models == model] == kinds[node]).all()
    return nodes.model_names[model] if model >= 0 and alike else str(nodes.names[node])
