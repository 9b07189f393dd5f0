"""A place that calls `backward`: its curve, and what has not been part of a step yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.training import loading
from jupyter_aios.training.curves import loops, sources
from jupyter_aios.training.curves.loops import Rounds
from jupyter_aios.training.curves.rates import RateLine
from jupyter_aios.training.curves.series import Later, Mean, Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    import torch

    from jupyter_aios.training.curves.series import Recorder

_MOST_SITES = 1000
"""Code that is compiled anew for each step has a new place each time."""

_CURIOUS = 8
"""Steps in which it is looked whether a loss is divided by something, though it need not matter."""

_NEVER = 0.0


@dataclass(eq=False)
class Site:
    """One root of one call to `backward`."""

    name: str
    how: str
    rounds: Rounds
    base_step: int
    """Optimizer steps that had been done when the site was first seen."""
    series: Series
    pending: list[float | Later] = field(default_factory=list)
    divisors: set[float] = field(default_factory=set)
    """What the roots in `pending` had been divided by."""
    undone: float = 1.0
    """The division that is the accumulation's own, and is undone."""
    micro_batches: int = 1
    """The most that were seen in one step."""
    commits: int = 0
    alone: list[Site] = field(init=False, repr=False)
    is_plain: bool = False
    """Each step so far had one root here, which nothing divides as far as that matters."""

    def __post_init__(self) -> None:
        self.alone = [self]

    def see(self, value: float | Later, root: torch.Tensor) -> None:
        """Take the value of a root that is about to be differentiated."""
        self.pending.append(value)
        # It takes a microsecond, and of a loop that never accumulates nobody needs it.
        if len(self.pending) > 1 or self.micro_batches > 1 or self.commits < _CURIOUS:
            self.divisors.add(divisor_of(root))

    def forget(self) -> None:
        """Forget the value that was seen last."""
        if self.pending:
            self.pending.pop()

    def commit(self, step: int) -> None:
        """Make what is pending the point at `step`."""
        self.commits += 1
        self.is_plain = self.micro_batches == 1 and self.commits >= _CURIOUS
        if len(self.pending) == 1 and self.undone == 1.0:
            self.series.add(step, self.pending.pop())
            self.divisors.clear()
            return
        count = len(self.pending)
        self.micro_batches = max(self.micro_batches, count)
        self.is_plain = False
        # A division by the number of micro-batches belongs to the accumulation. Once that is
        # known, a last group that is smaller is divided by the same.
        if count > 1 and self.divisors == {count}:
            self.undone = float(count)
        factor = self.undone if self.divisors == {self.undone} else 1.0
        self.series.add(step, Mean(self.pending, factor))
        self.series.how = f"{self.how}; mean over the micro-batches of a step"
        if self.undone != 1.0:
            self.series.how += f", their division by {self.undone:g} undone"
        self.pending = []
        self.divisors.clear()


@dataclass
class Steady:
    """What the last step was like, while each is like the one before: one loss, one rate."""

    __slots__ = ("line", "optimizer", "rate", "site", "until")
    site: Site
    optimizer: int
    """Its id; another that has inherited it also inherits the curve."""
    rate: float
    line: RateLine
    until: int
    """The last step for which all that was inferred still holds."""


def divisor_of(root: torch.Tensor) -> float:
    """Return the constant that a loss was divided by last, or 0. Never waits for a device."""
    node = root.grad_fn
    kind = type(node).__name__
    if kind not in ("DivBackward0", "MulBackward0"):
        return _NEVER
    try:
        other = node._saved_other  # type: ignore[union-attr]  # noqa: SLF001 - documented for inspection
    except RuntimeError:
        return _NEVER  # it has been freed, and backward() will say so
    if other is None or other.dim() or not other.is_cpu or other.requires_grad:
        return _NEVER
    constant = float(other.item())
    if kind == "DivBackward0":
        return constant
    return round(1 / constant, 9) if constant else _NEVER


def _is_within_keras(frame: FrameType | None) -> bool:
    """Return whether Keras' fit leads: its callback tells the loss."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("keras."):
            return True
        frame = frame.f_back
    return False


class Sites:
    """All places that call `backward`, found once each and then by address."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # By id, and with the code object so that the id stays its own: to hash one takes long.
        self._by_address: dict[tuple[int, int], tuple[CodeType, list[Site] | None]] = {}
        self._by_place: dict[tuple[str, int, int], list[Site]] = {}
        self.plain: dict[tuple[int, int], Site] = {}
        """Those that need no second look, by address; the code objects are held above."""

    def at(self, frame: FrameType, roots: int, step: int) -> list[Site]:
        """Return the sites of a call with so many roots; none where they are not to be seen.

        Args:
            frame: of the caller of `backward`, outside torch.
            roots: how many tensors are differentiated.
            step: optimizer steps so far.

        """
        known = self._by_address.get((id(frame.f_code), frame.f_lasti))
        if known is not None and known[1] is not None and len(known[1]) in (0, roots):
            return known[1]
        own = frame
        if known is not None:
            # A library calls for many places of the person's, so its own address says nothing.
            own = next(sources.persons_frames(frame), frame)
            known = self._by_address.get((id(own.f_code), own.f_lasti))
            if known is not None and known[1] is not None and len(known[1]) in (0, roots):
                return known[1]
        return self._find(frame, roots, step)

    def _find(self, frame: FrameType, roots: int, step: int) -> list[Site]:
        """Read the code around a call that has not been seen before."""
        if len(self._by_address) > _MOST_SITES:
            self._by_address.clear()
            self._by_place.clear()
            self.plain.clear()
        own = next(sources.persons_frames(frame), frame)
        if own is not frame:
            self._by_address[id(frame.f_code), frame.f_lasti] = (frame.f_code, None)
        if _is_within_keras(frame):
            sites: list[Site] | None = []
        else:
            call = sources.call_at(own)
            place = (own.f_code.co_filename, own.f_lineno, own.f_lasti)
            if call is not None:
                # The same call has other addresses in code that torch.compile made of it.
                place = (place[0], call.lineno, call.col_offset)
            sites = self._by_place.setdefault(place, [])
            if len(sites) < roots:
                sites += self._new(own, frame, range(len(sites), roots), step)
            sites = sites[:roots]
        self._by_address[id(own.f_code), own.f_lasti] = (own.f_code, sites)
        return sites or []

    def _new(self, own: FrameType, caller: FrameType, roots: range, step: int) -> list[Site]:
        call, tree = sources.call_at(own), sources.tree_of(own.f_code.co_filename)
        is_backward = call is not None and sources.is_backward(call)
        names = sources.series_names(call, tree) if call and tree and is_backward else ["loss"]
        if len(names) < roots.stop:
            names = [f"{names[0]}[{index}]" for index in range(roots.stop)]
        how = f"backward() at {sources.place_of(own)}"
        if own is not caller:
            library = str(caller.f_globals.get("__name__", "a library")).partition(".")[0]
            how = f"backward() in {library}, called at {sources.place_of(own)}"
        origin = loading.origin_of(own.f_code.co_filename)
        rounds = loops.rounds_of(caller)
        taken = {site.name for sites in self._by_place.values() for site in sites}
        names = [f"{name} ({origin})" if name in taken else name for name in names[roots.start :]]
        series = [self._recorder.series(name, how) for name in names]
        return [Site(one.name, how, rounds, step, one) for one in series]

    def __iter__(self) -> Iterator[Site]:
        for sites in self._by_place.values():
            yield from sites
