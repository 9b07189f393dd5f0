"""Members, tokens, quotas and the audit: who may what, given and taken away, and what was done."""

from __future__ import annotations

import math
import re
import secrets as random
from typing import TYPE_CHECKING

from jupyter_aios.controller.tokens import new_token, token_hash
from jupyter_aios.core.audit import AuditHead
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Action, Member, Resource, Role, Token, authorise
from jupyter_aios.core.quotas import UNLIMITED, limits_of, user_holder
from jupyter_aios.core.rights import (
    MAX_TOKEN_DAYS,
    AuditPage,
    QuotaRow,
    SignedHead,
    TokenIssued,
    TokenRow,
)
from jupyter_aios.core.roles import Scope, scope_of
from jupyter_aios.errors import InputError, LockedError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.controller.access import Gate
    from jupyter_aios.controller.keeper import Keeper
    from jupyter_aios.core.policy import Actor
    from jupyter_aios.core.ports import AccessStore
    from jupyter_aios.core.rights import AuditQuery, MemberWish, QuotaWish, TokenWish

_DAY_S = 86400.0
_MAX_USER_BYTES = 256
_MOST_ROWS = 10_000
_HEAD_TEXT = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")
_HEAD = b"jupyter_aios audit head\0"


class Rights:
    """The use cases. `owner` runs the controller and is its admin, whatever the store says."""

    def __init__(
        self,
        store: AccessStore,
        gate: Gate,
        keeper: Keeper,
        *,
        owner: UserId,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._gate = gate
        self._keeper = keeper
        self._owner = owner
        self._clock = clock

    # ---------------------------------------------------------------- members

    def members(self, actor: Actor) -> tuple[Member, ...]:
        """Return everybody over whom the asker stands, the controller's owner first."""
        return tuple(member for member in self._members() if self._reaches(actor, member.user))

    def _reaches(self, actor: Actor, user: UserId) -> bool:
        resource = self._gate.resource(actor, Action.QUOTA_READ, "quota", user_holder(user), user)
        return authorise(actor, Action.QUOTA_READ, resource).is_allowed

    def _members(self) -> tuple[Member, ...]:
        known = [member for member in self._store.members() if member.user != self._owner]
        groups = getattr(self._store.member(self._owner), "groups", ())
        return (Member(self._owner, Role.ADMIN, groups), *known)

    def grant(self, user: UserId, wanted: MemberWish) -> Member:
        """Give a person a role and groups.

        Raises:
            InputError: the name or a group cannot be; or the owner would lose the controller.

        """
        faults = [*_user_faults(user)]
        faults += [
            f"group {group!r}: no ':' or blank" for group in wanted.groups if not _is_word(group)
        ]
        if user == self._owner and wanted.role is not Role.ADMIN:
            faults.append(f"{self._owner} runs the controller and stays its admin")
        if faults:
            raise InputError.of_faults(faults, hint="%aios grant -h")
        member = Member(user, wanted.role, wanted.groups)
        self._store.save_member(member)
        return member

    # ---------------------------------------------------------------- tokens

    def tokens(self, actor: Actor) -> tuple[TokenRow, ...]:
        """Return the tokens that still open something: all for an admin, else the asker's."""
        now = self._clock()
        sees_all = scope_of(actor.role, Action.TOKEN_REVOKE) is Scope.ANY
        found = self._store.tokens(None if sees_all else actor.user)
        return tuple(_token_row(token) for token in found if token.is_valid(now))

    def issue_token(self, user: UserId, wish: TokenWish) -> TokenIssued:
        """Make a token for a user; nothing here keeps it.

        Raises:
            InputError: the user cannot be, or the time is none.

        """
        faults = [*_user_faults(user)]
        if not 0 < wish.valid_s <= MAX_TOKEN_DAYS * _DAY_S:
            faults.append(f"a token is valid for up to {MAX_TOKEN_DAYS} days")
        if faults:
            raise InputError.of_faults(faults, hint="%aios token issue USER --valid 30d")
        made = new_token().reveal().decode()
        now = self._clock()
        token = Token(
            id=random.token_hex(4),
            digest=token_hash(made),
            user=user,
            created_at=now,
            expires_at=now + wish.valid_s,
            note=wish.note,
        )
        self._store.add_token(token)
        return TokenIssued(_token_row(token), made)

    def revoke_token(self, actor: Actor, token_id: str) -> None:
        """End a token: it is refused from the next request on. Idempotent.

        Raises:
            UnknownNameError: there is none, or none of the asker's.

        """
        found = {token.id: token for token in self._store.tokens()}
        token = found.get(token_id)
        mine = [one.id for one in found.values() if one.user == actor.user]
        if token is None:
            raise UnknownNameError.among("token", token_id, mine)
        resource = Resource("token", token_id, token.user)
        if not authorise(actor, Action.TOKEN_REVOKE, resource).is_allowed:
            raise UnknownNameError.among("token", token_id, mine)
        self._store.revoke_token(token_id, at=self._clock())

    # ---------------------------------------------------------------- quotas

    def quotas(self, actor: Actor) -> tuple[QuotaRow, ...]:
        """Return the quotas that count, with what is used: of `members`, then of the groups."""
        quotas, now = self._store.quotas(), self._clock()
        rows = []
        for member in self.members(actor):
            own = limits_of(member, quotas)[0]
            usage = self._store.usage(own.holder, at=now)
            rows.append(QuotaRow(own.holder, own.quota, usage, own.holder not in quotas))
        rows += [
            QuotaRow(holder, quota, self._store.usage(holder, at=now))
            for holder, quota in sorted(quotas.items())
            if holder.startswith("group:") and self._reaches_group(actor, holder[6:])
        ]
        return tuple(rows)

    def set_quota(self, actor: Actor, holder: str, wanted: QuotaWish) -> QuotaRow:
        """Set the quota of a user or a group.

        Raises:
            InputError: the holder or a figure cannot be.
            DeniedError: the asker may not set it.

        """
        kind, _, name = holder.partition(":")
        faults = [] if kind in ("user", "group") and name else [f"{holder!r}: user:NAME"]
        quota = wanted.quota or UNLIMITED
        figures = (quota.ranks, quota.gpu_hours, quota.jobs, quota.disk_bytes)
        are_figures = all(x is None or 0 <= x < math.inf for x in figures)
        faults += [] if are_figures else ["a quota is 0 or more"]
        if faults:
            raise InputError.of_faults(faults, hint="%aios grant -h")
        # A group's is nobody's own, so it takes who may set everybody's.
        owner = UserId(name) if kind == "user" else self._owner
        resource = self._gate.resource(actor, Action.QUOTA_SET, "quota", holder, owner)
        self._gate.check(actor, Action.QUOTA_SET, resource)
        self._store.save_quota(holder, wanted.quota)
        rows = {row.holder: row for row in self.quotas(actor)}
        usage = self._store.usage(holder, at=self._clock())
        return rows.get(holder, QuotaRow(holder, quota, usage))

    def _reaches_group(self, actor: Actor, group: str) -> bool:
        return scope_of(actor.role, Action.QUOTA_SET) is Scope.ANY or group in actor.groups

    # ---------------------------------------------------------------- audit

    def audit(self, actor: Actor, query: AuditQuery) -> AuditPage:
        """Return rows of the audit, newest first, and whether the whole chain holds.

        Who may not read everybody's sees their own rows, and a teacher those of their students.
        """
        own_only = scope_of(actor.role, Action.AUDIT_READ) is Scope.OWN
        user = actor.user if own_only and not query.user else UserId(query.user)
        found = self._store.audit(
            # Of many rows only some may be for a teacher; of the others all are.
            _MOST_ROWS if scope_of(actor.role, Action.AUDIT_READ) is Scope.GROUP else query.limit,
            user=user or None,
            action=query.action or None,
            resource=query.resource or None,
            is_allowed=False if query.only_denied else None,
            since=query.since,
        )
        key = self._keeper.audit_key()
        report = self._store.verify_audit([key] if key else [], _anchors(query.against))
        # Of each person once: a teacher's page looks at very many rows.
        readable = {user for user in {row.user for row in found} if self._may_read(actor, user)}
        rows = tuple(row for row in found if row.user in readable)[: query.limit]
        return AuditPage(
            rows, report.head.seq, is_verified=report.unchecked == 0, fault=report.fault
        )

    def _may_read(self, actor: Actor, user: UserId) -> bool:
        resource = self._gate.resource(actor, Action.AUDIT_READ, "audit", "", user)
        return authorise(actor, Action.AUDIT_READ, resource).is_allowed

    def audit_head(self) -> SignedHead:
        """Return the end of the chain, signed with the key that signs permits.

        Raises:
            LockedError: the vault is locked.

        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        seed = self._keeper.permit_seed()
        if seed is None:
            raise LockedError("the vault is locked: nothing can be signed", hint="%aios unlock")
        head, now = self._store.audit_head(), self._clock()
        key = Ed25519PrivateKey.from_private_bytes(seed)
        message = _HEAD + f"{head.seq} {head.mac} {now!r}".encode()
        return SignedHead(
            at=now,
            length=head.seq,
            mac=head.mac,
            public_key=key.public_key().public_bytes_raw().hex(),
            signature=key.sign(message).hex(),
        )


def _anchors(text: str) -> list[AuditHead]:
    """Return the head that was kept elsewhere, as `LENGTH:MAC`; none where there is no text."""
    if not text:
        return []
    found = _HEAD_TEXT.fullmatch(text)
    if found is None:
        raise InputError(f"{text[:80]!r} is no head of an audit", hint="%aios audit --against FILE")
    return [AuditHead(int(found[1]), found[2])]


def _user_faults(user: UserId) -> list[str]:
    if 0 < len(user.encode()) <= _MAX_USER_BYTES and _is_word(user):
        return []
    return [f"user {user[:80]!r}: a name without ':', '/' or blanks"]


def _is_word(text: str) -> bool:
    return bool(text) and text.isprintable() and not any(c in ":/ ," for c in text)


def _token_row(token: Token) -> TokenRow:
    return TokenRow(token.id, token.user, token.created_at, token.expires_at, token.note)
