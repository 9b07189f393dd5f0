"""Bytes that jobs take along, each in a file named by its SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.controller.filesystem import disk_errors, make_private_folder
from jupyter_aios.core.entities import BlobId
from jupyter_aios.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NAME = re.compile(r"[0-9a-f]{64}")
_PART = ".part"
_EMPTY = hashlib.sha256(b"").hexdigest()


def blob_id(content: bytes) -> BlobId:
    """Return the name of these bytes.

    Example:
        >>> blob_id(b"")[:8]
        'e3b0c442'

    """
    return BlobId(hashlib.sha256(content).hexdigest())


class FileBlobs:
    """A folder of blobs, `ab/abcdef…`, files 0600; implements `core.ports.BlobStore`.

    Safe for many threads: a file appears under its name only when it is whole.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def missing(self, blobs: Iterable[BlobId]) -> list[BlobId]:
        """Return those that are not here, in the order asked; the others count as just used.

        Raises:
            InputError: a name is no SHA-256.

        """
        return [blob for blob in blobs if not self._refresh(blob)]

    def path(self, blob: BlobId) -> Path:
        """Return the file that holds the blob; it must not be changed.

        Raises:
            InputError: the name is no SHA-256.
            UnknownNameError: it is not here.

        """
        place = self._place(blob)
        if not _holds(place, blob):
            raise UnknownNameError(
                f"the blob {blob[:12]}… is not in {self._root}", hint="submit the job again"
            )
        return place

    def put(self, blob: BlobId, chunks: Iterable[bytes]) -> None:
        """Store the bytes of `chunks` under `blob`, all or nothing. Idempotent.

        Where the blob is here already, `chunks` is not read.

        Raises:
            InputError: the bytes have another hash; nothing was stored.
            StorageError: the disk is full or not writable; nothing was stored.

        """
        place = self._place(blob)
        if self._refresh(blob):
            return
        with disk_errors(place):
            make_private_folder(place.parent)
            descriptor, part = tempfile.mkstemp(dir=place.parent, suffix=_PART)
        digest = hashlib.sha256()
        try:
            # An OSError of `chunks` is the sender's (a lost connection), not the disk's.
            for chunk in chunks:
                digest.update(chunk)
                with disk_errors(place):
                    _write(descriptor, chunk)
            if digest.hexdigest() != blob:
                msg = f"the bytes sent as {blob[:12]}… have the hash {digest.hexdigest()[:12]}…"
                raise InputError(msg, hint="submit the job again")
            with disk_errors(place):
                # No fsync: after a power cut the file is whole or empty, and empty counts as
                # missing (see _holds), so that the client sends it again.
                Path(part).replace(place)
        finally:
            os.close(descriptor)
            Path(part).unlink(missing_ok=True)

    def remove_unused(self, keep: set[BlobId], older_than_s: float, now: float) -> int:
        """Remove blobs outside `keep` that were last asked for `older_than_s` before `now`.

        Returns the bytes freed: a blob that a job's folder still links to frees none. The age
        protects a blob between its upload and the submission of its job.
        """
        freed = 0
        for file in self._files():
            try:
                status = file.stat()
            except FileNotFoundError:
                continue
            if file.name in keep or now - status.st_mtime < older_than_s:
                continue
            with disk_errors(file):
                file.unlink(missing_ok=True)
            freed += status.st_size if status.st_nlink == 1 else 0
        return freed

    def _files(self) -> Iterator[Path]:
        for folder in self._root.glob("[0-9a-f][0-9a-f]"):
            for file in folder.iterdir():
                # What a killed controller was writing is unused too.
                if _NAME.fullmatch(file.name) or file.suffix == _PART:
                    yield file

    def _place(self, blob: BlobId) -> Path:
        # The name comes from a request: anything else than a hash could leave the folder.
        if not _NAME.fullmatch(blob):
            raise InputError(f"{blob!r} is not a SHA-256 in hexadecimal")
        return self._root / blob[:2] / blob

    def _refresh(self, blob: BlobId) -> bool:
        place = self._place(blob)
        if not _holds(place, blob):
            return False
        try:
            os.utime(place)
        except FileNotFoundError:
            return False
        return True


def _holds(place: Path, blob: BlobId) -> bool:
    try:
        size = place.stat().st_size
    except FileNotFoundError:
        return False
    return size > 0 or blob == _EMPTY


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
