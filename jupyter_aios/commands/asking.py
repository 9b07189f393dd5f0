"""Secrets as a person hands them over: typed unseen, or in a file; never on the line."""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.core.safe import KeyKind, VaultKey, VaultState
from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError, StateError

if TYPE_CHECKING:
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.safe import VaultStatus

_NO_KEYBOARD = "put it into a file of mode 600 and name it with --file"


def ask(prompt: str, hint: str = _NO_KEYBOARD) -> Secret:
    """Return what is typed, which is not shown.

    Raises:
        StateError: nobody can type here.
        InputError: nothing was typed.

    """
    try:
        text = getpass.getpass(f"{prompt}: ")
    except (EOFError, OSError) as error:
        raise StateError(f"{prompt}: nobody can type here", hint=hint) from error
    except Exception as error:
        # ipykernel's own class for a frontend without a keyboard, which only it can name.
        if type(error).__name__ != "StdinNotImplementedError":
            raise
        raise StateError(f"{prompt}: this notebook has no keyboard", hint=hint) from None
    if not text:
        raise InputError(f"{prompt}: nothing was typed")
    return Secret(text)


def ask_new(prompt: str) -> Secret:
    """Return a new passphrase that was typed twice alike."""
    first = ask(prompt)
    if first != ask(f"{prompt}, again"):
        raise InputError("the two are not equal; nothing was changed")
    return first


def read_file(text: str) -> Secret:
    """Return the content of a file that only its owner can read.

    Raises:
        InputError: it cannot be read, or others can read it.

    """
    path = Path(text).expanduser()
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="--file PATH") from error
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(
            f"others can read {path} ({stat.filemode(mode)})", hint=f"chmod 600 '{path}'"
        )
    return Secret(content)


def opened(place: Place) -> VaultStatus:
    """Return the status of an open vault: opened, or made at the first use, if need be.

    The OS keyring keeps the key where there is one; else a passphrase is asked for, once.
    """
    status = place.client.safe.vault()
    if status.trouble:
        # Not always a way back: what a newer version wrote wants an upgrade.
        message, _, hint = status.trouble.rpartition("; ")
        raise StateError(message, hint=hint)
    if status.state is VaultState.UNLOCKED:
        return status
    return place.client.safe.unlock(_usual_key(status))


def _usual_key(status: VaultStatus) -> VaultKey:
    if status.state is VaultState.ABSENT:
        if status.has_keyring:
            return VaultKey(KeyKind.KEYRING)
        print(  # noqa: T201 - before a question
            "This is the first secret here. A passphrase will lock the vault that keeps it;"
            " it is asked for once, and again after `%aios lock` or a restart.",
            file=sys.stderr,
        )
        return VaultKey(KeyKind.PASSPHRASE, typed(ask_new("new passphrase of the vault")))
    if KeyKind.KEYRING.value in status.slots and status.has_keyring:
        return VaultKey(KeyKind.KEYRING)
    hint = "AIOS_PASSPHRASE_FILE=/a/file/of/mode/600 for services, --key-file PATH else"
    return VaultKey(KeyKind.PASSPHRASE, typed(ask("passphrase of the vault", hint)))


def typed(secret: Secret) -> str:
    """Return a typed secret as text, for the socket."""
    return secret.reveal().decode()


def write_new(path: Path, content: bytes) -> None:
    """Write a file that nobody else can read and that was not there.

    Raises:
        InputError: it cannot be made.

    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise InputError(
            f"{path} cannot be made: {error.strerror}", hint="name a new file"
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
