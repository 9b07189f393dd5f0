"""The doctor in the agent: a look at every rank once a second, more only where nothing moves.

It never waits: the agent calls `look` at each turn of its loop. While ranks move, a look is one
read of mapped memory per rank. A rank that has not moved for `QUIET_S` has its processes read. If
what they say leaves nobody any hope, the ranks are made to write their stacks, three times; what
has not changed by then is told.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind
from jupyter_aios.training.doctor import explaining
from jupyter_aios.training.doctor.examination import Examination
from jupyter_aios.training.doctor.hope import Pulse
from jupyter_aios.training.doctor.judgement import judge
from jupyter_aios.training.doctor.patients import Patient
from jupyter_aios.training.doctor.places import Places
from jupyter_aios.training.doctor.rank import stack_name
from jupyter_aios.training.doctor.signs import children_of_all
from jupyter_aios.training.doctor.vitals import VitalsReader, vitals_name
from jupyter_aios.training.doctor.words import names, tell
from jupyter_aios.training.processes import identity_of

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path
    from typing import Protocol

    from jupyter_aios.core.entities import Failure
    from jupyter_aios.core.events import Frame
    from jupyter_aios.core.ports import LaunchPlan
    from jupyter_aios.training.doctor.standings import Standing, Verdict

    class Record(Protocol):
        """Appends to the agent's own file."""

        def __call__(self, kind: EventKind, /, **data: object) -> None:
            """Append one event."""


LOOK_S = 1.0
LATER_LOOK_S = 2.0
"""Where ranks have not moved for `LATER_S`: a long validation is looked at less often."""
LATER_S = 30.0
QUIET_S = 4.5
AGAIN_S, LATEST_AGAIN_S = 20.0, 300.0
"""After an examination that found nothing."""
_STACK_LENGTH, _ALL_STACKS_LENGTH = 6000, 200_000


class Doctor:
    """Watches the ranks of one attempt."""

    def __init__(self, plan: LaunchPlan, folder: Path, record: Record) -> None:
        self._places = Places(plan, folder)
        self._record = record
        self._patients = {
            one.rank: Patient(
                one.rank,
                VitalsReader(folder / vitals_name(one.rank)),
                folder / stack_name(one.rank),
            )
            for one in plan.ranks
        }
        self._is_on = sys.platform == "linux"
        self._next_at = 0.0
        self._examination: Examination | None = None
        self._again_at = 0.0
        self._again_s = AGAIN_S
        self._alarm: Verdict | None = None
        self._alarm_at = 0.0

    def note(self, rank: int, frame: Frame, now: float) -> None:
        """Take in what a rank has recorded."""
        patient = self._patients[rank]
        patient.moved_at = now
        if frame.kind is EventKind.PHASE:
            data = frame.json()
            if data["phase"] == "started":
                patient.identity = identity_of(data["pid"])
            else:
                patient.is_over = True
        elif frame.kind is EventKind.CELL:
            patient.is_idle = frame.json()["state"] != "started"

    def look(self, now: float, exits: Container[int]) -> None:
        """Look at the ranks, where it is time. Does not block, and never raises."""
        if not self._is_on:
            return
        try:
            self._look(now, exits)
        except Exception:  # noqa: BLE001 - a fault of the doctor's must not cost the job
            traceback.print_exc()  # into the agent's log
            self._is_on = False

    def _look(self, now: float, exits: Container[int]) -> None:
        if self._examination is not None:
            self._examine(self._examination, now)
        elif now >= self._next_at:
            self._next_at = now + LOOK_S
            for patient in self._patients.values():
                patient.is_over |= patient.rank in exits
                patient.note_movement(now)
            if self._alarm is not None:
                self._watch_alarm(self._alarm, now)
            else:
                self._survey(now)

    def explain(self, failure: Failure, ended: Container[int]) -> Failure:
        """Return a failure that came of ranks in different calls with the comparison of them."""
        try:
            return self._explained(failure, ended)
        except Exception:  # noqa: BLE001 - as in `look`: the failure itself must be told
            traceback.print_exc()
            return failure

    def _explained(self, failure: Failure, ended: Container[int]) -> Failure:
        vitals = {rank: one.reader.read() for rank, one in self._patients.items()}
        known = {rank: one for rank, one in vitals.items() if one is not None}
        over = [rank for rank in known if rank in ended]
        told = explaining.explain(failure, known, over, self._places)
        if told is None:
            return failure
        return replace(failure, message=f"{failure.message}\n{told.text}\nhint: {told.hint}")

    def close(self) -> None:
        """Remove what only the doctor reads."""
        for patient in self._patients.values():
            patient.reader.close()
            patient.reader.path.unlink(missing_ok=True)
            patient.stack_file.unlink(missing_ok=True)

    def _quiet(self, now: float) -> list[Patient]:
        """Return the ranks with work that have not moved for long enough; forget the others'."""
        found = []
        for one in self._patients.values():
            if one.is_watched and now - one.moved_at >= QUIET_S:
                found.append(one)
            else:
                one.forget()
        return found

    def _survey(self, now: float) -> None:
        """Look at the processes of those that do not move; begin to examine where it is time."""
        quiet = self._quiet(now)
        if not quiet:
            self._again_s, self._again_at = AGAIN_S, now
            return
        if now - min(one.moved_at for one in quiet) > LATER_S:
            self._next_at = now + LATER_LOOK_S
        self._see(quiet, now)
        if now >= self._again_at and judge(self._standings()) is not None:
            self._examination = Examination(quiet, now)

    def _see(self, quiet: list[Patient], now: float) -> None:
        still = [one for one in quiet if not one.is_computing()]
        children = children_of_all() if still else {}
        for one in quiet:
            if one in still:
                one.see(children, now)
            else:
                one.run()

    def _standings(self, *, is_last: bool = False) -> dict[int, Standing]:
        found = (one.standing(self._places, is_last=is_last) for one in self._patients.values())
        return {one.rank: one for one in found}

    def _examine(self, examination: Examination, now: float) -> None:
        if examination.is_asking:
            examination.collect(now)
            if examination.is_complete:
                self._conclude(now)
        elif now >= examination.next_at:
            for one in self._patients.values():
                one.note_movement(now)
            self._see(self._quiet(now), now)
            if judge(self._standings()) is None:
                self._end_examination(now)
            else:
                examination.begin_sample(now)

    def _end_examination(self, now: float) -> None:
        self._examination = None
        for one in self._patients.values():
            one.forget()
        self._again_at, self._again_s = now + self._again_s, min(2 * self._again_s, LATEST_AGAIN_S)

    def _conclude(self, now: float) -> None:
        for one in self._patients.values():
            one.note_movement(now)
        self._quiet(now)
        standings = self._standings(is_last=True)
        verdict = judge(standings)
        if verdict is not None:
            self._alarm, self._alarm_at = verdict, now
            self._tell(verdict, standings)
        self._end_examination(now)

    def _tell(self, verdict: Verdict, standings: dict[int, Standing]) -> None:
        told = tell(verdict, standings, self._places)
        self._record(
            EventKind.VERDICT,
            state="hang",
            kind=verdict.kind.value,
            rank=None if verdict.is_tie else verdict.ranks[0],
            ranks=list(verdict.ranks),
            waiting=list(verdict.waiting),
            where=told.where,
            text=told.text,
            hint=told.hint,
            stacks=self._stacks(),
        )
        self._record(EventKind.NOTICE, text=f"{told.text}. Try: {told.hint}")

    def _stacks(self) -> dict[str, str]:
        found: dict[str, str] = {}
        room = _ALL_STACKS_LENGTH
        for rank, one in self._patients.items():
            text = one.stack_text(self._places)[: min(_STACK_LENGTH, room)]
            room -= len(text)
            if text:
                found[str(rank)] = text
        return found

    def _watch_alarm(self, alarm: Verdict, now: float) -> None:
        involved = [self._patients[rank] for rank in {*alarm.ranks, *alarm.waiting}]
        culprits = [] if alarm.is_tie else [self._patients[rank] for rank in alarm.ranks]
        has_hope = False
        if not any(one.moved_at > self._alarm_at for one in involved):
            before = [one.tree for one in culprits]
            self._see(culprits, now)
            has_hope = any(
                tree and one.outlook.pulse is Pulse.HOPE and self._is_rootlike(alarm)
                for tree, one in zip(before, culprits, strict=True)
            )
        if has_hope or any(one.moved_at > self._alarm_at for one in involved):
            text = f"{names(alarm.ranks)} {'goes' if len(alarm.ranks) == 1 else 'go'} on"
            self._record(
                EventKind.VERDICT, state="over", kind=alarm.kind.value,
                rank=None if alarm.is_tie else alarm.ranks[0], ranks=list(alarm.ranks),
                text=text, hint="",
            )  # fmt: skip
            self._record(EventKind.NOTICE, text=text)
            self._alarm = None

    def _is_rootlike(self, alarm: Verdict) -> bool:
        """True where the culprits wait for nobody: that they run again is news."""
        return alarm.kind.value in ("frozen", "loader", "lock")
