"""The ways into a vault: what a person or a machine holds, and the slot made of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import (
    DeniedError,
    InputError,
    MissingExtraError,
    UnavailableError,
)
from jupyter_aios.vault.box import (
    KEY_BYTES,
    SALT_BYTES,
    Cost,
    derive,
    draw,
    is_same,
    seal,
    stretch,
    unseal,
)
from jupyter_aios.vault.format import NO_COST, Slot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

MAX_KEY_FILE_BYTES = 64 * 1024
KEYRING_SERVICE = "jupyter_aios"
_RECOVERY_BYTES = 20
_CHECK_BYTES = 5
_GROUP = 5
_OTHER_WAY = "use another way in: a passphrase or a key file"


@dataclass(frozen=True, eq=False)
class Passphrase:
    """What a person remembers."""

    text: Secret
    cost: Cost = field(default_factory=Cost)
    """Of a slot that is made of it; an existing slot says its own."""

    kind = 1

    def material(self) -> bytes:
        """Return what the slot's key is made of.

        Raises:
            InputError: it is empty.

        """
        typed = self.text.reveal()
        if not typed:
            raise InputError("the passphrase is empty", hint="type at least one character")
        try:
            # The same letters from another keyboard or system may be other code points (RFC 8265).
            return unicodedata.normalize("NFC", typed.decode()).encode()
        except UnicodeDecodeError:
            return typed


@dataclass(frozen=True)
class KeyFile:
    """A file that only its owner can read: a key of the machine, or a service's credential."""

    path: Path

    kind = 2
    cost = NO_COST

    @classmethod
    def make(cls, path: Path) -> KeyFile:
        """Write a new key, mode 0600, and return it.

        Raises:
            InputError: there is a file, or none can be made there.

        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(draw(KEY_BYTES).hex().encode() + b"\n")
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise _key_file_error(path, error) from error
        return cls(path)

    def material(self) -> bytes:
        """Return the file's content.

        Raises:
            InputError: it cannot be read, others can read it, or it is no key.

        """
        try:
            # Not blocking: a pipe of that name would never answer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                self._refuse_status(status)
                content = file.read(MAX_KEY_FILE_BYTES + 1)
        except OSError as error:
            raise _key_file_error(self.path, error) from error
        if not KEY_BYTES <= len(content) <= MAX_KEY_FILE_BYTES:
            raise InputError(
                f"{self.path} has {status.st_size} bytes; a key file has {KEY_BYTES} to"
                f" {MAX_KEY_FILE_BYTES}",
                hint=_make_key_file(self.path),
            )
        return content

    def _refuse_status(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{self.path} is no file", hint=_make_key_file(self.path))
        if status.st_mode & 0o077:
            raise InputError(
                f"others can read the key file {self.path}"
                f" (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"chmod 600 {shlex.quote(str(self.path))}",
            )


@dataclass(frozen=True)
class Keyring:
    """A key that the desktop's keyring holds (Secret Service, Keychain, Credential Manager)."""

    account: str

    kind = 3
    cost = NO_COST

    def material(self) -> bytes:
        """Return the key under this account.

        Raises:
            MissingExtraError: the package `keyring` is not installed.
            UnavailableError: there is no keyring here, or it is locked.
            DeniedError: it has no key of this account.

        """
        found = self._ask()
        if found is None:
            raise wrong_key()
        return found

    def made_material(self) -> bytes:
        """Return the key under this account; where there is none, make one.

        One that exists is taken: a vault may be opened by it.
        """
        found = self._ask()
        if found is not None:
            return found
        key = draw(KEY_BYTES)
        keyring, errors = _usable_keyring()
        try:
            text = base64.b64encode(key).decode()
            keyring.set_password(KEYRING_SERVICE, self.account, text)
        except errors as error:
            raise _keyring_error(error) from error
        return key

    def _ask(self) -> bytes | None:
        keyring, errors = _usable_keyring()
        try:
            text = keyring.get_password(KEYRING_SERVICE, self.account)
        except errors as error:
            raise _keyring_error(error) from error
        if text is None:
            return None
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            # Something else of that name; it opens nothing.
            return text.encode()  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class RecoveryKey:
    """A key on paper, for the day when the passphrase is forgotten: eight groups of five."""

    text: Secret

    kind = 4
    cost = NO_COST

    @classmethod
    def make(cls) -> RecoveryKey:
        """Return a new one; `text` is to be printed once."""
        key = draw(_RECOVERY_BYTES)
        letters = base64.b32encode(key + _check_of(key)).decode()
        groups = [letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP)]
        return cls(Secret("-".join(groups)))

    def material(self) -> bytes:
        """Return the key; case, spaces and hyphens do not matter, nor 0 for O and 1 for I.

        Raises:
            InputError: it was not copied right.

        """
        letters = self.text.reveal().decode(errors="replace").upper()
        letters = "".join(letters.split()).replace("-", "").translate({48: "O", 49: "I"})
        try:
            raw = base64.b32decode(letters)
        except (binascii.Error, ValueError):
            raw = b""
        key, check = raw[:_RECOVERY_BYTES], raw[_RECOVERY_BYTES:]
        if len(raw) != _RECOVERY_BYTES + _CHECK_BYTES or not is_same(check, _check_of(key)):
            raise InputError(
                "the recovery key was not copied right: its check does not fit",
                hint="type all eight groups of five as they are printed",
            )
        return key


SlotKey = Passphrase | KeyFile | Keyring | RecoveryKey


def keyring_is_usable() -> bool:
    """Tell whether this machine has a keyring that can keep a key."""
    try:
        _usable_keyring()
    except (MissingExtraError, UnavailableError):
        return False
    return True


def make_slot(key: SlotKey, root: bytes, vault_id: bytes, now: float) -> Slot:
    """Return a new slot by which `key` leads to `root`."""
    material = key.made_material() if isinstance(key, Keyring) else key.material()
    unsealed = Slot(draw(8), key.kind, key.cost, now, draw(SALT_BYTES), b"")
    box = seal(_slot_key(unsealed, material), "root", root, vault_id + unsealed.context())
    return Slot(**{**vars(unsealed), "box": box})


def open_slot(key: SlotKey, slots: Sequence[Slot], vault_id: bytes) -> tuple[Slot, bytes]:
    """Return the slot that `key` opens, and the root key.

    Raises:
        DeniedError: it opens none; one message, whatever was tried and whatever is there.
        InputError: the key itself is unusable: mistyped, or readable by others.
        UnavailableError: there is no keyring.

    """
    material = key.material()
    for slot in slots:
        if slot.kind == key.kind:
            root = unseal(_slot_key(slot, material), "root", slot.box, vault_id + slot.context())
            if root is not None:
                return slot, root
    raise wrong_key()


def wrong_key() -> DeniedError:
    """Return the one answer to a key that does not fit."""
    return DeniedError(
        "this key does not open the vault",
        hint="try again, or use another way in: a key file or the recovery key",
    )


def _slot_key(slot: Slot, material: bytes) -> bytes:
    if slot.kind == Passphrase.kind:
        return stretch(material, slot.salt, slot.cost)
    return derive(material, slot.salt, "slot")


def _check_of(key: bytes) -> bytes:
    return hashlib.sha256(b"jupyter_aios recovery key" + key).digest()[:_CHECK_BYTES]


def _make_key_file(path: Path) -> str:
    name = shlex.quote(str(path))
    return f"(umask 077 && head -c {KEY_BYTES} /dev/urandom > {name})"


def _key_file_error(path: Path, error: OSError) -> InputError:
    cause = (error.strerror or str(error)).lower()
    return InputError(f"the key file {path}: {cause}", hint=_make_key_file(path))


def _usable_keyring() -> tuple[ModuleType, type[Exception]]:
    """Return the package, and the errors that its back ends raise."""
    try:
        import keyring
        import keyring.core
        import keyring.errors
    except ImportError as error:
        raise MissingExtraError("keyring", "keyring") from error
    try:
        backend = keyring.get_keyring()
        # The package's own word for what is safe: a plain file, or none at all, is below. A chain
        # is as safe as its first part, which is what it writes to.
        first = next(iter(getattr(backend, "backends", ())), backend)
        if not keyring.core.recommended(first):
            raise UnavailableError(
                f"there is no keyring here that may be relied on, only {backend.name}",
                hint=_OTHER_WAY,
            )
    except keyring.errors.KeyringError as error:
        raise _keyring_error(error) from error
    return keyring, keyring.errors.KeyringError


def _keyring_error(error: Exception) -> UnavailableError:
    return UnavailableError(f"the keyring does not answer: {error}", hint=_OTHER_WAY)
