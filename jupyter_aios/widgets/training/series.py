"""One metric over all ranks: by step the mean, the lowest and the highest value.

Pure, and without numpy: a view has to be there before a heavy library is.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

HOLD_S = 0.4
"""A point waits so long for the ranks that have not reported it yet; then it is shown as it is."""
HOLD_POINTS = 500
_OPEN_POINTS = 512
"""Of so many last points the value of each rank is known, so that a repeated one replaces it."""
_TRACK_POINTS = 4096
_EARLY_LOGS = 64
_REPEATS = 2


@dataclass(frozen=True)
class Points:
    """A piece of a curve, ordered by step."""

    steps: array[float]
    means: array[float]
    lows: array[float]
    highs: array[float]

    def __len__(self) -> int:
        return len(self.steps)


class Track:
    """One rank's own values; beyond `_TRACK_POINTS` every other one is dropped, again and again."""

    def __init__(self) -> None:
        self.steps = array("d")
        self.values = array("f")
        self.stride = 1
        self._skipped = 0

    def add(self, step: float, value: float) -> None:
        """Append a value."""
        if self.steps and step < self.steps[-1]:
            self.cut(step)
        self._skipped += 1
        if self._skipped < self.stride:
            return
        self._skipped = 0
        self.steps.append(step)
        self.values.append(value)
        if len(self.steps) >= _TRACK_POINTS:
            self.steps, self.values = self.steps[::2], self.values[::2]
            self.stride *= 2

    def cut(self, step: float) -> None:
        """Forget what comes at or after `step`."""
        at = bisect_left(self.steps, step)
        del self.steps[at:], self.values[at:]

    def points(self) -> Points:
        """Return them as a curve without a band."""
        return Points(self.steps, self.values, self.values, self.values)


SPEED = "samples/s"


@dataclass
class Series:
    """One metric; `how` says from what it was inferred, and is empty where somebody logged it."""

    name: str
    how: str = ""
    ranks: int = 1
    axis: str = "step"
    """`step`, or `log`: the number of the log call, where the step says nothing."""
    steps: array[float] = field(default_factory=lambda: array("d"))
    means: array[float] = field(default_factory=lambda: array("f"))
    lows: array[float] = field(default_factory=lambda: array("f"))
    highs: array[float] = field(default_factory=lambda: array("f"))
    tracks: dict[int, Track] = field(default_factory=dict)
    _sums: array[float] = field(default_factory=lambda: array("d"))
    _counts: array[int] = field(default_factory=lambda: array("L"))
    _open: dict[float, dict[int, float]] = field(default_factory=dict)
    _early: list[tuple[int, float, float]] = field(default_factory=list)
    _logs: dict[int, int] = field(default_factory=dict)
    _repeats: dict[int, int] = field(default_factory=dict)
    _last: dict[int, float] = field(default_factory=dict)
    _is_new_attempt: bool = False
    _whole: int = 0
    _told: int = 0
    _begun: float | None = None
    _waits_since: float | None = None

    def add(self, rank: int, step: float, value: float) -> None:
        """Take a rank's value at a step; the same step again replaces it."""
        if not self.how:
            step = self._on_axis(rank, step, value)
        if self._is_new_attempt:
            self._is_new_attempt = False
            self._cut(step)
        self._logs[rank] = self._logs.get(rank, 0) + 1
        self._last[rank] = step
        self.tracks.setdefault(rank, Track()).add(step, value)
        self._aggregate(rank, step, value)

    def restart(self) -> None:
        """Expect a new attempt: what it does again replaces what was undone."""
        self._is_new_attempt = self.axis == "step"

    # --------------------------------------------------------------------------- the axis

    def _on_axis(self, rank: int, step: float, value: float) -> float:
        """Return where the value belongs; a loop without an optimizer logs all at step 0."""
        if self.axis == "log":
            return float(self._logs.get(rank, 0))
        if len(self._early) < _EARLY_LOGS * self.ranks:
            self._early.append((rank, step, value))
            if self._last.get(rank) == step:
                repeats = self._repeats[rank] = self._repeats.get(rank, 0) + 1
                if repeats >= _REPEATS and 2 * repeats >= self._logs.get(rank, 0):
                    return self._count_logs(rank)
        return step

    def _count_logs(self, rank: int) -> float:
        early, self._early = self._early[:-1], []
        self._cut(-math.inf)
        self.axis = "log"
        self._logs.clear()
        self.tracks.clear()
        for one, _, value in early:
            self.add(one, 0.0, value)
        return float(self._logs.get(rank, 0))

    def _cut(self, step: float) -> None:
        at = bisect_left(self.steps, step)
        for column in (self.steps, self.means, self.lows, self.highs, self._sums, self._counts):
            del column[at:]
        self._open = {key: cell for key, cell in self._open.items() if key < step}
        self._whole, self._told = min(self._whole, at), min(self._told, at)
        for track in self.tracks.values():
            track.cut(step)

    # --------------------------------------------------------------------------- the ranks

    def _aggregate(self, rank: int, step: float, value: float) -> None:
        at = len(self.steps)
        if at and step <= self.steps[-1]:
            at = bisect_left(self.steps, step)
        if at == len(self.steps) or self.steps[at] != step:
            for column in (self.means, self.lows, self.highs, self._sums):
                column.insert(at, 0.0)
            self.steps.insert(at, step)
            self._counts.insert(at, 0)
            self._open[step] = {}
            if len(self._open) > _OPEN_POINTS:
                del self._open[next(iter(self._open))]
        cell = self._open.get(step)
        if cell is not None and rank in cell:
            cell[rank] = value
            self._counts[at], self._sums[at] = 0, 0.0
            for one in cell.values():
                self._include(at, one)
        else:
            self._include(at, value)
            if cell is not None:
                cell[rank] = value
        # A late value changes what has been told; told is only what comes before it.
        self._told = min(self._told, at)

    def _include(self, at: int, value: float) -> None:
        if self._counts[at] == 0:
            self.lows[at] = self.highs[at] = value
        elif not math.isnan(value):
            low, high = self.lows[at], self.highs[at]
            self.lows[at] = value if math.isnan(low) else min(low, value)
            self.highs[at] = value if math.isnan(high) else max(high, value)
        self._counts[at] += 1
        self._sums[at] += value
        self.means[at] = self._sums[at] / self._counts[at]

    @property
    def label(self) -> str:
        """The name as people read it: what each rank does is not what all do together."""
        return f"{self.name} per rank" if self.name == SPEED and self.ranks > 1 else self.name

    @property
    def last(self) -> float | None:
        """The newest value, the mean over the ranks that have reported it."""
        return self.means[-1] if self.means else None

    @property
    def last_sum(self) -> float | None:
        """The newest value of all ranks together."""
        return sum(t.values[-1] for t in self.tracks.values() if t.values) if self.steps else None

    # --------------------------------------------------------------------------- what is told

    def is_holding(self) -> bool:
        """Return whether points wait for the ranks that have not reported them."""
        return self._whole < len(self.steps)

    def news(self, now: float, *, limit: int, is_over: bool = False) -> Points | None:
        """Return what was not told before, with what it replaces; None where there is nothing.

        Whoever keeps the curve drops what lies at or after the first step, and appends.
        """
        shown = len(self.steps) if is_over else self._shown(now)
        if self._told >= shown:
            return None
        told, self._told = self._told, shown
        return self.points(limit, told, shown)

    def told(self, limit: int) -> Points:
        """Return what has been told so far."""
        return self.points(limit, 0, self._told)

    def between(self, low: float, high: float, limit: int) -> Points:
        """Return what has been told from step `low` to step `high`."""
        end = min(bisect_right(self.steps, high), self._told)
        return self.points(limit, min(bisect_left(self.steps, low), end), end)

    def _shown(self, now: float) -> int:
        """Return how many points all ranks have reported, or have had time enough to report."""
        count = len(self.steps)
        if self._begun is None:
            self._begun = now
        wanted = self.ranks if now - self._begun < HOLD_S else len(self.tracks)
        before = self._whole = min(self._whole, count)
        while self._whole < count and self._counts[self._whole] >= wanted:
            self._whole += 1
        self._whole = max(self._whole, count - HOLD_POINTS)
        if self._whole == count:
            self._waits_since = None
        elif self._waits_since is None or self._whole > before:
            self._waits_since = now
        elif now - self._waits_since >= HOLD_S:
            self._whole, self._waits_since = count, None
        return self._whole

    def points(self, limit: int, begin: int = 0, end: int | None = None) -> Points:
        """Return points [begin, end), at most about `limit` of them; the extremes are among them.

        All points are real ones: of each stretch those with the lowest and the highest mean, and
        the ends of the band.
        """
        end = len(self.steps) if end is None else end
        if end - begin <= limit:
            columns = (self.steps, self.means, self.lows, self.highs)
            return Points(*(column[begin:end] for column in columns))
        chosen = {begin, end - 1}
        stretches = max(limit // 4, 1)
        for i in range(stretches):
            low = begin + (end - begin) * i // stretches
            high = begin + (end - begin) * (i + 1) // stretches
            chosen |= self._extremes(low, high)
        order = sorted(chosen)
        return Points(
            array("d", [self.steps[i] for i in order]),
            *(array("f", [c[i] for i in order]) for c in (self.means, self.lows, self.highs)),
        )

    def _extremes(self, begin: int, end: int) -> set[int]:
        means = self.means[begin:end]
        finite = [i for i in range(begin, end) if math.isfinite(self.means[i])]
        if len(finite) < len(means):
            broken = next(i for i in range(begin, end) if not math.isfinite(self.means[i]))
            by_mean = self.means.__getitem__
            return {broken, *([min(finite, key=by_mean), max(finite, key=by_mean)] * bool(finite))}
        lows, highs = self.lows[begin:end], self.highs[begin:end]
        return {
            begin + means.index(min(means)),
            begin + means.index(max(means)),
            begin + lows.index(min(lows)),
            begin + highs.index(max(highs)),
        }
