"""Disks that fail, that need no fsync, and that forget in a power cut what was not synced."""

# ruff: noqa: ARG002 - they have the arguments of the disk that they stand for

from __future__ import annotations

import errno
import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.vault.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class UnsyncedDisk(Disk):
    """A real disk that is not waited for: what a power cut does is tested elsewhere."""

    def fsync(self, descriptor: int) -> None:
        pass

    def fsync_folder(self, folder: Path) -> None:
        pass


class FailingDisk(UnsyncedDisk):
    """A real disk whose call number `fails_at` (from 1) says `code`; 0: none does.

    A write that fails has taken half of its data.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        self.fails_at = 0
        self.calls: list[str] = []

    def arm(self, fails_at: int) -> None:
        """Count calls from here."""
        self.calls, self.fails_at = [], fails_at

    def _call(self, name: str) -> bool:
        self.calls.append(name)
        return len(self.calls) == self.fails_at

    def _error(self) -> OSError:
        return OSError(self.code, os.strerror(self.code))

    def read(self, path: Path) -> bytes:
        if self._call("read"):
            raise self._error()
        return super().read(path)

    def open(self, path: Path) -> int:
        if self._call("open"):
            raise self._error()
        return super().open(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._call("write"):
            super().write(descriptor, data[: len(data) // 2])
            raise self._error()
        return super().write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        if self._call("fsync"):
            raise self._error()

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        if self._call("close"):
            raise self._error()

    def link(self, source: Path, target: Path) -> None:
        if self._call("link"):
            raise self._error()
        super().link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        if self._call("rename"):
            raise self._error()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        if self._call("unlink"):
            raise self._error()
        super().unlink(path)

    def fsync_folder(self, folder: Path) -> None:
        if self._call("fsync_folder"):
            raise self._error()


class PowerCutError(BaseException):
    """The machine is off; no `except Exception` of it."""


@dataclass
class File:
    """A file's content, as programs see it and as the platter has it."""

    seen: bytes = b""
    kept: bytes = b""


@dataclass
class Folder:
    """One folder's names, in memory; what was done to them since its last fsync."""

    names: dict[str, File] = field(default_factory=dict)
    kept: dict[str, File] = field(default_factory=dict)
    pending: list[tuple[str, str, File | None]] = field(default_factory=list)


class PowerDisk(Disk):
    """A disk that keeps only what was synced. `cut_after` calls, the power is gone."""

    def __init__(self, folder: Folder | None = None) -> None:
        self.folder = folder or Folder()
        self.cut_after = -1
        self.calls = 0
        self._open: dict[int, File] = {}
        self._numbers = itertools.count(1_000_000)

    def settle(self) -> None:
        """Have everything come to the disk that was written so far."""
        for file in self.folder.names.values():
            file.kept = file.seen
        self.folder.kept = dict(self.folder.names)
        self.folder.pending = []

    def states_after_a_cut(self) -> Iterator[PowerDisk]:
        """Yield every disk that may be found when the power is back.

        Of the names, any part of what was not synced may have come through, in its order or not; of
        each file's content what was synced, nothing, all, half, or zeros of the same length.
        """
        folder = self.folder
        for count in range(len(folder.pending) + 1):
            for chosen in itertools.combinations(folder.pending, count):
                names = dict(folder.kept)
                for call, name, file in chosen:
                    if call == "set" and file is not None:
                        names[name] = file
                    else:
                        names.pop(name, None)
                yield from self._with_contents(names)

    def _with_contents(self, names: dict[str, File]) -> Iterator[PowerDisk]:
        for fate in range(4):
            content: dict[int, File] = {}
            for file in names.values():
                seen = file.seen
                found = (file.kept, seen, seen[: len(seen) // 2], bytes(len(seen)))[fate]
                if file.seen == file.kept:
                    found = file.kept
                content[id(file)] = File(found, found)
            after = {name: content[id(file)] for name, file in names.items()}
            yield PowerDisk(Folder(dict(after), dict(after)))

    def _call(self) -> None:
        if self.calls == self.cut_after:
            raise PowerCutError
        self.calls += 1

    def _name(self, name: str, file: File | None) -> None:
        if file is None:
            self.folder.names.pop(name)
            self.folder.pending.append(("drop", name, None))
        else:
            self.folder.names[name] = file
            self.folder.pending.append(("set", name, file))

    def _file(self, path: Path) -> File:
        if path.name not in self.folder.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.folder.names[path.name]

    def read(self, path: Path) -> bytes:
        self._call()
        return self._file(path).seen

    def exists(self, path: Path) -> bool:
        return path.name in self.folder.names

    def open(self, path: Path) -> int:
        self._call()
        if path.name in self.folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        descriptor = next(self._numbers)
        self._open[descriptor] = File()
        self._name(path.name, self._open[descriptor])
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        self._call()
        # Several writes, so that the power can go between them.
        part = bytes(data[: max(1, min(len(data), 700))])
        self._open[descriptor].seen += part
        return len(part)

    def fsync(self, descriptor: int) -> None:
        self._call()
        file = self._open[descriptor]
        file.kept = file.seen

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def link(self, source: Path, target: Path) -> None:
        self._call()
        file = self._file(source)
        if target.name in self.folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._name(target.name, file)

    def rename(self, source: Path, target: Path) -> None:
        self._call()
        file = self._file(source)
        if self.folder.names.get(target.name) is file:
            return  # two names of one file: POSIX has rename do nothing
        self._name(target.name, file)
        self._name(source.name, None)

    def unlink(self, path: Path) -> None:
        self._call()
        self._file(path)
        self._name(path.name, None)

    def fsync_folder(self, folder: Path) -> None:
        self._call()
        self.folder.kept = dict(self.folder.names)
        self.folder.pending = []

    def lock(self, path: Path) -> int:
        return -1
