"""Curves on their way to the rank's file: points are kept in memory and written in batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind

if TYPE_CHECKING:
    from jupyter_aios.training.journal import Journal

POINTS_PER_RECORD = 100_000
"""A record has a largest size; after a long silence more than this may have come together."""


class Later:
    """A number that a GPU has computed and that has not arrived here yet."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: float | None = None


class Mean:
    """The mean of numbers, times a factor; known when all of them are."""

    __slots__ = ("factor", "terms")

    def __init__(self, terms: list[float | Later], factor: float) -> None:
        self.terms = terms
        self.factor = factor

    @property
    def number(self) -> float | None:
        """Return the mean, or None while a term is on its way."""
        numbers = [term if isinstance(term, float) else term.number for term in self.terms]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers):
            return None
        return sum(number * self.factor for number in known) / len(known)


Value = float | Later | Mean
"""What a point may hold until it is written."""


@dataclass
class Series:
    """A curve: its name, from what it was inferred, and the points that are not written yet."""

    name: str
    how: str
    steps: list[int] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def add(self, step: int, value: Value) -> None:
        """Append a point."""
        self.steps.append(step)
        self.values.append(value)

    def take(self) -> tuple[list[int], list[float | str]]:
        """Return the points whose values are known, in order, and keep the others."""
        numbers: list[float | str] = []
        for value in self.values[:POINTS_PER_RECORD]:
            number = value if isinstance(value, float) else value.number
            if number is None:
                break
            # JSON has no infinities; a diverged loss is exactly what a person wants to see.
            numbers.append(number if math.isfinite(number) else str(number))
        steps = self.steps[: len(numbers)]
        del self.steps[: len(numbers)], self.values[: len(numbers)]
        return steps, numbers


class Recorder:
    """All curves of a rank."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._series: dict[str, Series] = {}
        self._has_written = False

    def series(self, name: str, how: str) -> Series:
        """Return the curve of this name; `how` is said of all points from now on."""
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = Series(name, how)
        series.how = how
        return series

    @property
    def has_points(self) -> bool:
        """True once there is a point in any curve."""
        return self._has_written or any(series.steps for series in self._series.values())

    def write(self) -> None:
        """Write what is known; a full disk loses it and not the training."""
        while True:
            record = []
            for series in self._series.values():
                steps, numbers = series.take()
                if steps:
                    record.append(
                        {"name": series.name, "how": series.how, "steps": steps, "values": numbers}
                    )
            if not record:
                return
            self._has_written = True
            self._journal.record(EventKind.CURVE, series=record)
