from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import keyring
import keyring.backends.fail
import keyring.errors
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyrings.alt.file import PlaintextKeyring  # type: ignore[import-untyped]

from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import DeniedError, InputError, MissingExtraError, UnavailableError
from jupyter_aios.vault import (
    KeyFile,
    Keyring,
    Passphrase,
    RecoveryKey,
    Vault,
    keyring_is_usable,
)
from jupyter_aios.vault.slots import KEYRING_SERVICE, make_slot, open_slot
from tests.vault.safes import NOW, key_file, new_vault, passphrase, put, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jupyter_aios.vault import SlotKey
    from jupyter_aios.vault.format import Slot


class MemoryKeyring(KeyringBackend):
    """A keyring as a desktop has one, which dies with the test; it may be locked."""

    priority = 5.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked("the collection is locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.get_password(service, username)
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@contextmanager
def keyring_of(backend: KeyringBackend) -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    yield
    keyring.set_keyring(before)


@pytest.fixture
def desktop() -> Iterator[MemoryKeyring]:
    backend = MemoryKeyring()
    with keyring_of(backend):
        yield backend


@pytest.fixture(params=["passphrase", "key file", "keyring", "recovery key"])
def key(request: pytest.FixtureRequest, tmp_path: Path, desktop: MemoryKeyring) -> SlotKey:
    assert not desktop.kept
    made: dict[str, SlotKey] = {
        "passphrase": passphrase(),
        "key file": KeyFile.make(tmp_path / "machine"),
        "keyring": Keyring("home"),
        "recovery key": RecoveryKey.make(),
    }
    return made[request.param]


def wrong_keys(folder: Path) -> list[SlotKey]:
    return [
        passphrase("wrong horse"),
        KeyFile.make(folder / "wrong"),
        Keyring("another home"),
        RecoveryKey.make(),
    ]


def test_each_kind_of_key_opens_the_vault_that_it_made(key: SlotKey, tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", [key], now=NOW)
    put(vault, "TOKEN", "value")
    kept = values(vault)
    vault.close()
    vault = Vault.open(tmp_path / "vault", key)
    assert values(vault) == kept
    vault.close()


def test_a_wrong_key_gets_one_answer_whatever_the_slot(key: SlotKey, tmp_path: Path) -> None:
    Vault.create(tmp_path / "vault", [key], now=NOW).close()
    answers = set()
    for wrong in wrong_keys(tmp_path):
        with pytest.raises(DeniedError) as caught:
            Vault.open(tmp_path / "vault", wrong)
        answers.add((caught.value.message, caught.value.hint))
    assert answers == {
        (
            "this key does not open the vault",
            "try again, or use another way in: a key file or the recovery key",
        )
    }


def test_a_key_file_opens_no_slot_of_a_recovery_key(tmp_path: Path) -> None:
    # Both are HKDF over their bytes: the kind alone keeps them apart.
    recovery = RecoveryKey.make()
    Vault.create(tmp_path / "vault", [recovery], now=NOW).close()
    path = tmp_path / "stolen"
    path.touch(0o600)
    path.write_bytes(recovery.material().ljust(32, b"\0"))
    with pytest.raises(DeniedError):
        Vault.open(tmp_path / "vault", KeyFile(path))


SLOT_CHANGES: dict[str, Callable[[Slot, bytes], tuple[Slot, bytes]]] = {
    "vault": lambda slot, vault_id: (slot, vault_id[::-1]),
    "id": lambda slot, vault_id: (replace(slot, id=bytes(8)), vault_id),
    "time": lambda slot, vault_id: (replace(slot, created_at=NOW + 1), vault_id),
}


@pytest.mark.parametrize("change", SLOT_CHANGES.values(), ids=SLOT_CHANGES)
def test_a_slot_opens_only_as_it_was_made(
    change: Callable[[Slot, bytes], tuple[Slot, bytes]], tmp_path: Path
) -> None:
    key, root, vault_id = key_file(tmp_path), b"r" * 32, bytes(range(16))
    slot = make_slot(key, root, vault_id, NOW)
    assert open_slot(key, [slot], vault_id) == (slot, root)
    changed, other_id = change(slot, vault_id)
    with pytest.raises(DeniedError):
        open_slot(key, [changed], other_id)


def test_a_passphrase_is_the_same_on_every_keyboard() -> None:
    composed, combining = "caf\u00e9", "cafe\u0301"
    assert Passphrase(Secret(composed)).material() == Passphrase(Secret(combining)).material()


def test_a_passphrase_may_be_any_bytes() -> None:
    assert Passphrase(Secret(b"\xff\xfe")).material() == b"\xff\xfe"


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        Passphrase(Secret("")).material()


def test_no_key_prints_itself(tmp_path: Path) -> None:
    recovery = RecoveryKey.make()
    shown = repr([passphrase("hunter2"), recovery, key_file(tmp_path), Keyring("home")])
    assert "hunter2" not in shown
    assert recovery.text.reveal().decode() not in shown


# ---------------------------------------------------------------- key files


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601], ids=oct)
def test_a_key_file_that_others_can_read_is_refused_with_the_chmod(
    mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "my key"
    KeyFile.make(path)
    path.chmod(mode)
    with pytest.raises(InputError, match=f"mode {mode:04o}") as caught:
        KeyFile(path).material()
    assert caught.value.hint == f"chmod 600 '{path}'"
    assert os.system(caught.value.hint) == 0  # noqa: S605 - what a person types
    assert len(KeyFile(path).material()) == 65


def test_a_missing_key_file_is_told_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(InputError, match="no such file") as caught:
        KeyFile(path).material()
    assert os.system(caught.value.hint) == 0  # noqa: S605 - what a person types
    assert len(KeyFile(path).material()) == 32


@pytest.mark.parametrize("size", [0, 31, 64 * 1024 + 1])
def test_a_key_file_of_another_size_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(InputError, match=f"has {size} bytes"):
        KeyFile(path).material()


def test_what_is_no_file_is_no_key_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path, pipe):
        with pytest.raises(InputError, match=r"is no file|is a directory"):
            KeyFile(path).material()


def test_making_a_key_file_overwrites_nothing(tmp_path: Path) -> None:
    made = KeyFile.make(tmp_path / "key")
    before = made.material()
    with pytest.raises(InputError, match="exists"):
        KeyFile.make(tmp_path / "key")
    assert made.material() == before
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


# ---------------------------------------------------------------- recovery keys


def test_a_recovery_key_may_be_typed_as_people_type() -> None:
    key = RecoveryKey.make()
    printed = key.text.reveal().decode()
    groups = printed.split("-")
    assert [len(group) for group in groups] == [5] * 8
    for typed in (printed.lower(), " ".join(groups), printed.replace("O", "0").replace("I", "1")):
        assert RecoveryKey(Secret(typed)).material() == key.material()


PRINTED = RecoveryKey.make().text.reveal().decode()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@given(at=st.integers(0, len(PRINTED) - 1), letter=st.sampled_from(LETTERS))
def test_a_slip_in_a_recovery_key_is_told_from_a_wrong_key(at: int, letter: str) -> None:
    assume(PRINTED[at] not in {letter, "-"})
    typed = PRINTED[:at] + letter + PRINTED[at + 1 :]
    with pytest.raises(InputError, match="not copied right") as caught:
        RecoveryKey(Secret(typed)).material()
    assert typed not in str(caught.value)


@pytest.mark.parametrize("typed", ["", "ABCDE", "é" * 40, "A" * 48, "A" * 40, b"\xff" * 40])
def test_what_is_no_recovery_key_was_not_copied_right(typed: str | bytes) -> None:
    with pytest.raises(InputError, match="not copied right"):
        RecoveryKey(Secret(typed)).material()


# ---------------------------------------------------------------- keyrings


def test_the_keyring_keeps_a_key_of_its_own_per_account(desktop: MemoryKeyring) -> None:
    first, second = Keyring("one").made_material(), Keyring("two").made_material()
    assert len(first) == len(second) == 32
    assert first != second
    assert set(desktop.kept) == {(KEYRING_SERVICE, "one"), (KEYRING_SERVICE, "two")}


def test_a_key_in_the_keyring_is_not_replaced(desktop: MemoryKeyring) -> None:
    first = Keyring("home").made_material()
    kept = dict(desktop.kept)
    # A vault made of it may exist: a new key would shut it for ever.
    assert Keyring("home").made_material() == first
    assert desktop.kept == kept


def test_opening_makes_no_key_in_the_keyring(desktop: MemoryKeyring) -> None:
    with pytest.raises(DeniedError):
        Keyring("home").material()
    assert not desktop.kept


def test_something_else_in_the_keyring_opens_nothing(
    desktop: MemoryKeyring, tmp_path: Path
) -> None:
    Vault.create(tmp_path / "vault", [Keyring("home")], now=NOW).close()
    desktop.kept[KEYRING_SERVICE, "home"] = "not base64!"
    with pytest.raises(DeniedError):
        Vault.open(tmp_path / "vault", Keyring("home"))


def test_a_locked_keyring_is_told(desktop: MemoryKeyring) -> None:
    desktop.is_locked = True
    with pytest.raises(UnavailableError, match="the collection is locked"):
        Keyring("home").made_material()


class PlainChain(ChainerBackend):
    """What `keyring` makes of a machine that has plain files and nothing else."""

    backends: tuple[KeyringBackend, ...] = (PlaintextKeyring(), PlaintextKeyring())


@pytest.mark.parametrize("backend", [keyring.backends.fail.Keyring, PlaintextKeyring, PlainChain])
def test_a_machine_without_a_keyring_that_is_safe_has_none(
    backend: type[KeyringBackend],
) -> None:
    with keyring_of(backend()):
        assert not keyring_is_usable()
        with pytest.raises(UnavailableError, match="no keyring here") as caught:
            Keyring("home").made_material()
        assert caught.value.hint == "use another way in: a passphrase or a key file"


def test_a_desktop_s_keyring_is_usable(desktop: MemoryKeyring) -> None:
    assert keyring_is_usable()
    assert not desktop.kept


def test_a_desktop_s_keyring_is_usable_before_plain_files(desktop: MemoryKeyring) -> None:
    chain = PlainChain()  # type: ignore[no-untyped-call]
    chain.backends = (desktop, PlaintextKeyring())
    with keyring_of(chain):
        Keyring("home").made_material()
    assert list(desktop.kept) == [(KEYRING_SERVICE, "home")]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert not keyring_is_usable()
    with pytest.raises(MissingExtraError) as caught:
        Keyring("home").material()
    assert caught.value.hint == 'pip install "jupyter-aios[keyring]"'


def test_the_vault_holds_no_key_in_the_clear(key: SlotKey, tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", [key], now=NOW)
    put(vault, "HF_TOKEN", "hf_plain_value")
    system = vault.key("audit")
    vault.close()
    for path in tmp_path.glob("vault*"):
        content = path.read_bytes()
        for secret in (b"hf_plain_value", b"HF_TOKEN", b"ann", system, key.material()):
            assert secret not in content


def test_nothing_is_written_where_a_key_cannot_be_used(tmp_path: Path) -> None:
    bad = KeyFile(tmp_path / "missing")
    with pytest.raises(InputError):
        Vault.create(tmp_path / "vault", [key_file(tmp_path), bad], now=NOW)
    assert not (tmp_path / "vault").exists()
    new_vault(tmp_path).close()
