from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.commands.asking import ask, ask_new, opened, read_file, write_new
from jupyter_aios.core.safe import VaultState
from jupyter_aios.errors import InputError, StateError
from tests.safe.desk import Desk, Keyboard, desk_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Keyboard:
    keyboard = Keyboard()
    monkeypatch.setattr(getpass, "getpass", keyboard.getpass)
    return keyboard


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path) as desk:
        yield desk


# ------------------------------------------------------------------------------------- typing


def test_what_is_typed_is_a_secret_at_once(keyboard: Keyboard) -> None:
    keyboard.answers = ["hunter2"]
    typed = ask("value of TOKEN")
    assert (repr(typed), typed.reveal()) == ("Secret(…)", b"hunter2")
    assert keyboard.asked == ["value of TOKEN"]


def test_nothing_typed_is_no_secret(keyboard: Keyboard) -> None:
    keyboard.answers = [""]
    with pytest.raises(InputError, match="value of TOKEN: nothing was typed"):
        ask("value of TOKEN")


@pytest.mark.usefixtures("keyboard")
def test_where_nobody_can_type_the_error_says_what_to_do_instead() -> None:
    with pytest.raises(StateError, match="value of TOKEN: nobody can type here") as caught:
        ask("value of TOKEN")
    assert caught.value.hint == "put it into a file of mode 600 and name it with --file"


def test_other_troubles_of_a_keyboard_are_no_lack_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> str:
        raise ValueError("something else")

    monkeypatch.setattr(getpass, "getpass", broken)
    with pytest.raises(ValueError, match="something else"):
        ask("value of TOKEN")


def test_a_new_passphrase_is_typed_twice_alike(keyboard: Keyboard) -> None:
    keyboard.answers = ["one", "one"]
    assert ask_new("new passphrase").reveal() == b"one"
    assert keyboard.asked == ["new passphrase", "new passphrase, again"]
    keyboard.answers = ["one", "two"]
    with pytest.raises(InputError, match="the two are not equal; nothing was changed") as caught:
        ask_new("new passphrase")
    assert "one" not in str(caught.value)


# -------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777, 0o601])
def test_a_file_that_others_can_read_is_refused_with_the_chmod(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "the token"
    path.write_text("hunter2")
    path.chmod(mode)
    with pytest.raises(InputError, match="others can read") as caught:
        read_file(str(path))
    assert caught.value.hint == f"chmod 600 '{path}'"
    assert "hunter2" not in str(caught.value)
    path.chmod(0o600)
    assert read_file(str(path)).reveal() == b"hunter2"


def test_a_file_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing cannot be read: No such file or directory"):
        read_file(str(tmp_path / "nothing"))


def test_what_is_written_is_for_its_owner_and_replaces_nothing(tmp_path: Path) -> None:
    path, link = tmp_path / "new", tmp_path / "link"
    before = os.umask(0)
    try:
        write_new(path, b"content")
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"content", 0o600)
    link.symlink_to(tmp_path / "elsewhere")
    for taken in (path, link):
        with pytest.raises(InputError, match="cannot be made: File exists") as caught:
            write_new(taken, b"other")
        assert caught.value.hint == "name a new file"
    assert path.read_bytes() == b"content"
    assert not (tmp_path / "elsewhere").exists()


# ---------------------------------------------------------------------------- the first of all


def test_the_first_secret_makes_the_vault_by_a_passphrase_that_is_asked_for_once(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.keyboard.answers = [PASSPHRASE, PASSPHRASE]
    status = opened(desk.place)
    assert (status.state, status.slots) == (VaultState.UNLOCKED, ("passphrase",))
    assert "This is the first secret here." in capsys.readouterr().err
    assert opened(desk.place).state is VaultState.UNLOCKED
    assert len(desk.keyboard.asked) == 2
    desk.type("lock")
    desk.keyboard.answers = [PASSPHRASE]
    assert opened(desk.place).state is VaultState.UNLOCKED
    assert desk.keyboard.asked == ["passphrase of the vault"]


def test_a_vault_that_cannot_be_opened_asks_for_nothing(desk: Desk) -> None:
    desk.rig.open_vault()
    desk.type("lock")
    path = desk.rig.home / "vault"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StateError, match="the vault's head is cut off at byte 50") as caught:
        opened(desk.place)
    assert caught.value.hint == "put the previous generation back: jupyter aios vault restore"
    assert desk.keyboard.asked == []
