"""Small vaults for tests: keys that cost nothing to try, and one cheap but legal passphrase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass
from jupyter_aios.vault import KeyFile, Passphrase, Vault
from jupyter_aios.vault.disk import DISK
from jupyter_aios.vault.format import LEAST_COST

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.vault.disk import Disk

ANN, BEN = UserId("ann"), UserId("ben")
NOW = 1_700_000_000.25


def passphrase(text: str = "correct horse") -> Passphrase:
    """Return a passphrase whose slot is as cheap as one may be."""
    return Passphrase(Secret(text), LEAST_COST)


def key_file(folder: Path, name: str = "key") -> KeyFile:
    """Return the key file of this name, and make it first where there is none."""
    path = folder / name
    return KeyFile(path) if path.exists() else KeyFile.make(path)


def new_vault(folder: Path, disk: Disk = DISK) -> Vault:
    """Return a new vault that `key_file(folder)` opens."""
    return Vault.create(folder / "vault", [key_file(folder)], now=NOW, disk=disk)


def reopen(folder: Path, disk: Disk = DISK) -> Vault:
    """Return the folder's vault, opened by its key file."""
    return Vault.open(folder / "vault", key_file(folder), disk=disk)


def put(vault: Vault, name: str, value: str, owner: UserId = ANN) -> None:
    """Keep a secret of the class that jobs may read."""
    vault.set(owner, name, Secret(value), SecretClass.INJECT, now=NOW)


def values(vault: Vault) -> dict[tuple[str, str], bytes]:
    """Return every value of a vault."""
    return {
        (info.owner, info.name): vault.get(info.owner, info.name).reveal() for info in vault.list()
    }
