"""The widget, and the messages between it and the page.

The allocation travels in a custom message, never in traits: what is saved of the widget is tiny.

From the page to the kernel (JSON; `view` names the view that asks):

    {"type": "hello", "view", "can_move"}   a view is there and has nothing (see `widgets.seat`)
    {"type": "seated", "view"}              it has been shown for a moment
    {"type": "ping", "view"}                is the kernel still there? Answered by "pong"
    {"type": "explain", "view", "task"}     why is this task there, or left out?

From the kernel to the page (JSON, and a list of binary buffers):

    {"type": "snapshot", "to", "number", STATE}     everything; `to` is a view
    {"type": "explained", "to", "task", "text"}

    STATE   see `AllocationModel.snapshot`; a column is [type, buffer], where the type is numpy's
            letter and size, or "text" for strings with a NUL between them.

The root element of a view carries `data-state` (the allocation's status), `data-tasks`,
`data-nodes`, `data-synced`, and `data-drawn`: how many times the map was drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.errors import AiosError
from jupyter_aios.widgets.allocation import static, text
from jupyter_aios.widgets.allocation.model import AllocationModel
from jupyter_aios.widgets.seat import SeatedWidget, is_unattended, joined
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from jupyter_aios.allocation.result import Allocation
    from jupyter_aios.widgets.text.table import Table

SCRIPTS = (
    "../dom.js", "../seat.js", "scene.js", "tones.js", "layout.js", "paint.js", "chunks.js",
    "marks.js", "map.js", "pointer.js", "panel.js", "compare.js", "tools.js", "view.js",
)  # fmt: skip
_HERE = Path(__file__).parent


class AllocationView(SeatedWidget):
    """An allocation as a map of nodes and devices, with what is left out and why.

    Args:
        allocation: what is shown.
        comparison: (name, allocation) of other policies on the same problem.
        explain: says in a sentence why a task (by its index) is where it is, or left out.

    Example:
        AllocationView(allocate(problem), comparison=[("best fit", other)])

    """

    _esm = joined(_HERE, SCRIPTS)
    _css = joined(_HERE, ("../base.css", "view.css"))

    def __init__(
        self,
        allocation: Allocation,
        *,
        comparison: Sequence[tuple[str, Allocation]] = (),
        explain: Callable[[int], str] | None = None,
    ) -> None:
        super().__init__()
        self.model = AllocationModel(allocation, comparison, explain)
        self._listen()

    def figure(self) -> Figure:
        """Return the picture as a matplotlib figure."""
        return static.figure(self.model)

    def table(self, of: str = "tasks") -> Table[Any]:
        """Return rows for each of the `tasks`, `jobs`, `nodes`, or `policies` that are compared.

        Raises:
            UnknownNameError: there is no such table.

        """
        return text.table(self.model, of)

    def text(self) -> Text:
        """Return what a terminal shows."""
        return Text(text.text(self.model))

    # ------------------------------------------------------------------------ from the page

    def _hear(self, _: object, content: dict[str, Any], __: object) -> None:
        """Answer a message; runs in a thread of the kernel, maybe while a cell runs."""
        kind, view = content.get("type"), str(content.get("view", ""))
        if kind == "hello":
            state, buffers = self.model.snapshot()
            self.send({"type": "snapshot", "to": view, "number": 0, **state}, buffers=buffers)
            if not content.get("can_move"):
                self._keep_widget()
        elif kind == "seated":
            self._sit()
        elif kind == "ping":
            self.send({"type": "pong", "to": view})
        elif kind == "explain":
            self._tell_why(view, content.get("task"))

    def _tell_why(self, view: str, task: object) -> None:
        if not isinstance(task, int) or not 0 <= task < len(self.model.problem.tasks):
            return
        try:
            told = self.model.explained(task)
        except AiosError as error:
            told = str(error)
        except Exception as error:  # noqa: BLE001 - whoever clicked has to see it
            told = f"it could not be found out: {error!r}"
        self.send({"type": "explained", "to": view, "task": task, "text": told})

    # ------------------------------------------------------------------------ in the notebook

    def _plain(self) -> str:
        return text.text(self.model)

    def show(self) -> None:
        """Show the map here; where no page will ever ask for it, its picture at once."""
        if is_unattended() and self._settled is None:
            self.settle()
        super().show()

    def _bundle(self) -> dict[str, Any]:
        return static.bundle(self.model, self.place)
