"""What the controller asks of the world: an engine that runs attempts, a store that remembers.

The contract suites in `jupyter_aios.testing` hold every implementation to the promises here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from jupyter_aios.core.entities import (
    Allocation,
    Attempt,
    Backend,
    BlobId,
    Code,
    Failure,
    Job,
    JobId,
    Launcher,
    Node,
    RankExit,
    SecretUse,
    StopReason,
    Transition,
    UserId,
)
from jupyter_aios.core.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from jupyter_aios.core.audit import AuditHead, AuditRow, ChainReport
    from jupyter_aios.core.cells import Cell, CellTicket, KeptStatus
    from jupyter_aios.core.policy import Member, Token
    from jupyter_aios.core.quotas import Quota, Usage
    from jupyter_aios.core.secrets import Secret
    from jupyter_aios.core.states import JobState


NO_SECRETS: Mapping[str, Secret] = MappingProxyType({})


@dataclass(frozen=True)
class AttemptRef:
    """The name of one attempt, by which an engine finds it again after any restart."""

    job_id: JobId
    number: int


@dataclass(frozen=True)
class CellRef:
    """What one rank left in one cell of an attempt whose ranks were kept."""

    attempt: AttemptRef
    number: int
    rank: int


@dataclass(frozen=True)
class RankPlan:
    """One rank: its environment on top of the job's, and its number of threads."""

    rank: int
    node: str
    environment: tuple[tuple[str, str], ...]
    threads: int


@dataclass(frozen=True)
class LaunchPlan:
    """One attempt as pure data: all that an agent needs to know. `--dry-run` prints it."""

    job_id: JobId
    name: str
    attempt: int
    launcher: Launcher
    interpreter: str
    cwd: str
    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    backend: Backend
    code: Code
    ranks: tuple[RankPlan, ...]
    folder: str
    """The job's folder on the machine of the agent."""
    pull: tuple[str, ...]
    pull_limit_bytes: int
    log_limit_bytes: int
    memory_limit_bytes: int
    """Per rank; 0 is no limit."""
    timeout_s: float | None
    start_deadline_s: float
    teardown_deadline_s: float
    stall_after_s: float
    autolog: bool = True
    seed: int | None = None
    keep_idle_s: float | None = None
    secrets: tuple[SecretUse, ...] = ()
    """By name; the values go another way: see `Engine.launch`."""
    permit: str = ""
    """The controller's leave to start it; see `vault.permits`."""
    permit_key: str = ""
    """Not empty: no rank starts before the permit has been checked with this public key."""


class AttemptPhase(str, Enum):
    """How far an attempt has come, as its agent tells it."""

    ABSENT = "absent"
    """No agent has claimed it, and none ever will."""
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class Outcome(str, Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """Because it was told to: see `AttemptStatus.stopped_for`."""
    LOST = "lost"
    """The agent is gone without a word; its ranks are gone with it."""


@dataclass(frozen=True)
class AttemptStatus:
    """What an engine knows of an attempt."""

    phase: AttemptPhase
    running_since: float | None = None
    ended_at: float | None = None
    is_stalled: bool = False
    is_idle: bool = False
    """The ranks are kept, and all that was ordered of them is over."""
    outcome: Outcome | None = None
    stopped_for: StopReason | None = None
    exits: tuple[RankExit, ...] = ()
    failure: Failure | None = None
    resumed_step: int | None = None
    checkpoint_step: int | None = None
    """The newest step from which another attempt would go on."""
    start: str = ""


@dataclass(frozen=True)
class EventBatch:
    """Events in the order of their time, and the cursor that continues after them."""

    events: tuple[Event, ...]
    cursor: dict[str, int]
    """Stream name → offset of the next event."""


@dataclass(frozen=True)
class Result:
    """A value that rank 0 left for `pull`; `error` says why there is none."""

    name: str
    kind: str
    """`state` (a state_dict, by torch.save), `pickle`, or `none` where `error` is set."""
    size_bytes: int
    error: str = ""


@dataclass(frozen=True)
class WarmStatus:
    """Whether the next launch with this interpreter and environment starts warm."""

    is_warm: bool
    detail: str


class BlobStore(Protocol):
    """Content-addressed bytes that jobs take along."""

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those that are not here."""

    def path(self, blob: BlobId) -> Path:
        """Return the file that holds the blob; it must not be changed.

        Raises:
            UnknownNameError: it is not here.

        """


class Engine(Protocol):
    """How attempts run somewhere. An attempt outlives the engine object and its process."""

    name: str

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes that this engine offers, with their capacity."""

    def plan(self, job: Job, allocation: Allocation, attempt: int) -> LaunchPlan:
        """Return the attempt as data. Pure: nothing is started or written.

        Raises:
            InputError: the job asks for what these nodes do not have (nccl without GPUs).

        """

    def launch(self, plan: LaunchPlan, secrets: Mapping[str, Secret] = NO_SECRETS) -> str:
        """Hand the attempt to an agent and return how it starts: `warm`, or why cold.

        Does not wait for the ranks. Launching the same attempt twice starts it once.

        Args:
            plan: from `plan`.
            secrets: by name, those of `plan.secrets` that the ranks may see. They reach the ranks
                in memory only: no file, argument or environment holds them, but the variables
                that `plan.secrets` asks for. What the ranks print or record shows their names
                instead. The engine keeps none of them: another attempt needs them again.

        Raises:
            InputError: a secret that the plan does not ask for, or a variable that cannot hold it.
            UnavailableError: no agent can be started; the hint says what to mend.
            StorageError: the job's folder cannot be written.

        """

    def status(self, ref: AttemptRef) -> AttemptStatus:
        """Return what is known of an attempt, whoever launched it."""

    def fence(self, ref: AttemptRef) -> None:
        """Make sure that an attempt which no agent has claimed yet never starts. Idempotent."""

    def stop(self, ref: AttemptRef, reason: StopReason) -> None:
        """Tell an attempt to end: SIGINT, SIGTERM after 3 s, SIGKILL after 5 s. Idempotent.

        Does not wait. An attempt that no agent has claimed yet is fenced.
        """

    def read(self, job_id: JobId, cursor: Mapping[str, int], limit_bytes: int) -> EventBatch:
        """Return events of all attempts after `cursor`, at most about `limit_bytes` of them."""

    def results(self, ref: AttemptRef | CellRef) -> tuple[Result, ...]:
        """Return what the attempt, or one rank in one cell, left for `pull`."""

    def result_path(self, ref: AttemptRef | CellRef, name: str) -> Path:
        """Return the file of one result.

        Raises:
            UnknownNameError: there is none of that name.

        """

    def run_cell(self, ref: AttemptRef, cell: Cell) -> CellTicket:
        """Order one more cell of an attempt whose ranks are kept; does not wait for it.

        Cells run one after the other in each rank, the job's own code before them. Ordering the
        same cell twice runs it once.

        Raises:
            StateError: the ranks have been released.
            StorageError: the attempt's folder cannot be written.

        """

    def interrupt_cell(self, ref: AttemptRef, number: int) -> None:
        """Interrupt a cell in the ranks that it runs in or will run in; the ranks stay.

        Does not wait. Harmless where the cell is over.

        Raises:
            UnknownNameError: there is no such cell.

        """

    def kept(self, ref: AttemptRef) -> KeptStatus:
        """Return what the kept ranks of an attempt have and what they are at."""

    def warm(self, interpreter: str, environment: Mapping[str, str]) -> WarmStatus:
        """Begin to warm up for launches with this interpreter. Does not wait."""

    def warm_processes(self) -> tuple[str, ...]:
        """Return one line per warm process: interpreter, state, memory."""

    def discard(self, job_id: JobId) -> int:
        """Remove a finished job's files and return the bytes freed. Idempotent."""

    def close(self) -> None:
        """Release what this object holds; attempts go on."""


class AccessStore(Protocol):
    """What the controller remembers of people and their deeds. Every method is one transaction."""

    def save_member(self, member: Member) -> None:
        """Insert or replace a person by their user name."""

    def member(self, user: UserId) -> Member | None:
        """Return the person, or None where nobody has given them a role."""

    def members(self) -> tuple[Member, ...]:
        """Return everybody, ordered by user name."""

    def add_token(self, token: Token) -> None:
        """Remember a token.

        Raises:
            StateError: there is one of that id or digest already.

        """

    def find_token(self, digest: str) -> Token | None:
        """Return the token of this digest, whether it still opens anything or not, or None."""

    def revoke_token(self, token_id: str, *, at: float) -> Token:
        """Note that a token opens nothing any more, and return it. Idempotent: the first counts.

        Raises:
            UnknownNameError: there is none of that id.

        """

    def tokens(self, user: UserId | None = None) -> tuple[Token, ...]:
        """Return all tokens, or one person's, ordered by when they were made."""

    def save_quota(self, holder: str, quota: Quota | None) -> None:
        """Set the quota of `user:NAME` or `group:NAME`; None: the default counts again."""

    def quotas(self) -> dict[str, Quota]:
        """Return the quotas that were set, by holder."""

    def usage(self, holder: str, *, at: float) -> Usage:
        """Return what a holder has now: see `core.quotas`."""

    def add_audit(self, row: AuditRow, key: bytes | None = None) -> None:
        """Append to the audit's chain, sealed with `key`; None: the vault is locked."""

    def audit(
        self,
        limit: int,
        *,
        user: UserId | None = None,
        action: str | None = None,
        resource: str | None = None,
        is_allowed: bool | None = None,
        since: float | None = None,
    ) -> list[AuditRow]:
        """Return the newest rows that match, newest first; `resource` is any part of its name."""

    def audit_head(self) -> AuditHead:
        """Return the end of the chain; `core.audit.START` where it is empty."""

    def verify_audit(self, keys: Sequence[bytes], anchors: Iterable[AuditHead] = ()) -> ChainReport:
        """Return whether the chain is unbroken, as `core.audit.verify`. Streams."""


class Store(AccessStore, Protocol):
    """What the controller remembers. Every method is one transaction."""

    def add_job(self, job: Job, member: Member | None = None) -> None:
        """Remember a new job and its first transition (None → its state).

        What it takes of the quotas of `member` and of their groups is reserved in the same
        transaction; None reserves nothing and asks nobody.

        Raises:
            DeniedError: a quota does not allow it; nothing was stored.
            StateError: there is a job of that id already.
            StorageError: the disk is full; nothing was stored.

        """

    def job(self, job_id: JobId) -> Job | None:
        """Return the job with its attempts, oldest first, or None."""

    def find_jobs(
        self,
        *,
        owner: UserId | None = None,
        name: str | None = None,
        states: Iterable[JobState] | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the jobs that match, newest first, with their attempts."""

    def transition(
        self, job_id: JobId, new: JobState, *, at: float, reason: str, **changes: object
    ) -> Job:
        """Move a job to `new`, change the named fields of `Job`, and return it.

        `changes` are fields of Job among attempt, started_at, ended_at, allocation, is_stalled.
        In a terminal state the GPU-hours that it ran are charged and its reservations end.

        Raises:
            StateError: core.states does not allow it from the state the store holds.
            UnknownNameError: there is no such job.

        """

    def set_stalled(self, job_id: JobId, *, is_stalled: bool) -> None:
        """Mark or unmark a job as stalled; its state stays.

        Raises:
            UnknownNameError: there is no such job.

        """

    def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace an attempt by (job, number).

        Raises:
            UnknownNameError: there is no such job.

        """

    def history(self, job_id: JobId) -> tuple[Transition, ...]:
        """Return the job's transitions, oldest first."""

    def remove_jobs(self, job_ids: Sequence[JobId]) -> None:
        """Forget jobs with their attempts and transitions; the audit stays."""

    def save_nodes(self, engine: str, nodes: Sequence[Node]) -> None:
        """Replace the nodes of one engine."""

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, ordered by id."""

    def close(self) -> None:
        """Close the connections."""
