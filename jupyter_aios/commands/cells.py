"""One cell in kept ranks, followed until all of them are done with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jupyter_aios.client import Client
from jupyter_aios.core.entities import Job
from jupyter_aios.errors import TrainingError
from jupyter_aios.widgets.text.kept import CellTranscript
from jupyter_aios.widgets.text.view import FollowInterrupt, raise_failure

RETURN_S = 5.0
"""How long ranks have to come back from an interrupted cell."""
_WAIT_S = 1.0


@dataclass
class FollowedCell:
    """A cell that was ordered; `write` gets its lines, `tell` what it waits for."""

    client: Client
    job: Job
    prefix: str
    told: CellTranscript
    write: Callable[[list[str]], None]
    tell: Callable[[str], None]
    cursor: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.cursor = dict(self.told.ticket.cursor)

    def run(self) -> None:
        """Give out the cell's lines until all its ranks are done with it.

        Raises:
            TrainingError: it raised in a rank, or the job ended meanwhile.
            FollowInterrupt: the person interrupted, and with that the cell.

        """
        try:
            self._follow()
        except KeyboardInterrupt:
            raise self._interrupt() from None
        if any(data["state"] == "interrupted" for data in self.told.outcomes.values()):
            raise self._interrupted()
        self._raise_failures()

    def _follow(self, until: float = float("inf")) -> None:
        state = None
        while not self.told.is_over(self.cursor) and time.monotonic() < until:
            wait_s = 0.0 if state is None else min(_WAIT_S, until - time.monotonic())
            reply = self.client.events(
                str(self.job.id), self.cursor, wait_s=max(wait_s, 0.0), state=state
            )
            state = reply.job.state
            # In place: an interrupt in between may show lines twice, and loses none.
            self.write(self.told.lines(reply.batch.events))
            self.cursor.update(reply.batch.cursor)
            if state.is_terminal and not reply.batch.events:
                self.write(self.told.rest())
                raise_failure(reply.job)
                raise TrainingError(
                    f"{self.job.name} is {state.value} before the cell was over: {reply.job.reason}"
                )
            if self.told.is_waiting:
                self.tell(f"cell {self.told.ticket.number} waits for {self.job.name}'s ranks")
        self.write(self.told.rest())

    def _interrupt(self) -> BaseException:
        """Interrupt the cell in its ranks, and return what there is to say when they are back."""
        with contextlib.suppress(KeyboardInterrupt):
            self.client.interrupt_cell(str(self.job.id), self.told.ticket.number)
            try:
                self._follow(until=time.monotonic() + RETURN_S)
            except TrainingError as ended:
                return ended
        return self._interrupted()

    def _interrupted(self) -> FollowInterrupt:
        name = self.job.name
        if not self.told.left:
            return FollowInterrupt(
                f"the cell on {name}; its ranks and their variables are still there",
                f"%%aios_train --on {name}",
            )
        verb = "does" if len(self.told.left) == 1 else "do"
        return FollowInterrupt(
            f"{named(self.told.left)} of {name} {verb} not come back: inside a collective"
            " (all_reduce, barrier) or native code an interrupt waits for the other ranks",
            f"{self.prefix} cancel {name} ends all of its ranks;"
            f" {self.prefix} interrupt {name} tries again",
        )

    def _raise_failures(self) -> None:
        failed = {r: d for r, d in sorted(self.told.outcomes.items()) if d["state"] == "failed"}
        if not failed:
            return
        first = next(iter(failed))
        data = failed[first]
        message, _, hint = data["message"].partition("\nhint: ")
        others = [rank for rank in failed if rank != first]
        lines = [f"{named(list(failed))} of {self.job.name} raised {data['kind']}: {message}"]
        if others and any(failed[rank]["kind"] != data["kind"] for rank in others):
            lines = [f"rank {first} of {self.job.name} raised {data['kind']}: {message}"]
            lines += [
                f"rank {r} raised {failed[r]['kind']}: {failed[r]['message']}" for r in others
            ]
        if data["traceback"]:
            lines.append(data["traceback"])
        again = f"the ranks and their variables are still there: %%aios_train --on {self.job.name}"
        raise TrainingError("\n".join(lines), hint=hint or again)


def named(ranks: Sequence[int]) -> str:
    """Return `rank 1` or `ranks 0, 2`."""
    return f"rank {ranks[0]}" if len(ranks) == 1 else "ranks " + ", ".join(map(str, ranks))
