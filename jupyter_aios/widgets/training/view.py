"""The widget, and the messages between it and the page.

Curves and lines travel in custom messages, never in traits: what is saved of the widget is tiny.

From the page to the kernel (JSON; `view` names the view that asks):

    {"type": "hello", "view", "can_move"}      a view is there and has nothing. `can_move`: the page
                                               can show it in the place of the saved picture
    {"type": "seated", "view"}                 it has been shown for a moment: the output may become
                                               the place, which a saved notebook can show
    {"type": "ping", "view"}                   is the kernel still there? Answered by "pong", with
                                               the number of the last message to all
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
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from jupyter_aios.widgets.seat import SeatedWidget, joined
from jupyter_aios.widgets.training import static
from jupyter_aios.widgets.training.curves import SNAPSHOT_POINTS, Curve

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.widgets.training.model import TrainingModel, Update

PERIOD_S = 0.1
SCRIPTS = (
    "../dom.js", "../seat.js", "head.js", "ansi.js", "curve.js", "scales.js", "chart.js",
    "pointer.js", "board.js", "output.js", "view.js",
)  # fmt: skip
_HERE = Path(__file__).parent
_UNHEARD_S = (0.3, 0.8, 1.5, 3.0, 6.0, 12.0, 24.0)
"""After so long everything is sent to all, while nobody has said hello."""
_DETAIL_POINTS = 20_000


class TrainingView(SeatedWidget):
    """A job as a live view; feed `model` under `lock`, then `publish`.

    Example:
        view = TrainingView(TrainingModel(job))
        with view.lock:
            view.model.feed(events)
        view.publish()

    """

    _esm = joined(_HERE, SCRIPTS)
    _css = joined(_HERE, ("../base.css", "view.css"))
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
        super().__init__(kernel_id=_kernel_id())
        self.model = model
        self._cancel = cancel
        self._limit = limit
        self._number = 0
        self._unheard = list(_UNHEARD_S)
        self._listen()

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
        elif kind == "seated":
            self._sit()
        elif kind == "ping":
            with self.lock:
                self.send({"type": "pong", "to": view, "number": self._number})
        elif kind == "stop":
            self.stop()
        elif kind in {"detail", "rank"}:
            self._show_more(kind, view, content)

    def _welcome(self, view: str, *, can_move: bool) -> None:
        with self.lock:
            self._unheard.clear()
            self.publish()  # a snapshot holds what has been told
            self._send_state("snapshot", self.model.snapshot(time.time(), self._limit), to=view)
            if not can_move:
                self._keep_widget()

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

    def _plain(self) -> str:
        return static.plain(self.model.text(time.time(), 0))

    def _bundle(self) -> dict[str, Any]:
        return static.bundle(self.model, time.time(), self.place)


def _kernel_id() -> str:
    """Return the kernel's id in the server's REST interface; nothing where it cannot be known."""
    with contextlib.suppress(Exception):  # no kernel, or one that is not IPython's
        from ipykernel.connect import get_connection_file

        found = re.fullmatch(r"kernel-(.+)\.json", Path(get_connection_file()).name)
        return found[1] if found else ""
    return ""
