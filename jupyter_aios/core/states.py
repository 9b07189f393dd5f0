"""The states of a job, and the only ways from one to another."""

from __future__ import annotations

from enum import Enum

from jupyter_aios.errors import StateError


class JobState(str, Enum):
    """Where a job stands; `QUEUED` again after a restart or a preemption."""

    QUEUED = "queued"
    PLACED = "placed"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"

    @property
    def is_terminal(self) -> bool:
        """True where nothing follows any more."""
        return not TRANSITIONS[self]

    @property
    def holds_allocation(self) -> bool:
        """True while nodes are reserved for the job."""
        return self in HOLDING


_S = JobState
_ENDS = frozenset({_S.FAILED, _S.CANCELLED})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _S.QUEUED: _ENDS | {_S.PLACED},
    # Back to QUEUED: the launch could not be handed over, or the attempt failed and may restart.
    _S.PLACED: _ENDS | {_S.STARTING, _S.QUEUED},
    _S.STARTING: _ENDS | {_S.RUNNING, _S.SUCCEEDED, _S.QUEUED, _S.PREEMPTED},
    _S.RUNNING: _ENDS | {_S.SUCCEEDED, _S.QUEUED, _S.PREEMPTED},
    _S.PREEMPTED: _ENDS | {_S.QUEUED},
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""STARTING may end in SUCCEEDED: a short attempt can be over before anybody looked."""

HOLDING = frozenset({_S.PLACED, _S.STARTING, _S.RUNNING})


def check_transition(old: JobState, new: JobState) -> None:
    """Return when `old` → `new` is one of `TRANSITIONS`.

    Raises:
        StateError: it is not.

    """
    if new not in TRANSITIONS[old]:
        legal = ", ".join(sorted(state.value for state in TRANSITIONS[old])) or "nothing"
        msg = f"a job that is {old.value} cannot become {new.value}"
        raise StateError(msg, hint=f"from {old.value} follows {legal}")
