"""What the controller tells whoever asks about secrets and rights, read at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.rights import AuditPage, AuditQuery, QuotaRow
from jupyter_aios.core.safe import SecretRow, VaultState, VaultStatus
from jupyter_aios.errors import LockedError

if TYPE_CHECKING:
    from jupyter_aios.client import Client
    from jupyter_aios.core.audit import AuditRow

MOST_DENIALS = 50


@dataclass(frozen=True)
class SafeState:
    """What one asker may see; no field can hold a secret's value."""

    at: float
    asker: UserId
    role: Role
    runs: UserId
    """Who runs the controller, and so can be asked."""
    vault: VaultStatus
    secrets: tuple[SecretRow, ...]
    """None of them while the vault is locked: names are locked away too."""
    members: tuple[Member, ...]
    quotas: tuple[QuotaRow, ...]
    audit: AuditPage
    """The newest denials, and whether the whole chain holds."""

    @property
    def denials(self) -> tuple[AuditRow, ...]:
        """What was not allowed, newest first."""
        return self.audit.rows

    @property
    def is_open(self) -> bool:
        """Whether secrets can be used and listed."""
        return self.vault.state is VaultState.UNLOCKED


def read_safe(client: Client, now: float) -> SafeState:
    """Return what the controller tells now. A handful of requests, each of them in the audit.

    Raises:
        DeniedError: the asker may see nothing here, as guests may not.
        UnavailableError: the controller does not answer.

    """
    hello, safe = client.hello(), client.safe
    vault, secrets = safe.vault(), []
    # A locked vault is not asked for its secrets: the answer would stand in the audit.
    if vault.state is VaultState.UNLOCKED:
        try:
            secrets = safe.secrets()
        except LockedError:  # locked meanwhile
            vault = safe.vault()
    return SafeState(
        at=now,
        asker=UserId(hello.asker),
        role=Role(hello.role),
        runs=UserId(hello.user),
        vault=vault,
        secrets=tuple(secrets),
        members=tuple(safe.members()),
        quotas=tuple(safe.quotas()),
        audit=safe.audit(AuditQuery(only_denied=True, limit=MOST_DENIALS)),
    )
