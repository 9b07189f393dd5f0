"""The widget, and the messages between it and the page.

Curves and lines travel in custom messages, never in traits: what is saved of the widget is tiny.

From the page to the kernel (JSON; `view` names the view that asks):

    {"type": "hello", "view", "can_move"}      a view is there and has nothing. `can_move`: the page
                                               can show it in the place of the saved picture
    {"type": "seated", "view"}                 it has been shown for a moment: the output may become
                                               the place, which a saved notebook can show
    {"type": "ping", "view"}                   is the kernel still there? Answered by "pong"
    {"type": "stop"}                           end the job
    {"type": "detail", "view", "key", "low", "high"}   a curve's points from step to step
    {"type": "rank", "view", "rank"}           one rank's own curves

From the kernel to the page (JSON, and a list of binary buffers):

    {"type": "snapshot", "to", "number", STATE}    everything; `to` is a view, or "*" for all that
                                                   have nothing yet
    {"type": "news", "number", STATE}              what is new; `number` counts on from a snapshot's
                                                   by one: whoever misses one says hello again
    {"type": "detail", "to", "low", "high", "curves"}
    {"type": "rank", "to", "rank", "curves"}

    STATE   "head": how the job stands (`TrainingModel.head`, with "can_stop" and "lines", the
            number of lines so far); "curves"; "lines": [[rank or null, kind, text], …]; "skipped":
            lines that were left out before them; "partials": {rank: text that has not ended};
            "banners": [{"kind": "hang" | "error" | "trouble", "rank", "text", "hint"}, …]
    curves  [{"key", "name", "how", "axis", "group", "is_thinned", "buffers": [i, …]}, …]; the
            buffers are steps (float64) and means (float32), and where ranks differ lows and highs.
            Who keeps a curve drops what lies at or after its first new step, and appends.

There are at most `1 / PERIOD_S` news a second. The root element of a view carries `data-state`,
`data-step`, `data-points`, `data-curves`, `data-lines` and `data-synced`.

A view whose hello cannot be heard (older kernels read no message while a cell runs) gets snapshots
to "*" in the first seconds.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from jupyter_aios.widgets.training import static
from jupyter_aios.widgets.training.curves import SNAPSHOT_POINTS, Curve

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.widgets.training.model import TrainingModel, Update

PERIOD_S = 0.1
SCRIPTS = (
    "head.js", "ansi.js", "curve.js", "scales.js", "chart.js", "pointer.js", "board.js",
    "output.js", "view.js",
)  # fmt: skip
_HERE = Path(__file__).parent
_WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
_UNHEARD_S = (0.3, 0.8, 1.5, 3.0, 6.0, 12.0, 24.0)
"""After so long everything is sent to all, while nobody has said hello."""
_DETAIL_POINTS = 20_000


def _script() -> str:
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)


class TrainingView(anywidget.AnyWidget):
    """A job as a live view; feed `model` under `lock`, then `publish`.

    Example:
        view = TrainingView(TrainingModel(job))
        with view.lock:
            view.model.feed(events)
        view.publish()

    """

    _esm = _script()
    _css = (_HERE / "view.css").read_text(encoding="utf-8")
    place = traitlets.Unicode().tag(sync=True)
    """Names the places where a page may show this view."""
    kernel_id = traitlets.Unicode().tag(sync=True)
    blocking = traitlets.Bool(default_value=False).tag(sync=True)
    """Whether the cell that waits for this job is running: then only an interrupt is heard."""

    def __init__(
        self,
        model: TrainingModel,
        *,
        cancel: Callable[[], object] | None = None,
        limit: int = SNAPSHOT_POINTS,
    ) -> None:
        super().__init__(place=uuid.uuid4().hex, kernel_id=_kernel_id())
        self.model = model
        self.lock = threading.RLock()
        self._cancel = cancel
        self._limit = limit
        self._number = 0
        self._shown_at: float | None = None
        self._unheard = list(_UNHEARD_S)
        self._displays: list[str] = []
        self._must_stay_widget = False
        self._settled: dict[str, Any] | None = None
        _let_messages_through(self.comm)
        self.on_msg(self._hear)

    @property
    def is_hurried(self) -> bool:
        """Whether `publish` has something to send soon, though nothing happens."""
        with self.lock:
            return bool(self._unheard) or self.model.curves.is_holding()

    # ------------------------------------------------------------------------ to the page

    def publish(self) -> None:
        """Send what is new, if there is any."""
        now = time.time()
        with self.lock:
            update = self.model.news(now, self._limit)
            if update is not None:
                self._number += 1
                self._send_state("news", update)
            elif not self._unheard:
                return
            self._reach_the_unheard(now)

    def _reach_the_unheard(self, now: float) -> None:
        since = now - (now if self._shown_at is None else self._shown_at)
        if self._unheard and since >= self._unheard[0]:
            while self._unheard and since >= self._unheard[0]:
                self._unheard.pop(0)
            self._send_state("snapshot", self.model.snapshot(now, self._limit), to="*")

    def _send_state(self, kind: str, update: Update, to: str = "") -> None:
        buffers: list[Any] = []
        content = {
            "type": kind,
            "to": to,
            "number": self._number,
            "head": update.head
            | {"can_stop": self._cancel is not None, "lines": self.model.tails.total},
            "curves": [self._pack(curve, buffers) for curve in update.curves],
            "lines": [[line.rank, line.kind, line.text] for line in update.lines],
            "skipped": update.skipped,
            "partials": update.partials,
            "banners": update.banners,
        }
        self.send(content, buffers=buffers)

    def _pack(self, curve: Curve, buffers: list[Any]) -> dict[str, Any]:
        points = curve.points
        columns = [points.steps, points.means]
        if points.lows != points.means or points.highs != points.means:
            columns += [points.lows, points.highs]
        first = len(buffers)
        buffers += [memoryview(column).cast("B") if len(column) else b"" for column in columns]
        return {
            "key": curve.key,
            "name": curve.name,
            "how": curve.how,
            "axis": curve.axis,
            "group": curve.group,
            "is_thinned": curve.is_thinned,
            "buffers": list(range(first, len(buffers))),
        }

    # ------------------------------------------------------------------------ from the page

    def _hear(self, _: object, content: dict[str, Any], __: object) -> None:
        """Answer a message; runs in a thread of the kernel, maybe while a cell runs."""
        kind, view = content.get("type"), str(content.get("view", ""))
        if kind == "hello":
            self._welcome(view, can_move=bool(content.get("can_move")))
        elif kind == "seated" and not self._must_stay_widget and self._settled is None:
            # From here on a notebook that is saved, and opened without a kernel, says how to go on.
            self.settle()
        elif kind == "ping":
            self.send({"type": "pong", "to": view})
        elif kind == "stop":
            self.stop()
        elif kind in {"detail", "rank"}:
            self._show_more(kind, view, content)

    def _welcome(self, view: str, *, can_move: bool) -> None:
        with self.lock:
            self._unheard.clear()
            self.publish()  # a snapshot holds what has been told
            self._send_state("snapshot", self.model.snapshot(time.time(), self._limit), to=view)
            if not can_move and not self._must_stay_widget:
                self._must_stay_widget = True
                if self._settled is not None:
                    self._update_displays(self._settled)

    def _show_more(self, kind: str, view: str, content: dict[str, Any]) -> None:
        buffers: list[Any] = []
        with self.lock:
            if kind == "rank":
                rank = int(content.get("rank", 0))
                curves = self.model.curves.of_rank(rank)
                told: dict[str, Any] = {"rank": rank}
            else:
                low, high = float(content.get("low", 0)), float(content.get("high", 0))
                key = int(content.get("key", 0))
                curves = self.model.curves.between(key, low, high, _DETAIL_POINTS)
                told = {"low": low, "high": high}
            packed = [self._pack(curve, buffers) for curve in curves]
            self.send({"type": kind, "to": view, "curves": packed, **told}, buffers=buffers)

    def stop(self) -> None:
        """Have the job end, without waiting for it. Harmless when it is over."""
        if self._cancel is None:
            return
        try:
            self._cancel()
        except Exception as error:  # noqa: BLE001 - whoever pressed the button has to see it
            self.tell(f"the job could not be stopped: {error}")

    def tell(self, text: str) -> None:
        """Add a line that no rank printed."""
        with self.lock:
            self.model.note(text)
        self.publish()

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
            text = static.plain(self.model.text(time.time(), 0))
        data = {"text/plain": text, _WIDGET_MIME: self._widget()} if settled is None else settled
        display(data, raw=True, display_id=display_id)

    def settle(self) -> None:
        """Let the outputs be what a notebook needs where no kernel runs: a picture and text.

        A page that has the view puts it into the picture's place, so a person sees no change.
        """
        with self.lock:
            settled = self._settled = static.bundle(self.model, time.time(), self.place)
        self._update_displays(settled)

    def _update_displays(self, data: dict[str, Any]) -> None:
        from IPython.display import display

        if self._must_stay_widget:
            data = data | {_WIDGET_MIME: self._widget()}
        for display_id in self._displays:
            display(data, raw=True, display_id=display_id, update=True)

    def _widget(self) -> dict[str, Any]:
        return {"version_major": 2, "version_minor": 0, "model_id": self.model_id}


def _kernel_id() -> str:
    """Return the kernel's id in the server's REST interface; nothing where it cannot be known."""
    with contextlib.suppress(Exception):  # no kernel, or one that is not IPython's
        from ipykernel.connect import get_connection_file

        found = re.fullmatch(r"kernel-(.+)\.json", Path(get_connection_file()).name)
        return found[1] if found else ""
    return ""


def _let_messages_through(comm: Any) -> None:  # noqa: ANN401 - ipykernel's or a dummy
    """Have messages of the page handled where the page sends them.

    JupyterLab sends them to a thread of the kernel of their own (a subshell), which answers while a
    cell runs. ipykernel 7.4 routes them back to the thread that last sent, and there they would
    wait for the end of the cell.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _, default: default  # noqa: SLF001 - there is no other way
