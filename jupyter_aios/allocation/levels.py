"""The names of what an allocation may be good for, in the order in which they count.

The first level is a sum over placed tasks, an integer, and what bounds speak of; the others choose
among allocations that are equally good so far. No numpy here: help and completion ask for names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Objective:
    """One named level."""

    name: str
    unit: str
    about: str
    is_first: bool = False
    """Whether it can be the first level."""
    is_maximised: bool = False


OBJECTIVES = {
    one.name: one
    for one in (
        Objective(
            "feasible", "tasks", "place every task, or prove that it cannot be done",
            is_first=True, is_maximised=True,
        ),
        Objective(
            "priority", "points", "priority × size of what is placed",
            is_first=True, is_maximised=True,
        ),
        Objective("gpu", "milli-GPU", "GPU that is allocated", is_first=True, is_maximised=True),
        Objective("cost", "cost", "every task placed, at the least cost", is_first=True),
        Objective("moves", "tasks", "tasks in force that move or are stopped"),
        Objective("fragmentation", "milli-GPU", "free GPU that few tasks could use"),
        Objective("balance", "ppm of a node", "the highest load of any node"),
    )
}  # fmt: skip
FIRST_LEVELS = tuple(name for name, one in OBJECTIVES.items() if one.is_first)
LATER_LEVELS = tuple(name for name, one in OBJECTIVES.items() if not one.is_first)
USUAL = {
    "feasible": ("feasible",),
    "priority": ("priority", "moves", "fragmentation"),
    "gpu": ("gpu", "moves", "fragmentation"),
    "cost": ("cost",),
}
"""What follows a first level that is named alone."""


def named_levels(text: str) -> tuple[str, ...]:
    """Return the levels that are named, each of which exists.

    Raises:
        UnknownNameError: a name that no level has.
        InputError: a first level that cannot be one, or a name twice.

    Example:
        >>> named_levels("gpu, balance")
        ('gpu', 'balance')

    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    hint = f"first one of {', '.join(FIRST_LEVELS)}; then any of {', '.join(LATER_LEVELS)}"
    for name in names:
        if name not in OBJECTIVES:
            raise UnknownNameError(f"no objective is named {name!r}", hint=_nearest(name, hint))
    if not names or names[0] not in FIRST_LEVELS or set(names[1:]) - set(LATER_LEVELS):
        raise InputError(f"no order of objectives: {text}", hint=hint)
    if len(set(names)) < len(names):
        raise InputError(f"an objective is named twice: {text}", hint=hint)
    if names[0] in {"feasible", "cost"} and len(names) > 1:
        raise InputError(f"{names[0]} stands alone", hint=f"--objective {names[0]}")
    return names


def _nearest(name: str, hint: str) -> str:
    near = UnknownNameError.among("objective", name, OBJECTIVES).hint
    return f"{near} {hint}" if near.startswith("did") else hint


def levels_of(text: str) -> tuple[str, ...]:
    """Return the levels of `priority` or `priority,moves,balance`, the most important first.

    Raises:
        UnknownNameError, InputError: as `named_levels`.

    Example:
        >>> levels_of("gpu,balance")
        ('gpu', 'balance')

    """
    names = named_levels(text)
    return USUAL[names[0]] if len(names) == 1 else names


def ranking(names: Sequence[str], values: Sequence[int]) -> tuple[int, ...]:
    """Return a key that is larger the better the values are, level after level."""
    signs = (1 if OBJECTIVES[name].is_maximised else -1 for name in names)
    return tuple(sign * value for sign, value in zip(signs, values, strict=True))
