"""The verbs of the vault: unlock, lock, passwd, secret."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.commands.asking import ask, ask_new, opened, read_file, typed, write_new
from jupyter_aios.commands.place import is_live
from jupyter_aios.commands.showing import SafeAnswer
from jupyter_aios.core.safe import (
    KeyKind,
    SecretBundle,
    SecretPut,
    VaultKey,
    VaultState,
    wrapped,
)
from jupyter_aios.core.secrets import SECRET_NAME, Secret, SecretClass, Share
from jupyter_aios.core.units import format_bytes, format_duration
from jupyter_aios.errors import InputError, UnknownNameError
from jupyter_aios.widgets.safe.rows import SECRET_COLUMNS, ShownSecret
from jupyter_aios.widgets.text.table import Table, Text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.safe import VaultStatus
    from jupyter_aios.core.secrets import SecretInfo


# ------------------------------------------------------------------------------ unlock and lock


def add_unlock(parser: Parser) -> None:
    """Declare the arguments of `unlock`."""
    parser.add_argument("--key-file", metavar="PATH", help="a key file, of mode 600")
    parser.add_argument(
        "--recovery-key", action="store_true", help="ask for the recovery key instead"
    )


def unlock(arguments: argparse.Namespace, place: Place) -> Text:
    """Open the vault; the first time, make it."""
    safe = place.client.safe
    if arguments.key_file:
        path = str(Path(arguments.key_file).expanduser().absolute())
        return _told(safe.unlock(VaultKey(KeyKind.KEY_FILE, path)))
    if arguments.recovery_key:
        key = VaultKey(KeyKind.RECOVERY, typed(ask("recovery key of the vault")))
        return _told(safe.unlock(key))
    return _told(opened(place))


def lock(_: argparse.Namespace, place: Place) -> Text:
    """Have the controller forget all keys."""
    return _told(place.client.safe.lock())


def _told(status: VaultStatus) -> Text:
    if status.state is VaultState.ABSENT:
        return Text("there is no vault yet; %aios secret set NAME makes it")
    if status.state is VaultState.LOCKED:
        return Text("the vault is locked; jobs that need a secret wait")
    ends = "until the controller ends"
    if status.locks_at is not None:
        ends = f"until nobody has used it for {format_duration(status.locks_at - time.time())}"
    return Text(f"the vault is open {ends}; keys: {', '.join(sorted(set(status.slots)))}")


def add_passwd(parser: Parser) -> None:
    """Declare the arguments of `passwd`."""
    parser.add_argument(
        "--recovery-key", metavar="PATH",
        help="make a fresh recovery key instead, and write it to this new file",
    )  # fmt: skip
    parser.add_argument(
        "--key-file", metavar="PATH", help="let this file of mode 600 open the vault too"
    )
    parser.add_argument("--keyring", action="store_true", help="let the OS keyring open it too")


def passwd(arguments: argparse.Namespace, place: Place) -> Text:
    """Change what opens the vault."""
    safe = place.client.safe
    status = opened(place)
    current = _current(status)
    if arguments.recovery_key:
        return _new_recovery_key(Path(arguments.recovery_key).expanduser(), current, place)
    if arguments.keyring:
        return _told(safe.change_key(current, VaultKey(KeyKind.KEYRING)))
    if arguments.key_file:
        path = str(Path(arguments.key_file).expanduser().absolute())
        return _told(safe.change_key(current, VaultKey(KeyKind.KEY_FILE, path)))
    new = VaultKey(KeyKind.PASSPHRASE, typed(ask_new("new passphrase of the vault")))
    return _told(safe.change_key(current, new))


def _current(status: VaultStatus) -> VaultKey:
    """Ask for what opens the vault now: an unlocked notebook alone changes no key."""
    if KeyKind.PASSPHRASE.value in status.slots:
        return VaultKey(KeyKind.PASSPHRASE, typed(ask("present passphrase of the vault")))
    return VaultKey(KeyKind.KEYRING)


def _new_recovery_key(path: Path, current: VaultKey, place: Place) -> Text:
    if path.exists():
        raise InputError(f"{path} is there already", hint="name a new file")
    made = place.client.safe.new_recovery_key(current)
    # Into a file: what a notebook shows is saved with it.
    write_new(path, made.text.encode() + b"\n")
    return Text(f"the recovery key is in {path}; print it, put it away and remove the file")


def add_vault(parser: Parser) -> None:
    """Declare the arguments of `vault`."""
    parser.add_argument("action", metavar="status|restore", nargs="?", default="status")


def vault(arguments: argparse.Namespace, place: Place) -> Text:
    """Tell how the vault is, or put its generation before the last back."""
    actions = {"status": place.client.safe.vault, "restore": place.client.safe.restore_vault}
    if arguments.action not in actions:
        raise UnknownNameError.among("action of vault", arguments.action, actions)
    status = actions[arguments.action]()
    return Text(status.trouble) if status.trouble else _told(status)


# -------------------------------------------------------------------------------------- secrets


def add_secret(parser: Parser) -> None:
    """Declare the arguments of `secret`."""
    classes = "|".join(kind.value for kind in SecretClass)
    parser.add_argument("action", metavar="ACTION", help="|".join(ACTIONS))
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="[OWNER/]NAME")
    parser.add_argument("--file", metavar="PATH", help="where the value or the export lies")
    parser.add_argument("--class", dest="kind", metavar=classes, help="how it reaches a job")
    parser.add_argument("--target", metavar="URL", help="derived: where it may be sent to")
    parser.add_argument(
        "--with", dest="others", metavar="user:NAME[:read]", action="append",
        help="share: with whom, all of them; group:NAME too",
    )  # fmt: skip
    parser.add_argument("--nobody", action="store_true", help="share: with nobody any more")


def secret(arguments: argparse.Namespace, place: Place) -> object:
    """Do one thing with secrets. A value is asked for, or read from a file; never typed here."""
    if arguments.action not in ACTIONS:
        raise UnknownNameError.among("action of secret", arguments.action, ACTIONS)
    if "=" in arguments.name:
        # What stands after it may be the value: it is not repeated.
        raise InputError(
            "a secret's value never stands on the line",
            hint=f"%aios secret {arguments.action} {arguments.name.partition('=')[0]}",
        )
    if arguments.action != "list" and not arguments.name:
        raise InputError(f"secret {arguments.action} wants a NAME", hint="%aios secret -h")
    if arguments.action in _NAMING:
        _refuse_name(arguments.name)  # before anything is asked
    if arguments.action != "list":
        opened(place)
    return ACTIONS[arguments.action](arguments, place)


def _list(_: argparse.Namespace, place: Place) -> object:
    if is_live("") and place.namespace is not None:
        return SafeAnswer(place.client)
    rows: tuple[ShownSecret, ...] = ()
    # Nothing is in a vault that is not there: nobody has to make one for that.
    if place.client.safe.vault().state is not VaultState.ABSENT:
        opened(place)
        now = time.time()
        rows = tuple(ShownSecret.of(row, now) for row in place.client.safe.secrets())
    return Table(rows, SECRET_COLUMNS, "no secrets yet; %aios secret set NAME")


def _set(arguments: argparse.Namespace, place: Place) -> Text:
    kind = _kind(arguments.kind)
    if kind is SecretClass.BROKER:
        raise InputError(
            "class broker is for SSH keys", hint=f"%aios secret import-ssh-key {arguments.name}"
        )
    value = _value(arguments)
    if arguments.target and arguments.kind is None:
        kind = SecretClass.DERIVED
    put = SecretPut(wrapped(value), kind, arguments.target or "")
    return _stored(place.client.safe.put_secret(arguments.name, put))


def _rotate(arguments: argparse.Namespace, place: Place) -> Text:
    value = _value(arguments)
    put = SecretPut(wrapped(value), must_exist=True)
    return _stored(place.client.safe.put_secret(arguments.name, put))


def _import_ssh_key(arguments: argparse.Namespace, place: Place) -> Text:
    if not arguments.file:
        raise InputError(
            "import-ssh-key wants the private key's file", hint="--file ~/.ssh/id_ed25519"
        )
    value = read_file(arguments.file)
    passphrase = ""
    if b"ENCRYPTED" in value.reveal() or _is_locked_openssh(value):
        passphrase = typed(ask(f"passphrase of {arguments.file}"))
    put = SecretPut(wrapped(value), SecretClass.BROKER, passphrase=passphrase)
    info = place.client.safe.put_secret(arguments.name, put)
    return Text(f"{_stored(info)}\n{info.public}")


def _is_locked_openssh(value: Secret) -> bool:
    """Whether an OpenSSH key names a cipher: its first field, in base64, after the magic."""
    import base64

    lines = [line for line in value.reveal().splitlines() if line and b"-----" not in line]
    try:
        head = base64.b64decode(b"".join(lines))[:64]
    except ValueError:
        return False
    return head.startswith(b"openssh-key-v1\0") and b"\0\0\0\4none" not in head


def _remove(arguments: argparse.Namespace, place: Place) -> Text:
    owner, name = _path(arguments.name, place)
    place.client.safe.remove_secret(owner, name)
    return Text(f"{name} is forgotten; jobs that have it keep it until they end")


def _share(arguments: argparse.Namespace, place: Place) -> Text:
    if bool(arguments.others) == arguments.nobody:
        raise InputError("share with whom?", hint="--with user:eve, or --nobody")
    owner, name = _path(arguments.name, place)
    info = place.client.safe.share_secret(owner, name, [*map(_read_share, arguments.others or ())])
    who = ", ".join(f"{share.to} ({share.right})" for share in info.shares) or "nobody else"
    return Text(f"{name} is for {info.owner} and {who}")


def _read_share(text: str) -> Share:
    kind, _, rest = text.partition(":")
    name, _, right = rest.partition(":")
    if kind not in ("user", "group") or not name:
        raise InputError(f"--with {text}", hint="--with user:eve, --with group:students:read")
    return Share(f"{kind}:{name}", right or "use")


def _export(arguments: argparse.Namespace, place: Place) -> Text:
    if not arguments.file:
        raise InputError("export wants a new file", hint=f"--file {arguments.name}.aios")
    path = Path(arguments.file).expanduser()
    if path.exists():
        raise InputError(f"{path} is there already", hint="name a new file")
    phrase = typed(ask_new("passphrase of the file"))
    bundle = place.client.safe.export_secret(arguments.name, SecretBundle(phrase))
    import base64

    content = base64.b64decode(bundle.content)
    write_new(path, content)
    return Text(f"{arguments.name} is in {path} ({format_bytes(len(content))}), encrypted")


def _import(arguments: argparse.Namespace, place: Place) -> Text:
    if not arguments.file:
        raise InputError("import wants the exported file", hint="--file NAME.aios")
    import base64

    content = base64.b64encode(read_file(arguments.file).reveal()).decode()
    phrase = typed(ask(f"passphrase of {arguments.file}"))
    return _stored(place.client.safe.import_secret(arguments.name, SecretBundle(phrase, content)))


ACTIONS: dict[str, Callable[[argparse.Namespace, Place], object]] = {
    "set": _set,
    "list": _list,
    "rm": _remove,
    "rotate": _rotate,
    "share": _share,
    "import-ssh-key": _import_ssh_key,
    "export": _export,
    "import": _import,
}


_NAMING = ("set", "import-ssh-key", "import")
"""Those that give a secret its name; the others look for one."""


def _value(arguments: argparse.Namespace) -> Secret:
    if not arguments.file:
        return ask(f"value of {arguments.name}")
    value = read_file(arguments.file)
    line, newline, rest = value.reveal().partition(b"\n")
    # `echo token > file` does not mean the end of the line.
    return Secret(line) if newline and not rest else value


def _stored(info: SecretInfo) -> Text:
    return Text(
        f"{info.name} is in the vault: {info.kind.value}, version {info.version},"
        f" {format_bytes(info.size_bytes)}"
    )


def _path(text: str, place: Place) -> tuple[str, str]:
    owner, slash, name = text.rpartition("/")
    return (owner, name) if slash else (place.client.hello().asker, name)


def _refuse_name(name: str) -> None:
    if SECRET_NAME.fullmatch(name) is None:
        raise InputError(
            f"{name[:80]!r} is no secret's name",
            hint="a letter, then up to 63 letters, digits, '_', '-' or '.'",
        )


def _kind(text: str | None) -> SecretClass:
    if text is None:
        return SecretClass.INJECT
    try:
        return SecretClass(text)
    except ValueError:
        legal = [kind.value for kind in SecretClass]
        raise UnknownNameError.among("class of secret", text, legal) from None
