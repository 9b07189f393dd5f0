"""`Vault`: everybody's secrets in one file, opened by one key, changed by one process."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.core.secrets import MAX_SECRET_BYTES, Secret, SecretClass, SecretInfo, Share
from jupyter_aios.errors import InputError, LockedError, StateError, UnknownNameError
from jupyter_aios.vault.box import KEY_BYTES, draw
from jupyter_aios.vault.disk import DISK, Disk
from jupyter_aios.vault.faults import (
    MAX_PUBLIC_BYTES,
    MAX_TARGET_BYTES,
    length_bytes,
    length_faults,
    name_faults,
    owner_faults,
    share_faults,
    time_faults,
)
from jupyter_aios.vault.file import VaultFile
from jupyter_aios.vault.format import MAX_SLOTS, Slot, parse
from jupyter_aios.vault.generation import (
    Anchor,
    Generation,
    first_generation,
    refuse_rollback,
    seal_next,
    unlock,
)
from jupyter_aios.vault.header import SlotInfo, VaultHeader, describe, describe_slot
from jupyter_aios.vault.slots import (
    Passphrase,
    SlotKey,
    make_slot,
    open_slot,
)
from jupyter_aios.vault.table import ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jupyter_aios.core.entities import UserId

_LABEL = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Vault:
    """An open vault. Safe for threads; one process at a time, by a lock held until `close`.

    Every change is a commit: when the method returns, it survives `kill -9` and a power cut. When
    it raises, nothing has changed, but where the message says that the disk does not confirm; what
    takes two commits may have made the first.

    `on_commit` is called after each commit, by the thread that made it and outside of the lock:
    anchors may arrive out of order, the highest generation counts. What it raises, the caller gets;
    the commit stays.

    A process that forks while a vault is open gives its child the lock.
    """

    def __init__(self, file: VaultFile, generation: Generation, size_bytes: int) -> None:
        """Not called directly: `create` and `open` return vaults."""
        self.on_commit: Callable[[Anchor], None] | None = None
        self._file = file
        self._state: Generation | None = generation
        self._size_bytes = size_bytes
        self._unsaid: list[Anchor] = []
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- opening and closing

    @classmethod
    def create(cls, path: Path, keys: Sequence[SlotKey], *, now: float, disk: Disk = DISK) -> Vault:
        """Make a vault that each of `keys` opens, and open it.

        Raises:
            StateError: there is a vault, or another process is making one.
            InputError: there is no key, too many, or one that cannot be used.
            StorageError: the disk does not take it.

        """
        file = VaultFile(path, disk)
        file.refuse_existing()
        file.hold()
        try:
            # Another process may have made one before we had the lock.
            file.refuse_existing()
            vault_id, root = draw(ID_BYTES), draw(KEY_BYTES)
            slots = _make_slots(keys, root, vault_id, now)
            data, generation = seal_next(first_generation(vault_id, root, slots))
            file.create(data)
            file.confirm()
        except BaseException:
            file.close()
            raise
        return cls(file, generation, len(data))

    @classmethod
    def open(
        cls, path: Path, key: SlotKey, *, anchor: Anchor | None = None, disk: Disk = DISK
    ) -> Vault:
        """Open a vault; `anchor` is the last that `on_commit` told, from a second place.

        Raises:
            DeniedError: the key opens no slot.
            InputError: the key itself is unusable: mistyped, or a file that others can read.
            StateError: there is no vault, or another process has it open.
            StorageError: it is damaged, or older than `anchor`, or of another history.
            VersionError: a newer version wrote it.

        """
        file = VaultFile(path, disk)
        file.read()
        file.hold()
        try:
            data = file.read()
            layout = parse(data)
            _, root = open_slot(key, layout.slots, layout.vault_id)
            generation = unlock(data, layout, root)
            if anchor is not None:
                refuse_rollback(layout, generation.anchor, anchor)
        except BaseException:
            file.close()
            raise
        return cls(file, generation, len(data))

    @staticmethod
    def inspect(path: Path, *, disk: Disk = DISK) -> VaultHeader:
        """Return what a vault tells without a key.

        Raises:
            StateError: there is none.
            StorageError: it is damaged, as far as that can be seen without a key.

        """
        data = VaultFile(path, disk).read()
        return describe(parse(data), data)

    @staticmethod
    def restore_previous(path: Path, *, disk: Disk = DISK) -> VaultHeader:
        """Put the previous generation back, and keep what was there as `vault.damaged`.

        What the last commit changed is gone. The caller records the new anchor: for `open` it would
        be a rollback.

        Raises:
            StateError: there is no previous generation, or the vault is open.
            StorageError: that one is damaged too.

        """
        file = VaultFile(path, disk)
        file.read_previous()
        file.hold()
        try:
            data = file.read_previous()
            header = describe(parse(data), data)
            file.restore_previous()
        finally:
            file.close()
        return header

    def close(self) -> None:
        """Forget the keys and give the lock back. Idempotent.

        Python cannot wipe memory: copies stay in freed memory until it is used again.
        """
        with self._lock:
            self._state = None
            self._file.close()

    @property
    def anchor(self) -> Anchor:
        """Return the generation and its digest, to be kept in a second place."""
        with self._opened() as state:
            return state.anchor

    @property
    def header(self) -> VaultHeader:
        """Return what anybody may know of the vault."""
        with self._opened() as state:
            return VaultHeader(
                state.vault_id.hex(),
                state.anchor.generation,
                tuple(map(describe_slot, state.slots)),
                self._size_bytes,
                state.anchor.digest,
            )

    # ---------------------------------------------------------------- secrets

    def set(
        self,
        owner: UserId,
        name: str,
        value: Secret,
        kind: SecretClass,
        *,
        now: float,
        public: str = "",
        target: str = "",
    ) -> SecretInfo:
        """Keep a secret, or the next version of one; whom it is shared with stays.

        Raises:
            InputError: a name, value or owner that cannot be; all faults at once.
            StorageError: the disk does not take it, or the vault would be too large.

        """
        faults = [
            *owner_faults(owner),
            *name_faults(name),
            *length_faults("the value", len(value), MAX_SECRET_BYTES),
            *length_faults("the public part", length_bytes(public), MAX_PUBLIC_BYTES),
            *length_faults("the target", length_bytes(target), MAX_TARGET_BYTES),
            *time_faults(now),
        ]
        if faults:
            raise InputError.of_faults(faults, hint="%aios secret -h")
        with self._opened() as state:
            info = SecretInfo(
                name, owner, kind, 1, now, now, len(value), public=public, target=target
            )
            if old := state.table.records.get((owner, name)):
                created_at, version = old.info.created_at, old.info.version + 1
                info = replace(info, version=version, created_at=created_at, shares=old.info.shares)
            self._commit(replace(state, table=state.table.with_value(info, value)))
            return info

    def get(self, owner: UserId, name: str) -> Secret:
        """Return a secret's value.

        Raises:
            UnknownNameError: there is none of this name.

        """
        with self._opened() as state:
            return state.table.reveal(state.table.record(owner, name))

    def info(self, owner: UserId, name: str) -> SecretInfo:
        """Return what is known of a secret.

        Raises:
            UnknownNameError: there is none of this name.

        """
        with self._opened() as state:
            return state.table.record(owner, name).info

    def list(self, owner: UserId | None = None) -> tuple[SecretInfo, ...]:
        """Return what is known of all secrets, or of one owner's, by owner and name."""
        with self._opened() as state:
            records = state.table.records
            return tuple(records[key].info for key in sorted(records) if owner in {None, key[0]})

    def remove(self, owner: UserId, name: str) -> None:
        """Forget a secret. Until the next commit the previous generation still has it.

        Raises:
            UnknownNameError: there is none of this name.

        """
        with self._opened() as state:
            self._commit(replace(state, table=state.table.without(owner, name)))

    def share(self, owner: UserId, name: str, shares: Sequence[Share], *, now: float) -> SecretInfo:
        """Say who else may use or read a secret: these, nobody else.

        Raises:
            UnknownNameError: there is none of this name.
            InputError: a share to nobody, twice to the same, or of an unknown right.

        """
        if faults := [*share_faults(shares), *time_faults(now)]:
            raise InputError.of_faults(faults, hint="user:NAME or group:NAME; use or read")
        with self._opened() as state:
            old = state.table.record(owner, name).info
            info = replace(old, shares=tuple(shares), changed_at=now)
            self._commit(replace(state, table=state.table.with_info(info)))
            return info

    def forget_owner(self, owner: UserId) -> None:
        """Drop an owner's data key, from the previous generation too. Idempotent; two commits."""
        with self._opened() as state:
            self._revoke(replace(state, table=state.table.without_owner(owner)))

    def key(self, label: str) -> bytes:
        """Return the system key of this label, 32 bytes; the first call makes it (a commit).

        Raises:
            InputError: the label is none.

        """
        if not _LABEL.fullmatch(label):
            raise InputError(f"{label!r} labels no key", hint="a label looks like: audit")
        with self._opened() as state:
            found = state.table.system.get(label)
            if found is None:
                found = draw(KEY_BYTES)
                self._commit(replace(state, table=state.table.with_system(label, found)))
            return found

    # ---------------------------------------------------------------- ways in

    def check(self, key: SlotKey) -> SlotInfo:
        """Return the slot that `key` opens.

        Raises:
            DeniedError: it opens none.

        """
        with self._opened() as state:
            slots, vault_id = state.slots, state.vault_id
        # Outside of the lock: a passphrase takes 0.2 s, and others want their secrets.
        return describe_slot(open_slot(key, slots, vault_id)[0])

    def add_slot(self, key: SlotKey, *, now: float) -> SlotInfo:
        """Let one more key open the vault.

        Raises:
            InputError: the key cannot be used, or there are too many.

        """
        with self._opened() as state:
            (slot,) = _make_slots([key], state.root, state.vault_id, now)
            _refuse_count(len(state.slots) + 1)
            self._commit(replace(state, slots=(*state.slots, slot)))
            return describe_slot(slot)

    def remove_slot(self, slot_id: str) -> None:
        """Take one way in away, from the previous generation too; two commits.

        Raises:
            UnknownNameError: there is no such slot.
            StateError: it is the last one.

        """
        with self._opened() as state:
            ids = [slot.id.hex() for slot in state.slots]
            if slot_id not in ids:
                raise UnknownNameError.among("slot", slot_id, ids)
            left = tuple(slot for slot in state.slots if slot.id.hex() != slot_id)
            if not left:
                raise StateError("this is the only key of the vault", hint="add another one first")
            self._revoke(replace(state, slots=left))

    def change_passphrase(self, new: Secret, *, now: float) -> SlotInfo:
        """Let this passphrase open the vault, and none that did before; two commits.

        Who asks for it must have shown a key: `check`.

        Raises:
            InputError: it is empty.

        """
        with self._opened() as state:
            (slot,) = _make_slots([Passphrase(new)], state.root, state.vault_id, now)
            others = tuple(each for each in state.slots if each.kind != Passphrase.kind)
            _refuse_count(len(others) + 1)
            self._revoke(replace(state, slots=(*others, slot)))
            return describe_slot(slot)

    def rotate_root(self, keys: Sequence[SlotKey], *, now: float) -> None:
        """Exchange the root key and all data keys; only `keys` open the vault then; two commits.

        System keys stay: what they have signed is still to be checked.

        Raises:
            InputError: there is no key, too many, or one that cannot be used.

        """
        with self._opened() as state:
            root = draw(KEY_BYTES)
            slots = _make_slots(keys, root, state.vault_id, now)
            self._revoke(replace(state, root=root, slots=slots, table=state.table.rekeyed()))

    # ---------------------------------------------------------------- commits

    @contextmanager
    def _opened(self) -> Iterator[Generation]:
        """Give the state to one thread at a time; afterwards tell of what was committed."""
        committed: list[Anchor] = []
        try:
            with self._lock:
                if self._state is None:
                    raise LockedError("the vault is locked", hint="%aios unlock")
                try:
                    yield self._state
                finally:
                    committed, self._unsaid = self._unsaid, []
        finally:
            # The listener may ask for a key of this vault.
            for anchor in committed:
                if self.on_commit is not None:
                    self.on_commit(anchor)

    def _commit(self, wanted: Generation) -> None:
        data, written = seal_next(wanted)
        self._file.replace(data, expected=wanted.anchor.digest)
        # From here on this is the file, whether or not the disk vouches for it.
        self._state, self._size_bytes = written, len(data)
        self._file.confirm()
        self._unsaid.append(written.anchor)

    def _revoke(self, wanted: Generation) -> None:
        """Commit twice: the previous generation must not give back what was taken away."""
        self._commit(wanted)
        assert self._state is not None  # noqa: S101 - for mypy: _commit has just set it
        self._commit(self._state)


def _make_slots(
    keys: Sequence[SlotKey], root: bytes, vault_id: bytes, now: float
) -> tuple[Slot, ...]:
    if faults := list(time_faults(now)):
        raise InputError.of_faults(faults)
    _refuse_count(len(keys))
    return tuple(make_slot(key, root, vault_id, now) for key in keys)


def _refuse_count(count: int) -> None:
    if not 1 <= count <= MAX_SLOTS:
        raise InputError(
            f"a vault has 1 to {MAX_SLOTS} keys, {count} were asked for",
            hint="remove one that nobody uses",
        )
