"""What the home's disk says no to, told so that a person can act on it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_aios.core.units import format_bytes
from jupyter_aios.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNTINFO = Path("/proc/self/mountinfo")

NETWORK_TYPES = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2",
    "smb3", "smbfs", "wekafs",
})  # fmt: skip
"""Types whose files another machine may write: their shared memory and locks are not enough."""

NETWORK_FUSE = frozenset({
    "afp", "beegfs", "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "cvmfs2", "davfs", "dfuse",
    "fuse-nfs", "gcsfuse", "gluster", "glusterfs", "goofys", "gvfsd-fuse", "juicefs", "lizardfs",
    "mfs", "moosefs", "mount-s3", "mountpoint-s3", "rclone", "s3fs", "seaweedfs", "smbnetfs",
    "sshfs",
})  # fmt: skip
"""What follows `fuse.` in the type of a mount."""

MAKE_ROOM = "remove finished jobs with %aios prune, or move the home: AIOS_HOME=/a/folder/with/room"
MOVE_HOME = "set AIOS_HOME=/a/folder/you/can/write"


class Mount(NamedTuple):
    """One line of mountinfo: where, of which type, on which device."""

    point: str
    type: str
    device: str

    @property
    def is_network(self) -> bool:
        """True where other machines may share the files."""
        kind, _, program = self.type.partition(".")
        if kind == "fuse":
            return program in NETWORK_FUSE
        return self.type in NETWORK_TYPES


def free_bytes(path: Path) -> int:
    """Return what a person may still write to the file system that holds `path`."""
    return shutil.disk_usage(_nearest_existing(path)).free


def storage_error(path: Path, cause: str, *, hint: str = MAKE_ROOM) -> StorageError:
    """Return the error that names the file, the cause and the room that is left."""
    try:
        room = f" ({format_bytes(free_bytes(path))} free)"
    except OSError:
        # The file system itself is gone; the cause says so already.
        room = ""
    return StorageError(f"{path}: {cause}{room}", hint=hint)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about `path` into a StorageError.

    Raises:
        StorageError: the disk is full, read-only, forbidden or broken.

    """
    try:
        yield
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cause = (error.strerror or str(error)).lower()
        raise storage_error(path, cause, hint=MAKE_ROOM if is_full else MOVE_HOME) from error


def make_private_folder(folder: Path) -> None:
    """Make sure that `folder` is there; it and the parents made for it are 0700.

    A folder that exists keeps its mode: it may be any folder that the person named.
    """
    # mkdir(parents=True) would give the parents the umask's mode.
    for place in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        place.mkdir(mode=0o700, exist_ok=True)


def refuse_network_filesystem(path: Path, mountinfo: Path = MOUNTINFO) -> None:
    """Return where SQLite's write-ahead log works on the file system that holds `path`.

    The log's index is memory shared between processes, which network file systems do not give
    (sqlite.org/wal.html): the store would be damaged, not slow. `path` need not exist yet.
    Systems without mountinfo (macOS) pass.

    Raises:
        StorageError: `path` lies on a network file system.

    """
    mount = mount_of(path, mountinfo)
    if mount is not None and mount.is_network:
        msg = (
            f"{path} lies on a network file system ({mount.type} at {mount.point}),"
            " on which the store's write-ahead log does not work"
        )
        raise StorageError(msg, hint="set AIOS_HOME=/a/local/folder")


def mount_of(path: Path, mountinfo: Path = MOUNTINFO) -> Mount | None:
    """Return the mount that holds `path`, or None where the system does not tell."""
    try:
        lines = mountinfo.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    target = path.resolve()
    status = os.stat(_nearest_existing(target))  # noqa: PTH116 - the same for dir and file
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    covering = [m for m in map(_parse, lines) if m and target.is_relative_to(m.point)]
    # A mount below a later one of its parent is listed but hidden: the device tells. Some types
    # (btrfs) list another device than stat gives; then the paths alone decide.
    candidates = [mount for mount in covering if mount.device == device] or covering
    # The last of several mounts on one point is on top, hence >= by way of the index.
    ranked = sorted(enumerate(candidates), key=lambda pair: (len(pair[1].point), pair[0]))
    return ranked[-1][1] if ranked else None


def _parse(line: bytes) -> Mount | None:
    # man 5 proc_pid_mountinfo: id parent major:minor root point options tags… - type source …
    left, separator, right = line.partition(b" - ")
    fields = left.split(b" ")
    if not separator or len(fields) < 5:  # noqa: PLR2004 - the mount point is the fifth
        return None
    point = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), fields[4])
    return Mount(os.fsdecode(point), right.split(b" ")[0].decode(), fields[2].decode())


def _nearest_existing(path: Path) -> Path:
    # os.path.exists is False also where Path.exists raises: a name too long, a closed folder.
    places = (path, *path.parents)
    return next((place for place in places if os.path.exists(place)), Path("/"))  # noqa: PTH110
