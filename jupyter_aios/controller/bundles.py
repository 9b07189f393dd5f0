"""A secret in a file of its own: a small vault that one passphrase opens."""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.errors import InputError, StorageError
from jupyter_aios.vault import Passphrase, Vault
from jupyter_aios.vault.box import Cost
from jupyter_aios.vault.format import parse

if TYPE_CHECKING:
    from jupyter_aios.core.secrets import Secret, SecretInfo

_MOST_WORK_KIB = 4 * Cost().memory_kib * Cost().passes
"""Of memory that trying a file's passphrase may go through: four times what ours take."""


def pack(info: SecretInfo, value: Secret, passphrase: Secret, *, now: float) -> str:
    """Return the file, in base64."""
    with tempfile.TemporaryDirectory(prefix="aios-export-") as folder:
        path = Path(folder) / "vault"
        bundle = Vault.create(path, [Passphrase(passphrase)], now=now)
        try:
            bundle.set(
                info.owner, info.name, value, info.kind,
                now=now, public=info.public, target=info.target,
            )  # fmt: skip
        finally:
            bundle.close()
        return base64.b64encode(path.read_bytes()).decode()


def unpack(text: str, passphrase: Secret) -> tuple[SecretInfo, Secret]:
    """Return what a file says of its secret, and the value. Whoever made it may have lied.

    Raises:
        DeniedError: the passphrase does not open it.
        InputError: it is no such file.

    """
    content = _decode(text)
    with tempfile.TemporaryDirectory(prefix="aios-import-") as folder:
        path = Path(folder) / "vault"
        path.touch(0o600)
        path.write_bytes(content)
        try:
            bundle = Vault.open(path, Passphrase(passphrase))
        except StorageError as error:
            raise _no_bundle(error.message) from None
        try:
            found = bundle.list()
            if len(found) != 1:
                raise _no_bundle(f"it holds {len(found)} secrets, an export holds one")
            return found[0], bundle.get(found[0].owner, found[0].name)
        finally:
            bundle.close()


def _decode(text: str) -> bytes:
    """Return the bytes of a file whose passphrase can be tried without harm."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _no_bundle("it is not base64") from None
    try:
        slots = parse(content).slots
    except StorageError as error:
        raise _no_bundle(error.message) from None
    work_kib = sum(slot.cost.memory_kib * slot.cost.passes for slot in slots)
    if len(slots) != 1 or work_kib > _MOST_WORK_KIB:
        # A whole vault, or made so that the controller has no memory left for anybody else.
        raise _no_bundle(
            f"it has {len(slots)} ways in, which go through {work_kib / 2**20:.1f} GiB;"
            f" an export has one, through {_MOST_WORK_KIB / 2**20:.2f} GiB at most"
        )
    return content


def _no_bundle(why: str) -> InputError:
    return InputError(f"that is no exported secret: {why}", hint="%aios secret export NAME")
