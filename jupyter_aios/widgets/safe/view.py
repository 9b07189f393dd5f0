"""The widget, and the messages between it and the page.

What is shown travels in custom messages, never in traits: what is saved of the widget is tiny, and
names of secrets and people are only where the output is.

From the page to the kernel (JSON; `view` names the view that asks):

    {"type": "hello", "view", "can_move"}   a view is there and has nothing (see `widgets.seat`)
    {"type": "seated", "view"}              it has been shown for a moment
    {"type": "ping", "view"}                is the kernel still there? Answered by "pong"
    {"type": "refresh", "view"}             read it anew; all views get what is found

From the kernel to the page (JSON):

    {"type": "snapshot", "to", "number", STATE}      everything; `to` is a view, or "*" for all
    {"type": "failed", "to", "text", "hint"}         it could not be read anew, and why

    STATE   see `model.laid_out`: "heading", "read_at"; "vault": its kind (`open`, `locked`,
            `absent`, `damaged`), what is told of it, what to type; "secrets" with "facts" ([what,
            text]) and "commands"; "no_secrets": why there are none; "members" with "spent": limit →
            {"text", "part" (0 to 1), "is_close"}; "grant": what to type; "denials"; "chain"

Nothing that a page sends changes anything, and no message can hold a secret's value: `SafeState`
has no place for one. The root element of a view carries `data-state` (the vault's kind),
`data-number` (of the snapshot), `data-tab` and `data-synced`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.errors import AiosError
from jupyter_aios.widgets.safe import static
from jupyter_aios.widgets.safe.model import laid_out
from jupyter_aios.widgets.safe.text import table, text
from jupyter_aios.widgets.seat import SeatedWidget, is_unattended, joined
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.widgets.safe.reading import SafeState
    from jupyter_aios.widgets.text.table import Table

SCRIPTS = ("../dom.js", "../seat.js", "sheet.js", "tabs.js", "panes.js", "view.js")
_HERE = Path(__file__).parent


class SafeView(SeatedWidget):
    """Secrets, rights and denials, read once and whenever somebody presses Refresh.

    Args:
        read: tells how it is now; called in a thread of the kernel too.
        seen: what has been read already; None: it is read now.

    Example:
        SafeView(lambda: read_safe(client, time.time()))

    """

    _esm = joined(_HERE, SCRIPTS)
    _css = joined(_HERE, ("../base.css", "view.css"))

    def __init__(self, read: Callable[[], SafeState], seen: SafeState | None = None) -> None:
        super().__init__()
        self._read = read
        self.seen = seen if seen is not None else read()
        """What was read last."""
        self._number = 0
        self._listen()

    def refresh(self) -> None:
        """Read it anew, and show it everywhere.

        Raises:
            AiosError: it cannot be read; what was seen before stays.

        """
        seen = self._read()
        with self.lock:
            self.seen = seen
            self._number += 1
            self._tell("*")
            is_settled = self._settled is not None
        if is_settled:
            self.settle()

    def table(self, of: str = "secrets") -> Table[Any]:
        """Return rows for each of the `secrets`, `members` or `denials`.

        Raises:
            UnknownNameError: there is no such table.

        """
        return table(self.seen, of)

    def text(self) -> Text:
        """Return what a terminal shows."""
        return Text(text(self.seen))

    # ------------------------------------------------------------------------ from the page

    def _hear(self, _: object, content: dict[str, Any], __: object) -> None:
        """Answer a message; runs in a thread of the kernel, maybe while a cell runs."""
        kind, view = content.get("type"), str(content.get("view", ""))
        if kind == "hello":
            with self.lock:
                self._tell(view)
            if not content.get("can_move"):
                self._keep_widget()
        elif kind == "seated":
            self._sit()
        elif kind == "ping":
            self.send({"type": "pong", "to": view})
        elif kind == "refresh":
            try:
                self.refresh()
            except AiosError as error:
                told = {"text": error.message, "hint": error.hint}
                self.send({"type": "failed", "to": view, **told})

    def _tell(self, view: str) -> None:
        state = laid_out(self.seen)
        self.send({"type": "snapshot", "to": view, "number": self._number, **state})

    # ------------------------------------------------------------------------ in the notebook

    def _plain(self) -> str:
        return text(self.seen)

    def show(self) -> None:
        """Show the view here; where no page will ever ask for it, its page at once."""
        if is_unattended() and self._settled is None:
            self.settle()
        super().show()

    def _bundle(self) -> dict[str, Any]:
        return static.bundle(self.seen, self.place)
