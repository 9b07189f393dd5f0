"""Rows as aligned text: values that draw themselves wherever they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = TypeVar("Row")


class Text(str):
    """A string that a notebook shows as it is, without quotes and escapes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Table(Generic[Row]):
    """Rows with named columns; `rows` are the values, `repr` is the picture."""

    rows: tuple[Row, ...]
    columns: tuple[tuple[str, str], ...]
    """(heading, attribute of a row)."""
    empty: str = "nothing"
    """What is said where there are no rows."""

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __repr__(self) -> str:
        if not self.rows:
            return self.empty
        cells = [[_cell(getattr(row, key)) for _, key in self.columns] for row in self.rows]
        return aligned([[heading for heading, _ in self.columns], *cells])


def _cell(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return " ".join(text.split())


def aligned(lines: list[list[str]]) -> str:
    """Return lines of cells with their columns aligned, empty columns left out.

    Example:
        >>> print(aligned([["NAME", "STATE"], ["mnist", "running"]]))
        NAME   STATE
        mnist  running

    """
    keep = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    kept = [[line[i] for i in keep] for line in lines]
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    shown = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in kept
    ]
    return "\n".join(line.rstrip() for line in shown)
