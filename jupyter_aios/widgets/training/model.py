"""What the training view shows of a job: events in, a head, curves, lines and banners out.

Pure: no clock, no widget, no client. Not safe for threads by itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.events import OUTPUTS, Event, EventKind
from jupyter_aios.core.snapshot import job_row
from jupyter_aios.widgets.text.transcript import cell_lines
from jupyter_aios.widgets.text.view import status_line
from jupyter_aios.widgets.training.curves import SNAPSHOT_POINTS, Curve, Curves
from jupyter_aios.widgets.training.tails import Line, Tails

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.core.entities import Job

_RATE_WINDOW_S = 20.0


@dataclass(frozen=True)
class Update:
    """What a page has to be told: everything, or what is new."""

    head: dict[str, Any]
    curves: list[Curve]
    lines: list[Line]
    skipped: int
    partials: dict[str, str]
    banners: list[dict[str, Any]]


class TrainingModel:
    """All that is known of one job, as its view needs it."""

    def __init__(self, job: Job, *, prefix: str = "%aios") -> None:
        self.job = job
        self.prefix = prefix
        self.ranks = job.spec.world_size
        self.curves = Curves(self.ranks)
        self.tails = Tails(self.ranks)
        self.step = 0
        self.total = 0
        self.how_total = ""
        self.restarts: list[dict[str, Any]] = []
        self.is_idle = False
        """Whether the ranks are kept and have nothing to do."""
        self.trouble = ""
        """Why the view itself cannot go on."""
        self._attempt = 0
        self._counts_steps = False
        self._verdict: dict[str, Any] | None = None
        self._errors: dict[int | None, dict[str, Any]] = {}
        self._tracebacks: list[tuple[int | None, str]] = []
        """Not shown yet: what the rank printed before may still be on its way."""
        self._pace: deque[tuple[float, int]] = deque()
        self._told: dict[str, Any] = {}

    # --------------------------------------------------------------------------- what comes in

    def feed(self, events: Iterable[Event], job: Job | None = None) -> None:
        """Take events in their order, and how the job stands."""
        for event in events:
            if event.attempt > self._attempt:
                self._begin_attempt(event.attempt)
            if event.kind in OUTPUTS:
                self.tails.feed(event)
            elif event.attempt == self._attempt:
                self._take(event, event.data or {})
        if job is not None:
            self.job = job
            if job.state.is_terminal:
                self._show_tracebacks()

    def note(self, text: str, rank: int | None = None) -> None:
        """Add a line that no rank printed."""
        self.tails.note(rank, text)

    def finish(self) -> None:
        """Take what never ended as it is: the job is over."""
        self.tails.finish()
        self._show_tracebacks()

    def _begin_attempt(self, attempt: int) -> None:
        if self._attempt:
            self.restarts.append({"attempt": attempt, "step": None})
            self.step, self._verdict, self._counts_steps = 0, None, False
            self._errors.clear()
            self._pace.clear()
            self.finish()
            self.curves.restart()
        self._attempt = attempt

    def _take(self, event: Event, data: Any) -> None:  # noqa: ANN401 - parsed JSON
        rank = event.rank
        if event.kind in {EventKind.STEP, EventKind.METRICS, EventKind.CURVE}:
            self._measure(event, data, rank or 0)
        elif event.kind is EventKind.PROGRESS:
            self.total, self.how_total = int(data.get("total", 0)), str(data.get("how", ""))
        elif event.kind is EventKind.NOTICE:
            self.tails.note(rank, f"notice: {data.get('text', '')}")
        elif event.kind is EventKind.ERROR:
            self._error(rank, data)
        elif event.kind is EventKind.CELL:
            for line in cell_lines(event):
                self.tails.add(rank, line, "note")
        elif event.kind is EventKind.AGENT and data.get("state") in {"idle", "busy", "ended"}:
            # The agent has read all that was printed before it says that the attempt has ended.
            self.is_idle = data["state"] == "idle"
        elif event.kind is EventKind.VERDICT:
            self._verdict = dict(data) if data.get("state") == "hang" else None

    def _measure(self, event: Event, data: Any, rank: int) -> None:  # noqa: ANN401 - parsed JSON
        step = int(data.get("step", 0))
        if event.kind is EventKind.METRICS:
            for name, value in data.get("metrics", {}).items():
                self.curves.series(name).add(rank, step, float(value))
            # A person may log at steps of their own; those of the optimizers say more.
            if not self._counts_steps:
                self._advance(step, event.at)
            return
        if not self._counts_steps:
            self._counts_steps, self.step = True, 0
            self._pace.clear()
        for one in data.get("series", ()):
            series = self.curves.series(str(one["name"]), str(one.get("how") or "seen in the loop"))
            for at, value in zip(one["steps"], one["values"], strict=True):
                series.add(rank, at, float(value))
            step = max([step, *map(int, one["steps"][-1:])])
        self._advance(step, event.at)

    def _advance(self, step: int, at: float) -> None:
        if step <= self.step:
            return
        self.step = step
        if self.restarts and self.restarts[-1]["step"] is None:
            self.restarts[-1]["step"] = step
        self._pace.append((at, step))
        while len(self._pace) > 2 and at - self._pace[0][0] > _RATE_WINDOW_S:  # noqa: PLR2004
            self._pace.popleft()

    def _error(self, rank: int | None, data: Any) -> None:  # noqa: ANN401 - parsed JSON
        message = f"{data.get('kind', 'error')}: {data.get('message', '')}"
        self._tracebacks.append((rank, str(data.get("traceback") or message)))
        self._errors.setdefault(rank, {"rank": rank, "text": message.partition("\nhint: ")[0]})

    def _show_tracebacks(self) -> None:
        """Add the tracebacks below what the ranks printed before them."""
        for rank, text in self._tracebacks:
            for line in text.rstrip().splitlines():
                self.tails.add(rank, line, "error")
        self._tracebacks.clear()

    # --------------------------------------------------------------------------- what comes out

    def news(self, now: float, limit: int = SNAPSHOT_POINTS) -> Update | None:
        """Return what was not told before, or None."""
        curves = self.curves.news(now, limit, is_over=self.job.state.is_terminal)
        lines, skipped = self.tails.news()
        head, partials, banners = self.head(now), self.tails.partials(), self.banners()
        # The time moves by itself in the page; it is no news.
        told = {"head": head | {"elapsed_s": 0}, "partials": partials, "banners": banners}
        if not (curves or lines or told != self._told):
            return None
        self._told = told
        return Update(head, curves, lines, skipped, partials, banners)

    def snapshot(self, now: float, limit: int = SNAPSHOT_POINTS) -> Update:
        """Return everything; of a curve what was told before, so that news continue it."""
        curves, lines = self.curves.told(limit), self.tails.lines()
        return Update(self.head(now), curves, lines, 0, self.tails.partials(), self.banners())

    def head(self, now: float) -> dict[str, Any]:
        """Return how the job stands, as plain data."""
        row = job_row(self.job, now)
        is_idle = row.is_idle or (self.is_idle and not row.is_terminal)
        state = "stalled" if row.is_stalled else "kept" if is_idle else row.state
        # While ranks hang or stall, what they did before says nothing of what is left.
        moves = state == "running" and self._verdict is None
        left_s, pace = (self._left_s(), self._steps_per_s()) if moves else (None, None)
        failure = self.job.attempts[-1].failure if self.job.attempts else None
        told = failure.message.partition("\nhint: ") if failure else ("", "", "")
        return {
            "name": row.name,
            "state": state,
            "is_over": row.is_terminal,
            "is_ticking": not row.is_terminal,
            "attempt": row.attempt,
            "ranks": row.ranks,
            "where": row.where,
            "elapsed_s": row.elapsed_s,
            "reason": "" if state in {"running", row.reason} else row.reason,
            "hint": told[2] if row.state == "failed" else "",
            "step": self.step,
            "total": self.total,
            "how_total": self.how_total,
            "left_s": left_s,
            "steps_per_s": pace,
            "samples_per_s": self.curves.speed(),
            "restarts": [dict(one) for one in self.restarts],
            "logs": f"{self.prefix} logs {row.name}",
            "attach": f"{self.prefix} attach {row.name}",
        }

    def banners(self) -> list[dict[str, Any]]:
        """Return what a person has to see: a hang, failed ranks, a view that cannot go on."""
        found = []
        if self.trouble:
            found.append({"kind": "trouble", "rank": None, "text": self.trouble, "hint": ""})
        if self._verdict is not None and not self.job.state.is_terminal:
            told = {key: self._verdict.get(key) for key in ("rank", "text", "hint")}
            found.append({"kind": "hang", **told})
        if self._errors and not self.job.state.is_terminal:
            first = next(iter(self._errors.values()))
            found.append({"kind": "error", "hint": "", **first})
        return found

    def text(self, now: float, lines: int = 20) -> str:
        """Return the view as plain text: one line on how it stands, and the last lines."""
        metrics = {s.label: last for s in self.curves.ordered() if (last := s.last) is not None}
        status = status_line(self.job, now, self.step, metrics, "")
        return "\n".join([status, *self.tails.last(lines)])

    def _steps_per_s(self) -> float | None:
        if len(self._pace) < 2:  # noqa: PLR2004 - a pace needs two moments
            return None
        (begun, first), (now, last) = self._pace[0], self._pace[-1]
        return (last - first) / (now - begun) if now > begun else None

    def _left_s(self) -> float | None:
        pace = self._steps_per_s()
        return max(self.total - self.step, 0) / pace if pace and self.total else None
