"""The audit as a chain: each row's MAC covers its content and the MAC before it.

    mac(n) = HMAC-SHA256(key, mac(n - 1) ‖ canonical(n)),   mac(0) = 32 zero bytes

A row that is changed, taken out, put in or moved breaks the chain from there on. `key` is the
vault's while the vault is open (the row is sealed); else it is public, and such a row is held only
by the next sealed one, which commits to all before it. What nothing in the chain itself can show
is that its end was cut off: for that a head is kept elsewhere and given to `verify`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from jupyter_aios.core.entities import UserId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOCKED_KEY = b"locked"
"""The key of rows that are written while there is no other; everybody knows it."""


@dataclass(frozen=True)
class AuditRow:
    """One decision of the policy, or a deed that is written down like one."""

    at: float
    user: UserId
    action: str
    resource: str
    is_allowed: bool
    reason: str
    seq: int = 0
    """Its place in the chain, from 1; the store gives this and what follows."""
    mac: str = ""
    """In hexadecimal."""
    is_sealed: bool = False
    """Whether its MAC was made with the vault's key."""


class AuditHead(NamedTuple):
    """The end of a chain: whoever keeps it can tell later that nothing before it has changed."""

    seq: int
    mac: str


START = AuditHead(0, "00" * 32)
"""The head of an audit without rows."""


@dataclass(frozen=True)
class ChainReport:
    """What `verify` found."""

    head: AuditHead
    """Of the last row that was looked at and found good."""
    sealed_until: int
    """Place of the last row that the vault's key has sealed; later ones could be anybody's."""
    unchecked: int
    """Sealed rows whose key was not given."""
    fault: str = ""
    """The first thing that is wrong, in a sentence with its place; empty where nothing is."""

    @property
    def is_good(self) -> bool:
        """True where nothing was wrong."""
        return not self.fault


def canonical(row: AuditRow) -> bytes:
    """Return the bytes that stand for a row, its MAC left out; no two contents have the same.

    Example:
        >>> canonical(AuditRow(1.5, UserId("ada"), "job:read", "job:x", True, "own", 1))
        b'[1,1.5,"ada","job:read","job:x",true,"own",false]'

    """
    # float's repr is the shortest text that gives the same number again, on every platform.
    content = [
        row.seq,
        float(row.at),
        row.user,
        row.action,
        row.resource,
        row.is_allowed,
        row.reason,
        row.is_sealed,
    ]
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def chain(row: AuditRow, head: AuditHead, key: bytes | None) -> AuditRow:
    """Return the row as the next after `head`, sealed with `key`; None: the vault is locked."""
    placed = replace(row, seq=head.seq + 1, is_sealed=key is not None, mac="")
    return replace(placed, mac=_mac(LOCKED_KEY if key is None else key, head.mac, placed))


def verify(
    rows: Iterable[AuditRow], keys: Sequence[bytes], anchors: Iterable[AuditHead] = ()
) -> ChainReport:
    """Return whether `rows`, oldest first and from the first on, are one unbroken chain.

    `keys`: the vault's, a former one too where it was changed; none while it is locked, and then
    sealed rows are counted and not checked. `anchors`: heads that were noted elsewhere. Takes one
    row at a time, so the length does not matter.
    """
    noted = {anchor.seq: anchor.mac for anchor in anchors}
    head, sealed_until, unchecked = START, 0, 0
    fault = _compare(START, noted)
    for row in rows if not fault else ():
        fault, is_checked = _examine(row, head, keys)
        fault = fault or _compare(AuditHead(row.seq, row.mac), noted)
        if fault:
            break
        head = AuditHead(row.seq, row.mac)
        if row.is_sealed:
            sealed_until = row.seq
            unchecked += not is_checked
    missing = [seq for seq in noted if seq > head.seq]
    if missing and not fault:
        fault = f"it ends at row {head.seq}, but row {max(missing)} has been there"
    return ChainReport(head, sealed_until, unchecked, fault)


def _examine(row: AuditRow, head: AuditHead, keys: Sequence[bytes]) -> tuple[str, bool]:
    """Return what is wrong with the next row, and whether its MAC could be checked."""
    if row.seq != head.seq + 1:
        return f"after row {head.seq} comes row {row.seq}", True
    candidates = keys if row.is_sealed else (LOCKED_KEY,)
    if not candidates:
        return "", False
    if any(hmac.compare_digest(row.mac, _mac(key, head.mac, row)) for key in candidates):
        return "", True
    return f"row {row.seq} is not what was written, or not after row {head.seq} as it is now", True


def _compare(head: AuditHead, noted: dict[int, str]) -> str:
    if noted.get(head.seq, head.mac) == head.mac:
        return ""
    return f"row {head.seq} is another than the one that was noted elsewhere"


def _mac(key: bytes, previous: str, row: AuditRow) -> str:
    return hmac.new(key, bytes.fromhex(previous) + canonical(row), hashlib.sha256).hexdigest()
