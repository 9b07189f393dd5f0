"""All metrics of a job: which there are, how they are grouped, and what of them is new.

Pure. A curve keeps its place, `key`, for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.widgets.training.series import SPEED, Points, Series

if TYPE_CHECKING:
    from collections.abc import Iterable

SNAPSHOT_POINTS = 4000
"""Of a curve at most so many points go to a page at once; its extremes are among them."""
_ORDER = {"loss": 0, "lr": 1, SPEED: 2}
_LEARNING_RATES = ("learning_rate", "learning rate")
_KERAS = "Keras"
"""What comes from Keras' logs has Keras' names; other inferred values are losses and rates."""


@dataclass(frozen=True)
class Curve:
    """A piece of one curve, with all that is said about it; `key` tells curves apart.

    Whoever keeps the curve drops what lies at or after the first step, and appends.
    """

    key: int
    name: str
    how: str
    axis: str
    group: str
    points: Points
    is_thinned: bool
    """Whether points were left out that `between` gives."""


class Curves:
    """The metrics of a job over its ranks, in the order in which they appeared."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        # What is inferred and what is logged by hand may have one name: both are shown.
        self._series: dict[tuple[str, bool], Series] = {}

    def series(self, name: str, how: str = "") -> Series:
        """Return a metric, which is new where it was not known; `how` as in `Series`."""
        key = (name, bool(how))
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Series(name, how, self._ranks)
        found.how = how
        return found

    def restart(self) -> None:
        """Expect a new attempt."""
        for series in self._series.values():
            series.restart()

    def is_holding(self) -> bool:
        """Return whether points wait to be shown; ask again soon."""
        return any(series.is_holding() for series in self._series.values())

    def ordered(self) -> list[Series]:
        """Return the metrics as they are shown: losses first, then rates, then the others."""
        return sorted(self._series.values(), key=lambda one: _ORDER.get(group_of(one), 3))

    def speed(self) -> float | None:
        """Return the samples per second of all ranks together."""
        found = [s for s in self._series.values() if s.name == SPEED]
        return found[0].last_sum if found else None

    def news(self, now: float, limit: int, *, is_over: bool) -> list[Curve]:
        """Return what was not told before."""
        pieces = (
            (key, series, series.news(now, limit=limit, is_over=is_over))
            for key, series in enumerate(self._series.values())
        )
        return [_curve(key, series, points) for key, series, points in pieces if points]

    def told(self, limit: int) -> list[Curve]:
        """Return what was told before."""
        return [
            _curve(key, series, series.told(limit))
            for key, series in enumerate(self._series.values())
        ]

    def between(self, key: int, low: float, high: float, limit: int) -> list[Curve]:
        """Return the points of one curve from step `low` to step `high`."""
        pairs: Iterable[tuple[int, Series]] = enumerate(self._series.values())
        return [_curve(at, one, one.between(low, high, limit)) for at, one in pairs if at == key]

    def of_rank(self, rank: int) -> list[Curve]:
        """Return one rank's own curves."""
        return [
            _curve(key, series, series.tracks[rank].points())
            for key, series in enumerate(self._series.values())
            if rank in series.tracks
        ]


def _curve(key: int, series: Series, points: Points) -> Curve:
    is_thinned = len(series.steps) > SNAPSHOT_POINTS
    group = group_of(series)
    return Curve(key, series.label, series.how, series.axis, group, points, is_thinned)


def group_of(series: Series) -> str:
    """Return the chart that a metric belongs to: all losses share one.

    Example:
        >>> [group_of(Series(name)) for name in ("val/loss", "learning_rate", "accuracy")]
        ['loss', 'lr', 'accuracy']

    """
    name = series.name.lower()
    if name in _LEARNING_RATES or name.partition(" ")[0] == "lr":
        return "lr"
    if name == SPEED:
        return name
    is_loss = "loss" in name or (series.how and not series.how.startswith(_KERAS))
    return "loss" if is_loss else series.name
