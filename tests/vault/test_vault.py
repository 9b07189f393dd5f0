from __future__ import annotations

import gc
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass, Share
from jupyter_aios.errors import (
    DeniedError,
    InputError,
    LockedError,
    StateError,
    StorageError,
    UnknownNameError,
)
from jupyter_aios.vault import Anchor, KeyFile, RecoveryKey, Vault
from jupyter_aios.vault.format import MAX_FILE_BYTES, MAX_SLOTS, RESTORE
from tests.vault.disks import UnsyncedDisk
from tests.vault.safes import ANN, BEN, NOW, key_file, new_vault, passphrase, put, reopen, values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_aios.vault import SlotKey

DISK = UnsyncedDisk()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """Give an open vault whose key file lies beside it."""
    made = new_vault(tmp_path, DISK)
    yield made
    made.close()


# ---------------------------------------------------------------- secrets


def test_a_secret_comes_back_with_what_is_known_of_it(vault: Vault) -> None:
    info = vault.set(
        ANN, "deploy.key-1", Secret(b"\0\xff"), SecretClass.BROKER, now=NOW, public="ssh-ed25519 A"
    )
    assert vault.get(ANN, "deploy.key-1").reveal() == b"\0\xff"
    assert vault.info(ANN, "deploy.key-1") == info
    assert (info.version, info.created_at, info.changed_at, info.size_bytes) == (1, NOW, NOW, 2)
    assert (info.kind, info.public, info.shares) == (SecretClass.BROKER, "ssh-ed25519 A", ())


def test_setting_it_again_makes_the_next_version_and_keeps_its_shares(vault: Vault) -> None:
    put(vault, "TOKEN", "old")
    shares = (Share("user:ben"), Share("group:students", "read"))
    vault.share(ANN, "TOKEN", shares, now=NOW + 1)
    info = vault.set(
        ANN, "TOKEN", Secret("newer"), SecretClass.DERIVED, now=NOW + 2, target="https"
    )
    assert (info.version, info.created_at, info.changed_at) == (2, NOW, NOW + 2)
    assert (info.kind, info.shares, info.target) == (SecretClass.DERIVED, shares, "https")
    assert vault.get(ANN, "TOKEN").reveal() == b"newer"


def test_names_are_each_owner_s_own(vault: Vault) -> None:
    put(vault, "TOKEN", "hers")
    put(vault, "TOKEN", "his", BEN)
    assert values(vault) == {("ann", "TOKEN"): b"hers", ("ben", "TOKEN"): b"his"}
    assert [info.owner for info in vault.list(BEN)] == ["ben"]


@pytest.mark.parametrize("size", [0, 1, 251, 252, 253, 508, 64 * 1024])
def test_a_value_of_any_length_comes_back(size: int, vault: Vault, tmp_path: Path) -> None:
    value = os.urandom(size)
    vault.set(ANN, "VALUE", Secret(value), SecretClass.INJECT, now=NOW)
    vault.close()
    again = reopen(tmp_path)
    assert again.get(ANN, "VALUE").reveal() == value
    again.close()


def test_the_file_s_size_does_not_tell_how_long_a_token_is(tmp_path: Path) -> None:
    sizes = set()
    for value in ("x", "x" * 40, "x" * 252):
        folder = tmp_path / str(len(value))
        folder.mkdir()
        vault = new_vault(folder, DISK)
        put(vault, "TOKEN", value)
        # What the table says of it is one to three digits; the box is the same.
        sizes.add(vault.header.size_bytes - len(str(len(value))))
        vault.close()
    assert len(sizes) == 1


def test_an_unknown_name_offers_the_owner_s_near_ones(vault: Vault) -> None:
    put(vault, "HF_TOKEN", "x")
    put(vault, "HF_TOKENS", "x", BEN)
    for ask in (vault.get, vault.info, vault.remove):
        with pytest.raises(UnknownNameError, match="no secret is named 'HF_TOKN'") as caught:
            ask(ANN, "HF_TOKN")
        assert caught.value.hint == "did you mean HF_TOKEN?"
    with pytest.raises(UnknownNameError):
        vault.share(BEN, "HF_TOKEN", [], now=NOW)


def test_all_faults_of_a_secret_are_told_at_once_and_its_value_is_not(vault: Vault) -> None:
    with pytest.raises(InputError) as caught:
        vault.set(
            UserId(""),
            "9lives",
            Secret("hunter2" * 10_000),
            SecretClass.INJECT,
            now=float("nan"),
            public="x" * 20_000,
        )
    told = str(caught.value)
    assert "5 faults" in told
    for fault in ("'9lives' names no secret", "70000 bytes, 65536", "the owner ''", "nan", "20000"):
        assert fault in told
    assert "hunter2" not in told
    assert vault.list() == ()


@pytest.mark.parametrize("owner", ["é" * 128, "ann@example.org", "a b\n", "\0", "x" * 256])
def test_an_owner_is_any_text(owner: str, vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x", UserId(owner))
    vault.close()
    again = reopen(tmp_path)
    assert values(again) == {(owner, "TOKEN"): b"x"}
    again.close()


@pytest.mark.parametrize("owner", ["", "x" * 257, "é" * 129, "\ud800"])
def test_an_owner_has_1_to_256_bytes(owner: str, vault: Vault) -> None:
    with pytest.raises(InputError, match="256 bytes"):
        put(vault, "TOKEN", "x", UserId(owner))


@pytest.mark.parametrize(
    ("shares", "fault"),
    [
        ([Share("ann")], "'ann' is neither user:NAME nor group:NAME"),
        ([Share("user:")], "'user:' is neither"),
        ([Share("user:ben", "own")], "'own' is no right"),
        ([Share("user:ben"), Share("user:ben", "read")], "two shares are to the same"),
        ([Share(f"user:{n}") for n in range(1025)], "1025 shares, 1024 at most"),
    ],
)
def test_shares_that_cannot_be_meant_are_refused(
    shares: list[Share], fault: str, vault: Vault
) -> None:
    put(vault, "TOKEN", "x")
    with pytest.raises(InputError, match=fault):
        vault.share(ANN, "TOKEN", shares, now=NOW)
    assert vault.info(ANN, "TOKEN").shares == ()


def test_a_system_key_is_made_once_and_survives(vault: Vault, tmp_path: Path) -> None:
    keys = [vault.key("audit"), vault.key("permits"), vault.key("audit")]
    assert keys[0] == keys[2] != keys[1]
    assert [len(key) for key in keys] == [32, 32, 32]
    vault.rotate_root([key_file(tmp_path)], now=NOW)
    vault.close()
    again = reopen(tmp_path)
    assert again.key("audit") == keys[0]
    assert again.list() == ()
    again.close()


@pytest.mark.parametrize("label", ["", "Audit", "a b", "x" * 65])
def test_a_system_key_has_a_plain_label(label: str, vault: Vault) -> None:
    with pytest.raises(InputError, match="labels no key"):
        vault.key(label)


def test_a_vault_takes_no_more_than_its_format_can_hold(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(vault, "FIRST", "x")
    monkeypatch.setattr("jupyter_aios.vault.generation.MAX_FILE_BYTES", 2000)
    with pytest.raises(StorageError, match="MiB, it may have"):
        vault.set(ANN, "SECOND", Secret(bytes(2000)), SecretClass.INJECT, now=NOW)
    assert list(values(vault)) == [("ann", "FIRST")]


# ---------------------------------------------------------------- forgetting


def owner_keys(folder: Path, path: str) -> set[str]:
    """Return whose data keys a generation holds."""
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "vault").write_bytes((folder / path).read_bytes())
    vault = Vault.open(copy / "vault", key_file(folder), disk=DISK)
    state = vault._state  # noqa: SLF001 - the keys are nowhere else to be seen
    assert state is not None
    vault.close()
    return set(state.table.owners)


def test_forgetting_an_owner_drops_the_data_key_from_both_generations(
    vault: Vault, tmp_path: Path
) -> None:
    put(vault, "TOKEN", "hers")
    put(vault, "TOKEN", "his", BEN)
    assert owner_keys(tmp_path, "vault") == {"ann", "ben"}
    vault.forget_owner(ANN)
    assert values(vault) == {("ben", "TOKEN"): b"his"}
    assert owner_keys(tmp_path, "vault") == {"ben"}
    assert owner_keys(tmp_path, "vault.previous") == {"ben"}


def test_forgetting_twice_is_harmless(vault: Vault) -> None:
    vault.forget_owner(ANN)
    vault.forget_owner(ANN)
    put(vault, "TOKEN", "again")
    assert vault.get(ANN, "TOKEN").reveal() == b"again"


def test_removing_leaves_the_others(vault: Vault) -> None:
    put(vault, "ONE", "1")
    put(vault, "TWO", "2")
    vault.remove(ANN, "ONE")
    assert values(vault) == {("ann", "TWO"): b"2"}
    put(vault, "ONE", "3")
    assert vault.info(ANN, "ONE").version == 1


# ---------------------------------------------------------------- ways in


def test_another_key_opens_it_until_it_is_removed(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    recovery = RecoveryKey.make()
    slot = vault.add_slot(recovery, now=NOW + 1)
    assert (slot.kind, slot.created_at) == ("recovery key", NOW + 1)
    assert vault.check(recovery) == slot
    vault.remove_slot(slot.id)
    with pytest.raises(DeniedError):
        vault.check(recovery)
    vault.close()
    for path in ("vault", "vault.previous"):
        with pytest.raises(DeniedError):
            open_copy(tmp_path, path, recovery)


def open_copy(folder: Path, path: str, key: RecoveryKey | KeyFile) -> None:
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "vault").write_bytes((folder / path).read_bytes())
    Vault.open(copy / "vault", key, disk=DISK).close()


def test_the_last_key_cannot_be_removed(vault: Vault) -> None:
    (slot,) = vault.header.slots
    with pytest.raises(StateError, match="only key"):
        vault.remove_slot(slot.id)
    with pytest.raises(UnknownNameError, match="no slot is named 'abc'"):
        vault.remove_slot("abc")


def test_a_vault_has_one_to_eight_keys(vault: Vault, tmp_path: Path) -> None:
    for _ in range(MAX_SLOTS - 1):
        vault.add_slot(RecoveryKey.make(), now=NOW)
    with pytest.raises(InputError, match="9 were asked for"):
        vault.add_slot(RecoveryKey.make(), now=NOW)
    with pytest.raises(InputError, match="0 were asked for"):
        Vault.create(tmp_path / "other", [], now=NOW)
    with pytest.raises(InputError, match="0 were asked for"):
        vault.rotate_root([], now=NOW)
    assert len(vault.header.slots) == MAX_SLOTS


def test_the_old_passphrase_opens_neither_generation(tmp_path: Path) -> None:
    keys: list[SlotKey] = [passphrase("old"), key_file(tmp_path)]
    vault = Vault.create(tmp_path / "vault", keys, now=NOW, disk=DISK)
    put(vault, "TOKEN", "x")
    slot = vault.change_passphrase(Secret("new"), now=NOW + 1)
    assert [each.kind for each in vault.header.slots] == ["key file", "passphrase"]
    assert vault.check(passphrase("new")) == slot
    vault.close()
    (tmp_path / "vault.previous").replace(tmp_path / "kept")
    for path in ("vault", "kept"):
        (tmp_path / "vault").write_bytes((tmp_path / path).read_bytes())
        with pytest.raises(DeniedError):
            Vault.open(tmp_path / "vault", passphrase("old"))


def test_rotation_leaves_no_old_key_that_opens_anything(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    put(vault, "TOKEN", "y", BEN)
    vault.share(BEN, "TOKEN", [Share("user:ann")], now=NOW)
    before, known = vault._state, vault.list()  # noqa: SLF001 - its keys are looked for below
    recovery = RecoveryKey.make()
    vault.rotate_root([recovery], now=NOW)
    after = vault._state  # noqa: SLF001 - as above
    assert before is not None
    assert after is not None
    assert values(vault) == {("ann", "TOKEN"): b"x", ("ben", "TOKEN"): b"y"}
    assert vault.list() == known
    assert before.root != after.root
    for owner in (ANN, BEN):
        assert before.table.owners[owner].key != after.table.owners[owner].key
    vault.close()
    for path in ("vault", "vault.previous"):
        with pytest.raises(DeniedError):
            open_copy(tmp_path, path, key_file(tmp_path))
        open_copy(tmp_path, path, recovery)


# ---------------------------------------------------------------- opening and closing


def test_a_closed_vault_says_that_it_is_locked(vault: Vault) -> None:
    put(vault, "TOKEN", "x")
    vault.close()
    vault.close()
    with pytest.raises(LockedError, match="locked") as caught:
        vault.get(ANN, "TOKEN")
    assert caught.value.hint == "%aios unlock"
    for ask in (vault.list, lambda: vault.anchor, lambda: vault.key("audit")):
        with pytest.raises(LockedError):
            ask()


def test_closing_drops_the_keys(vault: Vault) -> None:
    put(vault, "TOKEN", "x")
    state = weakref.ref(vault._state)  # noqa: SLF001 - it holds all keys
    assert state() is not None
    vault.close()
    gc.collect()
    assert state() is None


def test_an_existing_vault_is_not_overwritten(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    vault.close()
    for name in ("vault", "vault.previous"):
        with pytest.raises(StateError, match="there is a vault already"):
            new_vault(tmp_path)
        (tmp_path / name).rename(tmp_path / f"{name}.away")
    new_vault(tmp_path).close()


def test_there_is_no_vault_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no vault") as caught:
        reopen(tmp_path)
    assert caught.value.hint == "make one: %aios unlock"
    with pytest.raises(StateError, match="there is no vault"):
        Vault.inspect(tmp_path / "vault")
    # Asking has left nothing behind.
    assert {path.name for path in tmp_path.iterdir()} == {"key"}


def test_a_second_opener_is_told_who_has_it(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=f"open in process {os.getpid()}") as caught:
        reopen(tmp_path)
    assert caught.value.hint == "close it there: %aios lock"
    put(vault, "TOKEN", "x")
    with pytest.raises(StateError, match="open in process"):
        Vault.restore_previous(tmp_path / "vault", disk=DISK)
    vault.close()
    reopen(tmp_path).close()


def test_a_wrong_key_leaves_the_vault_free(vault: Vault, tmp_path: Path) -> None:
    vault.close()
    with pytest.raises(DeniedError):
        Vault.open(tmp_path / "vault", RecoveryKey.make())
    reopen(tmp_path).close()


def test_the_header_can_be_read_without_a_key(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    header = Vault.inspect(tmp_path / "vault")
    assert header == vault.header
    assert Anchor(header.generation, header.digest) == vault.anchor
    assert header.size_bytes == (tmp_path / "vault").stat().st_size
    assert [(slot.kind, slot.created_at) for slot in header.slots] == [("key file", NOW)]


def test_the_files_are_the_owner_s_only(vault: Vault, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        put(vault, "TOKEN", "x")
    finally:
        os.umask(before)
    for name in ("vault", "vault.previous", "vault.lock"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_vault_s_place_is_not_followed(vault: Vault, tmp_path: Path) -> None:
    vault.close()
    (tmp_path / "vault").rename(tmp_path / "elsewhere")
    (tmp_path / "vault").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="vault: "):
        reopen(tmp_path)


def test_a_link_in_the_new_file_s_place_is_removed_not_followed(
    vault: Vault, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "vault.new").symlink_to(victim)
    put(vault, "TOKEN", "x")
    assert victim.read_text() == "untouched"


def test_a_file_beyond_64_mib_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "vault").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(StorageError, match=f"has {MAX_FILE_BYTES + 1} bytes"):
        Vault.inspect(tmp_path / "vault")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "vault")
    with pytest.raises(StorageError, match="is no file"):
        Vault.inspect(tmp_path / "pipe" / "vault")


def test_a_file_that_changed_under_an_open_vault_is_not_overwritten(
    vault: Vault, tmp_path: Path
) -> None:
    put(vault, "TOKEN", "x")
    (tmp_path / "vault").write_bytes((tmp_path / "vault.previous").read_bytes())
    with pytest.raises(StorageError, match="changed by something else"):
        put(vault, "OTHER", "y")
    assert (tmp_path / "vault").read_bytes() == (tmp_path / "vault.previous").read_bytes()


def test_many_threads_share_a_vault(vault: Vault) -> None:
    seen: list[Anchor] = []
    vault.on_commit = seen.append
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for version in range(5):
                put(vault, f"T{number}", f"{number} {version}")
                assert vault.get(ANN, f"T{number}").reveal() == f"{number} {version}".encode()
                vault.list()
        except BaseException as fault:  # noqa: BLE001 - it is asserted on below
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert {name: vault.info(ANN, name).version for _, name in values(vault)} == {
        f"T{number}": 5 for number in range(8)
    }
    assert sorted(anchor.generation for anchor in seen) == list(range(2, 42))


def test_the_listener_may_ask_the_vault_that_it_listens_to(vault: Vault) -> None:
    seen: list[tuple[int, bytes]] = []
    vault.on_commit = lambda anchor: seen.append((anchor.generation, vault.key("audit")))
    put(vault, "TOKEN", "x")
    # The key's own commit is told inside of the first one's telling.
    assert [generation for generation, _ in seen] == [3, 2]
    assert {key for _, key in seen} == {vault.key("audit")}


# ---------------------------------------------------------------- rollback and restore


def test_a_vault_that_was_put_back_is_refused(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "revoked")
    old = (tmp_path / "vault").read_bytes()
    put(vault, "TOKEN", "fresh")
    put(vault, "TOKEN", "freshest")
    anchor = vault.anchor
    vault.close()
    (tmp_path / "vault").write_bytes(old)
    with pytest.raises(StorageError, match="generation 2, 4 was seen before") as caught:
        Vault.open(tmp_path / "vault", key_file(tmp_path), anchor=anchor)
    assert "jupyter aios vault restore" in caught.value.hint


def test_a_vault_of_another_history_is_refused(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    fork = (tmp_path / "vault").read_bytes()
    put(vault, "TOKEN", "one way")
    mine = vault.anchor
    vault.close()
    (tmp_path / "vault").write_bytes(fork)
    other = reopen(tmp_path)
    put(other, "TOKEN", "another way")
    same_number = other.anchor
    put(other, "TOKEN", "and on")
    other.close()
    assert same_number.generation == mine.generation
    # One higher than what was seen, but not its successor; then, put back, the same number.
    for path in ("vault", "vault.previous"):
        (tmp_path / "vault").write_bytes((tmp_path / path).read_bytes())
        with pytest.raises(StorageError, match="another history"):
            Vault.open(tmp_path / "vault", key_file(tmp_path), anchor=mine)


def test_a_commit_that_was_not_recorded_any_more_is_no_rollback(
    vault: Vault, tmp_path: Path
) -> None:
    anchors = [vault.anchor]
    vault.on_commit = anchors.append
    put(vault, "TOKEN", "x")
    put(vault, "TOKEN", "y")
    vault.close()
    # The newest fits, and so do those before it: killed between a commit and its record.
    for anchor in anchors:
        Vault.open(tmp_path / "vault", key_file(tmp_path), anchor=anchor).close()


def test_an_anchor_that_was_altered_is_noticed(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    anchor = vault.anchor
    vault.close()
    for bad in (
        replace(anchor, digest="0" * 64),
        replace(anchor, generation=anchor.generation + 1),
        replace(anchor, generation=anchor.generation - 1),
    ):
        with pytest.raises(StorageError):
            Vault.open(tmp_path / "vault", key_file(tmp_path), anchor=bad)
    Vault.open(tmp_path / "vault", key_file(tmp_path), anchor=anchor).close()


def test_a_damaged_vault_is_restored_by_the_generation_before(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "kept")
    put(vault, "TOKEN", "lost")
    previous = (tmp_path / "vault.previous").read_bytes()
    vault.close()
    damaged = (tmp_path / "vault").read_bytes()[:-40]
    (tmp_path / "vault").write_bytes(damaged)
    with pytest.raises(StorageError, match="cut off at byte") as caught:
        reopen(tmp_path)
    assert caught.value.hint == RESTORE
    header = Vault.restore_previous(tmp_path / "vault")
    assert (tmp_path / "vault.damaged").read_bytes() == damaged
    again = Vault.open(
        tmp_path / "vault", key_file(tmp_path), anchor=Anchor(header.generation, header.digest)
    )
    assert (tmp_path / "vault").read_bytes() == previous
    assert values(again) == {("ann", "TOKEN"): b"kept"}
    # And it goes on from there, though `vault` and `vault.previous` are one file now.
    put(again, "TOKEN", "anew")
    again.close()
    assert (tmp_path / "vault.previous").read_bytes() == previous
    Vault.restore_previous(tmp_path / "vault")


def test_a_lost_vault_is_restored_too(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    put(vault, "TOKEN", "y")
    vault.close()
    (tmp_path / "vault").unlink()
    with pytest.raises(StateError, match="there is no vault") as caught:
        reopen(tmp_path)
    assert caught.value.hint == RESTORE
    Vault.restore_previous(tmp_path / "vault")
    reopen(tmp_path).close()


def test_there_is_nothing_to_restore_before_the_second_generation(
    vault: Vault, tmp_path: Path
) -> None:
    vault.close()
    with pytest.raises(StateError, match=r"no vault at .*previous"):
        Vault.restore_previous(tmp_path / "vault")


def test_a_damaged_previous_generation_is_not_put_back(vault: Vault, tmp_path: Path) -> None:
    put(vault, "TOKEN", "x")
    vault.close()
    before = (tmp_path / "vault").read_bytes()
    (tmp_path / "vault.previous").write_bytes(b"no vault at all")
    with pytest.raises(StorageError, match="this is no vault"):
        Vault.restore_previous(tmp_path / "vault")
    assert (tmp_path / "vault").read_bytes() == before
