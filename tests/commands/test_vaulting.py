from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.errors import (
    DeniedError,
    InputError,
    LockedError,
    StateError,
    UnknownNameError,
)
from tests.safe.desk import Desk, desk_at, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUE = "hf_9mWqL2xv7RkTz0aB"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Give a desk whose vault is open, by a key file that costs no time."""
    with desk_at(tmp_path) as desk:
        desk.rig.open_vault()
        yield desk


def private(path: Path, content: str) -> Path:
    """Write a file that only its owner can read."""
    path.write_text(content)
    path.chmod(0o600)
    return path


def ssh_key(folder: Path, kind: str = "ed25519", phrase: str = "", form: str = "RFC4716") -> Path:
    """Return the file of a new private key."""
    path = folder / f"id_{kind}_{form}_{bool(phrase)}"
    made = ["ssh-keygen", "-q", "-t", kind, "-N", phrase, "-m", form, "-C", "", "-f", str(path)]
    subprocess.run(made, check=True)
    return path


# ------------------------------------------------------------------------------ unlock and lock


def test_the_state_is_told_with_what_to_type(desk: Desk) -> None:
    opened = "the vault is open until nobody has used it for"
    assert desk.type("vault").startswith(opened)
    assert desk.type("vault status").endswith("keys: key file")
    assert desk.type("lock") == "the vault is locked; jobs that need a secret wait"
    key = desk.rig.home / "rig.key"
    assert desk.type(f"unlock --key-file {key}").startswith(opened)
    assert desk.type("unlock").startswith(opened)
    assert desk.keyboard.asked == []


def test_an_open_vault_is_not_restored(desk: Desk) -> None:
    with pytest.raises(StateError, match="the vault is open: it is not damaged"):
        desk.type("vault restore")
    with pytest.raises(UnknownNameError, match="no action of vault is named 'mend'"):
        desk.type("vault mend")


def test_a_recovery_key_replaces_no_file_and_is_not_shown(desk: Desk, tmp_path: Path) -> None:
    taken = private(tmp_path / "taken", "mine")
    with pytest.raises(InputError, match="is there already"):
        desk.type(f"passwd --recovery-key {taken}")
    assert taken.read_text() == "mine"


# -------------------------------------------------------------------------------------- secrets


def test_a_value_is_typed_or_read_from_a_file_without_its_last_line_end(
    desk: Desk, tmp_path: Path
) -> None:
    assert desk.type("secret set A", VALUE).startswith("A is in the vault: inject, version 1, 19 B")
    assert desk.keyboard.asked == ["value of A"]
    file = private(tmp_path / "b", f"{VALUE}\n")
    assert desk.type(f"secret set B --file {file}").endswith("19 B")
    lines = private(tmp_path / "c", f"{VALUE}\nand more\n")
    assert desk.type(f"secret set C --file {lines}").endswith("29 B")
    vault = desk.rig.controller.keeper.open_vault()
    assert vault.get(desk.rig.actor(runs()).user, "B").reveal() == VALUE.encode()


def test_what_a_secret_is_for_decides_its_class(desk: Desk) -> None:
    assert "inject" in desk.type("secret set A", VALUE)
    derived = desk.type("secret set B --target https://hub.example.org/api", VALUE)
    assert "B is in the vault: derived" in derived
    with pytest.raises(InputError, match="class broker is for SSH keys") as caught:
        desk.type("secret set C --class broker")
    assert caught.value.hint == "%aios secret import-ssh-key C"
    with pytest.raises(UnknownNameError, match="no class of secret is named 'injected'") as near:
        desk.type("secret set C --class injected")
    assert "inject" in near.value.hint
    with pytest.raises(InputError, match="--target URL and --class derived go together"):
        desk.type("secret set C --class derived", VALUE)
    with pytest.raises(InputError, match="--target URL and --class derived go together"):
        desk.type("secret set C --class inject --target https://hub.example.org", VALUE)


def test_a_value_on_the_line_is_refused_for_every_action_and_not_repeated(desk: Desk) -> None:
    for action in ("set", "rotate", "import-ssh-key", "import", "rm", "share"):
        with pytest.raises(InputError, match="value never stands on the line") as caught:
            desk.type(f"secret {action} TOKEN={VALUE}")
        assert caught.value.hint == f"%aios secret {action} TOKEN"
        assert VALUE not in str(caught.value)
        assert desk.keyboard.asked == []


def test_a_name_that_cannot_be_is_refused_before_the_vault_is_opened(desk: Desk) -> None:
    desk.type("lock")
    for action in ("set", "import-ssh-key", "import"):
        for name in ("9lives", "x" * 65, "ünder", "a/b", "a b"):
            with pytest.raises(InputError, match=f"'{name}' is no secret's name"):
                desk.type(f"secret {action} '{name}'")
            assert desk.keyboard.asked == []


def test_every_action_but_list_wants_a_name(desk: Desk) -> None:
    for action in ("set", "rm", "rotate", "share", "export", "import", "import-ssh-key"):
        with pytest.raises(InputError, match=f"secret {action} wants a NAME"):
            desk.type(f"secret {action}")
    with pytest.raises(UnknownNameError, match="no action of secret is named 'sett'") as caught:
        desk.type("secret sett A")
    assert "set" in caught.value.hint


def test_a_secret_is_replaced_only_by_rotate(desk: Desk) -> None:
    desk.type("secret set A", VALUE)
    with pytest.raises(StateError, match="there is a secret A already, version 1"):
        desk.type("secret set A", "other")
    with pytest.raises(UnknownNameError, match="no secret is named 'B'"):
        desk.type("secret rotate B", "other")
    assert "version 2" in desk.type("secret rotate A", "other value")


def test_shares_are_all_of_them_each_time(desk: Desk) -> None:
    desk.type("secret set A", VALUE)
    both = desk.type("secret share A --with user:eve:read --with group:students")
    assert both == f"A is for {runs()} and user:eve (read), group:students (use)"
    assert desk.type("secret share A --with user:bob").endswith("and user:bob (use)")
    assert desk.type(f"secret share {runs()}/A --nobody").endswith("and nobody else")
    for wrong in ("", "--with user:eve --nobody"):
        with pytest.raises(InputError, match="share with whom"):
            desk.type(f"secret share A {wrong}")
    for wrong in ("eve", "user:", "team:a"):
        with pytest.raises(InputError, match=f"--with {wrong}"):
            desk.type(f"secret share A --with {wrong}")
    with pytest.raises(InputError, match="one of use, read"):
        desk.type("secret share A --with user:eve:write")


def test_a_secret_is_forgotten_once(desk: Desk) -> None:
    desk.type("secret set A", VALUE)
    assert desk.type("secret rm A") == "A is forgotten; jobs that have it keep it until they end"
    with pytest.raises(UnknownNameError):
        desk.type("secret rm A")


# -------------------------------------------------------------------------------------- SSH keys


@pytest.mark.parametrize("form", ["RFC4716", "PEM"])
@pytest.mark.parametrize("phrase", ["", "the key's own"])
def test_an_ssh_key_asks_for_its_passphrase_where_it_has_one(
    desk: Desk, tmp_path: Path, phrase: str, form: str
) -> None:
    # Of ed25519 there is no PEM.
    path = ssh_key(tmp_path, "ecdsa", phrase, form)
    shown = desk.type(f"secret import-ssh-key KEY --file {path}", *([phrase] if phrase else []))
    assert desk.keyboard.asked == ([f"passphrase of {path}"] if phrase else [])
    told, public = shown.splitlines()
    assert told.startswith("KEY is in the vault: broker, version 1")
    assert public.split()[:2] == path.with_suffix(".pub").read_text().split()[:2]
    with pytest.raises(InputError, match="KEY is an SSH key: it can be used, nobody reads it"):
        desk.type("secret share KEY --with user:eve:read")


def test_a_wrong_passphrase_of_a_key_is_told_and_keeps_it_out(desk: Desk, tmp_path: Path) -> None:
    path = ssh_key(tmp_path, phrase="the key's own")
    with pytest.raises(InputError):
        desk.type(f"secret import-ssh-key KEY --file {path}", "another")
    with pytest.raises(InputError, match="import-ssh-key wants the private key's file") as caught:
        desk.type("secret import-ssh-key KEY")
    assert caught.value.hint == "--file ~/.ssh/id_ed25519"
    with pytest.raises(UnknownNameError):
        desk.type("secret rm KEY")


# ----------------------------------------------------------------------------- export and import


def test_a_secret_goes_out_and_comes_back_with_its_class_and_target(
    desk: Desk, tmp_path: Path
) -> None:
    desk.type("secret set A --target https://hub.example.org/api", VALUE)
    file = tmp_path / "a.aios"
    told = desk.type(f"secret export A --file {file}", "its own", "its own")
    assert told.startswith(f"A is in {file} (")
    assert VALUE.encode() not in file.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        desk.type(f"secret export A --file {file}")
    with pytest.raises(DeniedError):
        desk.type(f"secret import B --file {file}", "another")
    back = desk.type(f"secret import B --file {file}", "its own")
    assert back == "B is in the vault: derived, version 1, 19 B"
    for action, what in (("export", "a new file"), ("import", "the exported file")):
        with pytest.raises(InputError, match=f"{action} wants {what}"):
            desk.type(f"secret {action} C")


def test_a_locked_vault_gives_nothing_out_where_nobody_types(desk: Desk, tmp_path: Path) -> None:
    desk.type("secret set A", VALUE)
    desk.type("lock")
    file = tmp_path / "a.aios"
    with pytest.raises((LockedError, StateError)):
        desk.type(f"secret export A --file {file}")
    assert not file.exists()
