"""The store's part that knows people: members, tokens, quotas, and the audit of what they did."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from jupyter_aios.controller.database import Database
from jupyter_aios.controller.reservations import select_quotas, usage_of
from jupyter_aios.controller.rows import (
    as_json,
    audit_of,
    audit_values,
    member_of_row,
    member_values,
    select_head,
    token_of,
)
from jupyter_aios.controller.tables import AUDIT, MEMBERS, QUOTAS, TOKENS, storable
from jupyter_aios.core.audit import START, AuditHead, chain, verify
from jupyter_aios.core.entities import UserId
from jupyter_aios.errors import StateError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jupyter_aios.core.audit import AuditRow, ChainReport
    from jupyter_aios.core.policy import Member, Token
    from jupyter_aios.core.quotas import Quota, Usage

_STREAMED_ROWS = 1000


class SqlAccessStore(Database):
    """Implements `core.ports.AccessStore`."""

    def __init__(self, url: str) -> None:
        self._chaining = threading.Lock()
        super().__init__(url)

    # ---------------------------------------------------------------- members

    def save_member(self, member: Member) -> None:
        """Insert or replace a person by their user name."""
        values = member_values(member)
        same = MEMBERS.c.user == member.user
        with self._writing() as connection:
            if connection.execute(MEMBERS.update().where(same), values).rowcount == 0:
                connection.execute(MEMBERS.insert(), values)

    def member(self, user: UserId) -> Member | None:
        """Return the person, or None where nobody has given them a role."""
        query = sa.select(MEMBERS).where(MEMBERS.c.user == user)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else member_of_row(row)

    def members(self) -> tuple[Member, ...]:
        """Return everybody, ordered by user name."""
        query = sa.select(MEMBERS).order_by(MEMBERS.c.user)
        with self._reading() as connection:
            return tuple(map(member_of_row, connection.execute(query).mappings()))

    # ---------------------------------------------------------------- tokens

    def add_token(self, token: Token) -> None:
        """Remember a token.

        Raises:
            StateError: there is one of that id or digest already.

        """
        same = (TOKENS.c.id == token.id) | (TOKENS.c.digest == token.digest)
        with self._writing() as connection:
            if connection.scalar(sa.select(TOKENS.c.id).where(same)):
                raise StateError(f"there is a token {token.id} already", hint="make another one")
            connection.execute(TOKENS.insert(), vars(token))

    def find_token(self, digest: str) -> Token | None:
        """Return the token of this digest, whether it still opens anything or not, or None."""
        query = sa.select(TOKENS).where(TOKENS.c.digest == digest)
        with self._reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else token_of(row)

    def revoke_token(self, token_id: str, *, at: float) -> Token:
        """Note that a token opens nothing any more, and return it. Idempotent: the first counts.

        Raises:
            UnknownNameError: there is none of that id.

        """
        same = TOKENS.c.id == token_id
        with self._writing() as connection:
            connection.execute(
                TOKENS.update().where(same, TOKENS.c.revoked_at.is_(None)).values(revoked_at=at)
            )
            row = connection.execute(sa.select(TOKENS).where(same)).mappings().first()
            if row is None:
                known = connection.scalars(sa.select(TOKENS.c.id))
                raise UnknownNameError.among("token", token_id, known)
        return token_of(row)

    def tokens(self, user: UserId | None = None) -> tuple[Token, ...]:
        """Return all tokens, or one person's, ordered by when they were made."""
        query = sa.select(TOKENS).order_by(TOKENS.c.created_at, TOKENS.c.id)
        if user is not None:
            query = query.where(TOKENS.c.user == user)
        with self._reading() as connection:
            return tuple(map(token_of, connection.execute(query).mappings()))

    # ---------------------------------------------------------------- quotas

    def save_quota(self, holder: str, quota: Quota | None) -> None:
        """Set the quota of `user:NAME` or `group:NAME`; None: the default counts again."""
        with self._writing() as connection:
            connection.execute(QUOTAS.delete().where(QUOTAS.c.holder == holder))
            if quota is not None:
                connection.execute(QUOTAS.insert(), {"holder": holder, "quota": as_json(quota)})

    def quotas(self) -> dict[str, Quota]:
        """Return the quotas that were set, by holder."""
        with self._reading() as connection:
            return select_quotas(connection)

    def usage(self, holder: str, *, at: float) -> Usage:
        """Return what a holder has now: see `core.quotas`."""
        with self._reading() as connection:
            return usage_of(connection, holder, at)

    # ---------------------------------------------------------------- audit

    def add_audit(self, row: AuditRow, key: bytes | None = None) -> None:
        """Append to the audit's chain, sealed with `key`; None: the vault is locked."""
        # The MAC is of what will be read again, and some texts come back as something else.
        row = replace(
            row,
            user=UserId(storable(row.user)),
            action=storable(row.action),
            resource=storable(row.resource),
            reason=storable(row.reason),
        )
        # SQLite has one writer; elsewhere two threads would both come after the same row. Another
        # process could not fork the chain either: the second of two rows in one place is refused.
        with self._chaining, self._writing() as connection:
            chained = chain(row, select_head(connection) or START, key)
            connection.execute(AUDIT.insert(), audit_values(chained))

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
        query = sa.select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if user is not None:
            query = query.where(AUDIT.c.user == user)
        if action is not None:
            query = query.where(AUDIT.c.action == action)
        if resource is not None:
            query = query.where(AUDIT.c.resource.contains(resource, autoescape=True))
        if is_allowed is not None:
            query = query.where(AUDIT.c.is_allowed.is_(is_allowed))
        if since is not None:
            query = query.where(AUDIT.c.at >= since)
        with self._reading() as connection:
            return list(map(audit_of, connection.execute(query).mappings()))

    def audit_head(self) -> AuditHead:
        """Return the end of the chain; `core.audit.START` where it is empty."""
        with self._reading() as connection:
            return select_head(connection) or START

    def verify_audit(self, keys: Sequence[bytes], anchors: Iterable[AuditHead] = ()) -> ChainReport:
        """Return whether the chain is unbroken, as `core.audit.verify`. Streams."""
        return verify(self._stream_audit(), keys, anchors)

    def _stream_audit(self) -> Iterator[AuditRow]:
        """Yield the rows, oldest first, a batch at a time: no reader holds writers up for long."""
        last = 0
        while True:
            query = sa.select(AUDIT).where(AUDIT.c.id > last).order_by(AUDIT.c.id)
            with self._reading() as connection:
                found = connection.execute(query.limit(_STREAMED_ROWS)).mappings().all()
            if not found:
                return
            yield from map(audit_of, found)
            last = found[-1]["id"]
