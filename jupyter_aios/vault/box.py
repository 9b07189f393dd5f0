"""The primitives, as the vault uses them: Argon2id, HKDF, AES-256-GCM with keys used once, HMAC."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass

import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jupyter_aios.errors import VersionError

KEY_BYTES = 32
SALT_BYTES = 32
TAG_BYTES = 16
DIGEST_BYTES = 32
OVERHEAD_BYTES = SALT_BYTES + TAG_BYTES
"""What a box is longer than its contents."""

LEAST_CRYPTOGRAPHY = (46, 0, 7)
_PURPOSE = "jupyter_aios vault 1 "
_NONCE = bytes(12)


@dataclass(frozen=True)
class Cost:
    """What one guess of a passphrase costs: the parameters of Argon2id (RFC 9106)."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4


def refuse_old_cryptography(version: str) -> None:
    """Return where this version of `cryptography` may be used.

    Raises:
        VersionError: it is older than the first that has every mend the vault relies on.

    """
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if found < LEAST_CRYPTOGRAPHY:
        wanted = ".".join(map(str, LEAST_CRYPTOGRAPHY))
        raise VersionError(
            f"the vault needs cryptography {wanted} or newer, {version} is installed",
            hint=f'pip install "cryptography>={wanted}"',
        )


refuse_old_cryptography(cryptography.__version__)


def draw(size_bytes: int) -> bytes:
    """Return random bytes for a key, a salt or an id."""
    return os.urandom(size_bytes)


def stretch(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    """Return the 32-byte key of a passphrase (Argon2id, RFC 9106); 0.2 s at the default cost."""
    return Argon2id(
        salt=salt,
        length=KEY_BYTES,
        iterations=cost.passes,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive(passphrase)


def expand(key: bytes, salt: bytes, info: bytes, size_bytes: int = KEY_BYTES) -> bytes:
    """Return key material by HKDF-SHA256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=size_bytes, salt=salt, info=info).derive(key)


def derive(key: bytes, salt: bytes, label: str) -> bytes:
    """Return the 32-byte key for one purpose."""
    return expand(key, salt, (_PURPOSE + label).encode())


def authenticate(key: bytes, content: bytes) -> bytes:
    """Return the HMAC-SHA256 (RFC 2104)."""
    return hmac.digest(key, content, "sha256")


def is_same(first: bytes, second: bytes) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(first, second)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def encrypt_once(key: bytes, content: bytes, context: bytes) -> bytes:
    """Return ciphertext and tag (AES-256-GCM). The nonce is zeros: a key must never come twice."""
    return AESGCM(key).encrypt(_NONCE, content, context)


def seal(key: bytes, label: str, content: bytes, context: bytes) -> bytes:
    """Return a box: salt, ciphertext and tag, under a key that was made for this box alone.

    `context` is what the box belongs to; it opens nowhere else.
    """
    salt = draw(SALT_BYTES)
    return salt + encrypt_once(derive(key, salt, label), content, context)


def unseal(key: bytes, label: str, box: bytes, context: bytes) -> bytes | None:
    """Return the contents of a box, or None: another key, another place, or damaged."""
    salt, sealed = box[:SALT_BYTES], box[SALT_BYTES:]
    if len(sealed) < TAG_BYTES:
        return None
    try:
        return AESGCM(derive(key, salt, label)).decrypt(_NONCE, sealed, context)
    except InvalidTag:
        return None
