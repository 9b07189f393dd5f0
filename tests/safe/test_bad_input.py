"""What goes wrong with a vault, by typing it: what it is, where, and what to type next."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.core.safe import KeyKind, VaultKey, VaultState
from jupyter_aios.errors import DeniedError
from tests.homes import home_at
from tests.safe.planting import plant
from tests.safe.terminal import typed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("bad keys"), pytest.mark.usefixtures("no_keyring")]

PASSPHRASE = "correct horse battery staple"
ASKED = "passphrase of the vault"


@pytest.fixture
def locked(client: Client) -> None:
    """Have a locked vault of one secret in the file's home."""
    state = client.safe.vault().state
    client.safe.unlock(VaultKey(KeyKind.PASSPHRASE, PASSPHRASE))
    if state is VaultState.ABSENT:
        plant(client, {"TOKEN": b"the first of all"})
    client.safe.lock()


def refused(line: str, *answers: tuple[str, str], code: int) -> tuple[str, str]:
    """Type a line; return the two lines with which it is refused."""
    error, hint = typed(f"jupyter aios {line}", *answers, code=code).splitlines()[-2:]
    assert hint.startswith("hint: ")
    return error, hint.removeprefix("hint: ")


def shell(line: str) -> None:
    """Type what a hint says into a shell."""
    subprocess.run(["bash", "-c", line], check=True)


def test_a_wrong_passphrase_has_one_message_and_from_the_third_on_a_pause(tmp_path: Path) -> None:
    one = (
        "DeniedError: this key does not open the vault",
        "try again, or use another way in: a key file or the recovery key",
    )
    with home_at(tmp_path / "home") as home:
        vault_of_two(home)
        for wrong in ("correct horse battery stapl", "\N{SNOWMAN}" * 300):
            assert refused("unlock", (ASKED, wrong), code=1) == one
        # The pause is a second at first: who types is too late for it.
        safe = Client(home).safe
        with pytest.raises(DeniedError, match="this key does not open the vault"):
            safe.unlock(VaultKey(KeyKind.PASSPHRASE, "x"))
        with pytest.raises(DeniedError, match="3 wrong keys came one after the other") as caught:
            safe.unlock(VaultKey(KeyKind.PASSPHRASE, PASSPHRASE))
        assert caught.value.hint == "wait, then %aios unlock"


@dataclass(frozen=True)
class Damage:
    """A byte of the file that is another, and what that is called."""

    at: int
    told: str
    hint: str = "put the previous generation back: jupyter aios vault restore"
    asks: bool = False
    """Whether it takes the key to be noticed."""


DAMAGES = (
    Damage(3, "StateError: this is no vault: its first 8 bytes are others"),
    Damage(84, "StateError: the vault's slot 1 is of the unknown kind 0"),
    # Restoring would undo what a newer version has written.
    Damage(
        8,
        "StateError: the vault is of format 257, this version reads format 1",
        hint="pip install --upgrade jupyter-aios",
    ),
    Damage(
        -40,
        "StorageError: the vault was changed or damaged: its seal does not fit its contents",
        asks=True,
    ),
)


def test_a_damaged_vault_is_told_with_its_place_and_the_way_back(tmp_path: Path) -> None:
    with home_at(tmp_path / "home") as home:
        vault = vault_of_two(home)
        whole = vault.read_bytes()
        for damage in DAMAGES:
            content = bytearray(whole)
            content[damage.at] ^= 1
            vault.write_bytes(content)
            answers = [(ASKED, PASSPHRASE)] if damage.asks else []
            assert refused("unlock", *answers, code=1) == (damage.told, damage.hint)
        said = typed("jupyter aios vault restore")
        assert said == "the vault is locked; jobs that need a secret wait"
        assert vault.with_name("vault.damaged").read_bytes() == content
        typed("jupyter aios unlock", (ASKED, PASSPHRASE))
        # As it was before the last commit.
        assert [row.info.name for row in Client(home).safe.secrets()] == ["A"]


def vault_of_two(home: Path) -> Path:
    """Return a locked vault whose last commit brought its second secret."""
    client = Client(home)
    client.safe.unlock(VaultKey(KeyKind.PASSPHRASE, PASSPHRASE))
    plant(client, {"A": b"the first of all", "B": b"the second one"})
    client.safe.lock()
    return home / "vault"


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("name", ["9lives", "x" * 65, "ünder"])
@pytest.mark.parametrize("action", ["set", "import-ssh-key"])
def test_a_name_that_no_secret_can_have_is_refused_before_anything_is_asked(
    action: str, name: str
) -> None:
    error, hint = refused(f"secret {action} {name}", code=2)
    assert error == f"InputError: {name!r} is no secret's name"
    assert hint == "a letter, then up to 63 letters, digits, '_', '-' or '.'"


@pytest.mark.usefixtures("locked")
def test_a_machine_without_a_keyring_says_so() -> None:
    keys = [(ASKED, PASSPHRASE), (f"present {ASKED}", PASSPHRASE)]
    error, hint = refused("passwd --keyring", *keys, code=1)
    assert error.startswith("UnavailableError: there is no keyring here that may be relied on")
    assert "key file" in hint or "passphrase" in hint


@pytest.mark.usefixtures("locked")
def test_a_key_file_that_others_can_read_is_refused_with_the_chmod(
    tmp_path: Path, client: Client
) -> None:
    key = tmp_path / "my key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    keys = [(ASKED, PASSPHRASE), (f"present {ASKED}", PASSPHRASE)]
    assert "key file" in typed(f"jupyter aios passwd --key-file '{key}'", *keys)
    client.safe.lock()
    key.chmod(0o644)
    error, hint = refused(f"unlock --key-file '{key}'", code=2)
    assert str(key) in error
    assert hint == f"chmod 600 '{key}'"
    shell(hint)
    assert typed(f"jupyter aios unlock --key-file '{key}'").startswith("the vault is open until")


@pytest.mark.usefixtures("locked")
def test_a_value_s_file_that_others_can_read_is_refused_with_the_chmod(tmp_path: Path) -> None:
    file = tmp_path / "the token"
    file.write_text("something that is not for others\n")
    file.chmod(0o640)
    line = f"secret set FROM_FILE --file '{file}'"
    error, hint = refused(line, (ASKED, PASSPHRASE), code=2)
    assert error == f"InputError: others can read {file} (-rw-r-----)"
    shell(hint)
    assert typed(f"jupyter aios {line}").startswith("FROM_FILE is in the vault: inject, version 1")


def test_a_service_s_passphrase_file_that_others_can_read_keeps_it_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pass phrase"
    file.write_text(f"{PASSPHRASE}\n")
    file.chmod(0o644)
    monkeypatch.setenv("AIOS_PASSPHRASE_FILE", str(file))
    with home_at(tmp_path / "home"):
        error, hint = refused("status", code=2)
        assert error == f"InputError: others can read {file}"
        shell(hint)
        assert typed("jupyter aios vault").startswith("the vault is open until")
