"""Every system call that the vault makes, and what is said when one fails."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jupyter_aios.errors import StateError, StorageError
from jupyter_aios.vault.format import MAX_FILE_BYTES, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAKE_ROOM = "remove finished jobs with %aios prune; the vault is as it was"
_TRY_AGAIN = "the vault is as it was; mend the disk and try again"


class Disk:
    """The system calls; tests replace this object to have any of them fail."""

    def read(self, path: Path) -> bytes:
        """Return a file's content.

        Raises:
            StorageError: it is no file, or larger than a vault may be.

        """
        # No link is followed, and a pipe of that name cannot keep us waiting.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise damaged(f"{path} is no file")
            if status.st_size > MAX_FILE_BYTES:
                raise damaged(
                    f"{path} has {status.st_size} bytes, a vault {MAX_FILE_BYTES} at most"
                )
            parts = []
            left = status.st_size
            while left and (part := os.read(descriptor, left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def exists(self, path: Path) -> bool:
        """Tell whether there is anything of this name."""
        return os.path.lexists(path)

    def open(self, path: Path) -> int:
        """Open a new file of our own for writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of `data`; return how much."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """Return when the file's content is on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name."""
        os.link(source, target, follow_symlinks=False)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, whoever had it before."""
        os.rename(source, target)  # noqa: PTH104 - one call, one system call

    def unlink(self, path: Path) -> None:
        """Take a name away."""
        os.unlink(path)  # noqa: PTH108 - as above

    def fsync_folder(self, folder: Path) -> None:
        """Return when the folder's names are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path) -> int:
        """Take the lock file and return its descriptor; whoever closes it gives it back.

        Raises:
            StateError: another process has it.

        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "another one"
            os.close(descriptor)
            raise StateError(
                f"the vault is open in process {holder}", hint="close it there: %aios lock"
            ) from None
        # The number only tells people who it is; a full disk is no reason to keep the vault shut.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"{os.getpid():<19}\n".encode(), 0)
        return descriptor


DISK = Disk()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        hint = _MAKE_ROOM if is_full else _TRY_AGAIN
        raise StorageError(f"{path}: {cause_of(error)}", hint=hint) from error


def cause_of(error: OSError) -> str:
    """Return what the operating system says, as it is quoted in a message."""
    return (error.strerror or str(error)).lower()
