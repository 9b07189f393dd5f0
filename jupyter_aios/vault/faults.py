"""What cannot be kept in a vault, told with the values that were found."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from jupyter_aios.core.secrets import SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jupyter_aios.core.secrets import Share

MAX_OWNER_BYTES = 256
MAX_PUBLIC_BYTES = 16 * 1024
MAX_TARGET_BYTES = 2 * 1024
MAX_SHARES = 1024
_SHARE_TO = re.compile(r"(user|group):[^\x00-\x1f\x7f]{1,256}")
_RIGHTS = ("use", "read")


def length_bytes(text: str) -> int:
    """Return the bytes of a text; one that has no UTF-8 is longer than anything may be."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 2**62


def owner_faults(owner: str) -> Iterator[str]:
    """Yield what is wrong with an owner."""
    if not 1 <= length_bytes(owner) <= MAX_OWNER_BYTES:
        yield f"the owner {owner[:32]!r} is no text of 1 to {MAX_OWNER_BYTES} bytes"


def name_faults(name: str) -> Iterator[str]:
    """Yield what is wrong with a secret's name."""
    if not SECRET_NAME.fullmatch(name):
        yield (
            f"{name[:80]!r} names no secret: a letter, then at most 63 letters, digits, '_', '.'"
            " or '-'"
        )


def length_faults(what: str, size_bytes: int, most_bytes: int) -> Iterator[str]:
    """Yield what is wrong with a length."""
    if size_bytes > most_bytes:
        found = "is no text" if size_bytes == length_bytes("\ud800") else f"has {size_bytes} bytes"
        yield f"{what} {found}, {most_bytes} at most"


def time_faults(now: float) -> Iterator[str]:
    """Yield what is wrong with a time."""
    if not math.isfinite(now):
        yield f"{now} is no time"


def share_faults(shares: Sequence[Share]) -> Iterator[str]:
    """Yield what is wrong with a list of shares."""
    if len(shares) > MAX_SHARES:
        yield f"{len(shares)} shares, {MAX_SHARES} at most"
    for share in shares:
        if not _SHARE_TO.fullmatch(share.to) or length_bytes(share.to) > MAX_OWNER_BYTES + 6:
            yield f"{share.to[:80]!r} is neither user:NAME nor group:NAME"
        if share.right not in _RIGHTS:
            yield f"{share.right!r} is no right: there are {' and '.join(_RIGHTS)}"
    if len({share.to for share in shares}) < len(shares):
        yield "two shares are to the same"
