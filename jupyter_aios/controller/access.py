"""The one place that every request passes: who asks, may they, write it down, then do it.

`RULES` names every route; a route without a rule cannot be built. The actor comes from the
socket's peer credentials, so a request cannot claim to be somebody.
"""

from __future__ import annotations

import logging
import pwd
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

from jupyter_aios.core.entities import Job, UserId
from jupyter_aios.core.policy import Action, Actor, Resource, authorise
from jupyter_aios.core.ports import AuditRow
from jupyter_aios.errors import DeniedError, StorageError
from jupyter_aios.training.peers import peer_uid

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from jupyter_aios.core.ports import Store

log = logging.getLogger(__name__)

_UID_PREFIX = "uid:"
_MAX_LATE_ROWS = 10_000


class Audit(Enum):
    """When an allowed request is written down. A denied one always is."""

    FIRST = "first"
    """Before it is done; where that cannot be written, it is not done."""
    LATE = "late"
    """Before it is done, or as soon as the disk takes it: a full disk must keep nobody from
    looking, cancelling and pruning."""
    DENIED_ONLY = "denied only"
    """Never: a client repeats the request many times a minute, and it changes nothing. The first
    look at the job, which leads to it, stands in the audit."""


@dataclass(frozen=True)
class Rule:
    """What a route asks for, of which kind of thing; a job's is named by `{key}` in the path."""

    action: Action
    kind: str
    audit: Audit = Audit.LATE


_JOBS, _JOB = "/v1/jobs", "/v1/jobs/{key}"

RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/v1/openapi.json"): Rule(Action.STATUS_READ, "controller"),
    ("GET", "/v1/hello"): Rule(Action.STATUS_READ, "controller"),
    ("POST", "/v1/shutdown"): Rule(Action.CONTROLLER_STOP, "controller"),
    ("POST", "/v1/warm"): Rule(Action.ENGINE_WARM, "controller"),
    ("GET", "/v1/nodes"): Rule(Action.NODE_READ, "nodes"),
    ("POST", "/v1/blobs/missing"): Rule(Action.BLOB_WRITE, "blobs"),
    ("PUT", "/v1/blobs/{sha256}"): Rule(Action.BLOB_WRITE, "blobs", Audit.FIRST),
    ("POST", "/v1/plans"): Rule(Action.JOB_SUBMIT, "jobs"),
    ("POST", _JOBS): Rule(Action.JOB_SUBMIT, "jobs", Audit.FIRST),
    ("GET", _JOBS): Rule(Action.JOB_READ, "jobs"),
    ("GET", _JOB): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/history"): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/events"): Rule(Action.JOB_READ, "job", Audit.DENIED_ONLY),
    ("GET", _JOB + "/kept"): Rule(Action.JOB_READ, "job"),
    ("POST", _JOB + "/cells"): Rule(Action.JOB_EXECUTE, "job", Audit.FIRST),
    ("POST", _JOB + "/cells/{number}/interrupt"): Rule(Action.JOB_EXECUTE, "job"),
    ("GET", _JOB + "/cells/{number}/ranks/{rank}/results"): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/cells/{number}/ranks/{rank}/results/{name}"): Rule(Action.JOB_READ, "job"),
    ("POST", _JOB + "/cancel"): Rule(Action.JOB_CANCEL, "job"),
    ("GET", _JOB + "/results"): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/results/{name:path}"): Rule(Action.JOB_READ, "job"),
    ("POST", "/v1/prune"): Rule(Action.JOB_PRUNE, "jobs"),
}


@dataclass(frozen=True)
class Admission:
    """A request that may go on: who asks, and the job that it names, if it names one."""

    actor: Actor
    job: Job | None


class Gate:
    """Admits requests by `RULES` and keeps the audit."""

    def __init__(
        self,
        *,
        owner: UserId,
        store: Store,
        find_job: Callable[[str, UserId], Job],
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._store = store
        self._find_job = find_job
        self._clock = clock
        self._late: deque[AuditRow] = deque(maxlen=_MAX_LATE_ROWS)
        self.in_flight = 0
        self.last_request_at = time.monotonic()

    def admit(self, rule: Rule, client: tuple[str, int] | None, key: str) -> Admission:
        """Return who asks and for which job; the audit row is written when this returns.

        Raises:
            DeniedError: policy says no, or nobody knows who asks.
            UnknownNameError: there is no such job.
            StorageError: the audit cannot be written, and the rule insists on it.

        """
        actor = Actor(user_of(client))
        job = self._find_job(key, actor.user) if rule.kind == "job" else None
        resource = Resource(
            kind=rule.kind,
            name=str(job.id) if job else key,
            owner=job.owner if job else self._owner,
        )
        decision = authorise(actor, rule.action, resource)
        if not decision.is_allowed or rule.audit is not Audit.DENIED_ONLY:
            self._write(
                AuditRow(
                    at=self._clock(),
                    user=actor.user,
                    action=rule.action.value,
                    resource=f"{resource.kind}:{resource.name}",
                    is_allowed=decision.is_allowed,
                    reason=decision.reason,
                ),
                must_succeed=decision.is_allowed and rule.audit is Audit.FIRST,
            )
        if not decision.is_allowed:
            raise DeniedError(decision.reason, hint=f"ask {resource.owner}")
        return Admission(actor, job)

    def _write(self, row: AuditRow, *, must_succeed: bool) -> None:
        try:
            while self._late:
                self._store.add_audit(self._late[0])
                self._late.popleft()
            self._store.add_audit(row)
        except StorageError:
            if must_succeed:
                raise
            log.warning("the audit waits for the disk: %s", row)
            self._late.append(row)


def user_of(client: tuple[str, int] | None) -> UserId:
    """Return the user behind a connection, as `PeerProtocol` has noted it.

    Raises:
        DeniedError: the connection came without credentials.

    """
    host = client[0] if client else ""
    if not host.startswith(_UID_PREFIX):
        raise DeniedError("the connection does not say who asks", hint="use the Unix socket")
    return user_name(int(host[len(_UID_PREFIX) :]))


def user_name(uid: int) -> UserId:
    """Return the login name of a user id, or the number where it has none."""
    try:
        return UserId(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return UserId(str(uid))


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP, with the peer's user id where a TCP peer's address would be."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who connected before a byte is read."""
        super().connection_made(transport)
        try:
            uid = peer_uid(transport.get_extra_info("socket"))
        except OSError:
            self.client = None
            return
        self.client = (f"{_UID_PREFIX}{uid}", 0)
