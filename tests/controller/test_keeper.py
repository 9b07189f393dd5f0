"""The vault in the controller's hands: opened, guessed at, left alone, damaged and put back."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import keyring.backends.fail
import pytest

from jupyter_aios.controller.keeper import AUTO_LOCK_S, Keeper
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.safe import KeyKind, VaultKey, VaultState, VaultStatus
from jupyter_aios.core.secrets import Secret, SecretClass
from jupyter_aios.errors import (
    AiosError,
    DeniedError,
    InputError,
    LockedError,
    StateError,
    StorageError,
)
from jupyter_aios.vault import Anchor, KeyFile, RecoveryKey
from tests.controller.rig import wait_for
from tests.vault.test_slots import MemoryKeyring, keyring_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADA = UserId("ada")
WRONG = "this key does not open the vault"


@dataclass
class Desk:
    """A home with its keeper; what the audit has seen of the vault, and a clock, in the hand."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    seen: list[Anchor] = field(default_factory=list)
    now: float = 100.0
    is_full: bool = False

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.keeper = self.make()
        KeyFile.make(self.home / "key")

    def make(self) -> Keeper:
        return Keeper(
            self.home,
            self.environ,
            newest=lambda: self.seen[-1] if self.seen else None,
            on_commit=self.note,
            clock=lambda: 1e9 + self.now,
            monotonic=lambda: self.now,
        )

    def note(self, anchor: Anchor) -> None:
        if self.is_full:
            raise StorageError("the disk is full")
        self.seen.append(anchor)

    def restart(self) -> None:
        """Have another process take over."""
        self.keeper.close()
        self.keeper = self.make()

    @property
    def key(self) -> VaultKey:
        """A key that costs no time."""
        return VaultKey(KeyKind.KEY_FILE, str(self.home / "key"))

    def unlock(self) -> VaultStatus:
        return self.keeper.unlock(self.key)

    def put(self, name: str, value: str = "value") -> None:
        vault = self.keeper.open_vault()
        vault.set(ADA, name, Secret(value), SecretClass.INJECT, now=0.0)

    def names(self) -> list[str]:
        return [info.name for info in self.keeper.open_vault().list()]

    def copy(self) -> bytes:
        return self.keeper.path.read_bytes()


@pytest.fixture(autouse=True)
def _headless() -> Iterator[None]:
    """Have no keyring, whatever this machine has."""
    with keyring_of(keyring.backends.fail.Keyring()):  # type: ignore[no-untyped-call]
        yield


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "home")
    yield desk
    desk.keeper.close()


def desk_of(tmp_path: Path, **environ: object) -> Desk:
    return Desk(tmp_path / "home", {name: str(value) for name, value in environ.items()})


def wrong() -> VaultKey:
    """Return a recovery key that is one, of another vault."""
    return VaultKey(KeyKind.RECOVERY, RecoveryKey.make().text.reveal().decode())


def passphrase(text: str) -> VaultKey:
    return VaultKey(KeyKind.PASSPHRASE, text)


def refusal(act: Callable[[], object]) -> AiosError:
    with pytest.raises(AiosError) as caught:
        act()
    return caught.value


# ------------------------------------------------------------------------ absent, locked, open


def test_a_vault_is_absent_then_made_then_locked_then_opened_again(desk: Desk) -> None:
    keeper = desk.keeper
    assert keeper.status() == VaultStatus(VaultState.ABSENT, has_keyring=False)
    assert (keeper.audit_key(), keeper.permit_seed(), keeper.is_open) == (None, None, False)
    made = desk.unlock()
    assert made.state is VaultState.UNLOCKED
    assert made.slots == ("key file",)
    keys = keeper.audit_key(), keeper.permit_seed()
    assert [len(key or b"") for key in keys] == [32, 32]
    assert keys[0] != keys[1]
    locked = keeper.lock()
    assert (locked.state, locked.slots) == (VaultState.LOCKED, ("key file",))
    assert (keeper.audit_key(), keeper.permit_seed(), keeper.is_open) == (None, None, False)
    assert keeper.lock() == locked
    again = desk.unlock()
    assert again.generation == made.generation
    assert (keeper.audit_key(), keeper.permit_seed()) == keys


def test_what_is_asked_of_a_vault_that_is_not_open_says_how_to_open_it(desk: Desk) -> None:
    told = []
    for prepare in (lambda: None, desk.unlock, desk.keeper.lock):
        prepare()
        if not desk.keeper.is_open:
            with pytest.raises(LockedError) as caught:
                desk.keeper.open_vault()
            told.append((caught.value.message, caught.value.hint))
    assert told == [
        ("there is no vault yet", "%aios unlock"),
        ("the vault is locked", "%aios unlock"),
    ]


def test_opening_an_open_vault_again_changes_nothing(desk: Desk) -> None:
    first = desk.unlock()
    assert desk.keeper.unlock(wrong()) == first


def test_an_empty_key_is_told_before_anything_is_tried(desk: Desk) -> None:
    desk.unlock()
    desk.keeper.lock()
    for kind in (KeyKind.PASSPHRASE, KeyKind.KEY_FILE, KeyKind.RECOVERY):
        error = refusal(lambda kind=kind: desk.keeper.unlock(VaultKey(kind)))  # type: ignore[misc]
        assert isinstance(error, InputError)
        assert error.message == f"an empty {kind.value} opens nothing"


def test_twenty_who_unlock_at_once_get_one_vault(desk: Desk) -> None:
    with ThreadPoolExecutor(20) as threads:
        made = list(threads.map(lambda _: desk.unlock(), range(20)))
    assert {(one.state, one.generation) for one in made} == {(VaultState.UNLOCKED, 3)}
    desk.keeper.lock()
    with ThreadPoolExecutor(20) as threads:
        opened = list(threads.map(lambda _: desk.unlock(), range(20)))
    assert {(one.state, one.generation) for one in opened} == {(VaultState.UNLOCKED, 3)}
    assert [anchor.generation for anchor in desk.seen] == [2, 3]


def test_an_unlock_that_cannot_be_written_down_opens_nothing(desk: Desk) -> None:
    desk.is_full = True
    assert isinstance(refusal(desk.unlock), StorageError)
    keeper = desk.keeper
    assert (keeper.is_open, keeper.audit_key(), keeper.permit_seed()) == (False, None, None)
    desk.is_full = False
    assert desk.unlock().state is VaultState.UNLOCKED
    assert keeper.audit_key() is not None


def test_it_says_how_jobs_could_open_the_vault_by_themselves(desk: Desk, tmp_path: Path) -> None:
    assert desk.keeper.openable_by_jobs() == ""
    desk.unlock()
    assert "can read the vault's key file" in desk.keeper.openable_by_jobs()
    service = desk_of(tmp_path / "home", AIOS_PASSPHRASE_FILE="/run/pass")
    assert "can read /run/pass" in service.keeper.openable_by_jobs()
    with keyring_of(MemoryKeyring()):
        other = Desk(tmp_path / "other")
        other.keeper.unlock(VaultKey(KeyKind.KEYRING))
        assert "can ask its OS keyring" in other.keeper.openable_by_jobs()
        other.keeper.close()


# ------------------------------------------------------------------------ wrong keys


def test_a_wrong_key_gets_one_answer_whatever_is_wrong_with_it(desk: Desk, tmp_path: Path) -> None:
    desk.keeper.unlock(passphrase("correct horse"))
    KeyFile.make(tmp_path / "other key")
    desk.keeper.new_recovery_key(passphrase("correct horse"))
    desk.keeper.lock()
    told = set()
    for key in (
        passphrase("wrong horse"),
        VaultKey(KeyKind.KEY_FILE, str(tmp_path / "other key")),  # there is no such slot
        wrong(),
    ):
        error = refusal(lambda key=key: desk.keeper.unlock(key))  # type: ignore[misc]
        told.add((type(error), error.message, error.hint))
        assert "horse" not in str(error)
    assert len(told) == 1
    assert told.pop()[:2] == (DeniedError, WRONG)


def test_from_the_third_wrong_key_on_there_is_a_pause_that_doubles(desk: Desk) -> None:
    desk.unlock()
    desk.keeper.lock()
    pauses_s = [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    for number, pause_s in enumerate(pauses_s, 1):
        assert refusal(lambda: desk.keeper.unlock(wrong())).message == WRONG
        if pause_s:
            desk.now += pause_s - 0.5
            # Not even the right one, and asking does not make it longer.
            for key in (desk.key, wrong()):
                error = refusal(lambda key=key: desk.keeper.unlock(key))  # type: ignore[misc]
                assert isinstance(error, DeniedError)
                assert error.message.startswith(f"{number} wrong keys came one after the other")
            desk.now += 0.5
    assert desk.unlock().state is VaultState.UNLOCKED
    desk.keeper.lock()
    for _ in range(3):
        assert refusal(lambda: desk.keeper.unlock(wrong())).message == WRONG


def test_a_key_that_was_not_copied_right_is_told_apart_and_does_not_count(desk: Desk) -> None:
    desk.unlock()
    desk.keeper.lock()
    typo = VaultKey(KeyKind.RECOVERY, "AAAAA-AAAAA")
    for _ in range(5):
        assert isinstance(refusal(lambda: desk.keeper.unlock(typo)), InputError)
    assert desk.unlock().state is VaultState.UNLOCKED


# ------------------------------------------------------------------------ left alone


def test_a_vault_that_nobody_uses_locks_itself(desk: Desk) -> None:
    status = desk.unlock()
    assert status.locks_at == pytest.approx(1e9 + desk.now + AUTO_LOCK_S)
    desk.now += AUTO_LOCK_S - 1
    desk.keeper.lock_if_left()
    assert desk.keeper.is_open
    desk.put("TOKEN")  # a use
    desk.now += AUTO_LOCK_S - 1
    desk.keeper.lock_if_left()
    assert desk.keeper.is_open
    desk.now += 2
    desk.keeper.lock_if_left()
    assert desk.keeper.status().state is VaultState.LOCKED
    assert desk.keeper.audit_key() is None


def test_looking_at_the_status_is_no_use(desk: Desk) -> None:
    desk.unlock()
    desk.now += AUTO_LOCK_S + 1
    desk.keeper.status()
    desk.keeper.audit_key()
    desk.keeper.lock_if_left()
    assert not desk.keeper.is_open


def test_a_vault_that_the_keyring_opened_does_not_lock_itself(desk: Desk) -> None:
    with keyring_of(MemoryKeyring()):
        status = desk.keeper.unlock(VaultKey(KeyKind.KEYRING))
        assert (status.has_keyring, status.slots, status.locks_at) == (True, ("keyring",), None)
        desk.now += 10 * AUTO_LOCK_S
        desk.keeper.lock_if_left()
        assert desk.keeper.is_open
        desk.keeper.lock()
        assert not desk.keeper.is_open


def test_a_keyring_opens_the_vault_when_the_controller_starts(desk: Desk) -> None:
    backend = MemoryKeyring()
    with keyring_of(backend):
        desk.keeper.open_by_itself()
        assert desk.keeper.status().state is VaultState.ABSENT  # nothing is made unasked
        desk.keeper.unlock(VaultKey(KeyKind.KEYRING))
        desk.restart()
        desk.keeper.open_by_itself()
        assert desk.keeper.is_open
        desk.restart()
        backend.is_locked = True
        desk.keeper.open_by_itself()
        assert desk.keeper.status().state is VaultState.LOCKED


def test_the_time_until_it_locks_can_be_set(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, AIOS_AUTO_LOCK_S=60)
    desk.unlock()
    desk.now += 61
    desk.keeper.lock_if_left()
    assert not desk.keeper.is_open


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused_with_what_can_be_typed(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=f"AIOS_AUTO_LOCK_S is '{text}'") as caught:
        desk_of(tmp_path, AIOS_AUTO_LOCK_S=text)
    assert caught.value.hint == "export AIOS_AUTO_LOCK_S=28800"


# ------------------------------------------------------------------------ a service


def passphrase_file(folder: Path, content: bytes = b"of the service\n", mode: int = 0o600) -> Path:
    path = folder / "passphrase"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_service_makes_its_vault_and_opens_it_at_every_start(tmp_path: Path) -> None:
    path = passphrase_file(tmp_path)
    desk = desk_of(tmp_path, AIOS_PASSPHRASE_FILE=path)
    desk.keeper.open_by_itself()
    desk.put("TOKEN")
    path.write_bytes(b"of the service\r\na second line means nothing\n")
    desk.restart()
    desk.keeper.open_by_itself()
    assert desk.names() == ["TOKEN"]
    desk.now += 10 * AUTO_LOCK_S
    desk.keeper.lock_if_left()
    assert desk.keeper.status().locks_at is None
    path.write_bytes(b"another")
    desk.restart()
    assert refusal(desk.keeper.open_by_itself).message == WRONG
    assert not desk.keeper.is_open


@pytest.mark.parametrize(
    ("content", "mode", "told", "hint"),
    [
        (b"open\n", 0o644, "others can read {path}", "chmod 600 '{path}'"),
        (b"open\n", 0o640, "others can read {path}", "chmod 600 '{path}'"),
        (b"\nopen\n", 0o600, "the first line of {path} is empty", "write the passphrase there"),
        (None, 0, "AIOS_PASSPHRASE_FILE={path} cannot be read: No such file", "unset"),
    ],
    ids=["for all", "for the group", "empty", "missing"],
)
def test_a_passphrase_file_that_does_not_do_is_told_and_nothing_is_made(
    tmp_path: Path, content: bytes | None, mode: int, told: str, hint: str
) -> None:
    path = tmp_path / "passphrase"
    if content is not None:
        passphrase_file(tmp_path, content, mode)
    desk = desk_of(tmp_path, AIOS_PASSPHRASE_FILE=path)
    error = refusal(desk.keeper.open_by_itself)
    assert isinstance(error, InputError)
    assert error.message.startswith(told.format(path=path))
    assert error.hint.startswith(hint.format(path=path))
    assert not desk.keeper.path.exists()


# ------------------------------------------------------------------------ damage and rollback


def test_a_damaged_vault_is_told_with_the_way_back_which_then_works(desk: Desk) -> None:
    desk.unlock()
    desk.put("FIRST")
    older = desk.copy()
    desk.put("SECOND")
    desk.put("THIRD")
    desk.keeper.lock()
    content = desk.copy()
    desk.keeper.path.write_bytes(content[:-100])
    status = desk.keeper.status()
    assert status.state is VaultState.LOCKED
    assert "is cut off at byte" in status.trouble
    assert "jupyter aios vault restore" in status.trouble
    assert isinstance(refusal(desk.unlock), StorageError)
    # What only a key can tell.
    desk.keeper.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert desk.keeper.status().trouble == ""
    assert "its seal does not fit" in refusal(desk.unlock).message
    desk.keeper.restore_previous()
    desk.unlock()
    assert desk.names() == ["FIRST", "SECOND"]
    assert desk.keeper.path.with_name("vault.damaged").exists()
    # What is older than what was put back is older still.
    desk.keeper.lock()
    desk.keeper.path.write_bytes(older)
    assert refusal(desk.unlock).message.startswith("an older vault was put back")


def test_what_was_damaged_does_not_come_back_after_the_restore(desk: Desk) -> None:
    desk.unlock()
    desk.put("FIRST")
    desk.put("SECOND")
    desk.keeper.lock()
    newest = desk.copy()
    desk.keeper.restore_previous()
    desk.unlock()
    desk.put("OTHER")
    desk.keeper.lock()
    desk.keeper.path.write_bytes(newest)  # of the generation that OTHER has, but not its file
    assert "of another history" in refusal(desk.unlock).message


def test_there_is_nothing_to_restore_while_the_vault_is_open_or_has_no_past(desk: Desk) -> None:
    assert isinstance(refusal(desk.keeper.restore_previous), StateError)
    desk.unlock()
    error = refusal(desk.keeper.restore_previous)
    assert (type(error), error.hint) == (StateError, "%aios lock")


def test_a_vault_that_was_deleted_is_missed_instead_of_made_anew(desk: Desk) -> None:
    desk.unlock()
    desk.put("TOKEN")
    desk.keeper.lock()
    kept = desk.copy()
    for path in (desk.keeper.path, desk.keeper.path.with_name("vault.previous")):
        path.unlink()
    error = refusal(desk.unlock)
    assert isinstance(error, StorageError)
    assert error.message.endswith("vault is gone, but the audit has seen it")
    assert not desk.keeper.path.exists()
    desk.keeper.path.write_bytes(kept)
    desk.unlock()
    assert desk.names() == ["TOKEN"]


def test_an_older_file_is_refused_after_a_restart_too(desk: Desk, tmp_path: Path) -> None:
    desk.unlock()
    desk.put("REVOKED")
    shutil.copy(desk.keeper.path, tmp_path / "copy")
    desk.keeper.open_vault().remove(ADA, "REVOKED")
    desk.restart()
    shutil.copy(tmp_path / "copy", desk.keeper.path)
    assert refusal(desk.unlock).message.startswith("an older vault was put back: generation 4, 5")


def test_a_commit_whose_record_was_cut_off_by_a_kill_is_taken(desk: Desk) -> None:
    desk.unlock()
    desk.put("TOKEN")
    desk.seen.pop()
    desk.restart()
    assert desk.unlock().generation == 4
    assert desk.seen[-1].generation == 4


def test_commits_that_are_told_out_of_order_leave_the_newest_anchored(desk: Desk) -> None:
    desk.unlock()
    vault = desk.keeper.open_vault()
    tell, is_told = vault.on_commit, threading.Event()
    assert tell is not None

    def late(anchor: Anchor) -> None:
        if anchor.generation == 4:
            assert is_told.wait(20)
        tell(anchor)
        if anchor.generation == 5:
            is_told.set()

    vault.on_commit = late
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(desk.put, "FIRST")
        wait_for(vault.list)
        desk.put("SECOND")
        first.result()
    assert [anchor.generation for anchor in desk.seen] == [2, 3, 5]
    desk.restart()
    desk.unlock()
    assert desk.names() == ["FIRST", "SECOND"]


# ------------------------------------------------------------------------ other keys


def test_another_key_takes_a_key_that_fits_now(desk: Desk, tmp_path: Path) -> None:
    assert isinstance(refusal(lambda: desk.keeper.change(desk.key, desk.key)), LockedError)
    desk.unlock()
    new = VaultKey(KeyKind.KEY_FILE, str(KeyFile.make(tmp_path / "new").path))
    assert refusal(lambda: desk.keeper.change(wrong(), new)).message == WRONG
    desk.keeper.change(desk.key, new)
    desk.keeper.lock()
    assert refusal(desk.unlock).message == WRONG
    assert desk.keeper.unlock(new).slots == ("key file",)
    # Nor does the generation before give the old way in back.
    desk.keeper.lock()
    desk.keeper.restore_previous()
    assert refusal(desk.unlock).message == WRONG


def test_a_passphrase_is_changed_for_another(desk: Desk) -> None:
    desk.keeper.unlock(passphrase("old"))
    desk.keeper.change(passphrase("old"), passphrase("new"))
    desk.keeper.lock()
    assert refusal(lambda: desk.keeper.unlock(passphrase("old"))).message == WRONG
    assert desk.keeper.unlock(passphrase("new")).state is VaultState.UNLOCKED


def test_an_open_vault_is_no_place_to_guess_its_key_either(desk: Desk, tmp_path: Path) -> None:
    desk.unlock()
    new = VaultKey(KeyKind.KEY_FILE, str(KeyFile.make(tmp_path / "new").path))
    for _ in range(3):
        assert refusal(lambda: desk.keeper.change(wrong(), new)).message == WRONG
    error = refusal(lambda: desk.keeper.change(desk.key, new))
    assert error.message.startswith("3 wrong keys came one after the other")
    desk.now += 1
    desk.keeper.change(desk.key, new)


def test_a_recovery_key_opens_the_vault_until_there_is_a_newer_one(desk: Desk) -> None:
    desk.unlock()
    first = desk.keeper.new_recovery_key(desk.key)
    second = desk.keeper.new_recovery_key(desk.key)
    assert desk.keeper.status().slots == ("key file", "recovery key")
    desk.keeper.lock()
    key = VaultKey(KeyKind.RECOVERY, first)
    assert refusal(lambda: desk.keeper.unlock(key)).message == WRONG
    typed = second.replace("-", " ").lower()
    assert desk.keeper.unlock(VaultKey(KeyKind.RECOVERY, typed)).state is VaultState.UNLOCKED


def test_keys_show_themselves_to_nobody() -> None:
    assert repr(passphrase("correct horse")) == "VaultKey('passphrase', …)"
