"""SSH keys as the broker uses them: read once, then they only sign.

The formats are those of RFC 4253 (section 6.6), RFC 5656, RFC 8332 (RSA with SHA-2) and RFC 8709
(Ed25519). Keys whose signatures rest on SHA-1 (DSA, `ssh-rsa`) are no good for anything any more.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as EcPublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity

from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

    from jupyter_aios.core.secrets import Secret

PrivateKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey

MIN_RSA_BITS = 2048
RSA_SHA2_256, RSA_SHA2_512 = 2, 4
"""Flags of a request to sign (draft-miller-ssh-agent, section 3.6.1)."""

_EC_HASHES: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "secp256r1": ("ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": ("ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": ("ecdsa-sha2-nistp521", hashes.SHA512()),
}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
}
_NEW_KEY = "make one that can be used: ssh-keygen -t ed25519"


class Damaged(ValueError):  # noqa: N818 - a claim about the bytes; it never leaves the broker
    """Bytes that are not what they should be."""


class Fields:
    """Reads the fields of an SSH message one after the other (RFC 4251, section 5)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return so many bytes.

        Raises:
            Damaged: there are fewer.

        """
        end = self._at + count
        if end > len(self._data):
            raise Damaged(f"{count} bytes wanted at {self._at}, {len(self._data)} there")
        taken, self._at = self._data[self._at : end], end
        return taken

    def byte(self) -> int:
        """Return one byte as a number."""
        return self.take(1)[0]

    def number(self) -> int:
        """Return a uint32."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Return a string, whose length comes before it."""
        return self.take(self.number())

    def end(self) -> None:
        """Insist that nothing follows.

        Raises:
            Damaged: something does.

        """
        if self._at != len(self._data):
            raise Damaged(f"{len(self._data) - self._at} bytes too many")


def string(data: bytes) -> bytes:
    """Return the bytes with their length before them."""
    return struct.pack(">I", len(data)) + data


def _mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


@dataclass(frozen=True)
class SigningKey:
    """A private key that says of itself only what is public."""

    private: PrivateKey
    blob: bytes
    """The public key as SSH sends it."""

    @classmethod
    def of(cls, private: PrivateKey) -> SigningKey:
        """Return the key with its public half."""
        line = private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return cls(private, base64.b64decode(line.split()[1]))

    def __repr__(self) -> str:
        return f"SigningKey({fingerprint(self.blob)})"

    def algorithm(self, flags: int) -> str:
        """Return the signature algorithm that a client asks for with these flags.

        Raises:
            Damaged: it asks for SHA-1.

        """
        if isinstance(self.private, Ed25519PrivateKey):
            return "ssh-ed25519"
        if isinstance(self.private, EllipticCurvePrivateKey):
            return _EC_HASHES[self.private.curve.name][0]
        if flags & RSA_SHA2_512:
            return "rsa-sha2-512"
        if flags & RSA_SHA2_256:
            return "rsa-sha2-256"
        raise Damaged("RSA with SHA-1 was asked for")

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return an SSH signature of `data` by one of the key's algorithms."""
        if isinstance(self.private, Ed25519PrivateKey):
            raw = self.private.sign(data)
        elif isinstance(self.private, EllipticCurvePrivateKey):
            digest = _EC_HASHES[self.private.curve.name][1]
            raw = b"".join(
                map(_mpint, decode_dss_signature(self.private.sign(data, ECDSA(digest))))
            )
        else:
            raw = self.private.sign(data, padding.PKCS1v15(), _RSA_HASHES[algorithm])
        return string(algorithm.encode()) + string(raw)


def parse_private_key(text: Secret, passphrase: Secret | None = None) -> PrivateKey:
    """Return the key of a private key file in OpenSSH or PEM form.

    Raises:
        InputError: it is none, its passphrase is missing or wrong, or it is of a kind that is not
            safe any more. The message holds nothing of the file.

    """
    private = _load(text.reveal(), None if passphrase is None else passphrase.reveal())
    if isinstance(private, Ed25519PrivateKey):
        return private
    if isinstance(private, EllipticCurvePrivateKey) and private.curve.name in _EC_HASHES:
        return private
    if isinstance(private, RSAPrivateKey):
        if private.key_size >= MIN_RSA_BITS:
            return private
        msg = f"an RSA key of {private.key_size} bits is too short, {MIN_RSA_BITS} at least"
        raise InputError(msg, hint=_NEW_KEY)
    kind = type(private).__name__.removesuffix("PrivateKey")
    if isinstance(private, EllipticCurvePrivateKey):
        kind = f"ECDSA with {private.curve.name}"
    msg = f"a key of the kind {kind} cannot be used; Ed25519, ECDSA and RSA keys can"
    raise InputError(msg, hint=_NEW_KEY)


def _load(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    is_openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if is_openssh else serialization.load_pem_private_key
    try:
        return load(data, None)
    except TypeError:
        pass  # it has a passphrase
    except (ValueError, UnsupportedAlgorithm):
        is_putty = data.startswith(b"PuTTY-User-Key-File")
        hint = "puttygen KEY.ppk -O private-openssh -o KEY" if is_putty else "ssh-keygen -y -f KEY"
        raise InputError("not a private key in OpenSSH or PEM form", hint=hint) from None
    if not passphrase:
        raise InputError("the key has a passphrase, and none was given", hint="type it when asked")
    try:
        return load(data, passphrase)
    except UnsupportedAlgorithm:
        msg = "the key's passphrase cannot be tried without the package bcrypt"
        raise InputError(msg, hint="pip install bcrypt") from None
    except ValueError:
        raise InputError("the key's passphrase is another", hint="ssh-keygen -y -f KEY") from None


def public_line(key: PrivateKey, comment: str = "") -> str:
    """Return the public key as a line of `authorized_keys`.

    Raises:
        InputError: the comment would begin another line.

    """
    if not comment.isprintable():
        raise InputError(f"the comment {comment!r} is not one printable line")
    blob = SigningKey.of(key).blob
    kind = Fields(blob).string().decode()
    return f"{kind} {base64.b64encode(blob).decode()} {comment}".rstrip()


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).rstrip(b"=").decode()


def is_signed(blob: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether `signature` is one of `data` by the public key or certificate in `blob`."""
    try:
        kind = Fields(blob).string()
        line = kind + b" " + base64.b64encode(blob)
        identity = load_ssh_public_identity(line)
        key = identity.public_key() if isinstance(identity, SSHCertificate) else identity
        fields = Fields(signature)
        algorithm, raw = fields.string().decode("ascii"), fields.string()
        fields.end()
        _verify(key, algorithm, raw, data)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _verify(key: PublicKeyTypes, algorithm: str, raw: bytes, data: bytes) -> None:
    if isinstance(key, Ed25519PublicKey) and algorithm == "ssh-ed25519":
        key.verify(raw, data)
    elif isinstance(key, RSAPublicKey) and algorithm in _RSA_HASHES:
        key.verify(raw, data, padding.PKCS1v15(), _RSA_HASHES[algorithm])
    elif isinstance(key, EcPublicKey) and _EC_HASHES.get(key.curve.name, ("",))[0] == algorithm:
        fields = Fields(raw)
        r, s = (int.from_bytes(fields.string(), "big") for _ in range(2))
        fields.end()
        key.verify(encode_dss_signature(r, s), data, ECDSA(_EC_HASHES[key.curve.name][1]))
    else:
        raise Damaged(f"a signature by {algorithm} does not go with that key")
