"""What a FakeEngine shows for each of `testing.programs`, by the program's name."""

from __future__ import annotations

import hashlib
import json
import pickle
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import Failure
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, Outcome
from jupyter_aios.testing import programs
from jupyter_aios.testing.attempts import INTERRUPTED, KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jupyter_aios.testing.attempts import FakeAttempt, Script

_START_S = 0.1
_STEP_S = 0.01


def _tour(attempt: FakeAttempt) -> Iterator[float]:
    yield from _start(attempt)
    texts = {rank: programs.tour_text(rank).splitlines(keepends=True) for rank in attempt.ranks}
    for number in range(0, programs.TOUR_LINES, 50):
        for rank in attempt.ranks:
            attempt.emit(rank, "".join(texts[rank][number : number + 50]))
        yield _STEP_S
    for plan in attempt.plan.ranks:
        environment = dict(attempt.plan.environment) | dict(plan.environment)
        line = programs.ENVIRONMENT_MARK + json.dumps(environment) + "\n"
        attempt.emit(plan.rank, line, EventKind.STDERR)
    attempt.leave("answer", pickle.dumps(programs.ANSWER))
    attempt.leave("nothing", b"", kind="none", error="there is no such name")
    attempt.end(Outcome.SUCCEEDED)


def _exits_with_three(attempt: FakeAttempt) -> Iterator[float]:
    yield from _start(attempt)
    failure = Failure(0, "SystemExit", "rank 0 exited with code 3")
    attempt.end(Outcome.FAILED, {0: 3}, failure)


def _raises(attempt: FakeAttempt) -> Iterator[float]:
    yield from _ready(attempt)
    message = "no such luck: naïve"
    traceback = (
        f'Traceback (most recent call last):\n  File "{programs.ORIGIN}", line 4, in <module>\n'
        f'    raise ValueError("{message}")\nValueError: {message}\n'
    )
    attempt.record(1, EventKind.ERROR, kind="ValueError", message=message, traceback=traceback)
    yield _STEP_S
    codes = dict.fromkeys(attempt.ranks, INTERRUPTED) | {1: 1}
    attempt.end(Outcome.FAILED, codes, Failure(1, "ValueError", message, traceback))


def _killed(attempt: FakeAttempt) -> Iterator[float]:
    yield from _ready(attempt)
    failure = Failure(1, "Killed", "rank 1 was killed by SIGKILL")
    attempt.end(Outcome.FAILED, {0: INTERRUPTED, 1: KILLED}, failure)


def _patient(attempt: FakeAttempt) -> Iterator[float]:
    yield from _ready(attempt)


def _stubborn(attempt: FakeAttempt) -> Iterator[float]:
    attempt.ignores_signals = True
    yield from _ready(attempt)


def _brief(attempt: FakeAttempt) -> Iterator[float]:
    yield from _start(attempt)
    attempt.emit(0, "done\n")
    attempt.end(Outcome.SUCCEEDED)


def _tells(attempt: FakeAttempt) -> Iterator[float]:
    yield from _start(attempt)
    token, key = (attempt.delivery.secrets[name].reveal().decode() for name in ("TOKEN", "KEY"))
    for value in (token, key, key):
        attempt.emit(0, f"{hashlib.sha256(value.encode()).hexdigest()}\n")
    attempt.emit(0, f"the token is {token}\n[]\n")
    message = f"not with {key}"
    attempt.record(0, EventKind.ERROR, kind="ValueError", message=message, traceback=message)
    shown = attempt.delivery.redaction.redact_text(message)
    attempt.end(Outcome.FAILED, {0: 1}, Failure(0, "ValueError", shown, shown))


def _kept(attempt: FakeAttempt) -> Iterator[float]:
    yield from _start(attempt)
    attempt.be_kept(("answer",))


def _start(attempt: FakeAttempt) -> Iterator[float]:
    yield _START_S
    attempt.advance(AttemptPhase.RUNNING)
    yield _STEP_S


def _ready(attempt: FakeAttempt) -> Iterator[float]:
    yield from _start(attempt)
    for rank in attempt.ranks:
        attempt.emit(rank, "ready\n")
    yield _STEP_S


SCRIPTS: Mapping[str, Script] = {
    programs.TOUR.name: _tour,
    programs.EXITS_WITH_THREE.name: _exits_with_three,
    programs.RAISES.name: _raises,
    programs.KILLED.name: _killed,
    programs.PATIENT.name: _patient,
    programs.STUBBORN.name: _stubborn,
    programs.BRIEF.name: _brief,
    programs.TELLS.name: _tells,
    programs.KEPT.name: _kept,
}
