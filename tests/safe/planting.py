"""Secrets as people have them, drawn anew, and controls: values that must be found."""

from __future__ import annotations

import base64
import json
import os
import secrets
from typing import TYPE_CHECKING

from jupyter_aios.core.safe import SecretPut, wrapped
from jupyter_aios.core.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.client import Client


def _pem() -> bytes:
    body = base64.encodebytes(os.urandom(300)).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n".encode()


def _account() -> bytes:
    key = {"id": secrets.token_hex(16), "private_key": secrets.token_urlsafe(60)}
    return json.dumps(key, indent=2).encode()


def _jwt() -> bytes:
    return b".".join(base64.urlsafe_b64encode(os.urandom(30)) for _ in "abc")


def _password() -> bytes:
    return f'c0rrect hörse+{secrets.token_hex(5)}/%?&="it\'s" \\battery'.encode()


def _token() -> bytes:
    return f"hf_{secrets.token_urlsafe(24)}".encode()


def _database() -> bytes:
    return f"postgresql://ada:{secrets.token_hex(9)}@db.example.org:5432/runs".encode()


def _wide() -> bytes:
    return f"schlüßel-{secrets.token_hex(8)}-漢字🔑".encode()


def _binary() -> bytes:
    return bytes(byte or 1 for byte in os.urandom(48))


def _long() -> bytes:
    return base64.b64encode(os.urandom(1500))


SHAPES = (_token, _database, _wide, _binary, _long, _jwt, _password, _account, _pem)


def draw(count: int) -> dict[str, bytes]:
    """Return S0, S1, …: values of all shapes, no two alike."""
    values = {f"S{number}": SHAPES[number % len(SHAPES)]() for number in range(count)}
    # The lines that all accounts and databases share are no secrets.
    return {name: value.replace(b'"id": ', b'"id":\n') for name, value in values.items()}


def plant(client: Client, values: dict[str, bytes]) -> None:
    """Put the values into the open vault."""
    for name, value in values.items():
        client.safe.put_secret(name, SecretPut(wrapped(Secret(value))))


def controls(names: Iterable[str]) -> dict[str, bytes]:
    """Return a value for each sink that is to be found there."""
    return {name: f"control-{secrets.token_hex(12)}".encode() for name in names}
