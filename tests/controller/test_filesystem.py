from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.controller.filesystem import (
    Mount,
    free_bytes,
    mount_of,
    refuse_network_filesystem,
    storage_error,
)
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LOCAL = ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk", "fuse.gocryptfs", "apfs"]
NETWORK = [
    "nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs",
    "fuse.ceph-fuse", "fuse.s3fs", "fuse.rclone", "glusterfs", "fuse.glusterfs",
]  # fmt: skip


def line(point: str, kind: str, device: str = "0:999") -> str:
    # The optional fields between the options and the hyphen may be none, one or several.
    return f"36 35 {device} / {point} rw,noatime shared:1 master:2 - {kind} server:/x rw"


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    return tmp_path / "mountinfo"


def describe(mountinfo: Path, *lines: str) -> None:
    mountinfo.write_bytes("".join(f"{each}\n" for each in lines).encode())


@pytest.mark.parametrize("kind", NETWORK)
def test_a_network_file_system_is_refused_by_name(mountinfo: Path, kind: str) -> None:
    describe(mountinfo, line("/", "ext4"), line("/home", kind))
    with pytest.raises(StorageError) as caught:
        refuse_network_filesystem(Path("/home/ada/.local/aios/store.sqlite"), mountinfo)
    assert kind in caught.value.message
    assert "/home/ada/.local/aios" in caught.value.message
    assert f"({kind} at /home)" in caught.value.message
    assert caught.value.hint == "set AIOS_HOME=/a/local/folder"


@pytest.mark.parametrize("kind", LOCAL)
def test_a_local_file_system_passes(mountinfo: Path, kind: str) -> None:
    describe(mountinfo, line("/", "nfs"), line("/home", kind))
    refuse_network_filesystem(Path("/home/ada"), mountinfo)


def test_a_folder_beside_the_mount_passes(mountinfo: Path) -> None:
    describe(mountinfo, line("/", "ext4"), line("/home", "nfs"))
    refuse_network_filesystem(Path("/home2/ada"), mountinfo)


def test_the_longest_mount_point_counts_in_any_order(mountinfo: Path) -> None:
    describe(mountinfo, line("/a/b", "ext4"), line("/a", "nfs"), line("/", "ext4"))
    refuse_network_filesystem(Path("/a/b/c"), mountinfo)
    with pytest.raises(StorageError):
        refuse_network_filesystem(Path("/a/c"), mountinfo)


def test_the_last_of_two_mounts_on_one_point_counts(mountinfo: Path) -> None:
    describe(mountinfo, line("/", "ext4"), line("/net", "autofs"), line("/net", "nfs4"))
    with pytest.raises(StorageError, match="nfs4"):
        refuse_network_filesystem(Path("/net/ada"), mountinfo)


def test_a_mount_that_a_later_one_hides_does_not_count(mountinfo: Path, tmp_path: Path) -> None:
    status = tmp_path.stat()
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    hidden = line(str(tmp_path), "nfs", device="0:998")
    describe(mountinfo, hidden, line(str(tmp_path.parent), "ext4", device))
    refuse_network_filesystem(tmp_path / "store.sqlite", mountinfo)


def test_mount_points_with_spaces_and_other_escapes_are_read(mountinfo: Path) -> None:
    describe(mountinfo, line("/", "ext4"), line(r"/my\040home\134\011漢字", "cifs"))
    with pytest.raises(StorageError, match="cifs"):
        refuse_network_filesystem(Path("/my home\\\t漢字/aios"), mountinfo)
    refuse_network_filesystem(Path("/my home/aios"), mountinfo)


def test_a_link_into_a_network_file_system_is_followed(mountinfo: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    describe(mountinfo, line("/", "ext4"), line(str(target), "nfs"))
    with pytest.raises(StorageError, match="nfs"):
        refuse_network_filesystem(tmp_path / "link" / "store.sqlite", mountinfo)


def test_a_system_without_mountinfo_passes(mountinfo: Path) -> None:
    refuse_network_filesystem(Path("/anywhere"), mountinfo)
    assert mount_of(Path("/anywhere"), mountinfo) is None


def test_lines_that_are_not_understood_are_passed_over(mountinfo: Path) -> None:
    describe(mountinfo, "", "1 2 3", "no separator at all in this line", line("/", "nfs"))
    assert mount_of(Path("/x"), mountinfo) == Mount("/", "nfs", "0:999")


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs mountinfo")
def test_the_real_mounts_are_understood(tmp_path: Path) -> None:
    mount = mount_of(Path("/proc/self/status"))
    assert mount is not None
    assert (mount.point, mount.type) == ("/proc", "proc")
    assert mount_of(tmp_path) is not None


def test_room_is_told_also_for_what_does_not_exist_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / ("b" * 300)) > 0
    error = storage_error(tmp_path / "a", "broken")
    assert error.message.startswith(f"{tmp_path}/a: broken (")


# ---------------------------------------------------------------- a real network file system


@pytest.fixture
def sshfs(tmp_path: Path) -> Iterator[Path]:
    """Mount a folder of this machine through an sshd of the test's own."""
    port = _free_port()
    for name in ("host", "user"):
        file = str(tmp_path / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "user.pub",
        "PidFile": tmp_path / "sshd.pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    # As root, sshd wants its folder for unprivileged children.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    command = [str(SSHD), "-D", "-e", "-f", "/dev/null"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    with (tmp_path / "sshd.log").open("wb") as log:
        sshd = subprocess.Popen(command, stderr=log)
    point, far = tmp_path / "my home", tmp_path / "far"
    point.mkdir()
    far.mkdir()
    host_key = (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    try:
        _wait_for_port(port)
        # No config of the person's: it could name other keys or agents.
        ssh = f"ssh -F /dev/null -i {tmp_path}/user -o UserKnownHostsFile={tmp_path}/known_hosts"
        mount = ["sshfs", f"root@127.0.0.1:{far}", str(point), "-p", str(port)]
        mount += ["-o", f"ssh_command={ssh}"]
        done = subprocess.run(mount, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            pytest.skip(f"sshfs cannot mount here: {done.stderr.strip()}")
        yield point
        subprocess.run(["umount", point], check=True)
    finally:
        sshd.terminate()
        sshd.wait(timeout=30)


@pytest.mark.skipif(os.geteuid() != 0, reason="an sshd of one's own needs root")
@pytest.mark.skipif(SSHD is None or shutil.which("sshfs") is None, reason="needs sshd and sshfs")
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse")
def test_a_store_on_a_real_sshfs_mount_is_refused_and_nothing_is_written(
    sshfs: Path, tmp_path: Path
) -> None:
    (sshfs / "written here").write_text("read there")
    assert (tmp_path / "far" / "written here").read_text() == "read there"
    with pytest.raises(StorageError, match=r"fuse\.sshfs") as caught:
        SqlStore(f"sqlite:///{sshfs}/aios/store.sqlite")
    assert f"at {sshfs})" in caught.value.message
    assert caught.value.hint == "set AIOS_HOME=/a/local/folder"
    assert [file.name for file in (tmp_path / "far").iterdir()] == ["written here"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)) != 0:
            assert time.monotonic() < deadline, "sshd did not come up"
            time.sleep(0.02)
