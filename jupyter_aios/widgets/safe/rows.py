"""Secrets, members and decisions as rows of text: what tables and the view show of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.core.quotas import user_holder
from jupyter_aios.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_aios.core.audit import AuditRow
    from jupyter_aios.core.policy import Member
    from jupyter_aios.core.quotas import Quota, Usage
    from jupyter_aios.core.rights import QuotaRow
    from jupyter_aios.core.safe import SecretRow

SECRET_COLUMNS = (
    ("NAME", "name"), ("OWNER", "owner"), ("CLASS", "kind"), ("VERSION", "version"),
    ("CHANGED", "changed"), ("LAST USE", "used"), ("WHO MAY", "who"), ("YOU", "may"),
)  # fmt: skip
MEMBER_COLUMNS = (
    ("USER", "user"), ("ROLE", "role"), ("GROUPS", "groups"), ("RANKS", "ranks"),
    ("GPU HOURS", "gpu_hours"), ("JOBS", "jobs"), ("PRIORITY", "priority"), ("DISK", "disk"),
)  # fmt: skip
AUDIT_COLUMNS = (
    ("TIME", "at"), ("USER", "user"), ("DID", "action"), ("WITH", "resource"),
    ("ALLOWED", "allowed"), ("WHY", "reason"),
)  # fmt: skip
_MOST_LETTERS = 44


@dataclass(frozen=True)
class ShownSecret:
    """A secret as a table shows it."""

    name: str
    owner: str
    kind: str
    version: int
    changed: str
    used: str
    who: tuple[str, ...]
    may: str

    @classmethod
    def of(cls, row: SecretRow, now: float) -> ShownSecret:
        """Return the row as text."""
        info, used = row.info, "never"
        if row.last_used_at is not None:
            used = ", ".join(filter(None, (_ago(row.last_used_at, now), row.last_used_by)))
        return cls(
            name=info.name,
            owner=info.owner,
            kind=info.kind.value,
            version=info.version,
            changed=_ago(info.changed_at, now),
            used=used,
            who=tuple(f"{share.to} ({share.right})" for share in info.shares),
            may=row.may,
        )


def _ago(at: float, now: float) -> str:
    return f"{format_duration(max(0.0, now - at))} ago"


@dataclass(frozen=True)
class Spent:
    """What is used of one limit of a quota."""

    name: str
    used: float
    limit: float
    text: str
    """`used of limit`."""

    @property
    def part(self) -> float:
        """The part that is used, 0 to 1; of a limit of nothing all, where anything is."""
        return min(self.used / self.limit, 1.0) if self.limit else float(self.used > 0)


def spent_of(quota: Quota, usage: Usage) -> tuple[Spent, ...]:
    """Return what is used of each limit that the quota has, in the order of the columns.

    Example:
        >>> from jupyter_aios.core.quotas import Quota, Usage
        >>> [one.text for one in spent_of(Quota(ranks=8, gpu_hours=20), Usage(ranks=2))]
        ['2 of 8', '0 of 20']

    """
    limits: tuple[tuple[str, float, float | None, Callable[..., str]], ...] = (
        ("ranks", usage.ranks, quota.ranks, str),
        ("gpu_hours", usage.gpu_hours, quota.gpu_hours, lambda hours: f"{hours:.3g}"),
        ("jobs", usage.jobs, quota.jobs, str),
        ("disk", usage.disk_bytes, quota.disk_bytes, format_bytes),
    )
    return tuple(
        Spent(name, used, limit, f"{show(used)} of {show(limit)}")
        for name, used, limit, show in limits
        if limit is not None
    )


@dataclass(frozen=True)
class ShownMember:
    """A user or a group with what it may use, `used of quota`."""

    user: str
    role: str
    groups: tuple[str, ...]
    ranks: str
    gpu_hours: str
    jobs: str
    priority: str
    disk: str

    @classmethod
    def of(
        cls, user: str, row: QuotaRow | None, role: str = "", groups: tuple[str, ...] = ()
    ) -> ShownMember:
        """Return a member as text; None: the quota is not for the asker to see."""
        texts: dict[str, str] = {}
        priority = ""
        if row is not None:
            texts = {one.name: one.text for one in spent_of(row.quota, row.usage)}
            priority = "" if row.quota.priority is None else f"up to {row.quota.priority}"
        return cls(
            user,
            role,
            groups,
            texts.get("ranks", ""),
            texts.get("gpu_hours", ""),
            texts.get("jobs", ""),
            priority,
            texts.get("disk", ""),
        )


def with_quotas(
    members: Iterable[Member], quotas: Iterable[QuotaRow]
) -> list[tuple[str, Member | None, QuotaRow | None]]:
    """Return (name, member, quota) for each member, then for the groups that have a quota."""
    left = {row.holder: row for row in quotas}
    found: list[tuple[str, Member | None, QuotaRow | None]] = [
        (member.user, member, left.pop(user_holder(member.user), None)) for member in members
    ]
    return [*found, *((holder, None, row) for holder, row in left.items())]


def shown_members(members: Iterable[Member], quotas: Iterable[QuotaRow]) -> tuple[ShownMember, ...]:
    """Return members and groups as rows of a table."""
    return tuple(
        ShownMember.of(name, row, member.role.value, member.groups)
        if member is not None
        else ShownMember.of(name, row)
        for name, member, row in with_quotas(members, quotas)
    )


@dataclass(frozen=True)
class ShownAudit:
    """A row of the audit as a table shows it."""

    at: str
    user: str
    action: str
    resource: str
    allowed: str
    reason: str

    @classmethod
    def of(cls, row: AuditRow) -> ShownAudit:
        """Return the row as text; the time is that of this machine's zone."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.at))
        allowed = "yes" if row.is_allowed else "NO"
        return cls(at, row.user, row.action, _shortened(row.resource), allowed, row.reason)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"
