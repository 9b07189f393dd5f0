"""What a controller tells of secrets and rights: made up, for views that are looked at."""

from __future__ import annotations

import dataclasses
from typing import Any

from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.quotas import DEFAULT_QUOTAS, Quota, Usage
from jupyter_aios.core.rights import AuditPage, QuotaRow
from jupyter_aios.core.safe import SecretRow, VaultState, VaultStatus
from jupyter_aios.core.secrets import SecretClass, SecretInfo, Share
from jupyter_aios.widgets.safe.reading import SafeState

NOW = 1_800_000_000.0
ADA, BOB, EVE = map(UserId, ("ada", "bob", "eve"))
MARKUP = "<img src=x onerror=\"document.title='owned'\">"
"""A name as an attacker gives it to himself."""

OPEN = VaultStatus(
    VaultState.UNLOCKED, has_keyring=False, slots=("passphrase", "recovery key"), generation=12,
    locks_at=NOW + 3 * 3600,
)  # fmt: skip
LOCKED = dataclasses.replace(OPEN, state=VaultState.LOCKED, locks_at=None)
ABSENT = VaultStatus(VaultState.ABSENT, has_keyring=False)
DAMAGED = dataclasses.replace(LOCKED, trouble="the vault's seal does not fit; put a copy back")


def secret(
    name: str, kind: SecretClass, may: str = "own", by: str = "eve, job mnist", **rest: Any
) -> SecretRow:
    """Return a secret of ada's that somebody used an hour ago; `rest` are fields of SecretInfo."""
    info = SecretInfo(
        name, ADA, kind, version=2, created_at=NOW - 9e6, changed_at=NOW - 9e4, size_bytes=51,
        **rest,
    )  # fmt: skip
    return SecretRow(info, may, NOW - 3600, by)


def denial(number: int) -> AuditRow:
    """Return what eve was refused."""
    return AuditRow(
        NOW - 60 * number, EVE, "secret:read", "secret:ada/HF_TOKEN", is_allowed=False,
        reason="eve (student) may not secret:read on secret 'HF_TOKEN' of ada", seq=900 - number,
    )  # fmt: skip


def everything(students: int = 60, **changes: Any) -> SafeState:
    """Return a class of students, three secrets and some denials, as their teacher's admin sees it.

    `changes` are fields of SafeState.
    """
    names = [EVE, *(UserId(f"student-{number:02d}") for number in range(1, students))]
    members = (
        Member(ADA, Role.ADMIN, ("ml",)),
        Member(BOB, Role.TEACHER, ("ml",)),
        *(Member(name, Role.STUDENT, ("ml",)) for name in names),
    )
    usages = [Usage(number % 9, 0.37 * number, number % 5, number * 2**30) for number in range(60)]
    quotas = [
        QuotaRow(
            f"user:{member.user}", DEFAULT_QUOTAS[member.role], usages[k % 60], is_default=k != 2
        )
        for k, member in enumerate(members)
    ]
    state = SafeState(
        at=NOW,
        asker=ADA,
        role=Role.ADMIN,
        runs=ADA,
        vault=OPEN,
        secrets=(
            secret("CLUSTER_KEY", SecretClass.BROKER, public="ssh-ed25519 AAAAC3Nza aios:CLUSTER",
                   shares=(Share("group:ml"),)),
            secret("HF_TOKEN", SecretClass.INJECT, by="ada, job bert"),
            secret("HUB", SecretClass.DERIVED, target="https://hub.example.org/models/",
                   shares=(Share("user:eve"), Share("group:ml", "use"))),
        ),
        members=members,
        quotas=(*quotas, QuotaRow("group:ml", Quota(ranks=32), Usage(ranks=30))),
        audit=AuditPage(tuple(map(denial, range(7))), 912, is_verified=True),
    )  # fmt: skip
    return dataclasses.replace(state, **changes)


def without_vault(vault: VaultStatus, **changes: Any) -> SafeState:
    """Return what is told while the vault is not open."""
    audit = AuditPage((), 4, is_verified=vault.state is VaultState.ABSENT)
    return everything(1, **({"vault": vault, "secrets": (), "audit": audit} | changes))
