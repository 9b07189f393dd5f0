"""How a view sits in a notebook: live where a page and a kernel have it, else a picture and text.

An output begins as the widget. Once a page has shown it for a moment, the output becomes a picture
and text, which a notebook that is saved can show without a kernel; a page that still has the view
puts it into the picture's place, so a person sees no change. The page's side is `seat.js`.

Data travel in custom messages, never in traits: what is saved of the widget is tiny.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


def joined(folder: Path, names: Iterable[str]) -> str:
    """Return files one after the other; those in `widgets/` itself are named `../NAME`."""
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


class SeatedWidget(anywidget.AnyWidget):
    """A widget whose output settles into a picture; subclasses say what is drawn and written.

    They implement `_plain` and `_bundle`, and `_hear` for the page's messages; from it they call
    `_sit` at "seated" and `_keep_widget` where a page cannot move the view. The last line of their
    `__init__` is `_listen`: messages come in a thread of their own.
    """

    place = traitlets.Unicode().tag(sync=True)
    """Names the places where a page may show this view."""

    def __init__(self, **traits: Any) -> None:  # noqa: ANN401 - of the subclass
        super().__init__(place=uuid.uuid4().hex, **traits)
        self.lock = threading.RLock()
        self._shown_at: float | None = None
        self._displays: list[str] = []
        self._must_stay_widget = False
        self._settled: dict[str, Any] | None = None

    def _listen(self) -> None:
        """Hear the page from now on; a subclass calls it when it can answer."""
        _let_messages_through(self.comm)
        self.on_msg(self._hear)

    def _plain(self) -> str:
        """Return what the output is in a terminal until it has settled."""
        raise NotImplementedError

    def _bundle(self) -> dict[str, Any]:
        """Return what the output settles into, by MIME type; the page has a spot for `place`."""
        raise NotImplementedError

    def _hear(self, _: object, content: dict[str, Any], __: object) -> None:
        """Answer a message of the page."""
        raise NotImplementedError

    # ------------------------------------------------------------------------ in the notebook

    def _ipython_display_(self, **_: object) -> None:
        self.show()

    def show(self) -> None:
        """Show the view here; when it has settled, the output is the picture of it."""
        from IPython.display import display

        display_id = uuid.uuid4().hex
        self._displays.append(display_id)
        if self._shown_at is None:
            self._shown_at = time.time()
        with self.lock:
            settled = self._settled
            data = settled or {"text/plain": self._plain(), _WIDGET_MIME: self._widget()}
        display(data, raw=True, display_id=display_id)

    def settle(self) -> None:
        """Let the outputs be what a notebook needs where no kernel runs: a picture and text.

        A page that has the view puts it into the picture's place, so a person sees no change.
        """
        with self.lock:
            settled = self._settled = self._bundle()
        self._update_displays(settled)

    def _sit(self) -> None:
        """From here on a notebook that is saved, and opened without a kernel, shows a picture."""
        if not self._must_stay_widget and self._settled is None:
            self.settle()

    def _keep_widget(self) -> None:
        """Keep the widget in the output beside the picture: a page cannot move the view."""
        if not self._must_stay_widget:
            self._must_stay_widget = True
            if self._settled is not None:
                self._update_displays(self._settled)

    def _update_displays(self, data: dict[str, Any]) -> None:
        from IPython.display import display

        if self._must_stay_widget:
            data = data | {_WIDGET_MIME: self._widget()}
        for display_id in self._displays:
            display(data, raw=True, display_id=display_id, update=True)

    def _widget(self) -> dict[str, Any]:
        return {"version_major": 2, "version_minor": 0, "model_id": self.model_id}


def _let_messages_through(comm: Any) -> None:  # noqa: ANN401 - ipykernel's or a dummy
    """Have messages of the page handled where the page sends them.

    JupyterLab sends them to a thread of the kernel of their own (a subshell), which answers while a
    cell runs. ipykernel 7.4 routes them back to the thread that last sent, and there they would
    wait for the end of the cell.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _, default: default  # noqa: SLF001 - there is no other way


def is_unattended() -> bool:
    """Return whether a program runs the notebook: it says that nobody could answer a question."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    parent = kernel.get_parent("shell") if kernel is not None else {}
    return (parent or {}).get("content", {}).get("allow_stdin") is False
