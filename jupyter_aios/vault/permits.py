"""Permits: the controller's leave to start one attempt on one node, good once and for minutes.

A permit is the text `PAYLOAD.SIGNATURE`, both in base64url without padding (RFC 4648, section 5).
The payload is the permit as canonical JSON: sorted keys, no white space, ASCII. The signature is
Ed25519 (RFC 8032) over `_DOMAIN` and the payload's bytes, so it can mean nothing but a permit.
There is one text per permit: what decodes to the same permit from other bytes is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jupyter_aios.core.entities import JobId, Resources, UserId
from jupyter_aios.core.wire import from_plain, to_plain
from jupyter_aios.errors import DeniedError, InputError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

MAX_AGE_S = 120.0
"""From issue to expiry; whoever issues and whoever checks insist on it."""
MAX_SKEW_S = 10.0
"""How far the clock of an agent may lie behind the controller's."""
MAX_TEXT_BYTES = 16 * 1024

_DOMAIN = b"jupyter_aios permit 1\0"
_ID = re.compile(r"[0-9a-f]{32}")
_AGAIN = "start the job again: %aios rerun"
_CLOCK = "set this machine's clock: timedatectl set-ntp true"


@dataclass(frozen=True)
class Permit:
    """Who may start what, where and until when. Times are seconds since the epoch."""

    id: str
    """32 random hexadecimal digits; an agent accepts each once."""
    user: UserId
    job_id: JobId
    attempt: int
    node: str
    """Whose agent may start it; several nodes of one machine are joined by commas."""
    code_hash: str
    """`core.submission.code_hash` of the code that will run."""
    plan_hash: str
    """Of the whole launch plan: interpreter, environment, ranks, limits."""
    resources: Resources
    """Of all ranks on the node together."""
    issued_at: float
    expires_at: float


def issue(seed: bytes, permit: Permit) -> str:
    """Return the permit as text, signed with the key of this 32-byte seed.

    Raises:
        InputError: it would be good for longer than `MAX_AGE_S`, or its id cannot be one.

    """
    age_s = permit.expires_at - permit.issued_at
    if not 0 < age_s <= MAX_AGE_S:
        raise InputError(f"a permit is good for {MAX_AGE_S:.0f} s at most, {age_s:g} s wanted")
    if not _ID.fullmatch(permit.id):
        raise InputError(f"a permit's id is 32 hexadecimal digits, not {permit.id!r}")
    payload = _encode(permit)
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(_DOMAIN + payload)
    text = f"{_armour(payload)}.{_armour(signature)}"
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(f"the permit has {len(text)} bytes, {MAX_TEXT_BYTES} at most")
    return text


def public_key(seed: bytes) -> str:
    """Return the public key of a seed as text: what agents check permits with."""
    return _armour(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def check(
    text: str,
    public_key: str,
    *,
    audience: str,
    job_id: str,
    attempt: int,
    code_hash: str,
    plan_hash: str,
    now: float,
    seen: Container[str] = (),
) -> Permit:
    """Return the permit where it is one for this very launch, here and now.

    Args:
        text: the permit.
        public_key: whose signature counts, as `public_key` gives it.
        audience: the node that checks.
        job_id: of what is about to start, as are the next three.
        attempt: its number.
        code_hash: recomputed from what will really run.
        plan_hash: the same.
        now: seconds since the epoch.
        seen: ids of permits that were used before.

    Raises:
        DeniedError: it is none; the message tells the first thing that is wrong.

    """
    permit = _verified(text, public_key)
    wanted = {
        "node": (permit.node, audience),
        "job": (permit.job_id, job_id),
        "attempt": (permit.attempt, attempt),
    }
    for what, (made_for, here) in wanted.items():
        if made_for != here:
            raise DeniedError(
                f"the permit was made for {what} {made_for}, here is {here}", hint=_AGAIN
            )
    if permit.code_hash != code_hash:
        raise DeniedError(
            f"the permit was made for code {permit.code_hash[:12]}…, here is {code_hash[:12]}…",
            hint=_AGAIN,
        )
    if permit.plan_hash != plan_hash:
        raise DeniedError(
            "the launch plan is not the one that was permitted"
            f" ({plan_hash[:12]}… instead of {permit.plan_hash[:12]}…)",
            hint=_AGAIN,
        )
    for fault, hint in _faults_of_time(permit, now):
        raise DeniedError(fault, hint=hint)
    if permit.id in seen:
        raise DeniedError(f"the permit {permit.id} was used before", hint=_AGAIN)
    return permit


def _faults_of_time(permit: Permit, now: float) -> Iterator[tuple[str, str]]:
    age_s = permit.expires_at - permit.issued_at
    if not 0 < age_s <= MAX_AGE_S:
        yield f"the permit would be good for {age_s:g} s, {MAX_AGE_S:.0f} s at most", _AGAIN
    if not permit.issued_at - now <= MAX_SKEW_S:
        early_s = permit.issued_at - now
        told = f"the permit will be issued in {early_s:.0f} s by this machine's clock"
        yield f"{told}; {MAX_SKEW_S:.0f} s apart at most", _CLOCK
    if not now <= permit.expires_at:
        yield f"the permit expired {now - permit.expires_at:.0f} s ago", _AGAIN


def _verified(text: str, key: str) -> Permit:
    """Return what is signed. Nothing is parsed before its signature has been checked."""
    try:
        verifier = Ed25519PublicKey.from_public_bytes(_strip_armour(key))
    except ValueError:
        raise DeniedError("the key that permits are checked with is no Ed25519 key") from None
    if len(text) > MAX_TEXT_BYTES:
        raise DeniedError(f"a text of {len(text)} bytes is no permit, {MAX_TEXT_BYTES} at most")
    parts = text.split(".")
    try:
        payload, signature = map(_strip_armour, parts)
    except ValueError:
        raise DeniedError("the permit is missing or damaged", hint=_AGAIN) from None
    try:
        verifier.verify(signature, _DOMAIN + payload)
    except InvalidSignature:
        raise DeniedError("the permit was not signed by this node's controller") from None
    try:
        permit = from_plain(Permit, json.loads(payload))
        is_canonical = _encode(permit) == payload and _ID.fullmatch(permit.id) is not None
    except (InputError, ValueError, RecursionError):
        is_canonical = False
    if not is_canonical:
        raise DeniedError("the permit is of another version than this agent", hint=_AGAIN)
    return permit


def _encode(permit: Permit) -> bytes:
    plain = to_plain(permit)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _armour(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _strip_armour(text: str) -> bytes:
    """Return the bytes of the one text that stands for them.

    Raises:
        ValueError: it is not that text (padding, other characters, bits that count for nothing).

    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if _armour(data) != text:
        raise ValueError("not the shortest form")
    return data
