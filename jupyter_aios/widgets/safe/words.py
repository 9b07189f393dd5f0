"""How the vault and the classes of secrets are told, and what one types about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.core.policy import Role
from jupyter_aios.core.safe import VaultState
from jupyter_aios.core.secrets import SecretClass
from jupyter_aios.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from jupyter_aios.core.rights import AuditPage
    from jupyter_aios.core.safe import SecretRow, VaultStatus
    from jupyter_aios.widgets.safe.reading import SafeState

CLASSES = {
    SecretClass.BROKER: "the controller logs in with it; no job sees it",
    SecretClass.DERIVED: "the controller sends it along; no job sees it",
    SecretClass.INJECT: "the job sees the value",
}


@dataclass(frozen=True)
class VaultTold:
    """How the vault is, for a person who may or may not do something about it."""

    kind: str
    """`open`, `locked`, `absent` or `damaged`."""
    chip: str
    line: str
    facts: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    """What to type."""


def vault_told(state: SafeState) -> VaultTold:
    """Return how the vault is, and what to type."""
    vault = state.vault
    is_admin = state.role is Role.ADMIN
    ask = "" if is_admin else f" Ask {state.runs}, who runs this controller."
    if vault.trouble:
        commands = ("%aios vault restore",) if is_admin else ()
        return VaultTold("damaged", "vault damaged", f"{vault.trouble}{ask}", commands=commands)
    if vault.state is VaultState.ABSENT:
        line = f"The first secret makes it.{ask}"
        return VaultTold(
            "absent", "no vault yet", line, commands=_if(is_admin, "%aios secret set NAME")
        )
    if vault.state is VaultState.LOCKED:
        line = (
            "Secrets can be neither listed (names are locked away too) nor used;"
            f" jobs that need one wait.{ask}"
        )
        facts = _keys(vault)
        return VaultTold("locked", "vault locked", line, facts, _if(is_admin, "%aios unlock"))
    return VaultTold(
        "open",
        "vault open",
        f"Secrets can be used; {_until(vault, state.at)}.",
        (*_keys(vault), f"generation {vault.generation}"),
        _if(is_admin, "%aios lock"),
    )


def _if(may: bool, command: str) -> tuple[str, ...]:  # noqa: FBT001
    return (command,) if may else ()


def _keys(vault: VaultStatus) -> tuple[str, ...]:
    return (f"opens by {', '.join(sorted(set(vault.slots)))}",) if vault.slots else ()


def _until(vault: VaultStatus, now: float) -> str:
    if vault.locks_at is None:
        return "it stays open until the controller ends"
    return f"it locks in {format_duration(max(vault.locks_at - now, 0.0))} unless it is used"


def heading(state: SafeState) -> str:
    """Return who sees this, and as what."""
    of = "your controller" if state.asker == state.runs else f"the controller of {state.runs}"
    return f"{state.asker} ({state.role.value}) at {of}"


def no_secrets(state: SafeState) -> tuple[str, str]:
    """Return why no secrets are listed, and what to type; empty where some are."""
    told = vault_told(state)
    if state.secrets:
        return "", ""
    if state.is_open:
        return (
            "No secrets of yours yet, and none that are shared with you.",
            "%aios secret set NAME",
        )
    return "The vault is not open, so no secrets are listed.", "".join(told.commands)


def chain_told(audit: AuditPage) -> tuple[str, bool]:
    """Return what is known of the audit's chain, and whether that is alarming."""
    if audit.fault:
        return f"The chain of the audit is broken: {audit.fault}", True
    if audit.is_verified:
        return f"The chain of {audit.length:,} rows holds.", False
    return (
        f"The chain of {audit.length:,} rows could not be checked: the vault is locked.",
        False,
    )


def facts_of(row: SecretRow, now: float) -> list[tuple[str, str]]:
    """Return what else is known of a secret: (what, text)."""
    info = row.info
    facts = []
    if info.target:
        facts.append(("sent to", f"{info.target} and below"))
    if info.public:
        facts.append(("public key", info.public))
    made = format_duration(max(now - info.created_at, 0.0))
    return [*facts, ("made", f"{made} ago"), ("size", format_bytes(info.size_bytes))]


def commands_of(row: SecretRow) -> list[str]:
    """Return what one may type about a secret."""
    info = row.info
    if row.may != "own":
        return [f"%%aios_train --secret {info.owner}/{info.name}"]
    return [
        f"%%aios_train --secret {info.name}",
        f"%aios secret share {info.name} --with user:NAME",
        f"%aios secret rotate {info.name}",
        f"%aios secret rm {info.name}",
    ]
