"""What fails, and what is left when the power goes: at every system call of a commit."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import StorageError
from jupyter_aios.vault import KeyFile, RecoveryKey, Vault
from tests.limits import file_size_limit
from tests.vault.disks import FailingDisk, Folder, PowerCutError, PowerDisk
from tests.vault.safes import ANN, NOW, key_file, put, values

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Path("/vault")
"""Of the disk in memory."""


def calls_of(disk: FailingDisk, folder: Path) -> list[str]:
    """Return the system calls of one commit."""
    vault = Vault.create(folder / "vault", [key_file(folder)], now=NOW, disk=disk)
    put(vault, "A", "1")
    disk.arm(0)
    put(vault, "A", "2")
    calls = list(disk.calls)
    vault.close()
    return calls


def test_a_commit_makes_the_calls_that_the_format_describes(tmp_path: Path) -> None:
    assert calls_of(FailingDisk(errno.EIO), tmp_path) == [
        "read", "unlink", "open", "write", "fsync", "close", "unlink", "link", "rename", "rename",
        "fsync_folder",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT], ids=errno.errorcode.get
)
def test_whatever_call_fails_the_old_generation_stays_and_the_vault_is_usable(
    code: int, tmp_path: Path
) -> None:
    disk = FailingDisk(code)
    names = calls_of(disk, tmp_path)
    vault = Vault.open(tmp_path / "vault", key_file(tmp_path), disk=disk)
    told = []
    vault.on_commit = lambda anchor: told.append(anchor.generation)
    value = b"2"
    for number, name in enumerate(names, start=1):
        before, generation = (tmp_path / "vault").read_bytes(), vault.anchor.generation
        told.clear()
        disk.arm(number)
        with pytest.raises(StorageError, match=str(tmp_path / "vault")) as caught:
            put(vault, "A", f"lost {number}")
        assert caught.value.hint
        disk.arm(0)
        assert not told
        if name == "fsync_folder":
            # In place, but not vouched for; the message says so, and memory and file agree.
            assert "does not confirm" in caught.value.message
            assert (tmp_path / "vault.previous").read_bytes() == before
            value = f"lost {number}".encode()
        else:
            assert (tmp_path / "vault").read_bytes() == before
            assert vault.anchor.generation == generation
        assert values(vault) == {("ann", "A"): value}
        assert not (tmp_path / "vault.new").exists() or name == "unlink"
        # And it goes on.
        put(vault, "A", str(number))
        value = str(number).encode()
        assert told
    vault.close()
    assert values(Vault.open(tmp_path / "vault", key_file(tmp_path))) == {("ann", "A"): value}


def test_a_full_disk_says_how_to_make_room(tmp_path: Path) -> None:
    disk = FailingDisk(errno.ENOSPC)
    vault = Vault.create(tmp_path / "vault", [key_file(tmp_path)], now=NOW, disk=disk)
    disk.arm(4)
    with pytest.raises(StorageError, match="no space left") as caught:
        put(vault, "A", "1")
    assert "%aios prune" in caught.value.hint
    vault.close()


def test_a_file_that_may_not_grow_leaves_the_vault_as_it_was(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", [key_file(tmp_path)], now=NOW)
    put(vault, "A", "1")
    before = (tmp_path / "vault").read_bytes()
    # The kernel's own error this time, after it took what still fitted.
    with file_size_limit(len(before)), pytest.raises(StorageError, match="too large"):
        vault.set(ANN, "B", Secret(bytes(5000)), vault.info(ANN, "A").kind, now=NOW)
    assert (tmp_path / "vault").read_bytes() == before
    put(vault, "B", "2")
    vault.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        "vault", "vault.previous", "vault.lock", "key",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["open", "write", "fsync", "close", "rename"])
def test_a_vault_that_could_not_be_made_is_not_there(name: str, tmp_path: Path) -> None:
    disk = FailingDisk(errno.EIO)
    Vault.create(tmp_path / "vault", [key_file(tmp_path)], now=NOW, disk=disk).close()
    number = disk.calls.index(name) + 1
    other = tmp_path / "other"
    other.mkdir()
    disk.arm(number)
    with pytest.raises(StorageError):
        Vault.create(other / "vault", [key_file(tmp_path)], now=NOW, disk=disk)
    assert {path.name for path in other.iterdir()} <= {"vault.lock"}
    disk.arm(0)
    Vault.create(other / "vault", [key_file(tmp_path)], now=NOW, disk=disk).close()


def test_a_half_written_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    Vault.create(tmp_path / "vault", [key_file(tmp_path)], now=NOW).close()
    for name in ("vault.new", "vault.previous.new"):
        (tmp_path / name).write_bytes(b"half")
    Vault.open(tmp_path / "vault", key_file(tmp_path)).close()
    assert not list(tmp_path.glob("*.new"))


# ---------------------------------------------------------------- power cuts


def change_passphrase_like(vault: Vault) -> None:
    vault.rotate_root([NEW_KEY], now=NOW)


NEW_KEY = RecoveryKey.make()

CHANGES: dict[str, Callable[[Vault], object]] = {
    "set": lambda vault: put(vault, "B", "new" * 500),
    "remove": lambda vault: vault.remove(ANN, "A"),
    "system key": lambda vault: vault.key("permits"),
    "rotate": change_passphrase_like,
}


def begun(folder: Path, commits: int) -> tuple[PowerDisk, KeyFile]:
    """Return a disk on which a vault of some generations is safe."""
    key = key_file(folder)
    disk = PowerDisk()
    vault = Vault.create(PLACE, [key], now=NOW, disk=disk)
    for number in range(commits):
        put(vault, "A", f"value {number}" * 100)
    vault.close()
    if commits:
        # That was long ago: the operating system has written everything by itself.
        disk.settle()
    return disk, key


def copy_of(disk: PowerDisk) -> PowerDisk:
    return PowerDisk(Folder(dict(disk.folder.kept), dict(disk.folder.kept)))


def contents(disk: PowerDisk, keys: list[KeyFile | RecoveryKey]) -> dict[tuple[str, str], bytes]:
    """Return what the vault holds, opened by the first of the keys that fits."""
    kinds = {slot.kind for slot in Vault.inspect(PLACE, disk=disk).slots}
    key = next(key for key in keys if (key.kind == 2) == ("key file" in kinds))
    vault = Vault.open(PLACE, key, disk=disk)
    found = values(vault)
    vault.close()
    return found


@pytest.mark.parametrize("commits", [1, 3])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_power_cut_the_old_or_the_new_generation_opens(
    change: Callable[[Vault], object], commits: int, tmp_path: Path
) -> None:
    safe, key = begun(tmp_path, commits)
    keys: list[KeyFile | RecoveryKey] = [key, NEW_KEY]
    old = contents(copy_of(safe), keys)
    whole = copy_of(safe)
    vault = Vault.open(PLACE, key, disk=whole)
    before = whole.calls
    change(vault)
    new, calls = values(vault), whole.calls
    states = 0
    for cut_after in range(before, calls + 1):
        disk = copy_of(safe)
        vault = Vault.open(PLACE, key, disk=disk)
        disk.cut_after = cut_after
        is_acknowledged = True
        try:
            change(vault)
        except PowerCutError:
            is_acknowledged = False
        assert is_acknowledged == (cut_after == calls)
        for after in disk.states_after_a_cut():
            found = contents(after, keys)
            assert found == new if is_acknowledged else found in (old, new)
            states += 1
            # It can be written again, whatever the last life has left behind.
            again = Vault.open(PLACE, _key_of(after, keys), disk=after)
            put(again, "C", "after")
            assert again.get(ANN, "C").reveal() == b"after"
            again.close()
    assert states > 100


def _key_of(disk: PowerDisk, keys: list[KeyFile | RecoveryKey]) -> KeyFile | RecoveryKey:
    kinds = {slot.kind for slot in Vault.inspect(PLACE, disk=disk).slots}
    return keys[0] if "key file" in kinds else keys[1]


def test_the_previous_generation_survives_every_power_cut_too(tmp_path: Path) -> None:
    safe, key = begun(tmp_path, 3)
    whole = copy_of(safe)
    vault = Vault.open(PLACE, key, disk=whole)
    before = whole.calls
    put(vault, "B", "new")
    for cut_after in range(before, whole.calls):
        disk = copy_of(safe)
        vault = Vault.open(PLACE, key, disk=disk)
        disk.cut_after = cut_after
        with pytest.raises(PowerCutError):
            put(vault, "B", "new")
        for after in disk.states_after_a_cut():
            # The vault itself might be what the disk destroys next.
            after.folder.names["vault"] = after.folder.names["vault.previous"]
            assert values(Vault.open(PLACE, key, disk=after))["ann", "A"].startswith(b"value ")


def test_a_vault_that_was_made_survives_a_power_cut(tmp_path: Path) -> None:
    disk, key = begun(tmp_path, 0)
    for after in disk.states_after_a_cut():
        assert contents(after, [key]) == {}
