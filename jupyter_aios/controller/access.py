"""The one place that every request passes: who asks, may they, write it down, then do it.

What each route asks for stands in `controller.rules`. The actor comes from what the transport
proves, such as the socket's peer credentials, so a request cannot claim to be somebody.
"""

from __future__ import annotations

import logging
import pwd
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from jupyter_aios.controller.ledger import no_such_job
from jupyter_aios.controller.rules import Audit, Rule, Whose
from jupyter_aios.controller.tokens import TLS_PREFIX, bearer, token_hash, wrong_token
from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.entities import Job, UserId
from jupyter_aios.core.policy import (
    Action,
    Actor,
    ActorKind,
    Decision,
    Member,
    Resource,
    Role,
    authorise,
    shared_group,
)
from jupyter_aios.core.roles import SHARED, Scope, scope_of
from jupyter_aios.core.secrets import SecretInfo
from jupyter_aios.core.units import format_duration
from jupyter_aios.errors import DeniedError, StorageError, UnknownNameError
from jupyter_aios.training.peers import peer_uid

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from jupyter_aios.core.ports import AccessStore, Store

log = logging.getLogger(__name__)

_UID_PREFIX = "uid:"
_MAX_LATE_ROWS = 10_000
_MAX_NAME_LENGTH, _MAX_REASON_LENGTH = 200, 500
"""Of what a denied request names: the audit is not where strangers store things."""


@dataclass(frozen=True)
class Admission:
    """A request that may go on: who asks, and the thing that it names, if it names one."""

    actor: Actor
    job: Job | None = None
    secret: SecretInfo | None = None


class Gate:
    """Admits requests by `RULES` and keeps the audit.

    `owner` is the user who runs the controller. `audit_key` gives the key that seals the audit, or
    None while the vault is locked. `find_secret` takes an owner and a name.
    """

    def __init__(
        self,
        *,
        owner: UserId,
        store: Store,
        find_job: Callable[[str, UserId], Job],
        clock: Callable[[], float],
        audit_key: Callable[[], bytes | None] = lambda: None,
        find_secret: Callable[[UserId, str], SecretInfo] | None = None,
    ) -> None:
        self._owner = owner
        self._store = store
        self._find_job = find_job
        self._clock = clock
        self._audit_key = audit_key
        self._find_secret = find_secret
        self._late: deque[AuditRow] = deque(maxlen=_MAX_LATE_ROWS)
        self._writing = threading.Lock()
        self.in_flight = 0
        self.last_request_at = time.monotonic()

    # ---------------------------------------------------------------- who

    def actor_of(self, scope: Mapping[str, Any]) -> Actor:
        """Return who sent the request of an ASGI scope, with the role they have at this moment.

        Raises:
            DeniedError: nobody knows who asks.

        """
        client = scope.get("client")
        if client and client[0].startswith(TLS_PREFIX):
            return self.actor(self._user_of_token(scope), ActorKind.TOKEN)
        return self.actor(user_of(client), ActorKind.LOCAL)

    def _user_of_token(self, scope: Mapping[str, Any]) -> UserId:
        # Looked up each time: a token that was revoked is refused at the next request.
        token = self._store.find_token(token_hash(bearer(scope["headers"])))
        if token is None:
            raise wrong_token(scope, "nobody has this token")
        if token.revoked_at is not None:
            raise wrong_token(scope, f"the token {token.id} was revoked")
        now = self._clock()
        if not token.is_valid(now):
            ago = format_duration(now - token.expires_at)
            raise wrong_token(scope, f"the token {token.id} expired {ago} ago")
        return token.user

    def actor(self, user: UserId, kind: ActorKind) -> Actor:
        """Return a user, proved to be them in this way, with role and groups."""
        # Asked of the store each time: a role that was taken away is gone at the next request.
        member = member_of(self._store, user, owner=self._owner)
        return Actor(user, kind, member.role, member.groups)

    # ---------------------------------------------------------------- may they

    def admit(self, rule: Rule, scope: Mapping[str, Any], params: Mapping[str, str]) -> Admission:
        """Return who asks and for which thing; the audit row is written when this returns.

        `params` are those of the path. Where the asker may not even look at a thing, the error is
        the same as if it were not there.

        Raises:
            DeniedError: policy says no, or nobody knows who asks.
            UnknownNameError: there is no such job or secret.
            StorageError: the audit cannot be written, and the rule insists on it.

        """
        actor = self.actor_of(scope)
        if rule.kind == "job":
            return Admission(actor, job=self._admit_to_job(actor, rule, params["key"]))
        if rule.kind == "secret":
            owner, name = UserId(params["owner"]), params["name"]
            return Admission(actor, secret=self._admit_to_secret(actor, rule, owner, name))
        owner = actor.user if rule.whose is Whose.ASKER else self._owner
        resource = self.resource(actor, rule.action, rule.kind, _named(params), owner)
        self.check(actor, rule.action, resource, rule.audit)
        return Admission(actor)

    def note_refused(
        self, rule: Rule, actor: Actor, params: Mapping[str, str], reason: str
    ) -> None:
        """Write down that a request was admitted and could not be granted all the same."""
        resource = Resource(rule.kind, _named(params), actor.user)
        decision = Decision(is_allowed=False, reason=reason[:_MAX_REASON_LENGTH])
        self._note(actor, rule.action, resource, decision, rule.audit)

    def resource(
        self, actor: Actor, action: Action, kind: str, name: str, owner: UserId
    ) -> Resource:
        """Return a thing as policy sees it from where the actor stands."""
        group = ""
        if owner != actor.user and scope_of(actor.role, action) is Scope.GROUP:
            group = shared_group(actor, member_of(self._store, owner, owner=self._owner))
        return Resource(kind, name, owner, group)

    def check(
        self, actor: Actor, action: Action, resource: Resource, audit: Audit = Audit.LATE
    ) -> None:
        """Return where the actor may; it is written down.

        Raises:
            DeniedError: they may not; the hint says whom to ask.
            StorageError: the audit cannot be written, and `audit` insists on it.

        """
        decision = authorise(actor, action, resource)
        self._note(actor, action, resource, decision, audit)
        if not decision.is_allowed:
            raise DeniedError(decision.reason, hint=f"ask {decision.ask}")

    def _admit_to_job(self, actor: Actor, rule: Rule, key: str) -> Job:
        named = Resource("job", key[:_MAX_NAME_LENGTH], self._owner)
        if scope_of(actor.role, rule.action) is None:
            # Not with any job: said before it is looked up, so it tells nothing of this one.
            self.check(actor, rule.action, named, rule.audit)
        try:
            job = self._find_job(key, actor.user)
        except UnknownNameError:
            self._note_unknown(actor, rule.action, named)
            raise
        resource = self.resource(actor, rule.action, "job", job.id, job.owner)
        if not authorise(actor, rule.action, resource).is_allowed:
            seen = self.resource(actor, Action.JOB_READ, "job", job.id, job.owner)
            if not authorise(actor, Action.JOB_READ, seen).is_allowed:
                self._note_denied(actor, rule.action, resource)
                raise no_such_job(self._store, key, actor.user)
        self.check(actor, rule.action, resource, rule.audit)
        return job

    def _admit_to_secret(self, actor: Actor, rule: Rule, owner: UserId, name: str) -> SecretInfo:
        named = Resource("secret", f"{owner}/{name}"[:_MAX_NAME_LENGTH], owner)
        if scope_of(actor.role, rule.action) is None and rule.action not in SHARED:
            self.check(actor, rule.action, named, rule.audit)
        if self._find_secret is None:
            raise no_such_secret(owner, name)
        try:
            info = self._find_secret(owner, name)
        except UnknownNameError:
            self._note_unknown(actor, rule.action, named)
            if owner == actor.user:
                raise
            # The nearest names of somebody else are not for the asker.
            raise no_such_secret(owner, name) from None
        resource = replace(named, shares=info.shares)
        if not authorise(actor, Action.SECRET_LIST, resource).is_allowed:
            self._note_denied(actor, rule.action, resource)
            raise no_such_secret(owner, name)
        self.check(actor, rule.action, resource, rule.audit)
        return info

    # ---------------------------------------------------------------- write it down

    def _note_denied(self, actor: Actor, action: Action, resource: Resource) -> None:
        decision = authorise(actor, action, resource)
        self._note(actor, action, resource, replace(decision, is_allowed=False), Audit.DENIED_ONLY)

    def _note_unknown(self, actor: Actor, action: Action, resource: Resource) -> None:
        # As a denial is: who looks for others' things leaves the same trace, in the same time.
        decision = Decision(is_allowed=False, reason=f"there is no such {resource.kind}")
        self._note(actor, action, resource, decision, Audit.DENIED_ONLY)

    def _note(
        self, actor: Actor, action: Action, resource: Resource, decision: Decision, audit: Audit
    ) -> None:
        if decision.is_allowed and audit is Audit.DENIED_ONLY:
            return
        row = AuditRow(
            at=self._clock(),
            user=actor.user,
            action=action.value,
            resource=f"{resource.kind}:{resource.name}",
            is_allowed=decision.is_allowed,
            reason=decision.reason,
        )
        self.record(row, must_succeed=decision.is_allowed and audit is Audit.FIRST)

    def record(self, row: AuditRow, *, must_succeed: bool) -> None:
        """Append a row to the audit, after those that could not be written so far.

        Raises:
            StorageError: it cannot be written, and must be.

        """
        with self._writing:
            try:
                while self._late:
                    self._store.add_audit(self._late[0], self._audit_key())
                    self._late.popleft()
                self._store.add_audit(row, self._audit_key())
            except StorageError:
                if must_succeed:
                    raise
                log.warning("the audit waits for the disk: %s", row)
                self._late.append(row)


def _named(params: Mapping[str, str]) -> str:
    """Return what a path names, or an empty text."""
    return (params.get("key") or params.get("name") or "")[:_MAX_NAME_LENGTH]


def member_of(store: AccessStore, user: UserId, *, owner: UserId) -> Member:
    """Return a person with role and groups; `owner` runs the controller, so they are its admin."""
    member = store.member(user) or Member(user)
    return replace(member, role=Role.ADMIN) if user == owner else member


def no_such_secret(owner: UserId, name: str) -> UnknownNameError:
    """Return the error for somebody else's secret that the asker may not know of, there or not."""
    return UnknownNameError(
        f"no secret of {owner} that you may use is named {name!r}",
        hint=f"%aios secret list shows yours and those shared with you; ask {owner}",
    )


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
