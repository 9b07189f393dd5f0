"""Samples of the stacks of all that do not move, taken over the turns of the agent's loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.patients import Patient
from jupyter_aios.training.doctor.signs import Process, children_of_all

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 3
BETWEEN_S = 2.5
ANSWER_S = 2.0
"""How long all together may take to write their stacks."""


@dataclass
class _Question:
    """A process that was asked for its stacks."""

    patient: Patient
    process: Process
    begin: int
    size: int = -1


class Examination:
    """Asks the processes of some ranks for their stacks, several times. Never waits."""

    def __init__(self, patients: Sequence[Patient], now: float) -> None:
        self._patients = patients
        self._asked: list[_Question] = []
        self._unasked: list[tuple[Patient, Process]] = []
        self._asked_at = now
        self._is_asking = False
        self.samples = 0
        self.next_at = now

    @property
    def is_complete(self) -> bool:
        """True when all samples have been taken."""
        return self.samples == SAMPLES and not self._is_asking

    @property
    def is_asking(self) -> bool:
        """True while answers are awaited."""
        return self._is_asking

    def begin_sample(self, now: float) -> None:
        """Ask. The ranks at once; what shares a rank's file, one after the other."""
        self.samples += 1
        self._unasked = [(one, process) for one in self._patients for process in one.suspects()]
        self._asked_at = now
        self._is_asking = True
        self._ask()

    def _ask(self) -> None:
        busy = {question.patient.rank for question in self._asked}
        left = []
        for patient, process in self._unasked:
            if patient.rank in busy:
                left.append((patient, process))
                continue
            begin = patient.ask(process)
            if begin is not None:
                busy.add(patient.rank)
                self._asked.append(_Question(patient, process, begin))
        self._unasked = left

    def collect(self, now: float) -> None:
        """Take the answers that are there; when all are, read the processes anew."""
        for question in list(self._asked):
            patient, size = question.patient, question.patient.stack_size()
            dump = patient.answer(question.begin) if size == question.size else None
            # Nothing marks the end of a dump: it is over when it has stopped growing.
            question.size = size
            if dump is not None:
                patient.take(question.process.pid, dump)
                self._asked.remove(question)
        self._ask()
        if now - self._asked_at > ANSWER_S:
            self._asked, self._unasked = [], []
        if not self._asked and not self._unasked:
            # Writing made them run: what they do from here on counts.
            children = children_of_all()
            for one in self._patients:
                one.see_again(children, now)
            self._is_asking = False
            self.next_at = self._asked_at + BETWEEN_S
