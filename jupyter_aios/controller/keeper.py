"""The vault in the controller's hands: opened once, used by many, locked when it is left alone.

Nothing outside this process sees a key. The other parts ask here: the gate for the key of the
audit, the loop for the seed of permits and the secrets of a launch.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.core.safe import KeyKind, VaultKey, VaultState, VaultStatus
from jupyter_aios.core.secrets import Secret
from jupyter_aios.core.units import format_duration
from jupyter_aios.errors import (
    AiosError,
    DeniedError,
    InputError,
    LockedError,
    StateError,
    StorageError,
)
from jupyter_aios.vault import (
    Anchor,
    KeyFile,
    Keyring,
    Passphrase,
    RecoveryKey,
    Vault,
    keyring_is_usable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jupyter_aios.vault import SlotKey

log = logging.getLogger(__name__)

VAULT_FILE = "vault"
PASSPHRASE_FILE = "AIOS_PASSPHRASE_FILE"  # noqa: S105 - a variable's name
AUTO_LOCK = "AIOS_AUTO_LOCK_S"
AUTO_LOCK_S = 8 * 3600.0
"""A day at work: unlocked in the morning, locked at night."""
_FREE_TRIES = 3
_LONGEST_WAIT_S = 60.0
_HINT = "%aios unlock"


class Keeper:
    """The vault of a home, with its state. Safe for many threads.

    `newest` tells the generation that the audit has seen last, or None; `on_commit` writes a new
    one there, and is called before a change is acknowledged.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        *,
        newest: Callable[[], Anchor | None],
        on_commit: Callable[[Anchor], None],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = home / VAULT_FILE
        self._account = str(home)
        self._newest = newest
        self._on_commit = on_commit
        self._clock = clock
        self._monotonic = monotonic
        self._auto_lock_s = _auto_lock(environ)
        self._passphrase_file = environ.get(PASSPHRASE_FILE, "")
        self._vault: Vault | None = None
        self._keys: dict[str, bytes] = {}
        self._used_at = 0.0
        self._wrong = 0
        self._next_try_at = 0.0
        self._locks_itself = False
        self._guard = threading.RLock()
        self._telling = threading.Lock()
        self._told = 0

    # ---------------------------------------------------------------- state

    def status(self) -> VaultStatus:
        """Return how the vault is."""
        with self._guard:
            if self._vault is not None:
                left = self._auto_lock_s - (self._monotonic() - self._used_at)
                header = self._vault.header
                return VaultStatus(
                    VaultState.UNLOCKED,
                    keyring_is_usable(),
                    tuple(slot.kind for slot in header.slots),
                    header.generation,
                    self._clock() + left if self._locks_itself else None,
                )
            if not self.path.exists():
                return VaultStatus(VaultState.ABSENT, keyring_is_usable())
            try:
                header = Vault.inspect(self.path)
            except AiosError as error:
                trouble = f"{error.message}; {error.hint}"
                return VaultStatus(VaultState.LOCKED, keyring_is_usable(), trouble=trouble)
            kinds = tuple(slot.kind for slot in header.slots)
            return VaultStatus(VaultState.LOCKED, keyring_is_usable(), kinds, header.generation)

    @property
    def is_open(self) -> bool:
        """Whether secrets can be used now."""
        return self._vault is not None

    def open_by_itself(self) -> None:
        """Open the vault as far as that takes nobody: a service's passphrase file, the OS keyring.

        Raises:
            AiosError: there is a passphrase file, and it does not do.

        """
        if self._passphrase_file:
            key = Passphrase(_read_passphrase(Path(self._passphrase_file)))
            with self._guard:
                self._open(key) if self.path.exists() else self._create(key)
            return
        if self.path.exists() and keyring_is_usable():
            try:
                if KeyKind.KEYRING.value in self.status().slots:
                    self.unlock(VaultKey(KeyKind.KEYRING))
            except AiosError as error:
                log.info("the vault stays locked: %s", error.message)

    def unlock(self, wanted: VaultKey) -> VaultStatus:
        """Open the vault with a key; the first key of all makes it.

        Raises:
            DeniedError: the key does not open it, or too many wrong ones came before.
            StorageError: it is damaged, or older than the one that was seen last.
            InputError: a key file that others can read.

        """
        with self._guard:
            if self._vault is not None:
                return self.status()
            with self._counting_wrong():
                key = self._slot_key(wanted)
                self._open(key) if self.path.exists() else self._create(key)
            # A keyring gives the key again at once: locking would be a gesture.
            self._locks_itself = wanted.kind is not KeyKind.KEYRING
            return self.status()

    @contextmanager
    def _counting_wrong(self) -> Iterator[None]:
        """Let a key be tried, unless too many wrong ones came before."""
        wait_s = self._next_try_at - self._monotonic()
        if wait_s > 0:
            raise DeniedError(
                f"{self._wrong} wrong keys came one after the other:"
                f" the next try is in {format_duration(wait_s)}",
                hint=f"wait, then {_HINT}",
            )
        try:
            yield
        except DeniedError:
            self._wrong += 1
            if self._wrong >= _FREE_TRIES:
                pause_s = min(2.0 ** (self._wrong - _FREE_TRIES), _LONGEST_WAIT_S)
                self._next_try_at = self._monotonic() + pause_s
            raise
        self._wrong = 0

    def _open(self, key: SlotKey) -> None:
        self._take(Vault.open(self.path, key, anchor=self._newest()))

    def _create(self, key: SlotKey) -> None:
        if self._newest() is not None:
            raise StorageError(
                f"{self.path} is gone, but the audit has seen it",
                hint="jupyter aios vault restore, or put a copy of it back",
            )
        self._take(Vault.create(self.path, [key], now=self._clock()))

    def _take(self, vault: Vault) -> None:
        vault.on_commit = self._note_commit
        try:
            # Made now, not in the middle of the first request that needs them.
            self._keys = {label: vault.key(label) for label in ("audit", "permits")}
            self._told = 0
            if vault.anchor != self._newest():
                self._note_commit(vault.anchor)
        except BaseException:
            # Half open it would give secrets out, and its audit would not be sealed.
            self._keys = {}
            vault.close()
            raise
        self._vault, self._used_at = vault, self._monotonic()

    def _note_commit(self, anchor: Anchor) -> None:
        """Anchor a generation; commits of several threads may be told out of their order."""
        with self._telling:
            if anchor.generation > self._told:
                self._on_commit(anchor)
                self._told = anchor.generation

    def lock(self) -> VaultStatus:
        """Forget all keys. Idempotent; jobs that run go on with what they have."""
        with self._guard:
            if self._vault is not None:
                self._vault.close()
            self._vault, self._keys = None, {}
            return self.status()

    def lock_if_left(self) -> None:
        """Lock a vault that nobody has used for its time."""
        with self._guard:
            left_s = self._monotonic() - self._used_at
            if self._vault is not None and self._locks_itself and left_s > self._auto_lock_s:
                log.info("the vault locks itself: nobody used it for %s", format_duration(left_s))
                self.lock()

    # ---------------------------------------------------------------- keys

    def change(self, current: VaultKey, new: VaultKey) -> VaultStatus:
        """Replace the keys of one kind by a new one, where `current` opens the vault too.

        Raises:
            DeniedError: `current` does not open it, or too many wrong ones came before.
            LockedError: it is locked.

        """
        with self._guard:
            vault = self.open_vault()
            # Whoever finds an unlocked notebook must not take the vault over, by guessing neither.
            with self._counting_wrong():
                vault.check(self._slot_key(current))
            key = self._slot_key(new)
            old = [slot.id for slot in vault.header.slots if slot.kind == new.kind.value]
            vault.add_slot(key, now=self._clock())
            for slot in old:
                vault.remove_slot(slot)
            self._locks_itself = self._locks_itself and new.kind is not KeyKind.KEYRING
            return self.status()

    def new_recovery_key(self, current: VaultKey) -> str:
        """Make a fresh recovery key in the place of the last one, and return it as text.

        Raises:
            DeniedError: `current` does not open the vault.
            LockedError: it is locked.

        """
        made = RecoveryKey.make()
        text = made.text.reveal().decode()
        self.change(current, VaultKey(KeyKind.RECOVERY, text))
        return text

    def restore_previous(self) -> VaultStatus:
        """Put the generation before the last in the place of a damaged one.

        Raises:
            StateError: the vault is open, so it is not damaged.
            StorageError: there is no generation before.

        """
        with self._guard:
            if self._vault is not None:
                raise StateError("the vault is open: it is not damaged", hint="%aios lock")
            header = Vault.restore_previous(self.path)
            # Else it would be refused as older than the one that was seen last, which it is.
            self._on_commit(Anchor(header.generation, header.digest))
            return self.status()

    # ---------------------------------------------------------------- what others ask for

    def open_vault(self) -> Vault:
        """Return the open vault, and note that it is used.

        Raises:
            LockedError: it is locked, or there is none.

        """
        with self._guard:
            if self._vault is None:
                gone = "there is no vault yet" if not self.path.exists() else "the vault is locked"
                raise LockedError(gone, hint=_HINT)
            self._used_at = self._monotonic()
            return self._vault

    def audit_key(self) -> bytes | None:
        """Return the key that seals the audit, or None while the vault is locked."""
        return self._keys.get("audit")

    def permit_seed(self) -> bytes | None:
        """Return the seed of the key that signs permits, or None while the vault is locked."""
        return self._keys.get("permits")

    def openable_by_jobs(self) -> str:
        """Return how a job under this account could open the vault by itself, or an empty text."""
        kinds = self.status().slots
        if self._passphrase_file:
            return f"jobs run under this account and can read {self._passphrase_file}"
        if KeyKind.KEYRING.value in kinds:
            return "jobs run under this account and can ask its OS keyring for the vault's key"
        if KeyKind.KEY_FILE.value in kinds:
            return "jobs run under this account and can read the vault's key file"
        return ""

    def _slot_key(self, key: VaultKey) -> SlotKey:
        if key.kind is KeyKind.KEYRING:
            return Keyring(self._account)
        if not key.text:
            raise InputError(f"an empty {key.kind.value} opens nothing", hint=_HINT)
        if key.kind is KeyKind.KEY_FILE:
            return KeyFile(Path(key.text))
        if key.kind is KeyKind.RECOVERY:
            return RecoveryKey(Secret(key.text))
        return Passphrase(Secret(key.text))

    def close(self) -> None:
        """Forget all keys."""
        self.lock()


def _auto_lock(environ: Mapping[str, str]) -> float:
    text = environ.get(AUTO_LOCK, "")
    try:
        seconds = float(text) if text else AUTO_LOCK_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InputError(f"{AUTO_LOCK} is {text!r}", hint=f"export {AUTO_LOCK}=28800")
    return seconds


def _read_passphrase(path: Path) -> Secret:
    """Return a service's passphrase: the file's first line.

    Raises:
        InputError: it cannot be read, is empty, or others can read it.

    """
    try:
        status = path.stat()
        line = path.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        msg = f"{PASSPHRASE_FILE}={path} cannot be read: {error.strerror}"
        raise InputError(msg, hint=f"unset {PASSPHRASE_FILE}, or mend the file") from error
    if status.st_mode & 0o077:
        raise InputError(f"others can read {path}", hint=f"chmod 600 '{path}'")
    if not line:
        raise InputError(f"the first line of {path} is empty", hint="write the passphrase there")
    return Secret(line)
