"""What a rank's events say of its curves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.core.events import Event


@dataclass
class Curve:
    how: str = ""
    points: list[tuple[int, float]] = field(default_factory=list)


def curves(events: Iterable[Event], rank: int = 0) -> dict[str, Curve]:
    """Return the captured curves by name."""
    found: dict[str, Curve] = {}
    for event in events:
        if event.kind is EventKind.CURVE and event.rank == rank:
            for series in (event.data or {})["series"]:
                curve = found.setdefault(series["name"], Curve())
                curve.how = series["how"]
                curve.points += zip(series["steps"], series["values"], strict=True)
    return found


def logged(events: Iterable[Event], rank: int = 0) -> dict[str, list[tuple[int, float]]]:
    """Return what was logged by hand, by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        if event.kind is EventKind.METRICS and event.rank == rank and event.data is not None:
            for name, value in event.data["metrics"].items():
                found.setdefault(name, []).append((event.data["step"], value))
    return found


def progress(events: Iterable[Event], rank: int = 0) -> list[tuple[int, str]]:
    """Return the totals that were told, with how they were inferred."""
    return [
        (event.data["total"], event.data["how"])
        for event in events
        if event.kind is EventKind.PROGRESS and event.rank == rank and event.data is not None
    ]


def notices(events: Iterable[Event]) -> list[str]:
    """Return what was told, by anybody."""
    return [
        event.data["text"]
        for event in events
        if event.kind is EventKind.NOTICE and event.data is not None
    ]


def said(events: Iterable[Event]) -> str:
    """Return all notices and all words on progress."""
    events = list(events)
    return "\n".join([*notices(events), *(how for _, how in progress(events))])
