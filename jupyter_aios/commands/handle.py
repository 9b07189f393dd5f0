"""A job in Python's hands: what `%%aios_train` and `aios.submit` return."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.commands.record import record_table
from jupyter_aios.commands.results import fetch, fetch_state, load_pickle
from jupyter_aios.core.snapshot import AttemptRow, HistoryRow, job_detail, job_row
from jupyter_aios.core.states import JobState
from jupyter_aios.core.units import format_duration
from jupyter_aios.errors import StateError, UnknownNameError
from jupyter_aios.widgets.text.table import Table, Text
from jupyter_aios.widgets.text.transcript import Transcript
from jupyter_aios.widgets.text.view import raise_failure

if TYPE_CHECKING:
    from jupyter_aios.client import Client
    from jupyter_aios.commands.kept import KeptRanks, Ranks
    from jupyter_aios.commands.record import RecordRow
    from jupyter_aios.core.entities import Job
    from jupyter_aios.widgets.training.view import TrainingView

RETURNED = "return"
"""The name under which a function's return value lies among the results."""
_POLL_S = 5.0


class JobHandle:
    """A job: every property asks the controller anew."""

    def __init__(self, client: Client, job: Job, *, prefix: str = "%aios") -> None:
        self._client = client
        self._last = job
        self._prefix = prefix

    @property
    def id(self) -> str:
        """The job's id, which no other job ever has."""
        return str(self._last.id)

    @property
    def name(self) -> str:
        """The job's name."""
        return self._last.name

    @property
    def job(self) -> Job:
        """The job as data, as it is now."""
        if not self._last.state.is_terminal:
            self._last = self._client.job(self.id)
        return self._last

    @property
    def state(self) -> str:
        """Where the job stands: queued, running, succeeded, …."""
        return self.job.state.value

    @property
    def attempts(self) -> Table[AttemptRow]:
        """The starts of the job, oldest first."""
        columns = (("ATTEMPT", "number"), ("OUTCOME", "outcome"), ("TIME", "elapsed"))
        more = (("START", "start"), ("RESUMED", "resumed"), ("FAILURE", "failure"))
        rows = job_detail(self.job, (), time.time()).attempts
        return Table(rows, columns + more, "no attempt yet")

    @property
    def history(self) -> Table[HistoryRow]:
        """The job's states, oldest first."""
        rows = job_detail(self.job, self._client.history(self.id), time.time()).history
        columns = (("AFTER", "after"), ("STATE", "state"), ("ATTEMPT", "attempt"))
        return Table(rows, (*columns, ("REASON", "reason")))

    @property
    def record(self) -> Table[RecordRow]:
        """What makes the run repeatable: seed, code, git commit, options, versions."""
        return record_table(self._last.spec)

    def logs(self, rank: int | None = None) -> Text:
        """Return all lines so far, of one rank or of all; they show themselves in a notebook.

        Raises:
            UnknownNameError: the job has no such rank.

        """
        check_rank(self._last, rank)
        has_prefix = rank is None and self._last.spec.world_size > 1
        transcript, lines = Transcript(has_prefix, rank), []
        cursor: dict[str, int] = {}
        while True:
            reply = self._client.events(self.id, cursor, limit_bytes=2**22)
            lines += transcript.lines(reply.batch.events)
            if not reply.batch.events:
                return Text("\n".join(lines + transcript.rest()))
            cursor = reply.batch.cursor

    def run(self, code: str, *, ranks: Ranks = None) -> Text:
        """Run code in the job's kept ranks, and return what they printed in it, line by line.

        It reads and binds their variables; what they lack of the notebook's travels along. Waits
        for all of `ranks` (a rank, several, or all), and in line for the cells before it.

        Raises:
            StateError: the job keeps no ranks, or not any more.
            TrainingError: the code raised in a rank; the ranks stay.

        Example:
            job.run("print(loss)", ranks=[0, 2])

        """
        return self._kept.run(code, ranks)

    def push(self, *, ranks: Ranks = None, **values: Any) -> None:  # noqa: ANN401 - any value
        """Give values to kept ranks as their variables: `job.push(lr=0.1, ranks=[0, 2])`.

        Raises:
            StateError: the job keeps no ranks, or not any more.
            ShippingError: a value cannot be pickled.

        """
        self._kept.push(values, list(values), ranks)

    def pull(self, *names: str, ranks: Ranks = 0) -> Any:  # noqa: ANN401 - whatever the ranks have
        """Return variables of kept ranks: of a rank its value, of several {rank: value}.

        Of several names it is {name: …}. A module comes as its state_dict.

        Raises:
            StateError: the job keeps no ranks, or not any more.
            UnknownNameError: a rank has no such variable.
            ShippingError: one cannot be pickled.

        Example:
            job.pull("loss"), job.pull("loss", ranks=[0, 2]), job.pull("loss", ranks="all")

        """
        return self._kept.values(names, ranks)

    def interrupt(self) -> None:
        """Interrupt what runs in kept ranks; they and their variables stay."""
        self._kept.interrupt()

    @property
    def _kept(self) -> KeptRanks:
        from jupyter_aios.commands.kept import KeptRanks

        return KeptRanks(self._client, self.job, self._prefix)

    def view(self) -> TrainingView:
        """Return a live view of the job, for a cell of its own or a box of ipywidgets.

        Example:
            ipywidgets.HBox([a.view(), b.view()])

        """
        from jupyter_aios.widgets.training.following import view_of

        return view_of(self._client, self.job, prefix=self._prefix)

    def cancel(self) -> JobHandle:
        """Have the job end, without waiting for it. Harmless when it is over."""
        self._last = self._client.cancel(self.id)
        return self

    def wait(self, timeout: float | None = None) -> str:
        """Return the job's last state when it is over.

        Raises:
            StateError: it is not over after `timeout` seconds; it goes on.

        """
        end = None if timeout is None else time.monotonic() + timeout
        cursor: dict[str, int] = {}
        while not (job := self._last).state.is_terminal:
            left = _POLL_S if end is None else end - time.monotonic()
            if left <= 0:
                raise StateError(
                    f"{self.name} is {job.state.value} after {format_duration(timeout or 0)}",
                    hint=f"{self._prefix} attach {self.name}",
                )
            # Reading the events is how to hear of a change at once.
            reply = self._client.events(
                self.id, cursor, wait_s=min(left, _POLL_S), state=job.state, limit_bytes=2**22
            )
            cursor, self._last = reply.batch.cursor, reply.job
        return self._last.state.value

    def state_dict(self, name: str | None = None) -> dict[str, Any]:
        """Return the weights of a module that `--pull` kept; `name` where it kept several.

        Raises:
            StateError: the job is not over.
            UnknownNameError: there is no such module among the results.
            TrainingError: the job failed.

        """
        self._finish()
        kept = [result.name for result in self._client.results(self.id) if result.kind == "state"]
        if name is None and len(kept) == 1:
            name = kept[0]
        if name is None or name not in kept:
            raise UnknownNameError.among("module kept by --pull", name or "", kept)
        with tempfile.TemporaryDirectory() as folder:
            return fetch_state(self._client, self.id, name, Path(folder))

    @property
    def result(self) -> Any:  # noqa: ANN401 - whatever the function returned
        """What the submitted function returned; of a cell or script, {name: value} of `--pull`.

        Waits for the end of the job.

        Raises:
            TrainingError: the job failed.

        """
        self.wait()
        self._finish()
        with tempfile.TemporaryDirectory() as folder:
            paths = fetch(self._client, self._last, Path(folder))
            values = {
                item.name: load_pickle(item) if item.kind == "pickle" else item.state()
                for item in paths
            }
        return values.get(RETURNED) if self._last.spec.code.function else values

    def _finish(self) -> None:
        job = self.job
        raise_failure(job)
        if not job.state.is_terminal:
            raise StateError(
                f"{job.name} is {job.state.value}; results are there when it is over",
                hint=f"{self._prefix} attach {job.name}",
            )
        if job.state is JobState.CANCELLED:
            raise StateError(f"{job.name} was cancelled, so it has no results")

    def __repr__(self) -> str:
        row = job_row(self.job, time.time())
        ranks = "1 rank" if row.ranks == 1 else f"{row.ranks} ranks"
        where = f" on {row.where}" if row.where else ""
        attempt = f", attempt {row.attempt}" if row.attempt > 1 else ""
        verbs = ["logs", "pull"] if row.is_terminal else ["attach", "logs", "cancel"]
        commands = " · ".join(f"{self._prefix} {verb} {row.name}" for verb in verbs)
        if row.is_idle:
            commands = f"%%aios_train --on {row.name} · {commands}"
        state = "kept, idle" if row.is_idle else row.state
        first = f"Job {row.name}: {state}, {ranks}{where}{attempt}, {row.elapsed}"
        return f"{first}\n{commands}"


def check_rank(job: Job, rank: int | None) -> None:
    """Return where the job has this rank, or none is asked for.

    Raises:
        UnknownNameError: it has not.

    """
    size = job.spec.world_size
    if rank is not None and not 0 <= rank < size:
        raise UnknownNameError(
            f"{job.name} has no rank {rank}", hint=f"its ranks are 0 to {size - 1}"
        )
