"""One file of secrets that several keys open: docs/vault-format.md.

vault       `Vault`: what the controller does with it
generation  a whole state of it, sealed and opened
table       who has which secrets: the decrypted record table
format      the file's parts; every byte accounted for
slots       passphrase, key file, keyring, recovery key
box         Argon2id, HKDF, AES-256-GCM, HMAC
file        commits that survive kills and power cuts; the lock
disk        the system calls of that
header      what a vault tells without a key
faults      what cannot be kept
permits     signed leave to start an attempt

Whoever only checks permits (the agent) loads nothing of the vault: names come when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_aios.vault.generation import Anchor
    from jupyter_aios.vault.header import SlotInfo, VaultHeader
    from jupyter_aios.vault.slots import (
        KeyFile,
        Keyring,
        Passphrase,
        RecoveryKey,
        SlotKey,
        keyring_is_usable,
    )
    from jupyter_aios.vault.vault import Vault

__all__ = [
    "Anchor",
    "KeyFile",
    "Keyring",
    "Passphrase",
    "RecoveryKey",
    "SlotInfo",
    "SlotKey",
    "Vault",
    "VaultHeader",
    "keyring_is_usable",
]

_ROOMS = {"Anchor": "generation", "SlotInfo": "header", "Vault": "vault", "VaultHeader": "header"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the public names are of many kinds
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_ROOMS.get(name, 'slots')}")
    value = getattr(module, name)
    globals()[name] = value
    return value
