"""The certificate of a controller that serves others: self-made, kept with its key, pinned.

It vouches for itself; clients know it by its fingerprint. The key is handed on as a Secret, for the
vault, and is a file only where OpenSSL cannot do without one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import os
import re
import ssl
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIFE_S = 365 * 86400.0
RENEWAL_S = 30 * 86400.0
"""So long before its end a kept certificate is replaced."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption; TLS 1.3 has nothing else."""

_CLOCK_SKEW_S = 3600.0
# A last label of digits would be an address that was mistyped.
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)(?!.*\.[0-9]+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*"
)
_MAX_COMMON_NAME = 64
_KEY_BEGINS = b"-----BEGIN PRIVATE KEY-----"
_SIGNS_ONLY = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key."""

    pem: bytes
    key: Secret
    """As PEM."""
    names: tuple[str, ...]
    """Host names and addresses that it stands for."""
    ends_at: float
    fingerprint: str
    """`sha256:` and hexadecimal: what a client pins."""


def make_certificate(names: Sequence[str], *, now: float) -> Certificate:
    """Return a new certificate for host names and addresses, good for a year.

    Raises:
        InputError: a name is none.

    """
    wanted = tuple(dict.fromkeys(map(normal_name, names)))
    faults = [f"{name!r} is no host name or address" for name in wanted if not _is_name(name)]
    if faults or not wanted:
        raise InputError.of_faults(faults or ["a certificate needs a host name or an address"])
    key = ec.generate_private_key(ec.SECP256R1())
    common = [x509.NameAttribute(NameOID.COMMON_NAME, wanted[0][:_MAX_COMMON_NAME])]
    begins, ends = (
        dt.datetime.fromtimestamp(at, tz=dt.timezone.utc)
        for at in (now - _CLOCK_SKEW_S, now + LIFE_S)
    )
    public = key.public_key()
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([_general_name(name) for name in wanted]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_SIGNS_ONLY, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]
    builder = x509.CertificateBuilder(x509.Name(common), x509.Name(common), public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begins).not_valid_after(ends)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    signed = builder.sign(key, hashes.SHA256())
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return _described(signed, Secret(text))


def kept_certificate(
    names: Sequence[str],
    *,
    load: Callable[[], Secret | None],
    keep: Callable[[Secret], None],
    now: float,
) -> Certificate:
    """Return the certificate that is kept, or a new one that `keep` was called with.

    A new one is made where there is none, where it does not stand for all of `names`, and
    `RENEWAL_S` before its end; clients that have pinned the old one must then be told.
    """
    kept = load()
    if kept is not None:
        found = _read_certificate(kept)
        is_for_all = {normal_name(name) for name in names} <= set(found.names)
        if is_for_all and now < found.ends_at - RENEWAL_S:
            return found
    made = make_certificate(names, now=now)
    keep(Secret(made.pem + made.key.reveal()))
    return made


def _read_certificate(kept: Secret) -> Certificate:
    text = kept.reveal()
    key = serialization.load_pem_private_key(text[text.index(_KEY_BEGINS) :], None)
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, *form)
    return _described(x509.load_pem_x509_certificate(text), Secret(pem))


def _described(signed: x509.Certificate, key: Secret) -> Certificate:
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    der = signed.public_bytes(serialization.Encoding.DER)
    return Certificate(
        pem=signed.public_bytes(serialization.Encoding.PEM),
        key=key,
        names=tuple(str(name.value) for name in names),
        ends_at=signed.not_valid_after_utc.timestamp(),
        fingerprint="sha256:" + hashlib.sha256(der).hexdigest(),
    )


def _is_name(name: str) -> bool:
    return _DNS_NAME.fullmatch(name) is not None or address_of(name) is not None


def _general_name(name: str) -> x509.GeneralName:
    address = address_of(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that `name` is, or None where it is a host's name."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def normal_name(name: str) -> str:
    """Return a host name or an address in the one way in which it is compared."""
    address = address_of(name)
    return name.lower() if address is None else str(address)


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return what a server speaks TLS with; the key touches no disk where there is memfd."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    with _as_file(certificate.pem + certificate.key.reveal()) as path:
        context.load_cert_chain(path)
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give a path to read `content` at: OpenSSL takes a key from nothing else."""
    if sys.platform == "linux":
        descriptor, path = os.memfd_create("aios-tls", os.MFD_CLOEXEC), ""
    else:
        descriptor, path = tempfile.mkstemp()  # 0600
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield path or f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
        if path:
            os.unlink(path)  # noqa: PTH108 - mkstemp gave a text
