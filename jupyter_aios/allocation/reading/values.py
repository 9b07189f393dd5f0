"""One cell of an input, text or number, as what it means; a wrong one says what it should be.

A cell may come from YAML (always text here), from a DataFrame (numbers of many types) or from
Python. Amounts are decimals, so 0.1 is a tenth and not its nearest binary fraction.
"""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.problem import MAX_DEVICES
from jupyter_aios.core.units import MILLI, parse_bytes
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_TASKS = 10_000_000
MOST_NODES = 1_000_000
MOST_CPUS = 1_000_000
MOST_PRIORITY = 1_000_000
MOST_VALUE = 10**9
MOST_BYTES = 2**60
_LEAST_PLAIN_BYTES = 2**20
_YES = frozenset({"true", "yes", "1"})
_NO = frozenset({"false", "no", "0"})
_MANY_DIGITS = 40


def is_missing(value: object) -> bool:
    """Return whether a cell says nothing: None, NaN, pandas' NA and NaT, or empty text."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


def plain(value: object) -> Any:  # noqa: ANN401 - numbers, text, lists and mappings
    """Return numpy's scalars as Python's own."""
    item = getattr(value, "item", None)
    if item is None or getattr(value, "shape", None) != ():
        return value
    found = item()
    # By its text: the single-precision 0.11 is 0.11 to whoever wrote it.
    return float(str(value)) if isinstance(found, float) else found


def number(value: object) -> Decimal:
    """Return a number.

    Raises:
        InputError: no number, or not a finite one.

    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise InputError(f"{shown(value)} is no number")
    text = str(value).strip().replace("_", "")
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise InputError(f"{shown(value)} is no number") from None
    if not found.is_finite():
        raise InputError(f"{shown(value)} is not finite")
    if len(text) > _MANY_DIGITS or abs(found.adjusted()) > _MANY_DIGITS:
        raise InputError(f"{shown(value)} has too many digits")
    return found


def whole(least: int, most: int) -> Callable[[object], int]:
    """Return a reader of whole numbers in a range."""

    def read(value: object) -> int:
        found = number(value)
        if found != int(found):
            raise InputError(f"{shown(value)} is not a whole number")
        if found < least:
            raise InputError(f"{shown(value)} is below {least}")
        if found > most:
            raise InputError(f"{shown(value)} is above {most:,}")
        return int(found)

    return read


def scaled(value: object, scale: int, most: int) -> int:
    """Return a number from 0 in units that are `scale` times finer; it has to come out whole."""
    found = number(value)
    if found < 0:
        raise InputError(f"{shown(value)} is below 0")
    fine = found * scale
    if fine > most:
        raise InputError(f"{shown(value)} is above {most // scale:,}")
    if isinstance(value, float) and fine:
        return max(round(fine), 1)  # what was calculated has digits that nobody meant
    if fine != int(fine):
        raise InputError(f"{shown(value)} is finer than 1/{scale:,}")
    return int(fine)


def cpus(value: object) -> int:
    """Return thousandths of CPUs; `250m` is what Kubernetes writes for a quarter."""
    if isinstance(value, str) and value.strip().endswith("m"):
        return scaled(value.strip()[:-1], 1, MOST_CPUS * MILLI)
    return scaled(value, MILLI, MOST_CPUS * MILLI)


def milli(most: int) -> Callable[[object], int]:
    """Return a reader of what is in thousandths already."""
    return lambda value: scaled(value, 1, most)


def gpus(value: object) -> tuple[int, int]:
    """Return (devices, thousandths of each) for a number of whole GPUs or a share of one."""
    return devices_for(scaled(value, MILLI, MAX_DEVICES * MILLI), value)


def gpu_milli(value: object) -> tuple[int, int]:
    """Return (devices, thousandths of each) for thousandths of GPU."""
    return devices_for(scaled(value, 1, MAX_DEVICES * MILLI), value)


def devices_for(amount: int, value: object) -> tuple[int, int]:
    """Return (devices, thousandths of each) of a task that takes so many thousandths of GPU.

    Raises:
        InputError: more than one device, and not whole ones.

    """
    if amount > MILLI and amount % MILLI:
        raise InputError(
            f"{shown(value)} GPUs are neither whole devices nor a share of one",
            hint="write gpus: 2, or a share below 1 such as gpus: 0.5",
        )
    return (amount // MILLI, MILLI) if amount >= MILLI else (int(amount > 0), amount)


def memory(value: object) -> int:
    """Return bytes for `8GiB` or `8Gi`; a plain number is bytes, so few are a forgotten unit."""
    if isinstance(value, str) and not is_number(value):
        # Kubernetes leaves the B out.
        found = parse_bytes(f"{value}B" if value.endswith("i") else value)
    else:
        found = scaled(value, 1, MOST_BYTES)
        if 0 < found < _LEAST_PLAIN_BYTES:
            raise InputError(
                f"{shown(value)} without a unit is {found} bytes", hint=f"write {value}GiB"
            )
    if found > MOST_BYTES:
        raise InputError(f"{shown(value)} is more than any machine has")
    return found


def sized(scale: int) -> Callable[[object], int]:
    """Return a reader of memory in a fixed unit; parts of a byte are rounded."""

    def read(value: object) -> int:
        found = number(value)
        if found < 0:
            raise InputError(f"{shown(value)} is below 0")
        if found * scale > MOST_BYTES:
            raise InputError(f"{shown(value)} is more than any machine has")
        return round(found * scale)

    return read


def switch(value: object) -> bool:
    """Return true or false."""
    text = str(value).strip().lower()
    if text in _YES | _NO:
        return text in _YES
    raise InputError(f"{shown(value)} is neither true nor false")


def text(value: object) -> str:
    """Return text of one line."""
    if isinstance(value, (list, tuple, dict)):
        raise InputError(f"{shown(value)} is no name")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of numbers with a gap in it
    found = str(value).strip()
    if not found or not found.isprintable():
        raise InputError(f"{shown(value)} is no name")
    return found


def texts(value: object) -> tuple[str, ...]:
    """Return several names: a list, or text with a bar or comma between them."""
    if isinstance(value, str):
        value = [part for part in value.replace("|", ",").split(",") if part.strip()]
    parts = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    return tuple(sorted({text(part) for part in parts}))


def gang(value: object) -> int | str:
    """Return how many tasks a gang has, or the name that joins several entries to one."""
    if isinstance(value, str) and not is_number(value):
        return text(value)
    return whole(1, MOST_TASKS)(value)


def is_number(value: str) -> bool:
    """Return whether text is a finite number."""
    try:
        number(value)
    except InputError:
        return False
    return True


def shown(value: object) -> str:
    """Return a cell as a message shows it: short, on one line."""
    if isinstance(value, (list, tuple, dict)):
        # Never its contents: YAML's aliases make small texts into endless ones.
        return "a mapping" if isinstance(value, dict) else "a list"
    found = value if isinstance(value, str) else repr(value)
    found = " ".join(found.split())
    return f"{found[:60]}…" if len(found) > 60 else found or "''"  # noqa: PLR2004
