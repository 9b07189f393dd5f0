"""What crosses the socket about the vault and its secrets; values only towards the vault."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import Enum

from jupyter_aios.core.secrets import Secret, SecretClass, SecretInfo, Share
from jupyter_aios.errors import InputError


class VaultState(str, Enum):
    """Whether secrets can be used now."""

    ABSENT = "absent"
    """Nobody has put a secret anywhere yet."""
    LOCKED = "locked"
    UNLOCKED = "unlocked"


class KeyKind(str, Enum):
    """What opens a vault."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a kind
    KEYRING = "keyring"
    KEY_FILE = "key file"
    RECOVERY = "recovery key"


@dataclass(frozen=True)
class VaultStatus:
    """How the vault is, as far as anybody may know."""

    state: VaultState
    has_keyring: bool
    """Whether the controller's machine has an OS keyring that can keep the vault's key."""
    slots: tuple[str, ...] = ()
    """Kinds of keys that open it."""
    generation: int = 0
    locks_at: float | None = None
    """When it locks itself unless it is used; None: not before the controller ends."""
    trouble: str = ""
    """Why it cannot be opened at all, such as damage, and after `; ` what to do; empty when nothing
    is wrong."""


@dataclass(frozen=True)
class VaultKey:
    """A key for the vault: of a kind, with what was typed or read for it.

    `text` is a passphrase, a recovery key, or the path of a key file on the controller's machine.
    """

    kind: KeyKind
    text: str = ""

    def __repr__(self) -> str:
        return f"VaultKey({self.kind.value!r}, …)"


@dataclass(frozen=True)
class RecoveryText:
    """A new recovery key, readable this once."""

    text: str

    def __repr__(self) -> str:
        return "RecoveryText(…)"


@dataclass(frozen=True)
class KeyChange:
    """Exchange a key of one kind for a new one; a new recovery key is made, not brought."""

    current: VaultKey
    new: VaultKey


@dataclass(frozen=True)
class SecretPut:
    """A secret's value on its way into the vault, with what else it is to be."""

    value: str
    """Base64: a secret is bytes."""
    kind: SecretClass = SecretClass.INJECT
    target: str = ""
    must_exist: bool = False
    """True where it replaces one (`rotate`)."""
    passphrase: str = ""
    """Of an SSH key that is encrypted itself."""

    def __repr__(self) -> str:
        return "SecretPut(…)"


@dataclass(frozen=True)
class SecretShares:
    """Who else may use a secret, all of them."""

    shares: tuple[Share, ...]


@dataclass(frozen=True)
class SecretBundle:
    """A secret in a file of its own, under a passphrase: `export`, and back by `import`."""

    passphrase: str
    content: str = ""
    """Base64 of the file; empty where it is asked for."""

    def __repr__(self) -> str:
        return "SecretBundle(…)"


@dataclass(frozen=True)
class SecretRow:
    """A secret as lists show it: everything but its value."""

    info: SecretInfo
    may: str
    """What you may do with it: `own`, `read` or `use`."""
    last_used_at: float | None = None
    last_used_by: str = ""
    """Who, and in which job; told to the owner only."""


def wrapped(secret: Secret) -> str:
    """Return a secret as JSON can carry it. Only towards the vault."""
    return base64.b64encode(secret.reveal()).decode()


def unwrapped(text: str) -> Secret:
    """Return what `wrapped` wrapped.

    Raises:
        InputError: it is not base64; the text is not repeated.

    """
    try:
        return Secret(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise InputError("the secret's value is not base64", hint="%aios secret set NAME") from None
