"""A store without a database, held to the same contract as the real one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.audit import START, AuditHead, chain, verify
from jupyter_aios.core.entities import Attempt, Job, JobId, Transition
from jupyter_aios.core.quotas import (
    HOUR_S,
    Demand,
    Usage,
    held_gpu_s,
    limits_of,
    refuse_excess,
    run_s,
)
from jupyter_aios.core.states import JobState, check_transition
from jupyter_aios.errors import StateError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.core.audit import AuditRow, ChainReport
    from jupyter_aios.core.entities import Node, UserId
    from jupyter_aios.core.policy import Member, Token
    from jupyter_aios.core.quotas import Quota

_CHANGES = frozenset({"attempt", "started_at", "ended_at", "allocation", "is_stalled"})


@dataclass
class _Reservation:
    """What a live job takes of one holder's quota."""

    job_id: JobId
    holder: str
    demand: Demand
    attempts: tuple[Attempt, ...] = ()


class MemoryAccessStore:
    """Implements `core.ports.AccessStore` in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._members: dict[UserId, Member] = {}
        self._tokens: dict[str, Token] = {}
        self._quotas: dict[str, Quota] = {}
        self._reserved: list[_Reservation] = []
        self._spent_gpu_s: dict[str, float] = {}
        self._audit: list[AuditRow] = []

    def save_member(self, member: Member) -> None:
        """Insert or replace a person by their user name."""
        with self._lock:
            self._members[member.user] = member

    def member(self, user: UserId) -> Member | None:
        """Return the person, or None where nobody has given them a role."""
        with self._lock:
            return self._members.get(user)

    def members(self) -> tuple[Member, ...]:
        """Return everybody, ordered by user name."""
        with self._lock:
            return tuple(self._members[user] for user in sorted(self._members))

    def add_token(self, token: Token) -> None:
        """Remember a token."""
        with self._lock:
            if any(token.id == t.id or token.digest == t.digest for t in self._tokens.values()):
                raise StateError(f"there is a token {token.id} already", hint="make another one")
            self._tokens[token.id] = token

    def find_token(self, digest: str) -> Token | None:
        """Return the token of this digest, whether it still opens anything or not, or None."""
        with self._lock:
            return next((t for t in self._tokens.values() if t.digest == digest), None)

    def revoke_token(self, token_id: str, *, at: float) -> Token:
        """Note that a token opens nothing any more, and return it."""
        with self._lock:
            if token_id not in self._tokens:
                raise UnknownNameError.among("token", token_id, self._tokens)
            token = self._tokens[token_id]
            if token.revoked_at is None:
                token = self._tokens[token_id] = replace(token, revoked_at=at)
            return token

    def tokens(self, user: UserId | None = None) -> tuple[Token, ...]:
        """Return all tokens, or one person's, ordered by when they were made."""
        with self._lock:
            found = [token for token in self._tokens.values() if user in (None, token.user)]
        return tuple(sorted(found, key=lambda token: (token.created_at, token.id)))

    def save_quota(self, holder: str, quota: Quota | None) -> None:
        """Set the quota of `user:NAME` or `group:NAME`; None: the default counts again."""
        with self._lock:
            self._quotas.pop(holder, None)
            if quota is not None:
                self._quotas[holder] = quota

    def quotas(self) -> dict[str, Quota]:
        """Return the quotas that were set, by holder."""
        with self._lock:
            return dict(sorted(self._quotas.items()))

    def usage(self, holder: str, *, at: float) -> Usage:
        """Return what a holder has now: see `core.quotas`."""
        with self._lock:
            held = [one for one in self._reserved if one.holder == holder]
            gpu_s = self._spent_gpu_s.get(holder, 0.0) + sum(
                held_gpu_s(one.demand.gpu_s, one.demand.gpu_milli, run_s(one.attempts, at))
                for one in held
            )
        return Usage(
            ranks=sum(one.demand.ranks for one in held),
            gpu_hours=gpu_s / HOUR_S,
            jobs=len(held),
            disk_bytes=sum(one.demand.disk_bytes for one in held),
        )

    def add_audit(self, row: AuditRow, key: bytes | None = None) -> None:
        """Append to the audit's chain, sealed with `key`; None: the vault is locked."""
        with self._lock:
            self._audit.append(chain(row, self.audit_head(), key))

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
        with self._lock:
            found = [
                row
                for row in reversed(self._audit)
                if user in (None, row.user)
                and action in (None, row.action)
                and (resource is None or resource in row.resource)
                and is_allowed in (None, row.is_allowed)
                and (since is None or row.at >= since)
            ]
        return found[:limit]

    def audit_head(self) -> AuditHead:
        """Return the end of the chain; `core.audit.START` where it is empty."""
        with self._lock:
            return AuditHead(self._audit[-1].seq, self._audit[-1].mac) if self._audit else START

    def verify_audit(self, keys: Sequence[bytes], anchors: Iterable[AuditHead] = ()) -> ChainReport:
        """Return whether the chain is unbroken, as `core.audit.verify`."""
        with self._lock:
            return verify(list(self._audit), keys, anchors)

    def _reserve(self, job: Job, member: Member) -> None:
        demand = Demand.of(job.spec)
        limits = limits_of(member, self._quotas)
        at = job.submitted_at
        refuse_excess(((limit, self.usage(limit.holder, at=at)) for limit in limits), demand)
        self._reserved += [_Reservation(job.id, limit.holder, demand) for limit in limits]

    def _note_attempts(self, job: Job) -> None:
        for one in self._reserved:
            if one.job_id == job.id:
                one.attempts = job.attempts

    def _release(self, job: Job, at: float) -> None:
        for one in self._reserved:
            if one.job_id == job.id:
                spent = one.demand.gpu_milli / 1000 * run_s(job.attempts, at)
                self._spent_gpu_s[one.holder] = self._spent_gpu_s.get(one.holder, 0.0) + spent
        self._forget(job.id)

    def _forget(self, job_id: JobId) -> None:
        self._reserved = [one for one in self._reserved if one.job_id != job_id]


class MemoryStore(MemoryAccessStore):
    """Implements `core.ports.Store` in memory; entities are frozen, so dicts of them are enough.

    Example:
        >>> from jupyter_aios.testing.examples import example_job
        >>> store = MemoryStore()
        >>> store.add_job(example_job())
        >>> [step.new.value for step in store.history(example_job().id)]
        ['queued']

    """

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[JobId, Job] = {}
        self._history: dict[JobId, list[Transition]] = {}
        self._nodes: dict[str, tuple[Node, ...]] = {}

    def add_job(self, job: Job, member: Member | None = None) -> None:
        """Remember a new job and its first transition, within the quotas of `member`."""
        first = Transition(job.id, None, job.state, job.submitted_at, job.attempt, job.reason)
        with self._lock:
            if job.id in self._jobs:
                raise StateError(f"there is a job {job.id} already", hint="submit it again")
            if member is not None:
                self._reserve(job, member)
            self._jobs[job.id] = job
            self._history[job.id] = [first]

    def job(self, job_id: JobId) -> Job | None:
        """Return the job with its attempts, oldest first, or None."""
        with self._lock:
            return self._jobs.get(job_id)

    def find_jobs(
        self,
        *,
        owner: UserId | None = None,
        name: str | None = None,
        states: Iterable[JobState] | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """Return the jobs that match, newest first, with their attempts."""
        wanted = frozenset(JobState if states is None else states)
        with self._lock:
            found = [
                job
                for job in self._jobs.values()
                if owner in (None, job.owner) and name in (None, job.name) and job.state in wanted
            ]
        found.sort(key=lambda job: (job.submitted_at, job.id), reverse=True)
        return found[:limit]

    def transition(
        self,
        job_id: JobId,
        new: JobState,
        *,
        at: float,
        reason: str,
        **changes: Any,  # noqa: ANN401 - fields of Job
    ) -> Job:
        """Move a job to `new`, change the named fields of `Job`, and return it."""
        if not changes.keys() <= _CHANGES:
            wrong = ", ".join(sorted(changes.keys() - _CHANGES))
            raise TypeError(f"transition() cannot change {wrong}")
        with self._lock:
            old = self._known(job_id)
            check_transition(old.state, new)
            job = replace(old, state=new, reason=reason, **changes)
            self._jobs[job_id] = job
            self._history[job_id].append(
                Transition(job_id, old.state, new, at, job.attempt, reason)
            )
            if new.is_terminal:
                self._release(job, at)
            return job

    def set_stalled(self, job_id: JobId, *, is_stalled: bool) -> None:
        """Mark or unmark a job as stalled; its state stays."""
        with self._lock:
            self._jobs[job_id] = replace(self._known(job_id), is_stalled=is_stalled)

    def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace an attempt by (job, number)."""
        with self._lock:
            job = self._known(attempt.job_id)
            attempts = {other.number: other for other in job.attempts} | {attempt.number: attempt}
            ordered = tuple(attempts[number] for number in sorted(attempts))
            self._jobs[job.id] = replace(job, attempts=ordered)
            self._note_attempts(self._jobs[job.id])

    def history(self, job_id: JobId) -> tuple[Transition, ...]:
        """Return the job's transitions, oldest first."""
        with self._lock:
            return tuple(self._history.get(job_id, ()))

    def remove_jobs(self, job_ids: Sequence[JobId]) -> None:
        """Forget jobs with their attempts and transitions; the audit stays."""
        with self._lock:
            for job_id in job_ids:
                self._jobs.pop(job_id, None)
                self._history.pop(job_id, None)
                self._forget(job_id)

    def save_nodes(self, engine: str, nodes: Sequence[Node]) -> None:
        """Replace the nodes of one engine."""
        with self._lock:
            self._nodes[engine] = tuple(nodes)

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, ordered by id."""
        with self._lock:
            pairs = [(node.id, engine, node) for engine, ns in self._nodes.items() for node in ns]
        return tuple(node for _, _, node in sorted(pairs, key=lambda pair: pair[:2]))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _known(self, job_id: JobId) -> Job:
        if job_id not in self._jobs:
            raise UnknownNameError.among("job", job_id, self._jobs)
        return self._jobs[job_id]
