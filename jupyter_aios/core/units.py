"""What people type for amounts, and back: `4GiB`, `2x8`, `30min`, `0.5` GPUs."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from jupyter_aios.errors import InputError

MILLI = 1000

_BYTES = {
    "": 1, "B": 1,
    "K": 1024, "KB": 10**3, "KIB": 2**10,
    "M": 2**20, "MB": 10**6, "MIB": 2**20,
    "G": 2**30, "GB": 10**9, "GIB": 2**30,
    "T": 2**40, "TB": 10**12, "TIB": 2**40,
}  # fmt: skip
_SECONDS: dict[str, int | Decimal] = {
    "": 1, "s": 1, "sec": 1, "ms": Decimal("0.001"),
    "m": 60, "min": 60, "h": 3600, "d": 86400,
}  # fmt: skip
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_DURATION = re.compile(r"(?:\s*[0-9]+(?:\.[0-9]+)?\s*[a-z]*)+\s*")
_LARGEST = 2**62
"""No amount that a person can mean is larger; SQLite's integers end just above."""


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # pragma: no cover - the patterns admit only decimals
        msg = f"{text!r} is not a number"
        raise InputError(msg) from None


def parse_bytes(text: str) -> int:
    """Return bytes for `4GiB`, `512MB`, `1.5T` or a plain count; `K`, `M`, `G`, `T` are binary.

    Raises:
        InputError: the text is no amount of memory.

    Example:
        >>> parse_bytes("4GiB")
        4294967296

    """
    match = _AMOUNT.fullmatch(text)
    scale = _BYTES.get(match[2].upper()) if match else None
    if match is None or scale is None:
        msg = f"{text!r} is not an amount of memory"
        raise InputError(msg, hint="write it like 4GiB, 512MB or 1.5TiB")
    value = int(_number(match[1]) * scale)
    if value > _LARGEST:
        msg = f"{text!r} is more memory than any machine has"
        raise InputError(msg, hint="write it like 4GiB, 512MB or 1.5TiB")
    return value


def format_bytes(count: int) -> str:
    """Return bytes as people write them: `3.5 GiB`, `512 B`.

    Example:
        >>> format_bytes(3 * 2**29)
        '1.5 GiB'

    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - a kibibyte
            return f"{value:.0f} {unit}" if unit == "B" else f"{_three_digits(value)} {unit}"
        value /= 1024
    return f"{_three_digits(value)} TiB"


def _three_digits(value: float) -> str:
    # The format g would write 1010 as 1.01e+03.
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"  # noqa: PLR2004


def parse_duration(text: str) -> float:
    """Return seconds for `30min`, `1h30min`, `2d`, `90s` or a plain number of seconds.

    Raises:
        InputError: the text is no duration, or it is zero.

    Example:
        >>> parse_duration("1h30min")
        5400.0

    """
    hint = "write it like 30min, 1h30min, 90s or 2d"
    if not _DURATION.fullmatch(text):
        msg = f"{text!r} is not a duration"
        raise InputError(msg, hint=hint)
    total = Decimal(0)
    for number, unit in re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text):
        if unit not in _SECONDS:
            msg = f"{text!r} is not a duration: {unit!r} is not a unit of time"
            raise InputError(msg, hint=hint)
        total += _number(number) * _SECONDS[unit]
    if not 0 < total < _LARGEST:
        msg = f"{text!r} is not a positive duration"
        raise InputError(msg, hint=hint)
    return float(total)


def format_duration(seconds: float) -> str:
    """Return a duration as people say it: `0.4 s`, `1 min 05 s`, `2 h 10 min`.

    Example:
        >>> format_duration(65)
        '1 min 05 s'

    """
    if seconds < 10:  # noqa: PLR2004 - below ten seconds a tenth matters
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def parse_milli(text: str, what: str) -> int:
    """Return thousandths for a count that may be divided: `0.25` GPUs are 250 milli-GPU.

    Raises:
        InputError: no number, negative, or finer than a thousandth.

    Example:
        >>> parse_milli("0.25", "GPUs")
        250

    """
    match = re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text.strip())
    value = _number(text.strip()) * MILLI if match else None
    if value is None or value != int(value) or value > _LARGEST:
        msg = f"{text!r} is not a number of {what}"
        raise InputError(msg, hint="write whole numbers or up to three decimals: 4 or 0.25")
    return int(value)


def format_milli(milli: int) -> str:
    """Return thousandths as a plain number: 250 is `0.25`.

    Example:
        >>> format_milli(2500)
        '2.5'

    """
    return f"{milli / MILLI:g}"


def parse_shape(text: str) -> tuple[int, int | None]:
    """Return (nodes, ranks per node) for `4` or `2x8`; ranks are None where not given.

    Raises:
        InputError: not one or two positive whole numbers.

    Example:
        >>> parse_shape("2x8")
        (2, 8)

    """
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:[x×]\s*([0-9]{1,9})\s*)?", text)
    counts = [int(part) for part in match.groups() if part is not None] if match else [0]
    if min(counts) < 1:
        msg = f"{text!r} is not a number of nodes"
        raise InputError(msg, hint="write --nodes 4, or --nodes 2x8 for 2 nodes of 8 ranks")
    return counts[0], counts[1] if len(counts) > 1 else None
