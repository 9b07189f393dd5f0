"""Names that are made when asked: a million tasks of one line need no million strings."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import SupportsIndex

    from jupyter_aios.allocation.problem import Ints
    from jupyter_aios.allocation.reading.faults import Faults
    from jupyter_aios.allocation.reading.sheets import Columns

_MOST_DIGITS = 12


@dataclass(frozen=True)
class NameGroup:
    """`count` things that were named together: `job`, or `job-0`, `job-1`, …, or `job-0-2`.

    With `gang` > 1 and several gangs the gang comes before the place in it.
    """

    prefix: str
    count: int
    gang: int = 1
    first: int | None = None
    """The first's number; None: a single one has none."""

    @property
    def is_single(self) -> bool:
        """Its name is the prefix alone."""
        return self.count == 1 and self.first is None

    @property
    def is_nested(self) -> bool:
        """Several gangs: two numbers in a name."""
        return 1 < self.gang < self.count

    def name(self, number: int) -> str:
        """Return the name of one of them."""
        if self.is_single:
            return self.prefix
        if self.is_nested:
            return f"{self.prefix}-{number // self.gang}-{number % self.gang}"
        return f"{self.prefix}-{number + (self.first or 0)}"


class GroupedNames:
    """The names of all groups one after the other, as a sequence.

    Example:
        >>> names = GroupedNames([NameGroup("llm", 1), NameGroup("nb", 1_000_000)])
        >>> len(names), names[0], names[1], names[-1]
        (1000001, 'llm', 'nb-0', 'nb-999999')

    """

    def __init__(self, groups: Sequence[NameGroup]) -> None:
        self.groups = tuple(groups)
        self._ends = np.cumsum([group.count for group in groups], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[str]:
        for group in self.groups:
            for number in range(group.count):
                yield group.name(number)

    def __getitem__(self, number: SupportsIndex, /) -> str:
        at = index(number)
        at += len(self) if at < 0 else 0
        if not 0 <= at < len(self):
            raise IndexError(number)
        group = int(np.searchsorted(self._ends, at, side="right"))
        return self.groups[group].name(at - int(self._ends[group]) + self.groups[group].count)


def clashes(groups: Sequence[NameGroup]) -> list[tuple[int, str]]:
    """Return (number of a group, a name of it that another group has too).

    Told from prefixes and numbers: a million names are not made for it.
    """
    found: list[tuple[int, str]] = []
    singles: dict[str, int] = {}
    flat: dict[str, list[tuple[int, int]]] = {}
    gangs: dict[str, tuple[int, int]] = {}
    for number, group in enumerate(groups):
        if group.is_single:
            is_new = group.prefix not in singles
            singles[group.prefix] = number
        elif group.is_nested:
            is_new = group.prefix not in gangs
            gangs[group.prefix] = (group.count // group.gang, group.gang)
        else:
            is_new = _add(flat.setdefault(group.prefix, []), group)
        if not is_new:
            found.append((number, group.name(0)))
    found += [(n, name) for name, n in singles.items() if _is_numbered(name, flat, gangs)]
    for number, group in enumerate(groups):
        head, gang = _split(group.prefix)
        if not (group.is_single or group.is_nested) and 0 <= gang < gangs.get(head, (0, 0))[0]:
            found.append((number, group.name(0)))
    return found


def _is_numbered(
    name: str, flat: dict[str, list[tuple[int, int]]], gangs: dict[str, tuple[int, int]]
) -> bool:
    """Return whether a name is one that a group makes of its prefix and numbers."""
    head, last = _split(name)
    prefix, gang = _split(head)
    count, size = gangs.get(prefix, (0, 0))
    is_in_gang = 0 <= gang < count and 0 <= last < size
    return is_in_gang or any(low <= last < high for low, high in flat.get(head, ()))


def _add(ranges: list[tuple[int, int]], group: NameGroup) -> bool:
    """Add a group's numbers to those of its prefix; False where some are there already."""
    low = group.first or 0
    high = low + group.count
    if any(low < other_high and other_low < high for other_low, other_high in ranges):
        return False
    if ranges and ranges[-1][1] == low:
        ranges[-1] = (ranges[-1][0], high)
    else:
        ranges.append((low, high))
    return True


def _split(name: str) -> tuple[str, int]:
    """Return (`llm`, 3) of `llm-3`; -1 where no number is at the end."""
    head, dash, last = name.rpartition("-")
    is_number = dash and last.isdecimal() and last.isascii() and len(last) < _MOST_DIGITS
    return (head, int(last)) if is_number and last == str(int(last)) else ("", -1)


def names_of(
    what: str, columns: Columns, counts: Ints, sizes: Ints, faults: Faults
) -> GroupedNames | tuple[str, ...]:
    """Return the names of all nodes or tasks; those without a name are numbered.

    Names that two have go to `faults`.
    """
    given = columns["name"]
    if None not in given and int(counts.max()) == 1:
        if len(set(given)) < len(given):
            seen: dict[str, int] = {}
            for row, name in enumerate(given):
                if seen.setdefault(name, row) != row:
                    _refuse(what, name, row, columns, faults)
        return tuple(given)
    groups, number = [], 0
    for name, count, size in zip(given, counts.tolist(), sizes.tolist(), strict=True):
        if name is None:
            groups.append(NameGroup(what.removesuffix("s"), count, 1, number))
            number += count
        else:
            groups.append(NameGroup(name, count, size))
    for row, name in clashes(groups):
        _refuse(what, name, row, columns, faults)
    return GroupedNames(groups)


def _refuse(what: str, name: str, row: int, columns: Columns, faults: Faults) -> None:
    place, order = columns.sheet.at(row, "name")
    faults.add(f"two {what} are named {name}", place, order)
