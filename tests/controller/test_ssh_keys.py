from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from jupyter_aios.controller.ssh_keys import (
    Damaged,
    SigningKey,
    fingerprint,
    is_signed,
    parse_private_key,
    public_line,
)
from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

KINDS = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048"]


def generate(folder: Path, kind: str, passphrase: str = "", *options: str) -> Path:
    """Make a key as people make theirs, and return its file."""
    algorithm, _, bits = kind.partition("-")
    path = folder / f"key-{kind}-{len(list(folder.iterdir()))}"
    command = ["ssh-keygen", "-q", "-t", algorithm, "-N", passphrase, "-C", "ada@desk"]
    command += ["-f", str(path), *(["-b", bits] if bits else []), *options]
    subprocess.run(command, check=True)
    return path


def parse(path: Path, passphrase: str | None = None) -> SigningKey:
    secret = None if passphrase is None else Secret(passphrase)
    return SigningKey.of(parse_private_key(Secret(path.read_bytes()), secret))


def pem(key: PrivateKeyTypes) -> Secret:
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Secret(key.private_bytes(serialization.Encoding.PEM, *form))


@pytest.mark.parametrize("kind", KINDS)
def test_public_line_and_fingerprint_are_those_of_ssh_keygen(tmp_path: Path, kind: str) -> None:
    path = generate(tmp_path, kind)
    key = parse(path)
    public = path.with_suffix(".pub")
    assert public_line(key.private, "ada@desk") + "\n" == public.read_text()
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(public)], capture_output=True, text=True, check=True
    )
    assert fingerprint(key.blob) == shown.stdout.split()[1]
    assert repr(key) == f"SigningKey({fingerprint(key.blob)})"


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_holds_for_its_data_and_key_only(tmp_path: Path, kind: str) -> None:
    key, other = parse(generate(tmp_path, kind)), parse(generate(tmp_path, kind))
    for flags in (2, 4):
        signature = key.sign(b"data", key.algorithm(flags))
        assert is_signed(key.blob, signature, b"data")
        assert not is_signed(key.blob, signature, b"date")
        assert not is_signed(other.blob, signature, b"data")
        assert not is_signed(key.blob, signature + b"\0", b"data")
        assert not is_signed(key.blob, b"", b"data")
        assert not is_signed(b"", signature, b"data")


def test_rsa_with_sha_1_is_never_signed_nor_believed(tmp_path: Path) -> None:
    key = parse(generate(tmp_path, "rsa-2048"))
    with pytest.raises(Damaged, match="SHA-1"):
        key.algorithm(0)
    signature = key.sign(b"data", "rsa-sha2-256")
    assert not is_signed(key.blob, signature.replace(b"rsa-sha2-256", b"ssh-rsa-----"), b"data")


@pytest.mark.parametrize("options", [(), ("-m", "PEM"), ("-m", "PKCS8")])
def test_a_passphrase_opens_a_key_in_every_form(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = generate(tmp_path, "rsa-2048", "correct horse", *options)
    assert public_line(parse(path, "correct horse").private, "ada@desk") + "\n" == (
        path.with_suffix(".pub").read_text()
    )
    with pytest.raises(InputError, match="has a passphrase, and none was given"):
        parse(path)
    with pytest.raises(InputError, match="the key's passphrase is another") as caught:
        parse(path, "wrong horse")
    assert "horse" not in str(caught.value)


def test_a_passphrase_that_is_not_needed_does_no_harm(tmp_path: Path) -> None:
    path = generate(tmp_path, "ed25519")
    assert parse(path, "unneeded").blob == parse(path).blob


@pytest.mark.parametrize(
    ("generate_key", "told"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits is too short"),  # noqa: S505
        (ed448.Ed448PrivateKey.generate, "a key of the kind Ed448 cannot be used"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "the kind ECDSA with secp256k1 cannot"),
    ],
)
def test_keys_that_are_too_weak_or_unknown_to_ssh_are_refused(
    generate_key: Callable[[], PrivateKeyTypes], told: str
) -> None:
    with pytest.raises(InputError, match=told) as caught:
        parse_private_key(pem(generate_key()))
    assert "ssh-keygen -t ed25519" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hunter2",
        b"ssh-ed25519 AAAA hunter2",
        b"PuTTY-User-Key-File-3: hunter2",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_refused_without_repeating_it(text: bytes) -> None:
    with pytest.raises(InputError, match="not a private key in OpenSSH or PEM form") as caught:
        parse_private_key(Secret(text))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.hint


def test_a_comment_cannot_begin_another_line(tmp_path: Path) -> None:
    key = parse(generate(tmp_path, "ed25519"))
    with pytest.raises(InputError, match="not one printable line"):
        public_line(key.private, "ada\nssh-ed25519 AAAA eve")
