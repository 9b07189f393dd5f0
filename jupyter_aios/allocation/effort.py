"""How long a solver may go on: until a moment, or until somebody says stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Effort:
    """A deadline on the monotonic clock, a word to stop, and the seed of everything random."""

    ends_at: float
    seed: int = 0
    stop: Callable[[], bool] = _never

    @classmethod
    def of(cls, time_limit_s: float, seed: int = 0, stop: Callable[[], bool] = _never) -> Effort:
        """Return an effort that ends after so many seconds."""
        return cls(time.monotonic() + time_limit_s, seed, stop)

    def left_s(self) -> float:
        """Return the seconds that are left; 0 when it is over."""
        return 0.0 if self.stop() else max(self.ends_at - time.monotonic(), 0.0)

    def is_over(self) -> bool:
        """True when a solver has to return the best that it has."""
        return self.left_s() <= 0.0

    def share(self, part: float, most_s: float = float("inf")) -> Effort:
        """Return an effort over a part of what is left."""
        return Effort(time.monotonic() + min(self.left_s() * part, most_s), self.seed, self.stop)
