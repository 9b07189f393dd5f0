"""Feeds a view from a job: one daemon thread reads events until the job is over."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING

from jupyter_aios.errors import AiosError
from jupyter_aios.widgets.text.view import attend, restart_note
from jupyter_aios.widgets.training.model import TrainingModel
from jupyter_aios.widgets.training.view import PERIOD_S, TrainingView

if TYPE_CHECKING:
    from jupyter_aios.client import Client
    from jupyter_aios.core.entities import Job

_WAIT_S = 5.0
_SOON_S = 0.4
"""A long poll ends so soon while points wait for other ranks, or nobody has said hello."""
_FIRST_S, _FIRST_PERIOD_S = 1.0, 0.04
"""For so long a view is told news as often: somebody waits for the first point of a curve."""
LOOK_S = 0.2
"""Between two looks whether the thread has ended: an interrupt acts only between them."""
_LIMIT_BYTES = 2**20


class Feeder:
    """Reads a job's events into a view, in a thread of its own, until the job is over.

    Whoever waits is released when the job is over, or when its ranks are kept and idle.
    """

    def __init__(self, client: Client, job: Job, view: TrainingView) -> None:
        self._client = client
        self._job = job
        self._view = view
        self._attempt = 0
        self._done = threading.Event()
        self._error: BaseException | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is something to wait for, as far as the thread knows."""
        return not self._done.is_set()

    def start(self) -> None:
        """Begin; what the thread shows belongs to the cell that calls this."""
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"view of {self._job.name}", daemon=True
        )
        thread.start()

    def wait(self) -> Job:
        """Return the job when it is over and everything is shown. May be interrupted.

        Raises:
            AiosError: the controller does not answer.

        """
        while not self._done.wait(LOOK_S):
            pass
        if self._error is not None:
            raise self._error
        return self._job

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 - the thread that waits raises it
            self._error = error
            with self._view.lock:
                told = error.message if isinstance(error, AiosError) else repr(error)
                self._view.model.trouble = f"this view has stopped: {told}"
        try:
            self._view.publish()
            self._view.settle()
        except Exception as error:  # noqa: BLE001 - the thread that waits raises it
            self._error = self._error or error
        finally:
            # A view that cannot be drawn must not keep the cell for ever.
            self._done.set()

    def _read(self) -> None:
        cursor: dict[str, int] = {}
        state, begun, sent = None, 0.0, 0.0
        first_ends = time.monotonic() + _FIRST_S
        while True:
            now = time.monotonic()
            period_s = PERIOD_S if now > first_ends else _FIRST_PERIOD_S
            # More than one poll in a period would wake everybody for nothing.
            time.sleep(max(0.0, min(begun + period_s - now, period_s)))
            begun = time.monotonic()
            wait_s = (_SOON_S if self._view.is_hurried else _WAIT_S) if state else 0.0
            reply = self._client.events(
                self._job.id, cursor, wait_s=wait_s, state=state, limit_bytes=_LIMIT_BYTES
            )
            job, events = reply.job, reply.batch.events
            is_over = job.state.is_terminal and not events
            note = self._restart(job)
            with self._view.lock:
                if note:
                    self._view.model.note(note)
                self._view.model.feed(events, job)
                if is_over:
                    self._view.model.finish()
            self._job, state, cursor = job, job.state, reply.batch.cursor
            if is_over:
                return
            if self._view.model.is_idle and not events and not self._done.is_set():
                # The cell is done; the ranks are kept, and the view goes on with them.
                self._view.publish()
                self._view.settle()
                self._done.set()
            if sum(len(event.text) for event in events) > _LIMIT_BYTES // 4:
                begun -= period_s  # there is more: read it at once
            if time.monotonic() - sent >= period_s:
                sent = time.monotonic()
                self._view.publish()

    def _restart(self, job: Job) -> str:
        before, self._attempt = self._attempt, max(job.attempt, self._attempt)
        return restart_note(self._client, job, before) if 0 < before < job.attempt else ""


def view_of(client: Client, job: Job, *, prefix: str = "%aios") -> TrainingView:
    """Return a view that follows the job in the background."""
    return _begin(client, job, prefix)[0]


def _begin(client: Client, job: Job, prefix: str) -> tuple[TrainingView, Feeder]:
    model = TrainingModel(job, prefix=prefix)
    view = TrainingView(model, cancel=lambda: client.cancel(job.id))
    feeder = Feeder(client, job, view)
    feeder.start()
    return view, feeder


def follow(client: Client, job: Job, *, on_interrupt: str = "cancel", prefix: str = "%aios") -> Job:
    """Show a job in a live view, and return it when it has ended.

    Args:
        client: whom to ask.
        job: which.
        on_interrupt: `cancel` the job at the kernel's interrupt, or `detach` from it.
        prefix: what commands are typed after.

    Raises:
        FollowInterrupt: the person interrupted; the view goes on in the background.
        AiosError: the controller does not answer.

    """
    view, feeder = _begin(client, job, prefix)
    view.blocking = True
    view.show()
    try:
        return attend(client, job, feeder.wait, view.tell, on_interrupt=on_interrupt, prefix=prefix)
    finally:
        view.blocking = False
        if feeder.is_running:
            view.settle()
