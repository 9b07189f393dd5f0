"""The vault's file: one writer, whole generations, the one before kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from jupyter_aios.errors import StateError, StorageError
from jupyter_aios.vault.box import digest_of
from jupyter_aios.vault.disk import DISK, Disk, cause_of, disk_errors
from jupyter_aios.vault.format import RESTORE

if TYPE_CHECKING:
    from pathlib import Path


class VaultFile:
    """`vault`, `vault.previous` and `vault.lock` in one folder."""

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self.previous = path.with_name(path.name + ".previous")
        self._new = path.with_name(path.name + ".new")
        self._previous_new = path.with_name(path.name + ".previous.new")
        self._damaged = path.with_name(path.name + ".damaged")
        self._lock_path = path.with_name(path.name + ".lock")
        self._disk = disk
        self._lock: int | None = None

    def hold(self) -> None:
        """Take the lock until `close`, and remove what a killed process was writing.

        Raises:
            StateError: another process has the vault open.
            StorageError: the folder cannot be written.

        """
        with disk_errors(self._lock_path):
            self._lock = self._disk.lock(self._lock_path)
        try:
            # A half of a commit may hold keys that were taken away since.
            with disk_errors(self.path):
                self._discard(self._new)
                self._discard(self._previous_new)
        except StorageError:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    def read(self) -> bytes:
        """Return the whole file.

        Raises:
            StateError: there is none.
            StorageError: it cannot be read, or is too large.

        """
        is_lost = self._disk.exists(self.previous)
        return self._read(self.path, RESTORE if is_lost else "make one: %aios unlock")

    def refuse_existing(self) -> None:
        """Return where nothing of a vault is here.

        Raises:
            StateError: there is a vault, or what is left of one.

        """
        for path in (self.path, self.previous):
            if self._disk.exists(path):
                raise StateError(
                    f"there is a vault already: {path}",
                    hint="open it: %aios unlock; or, if it was lost: jupyter aios vault restore",
                )

    def create(self, data: bytes) -> None:
        """Put the first generation in place; `confirm` has to follow.

        Raises:
            StorageError: the disk does not take it; nothing is left of it.

        """
        self._write_new(data)
        self._rename_new()

    def replace(self, data: bytes, *, expected: str) -> None:
        """Put the next generation in place, the present one becomes the previous.

        `expected` is the SHA-256 of the present one. `confirm` has to follow.

        Raises:
            StorageError: the disk does not take it, or somebody else wrote the file; the present
                one is as it was.

        """
        if digest_of(self.read()) != expected:
            raise StorageError(
                f"{self.path} was changed by something else while it was open here",
                hint="lock and unlock it to see what there is: %aios lock",
            )
        self._write_new(data)
        try:
            with disk_errors(self.previous):
                # First under another name: at no moment is there no previous generation. Where both
                # are one file, as after a restore, rename does nothing; the name goes next time.
                self._discard(self._previous_new)
                self._disk.link(self.path, self._previous_new)
                self._disk.rename(self._previous_new, self.previous)
        except StorageError:
            self._clean_up()
            raise
        self._rename_new()

    def confirm(self) -> None:
        """Return when what was put in place survives a power cut.

        Raises:
            StorageError: the disk does not say so; the new generation is in place all the same.

        """
        try:
            self._disk.fsync_folder(self.path.parent)
        except OSError as error:
            raise StorageError(
                f"{self.path}: written, but the disk does not confirm that it would survive a power"
                f" cut ({cause_of(error)})",
                hint="mend the disk and do it again",
            ) from error

    def read_previous(self) -> bytes:
        """Return the previous generation.

        Raises:
            StateError: there is none.
            StorageError: it cannot be read.

        """
        return self._read(self.previous, "%aios unlock")

    def restore_previous(self) -> None:
        """Put the previous generation in the place of the present one; keep that as `.damaged`.

        Raises:
            StorageError: the disk does not take it.

        """
        with disk_errors(self.path):
            self._disk.link(self.previous, self._new)
            if self._disk.exists(self.path):
                self._discard(self._damaged)
                self._disk.link(self.path, self._damaged)
        self._rename_new()
        self.confirm()

    def _write_new(self, data: bytes) -> None:
        try:
            with disk_errors(self.path):
                self._discard(self._new)
                descriptor = self._disk.open(self._new)
                try:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[self._disk.write(descriptor, rest) :]
                    self._disk.fsync(descriptor)
                finally:
                    self._disk.close(descriptor)
        except StorageError:
            self._clean_up()
            raise

    def _rename_new(self) -> None:
        try:
            with disk_errors(self.path):
                self._disk.rename(self._new, self.path)
        except StorageError:
            self._clean_up()
            raise

    def _clean_up(self) -> None:
        # The cause is told; that this fails too would only cover it. `hold` does it next time.
        for path in (self._new, self._previous_new):
            with contextlib.suppress(OSError):
                self._discard(path)

    def _read(self, path: Path, hint: str) -> bytes:
        with disk_errors(path):
            try:
                return self._disk.read(path)
            except FileNotFoundError:
                raise StateError(f"there is no vault at {path}", hint=hint) from None

    def _discard(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(path)
