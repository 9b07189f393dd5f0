"""What crosses the socket about rights: tokens, quotas, the audit."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Role
from jupyter_aios.core.quotas import Quota, Usage

MAX_TOKEN_DAYS = 366
DEFAULT_TOKEN_DAYS = 30


@dataclass(frozen=True)
class MemberWish:
    """The role and the groups that somebody is to have, all of them."""

    role: Role
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenWish:
    """A token to be made, valid for so long."""

    valid_s: float
    note: str = ""


@dataclass(frozen=True)
class TokenRow:
    """What is known of a token; the token itself is not kept."""

    id: str
    user: UserId
    created_at: float
    expires_at: float
    note: str = ""


@dataclass(frozen=True)
class TokenIssued:
    """A new token, readable this once."""

    row: TokenRow
    token: str

    def __repr__(self) -> str:
        return f"TokenIssued({self.row!r}, …)"


@dataclass(frozen=True)
class QuotaWish:
    """A quota that is to count; None: the role's default counts again."""

    quota: Quota | None


@dataclass(frozen=True)
class QuotaRow:
    """A quota that counts, beside what is used of it."""

    holder: str
    quota: Quota
    usage: Usage
    is_default: bool = False
    """Of the role, because nobody set one."""


@dataclass(frozen=True)
class AuditQuery:
    """Which rows of the audit: empty and None ask for all."""

    user: str = ""
    action: str = ""
    resource: str = ""
    """Part of the resource's name."""
    only_denied: bool = False
    since: float | None = None
    limit: int = 50
    against: str = ""
    """`LENGTH:MAC` of a head that was kept elsewhere: the chain has to hold it."""


@dataclass(frozen=True)
class AuditPage:
    """Rows, newest first, and whether the whole chain holds."""

    rows: tuple[AuditRow, ...]
    length: int
    """Rows in all."""
    is_verified: bool
    """False while the vault is locked: then only the order of the rows was checked."""
    fault: str = ""
    """Where the chain is broken first, and how; empty where it is not."""


@dataclass(frozen=True)
class SignedHead:
    """The end of the chain, signed: whoever keeps it can prove later that rows are missing."""

    at: float
    length: int
    mac: str
    public_key: str
    signature: str
    """Ed25519 over `jupyter_aios audit head`, length, mac and time, in hexadecimal."""


@dataclass(frozen=True)
class FrontWish:
    """Serve others over TLS at this address; port 0 is any that is free."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    """What the machine is called from outside; empty: what it calls itself."""


@dataclass(frozen=True)
class FrontStatus:
    """Whether others are served, and how they find it."""

    is_open: bool
    host: str = ""
    port: int = 0
    url: str = ""
    fingerprint: str = ""
    """Of the certificate: `sha256:` and hexadecimal."""
    warning: str = ""
    """What others' jobs could get at, in a sentence; empty where nothing is known."""
