"""What is wrong with an input, gathered until all of it was looked at."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_SHOWN = 20
USUAL_HINT = "the format: docs/allocation-input.md"
_FEW_NAMES, _MOST_NAMES = 8, 40


@dataclass
class Faults:
    """Sentences, each with the place that it is about; `order` sorts them, as lines do."""

    found: list[tuple[int, str]] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def add(self, message: str, where: str = "", order: int = 0, hint: str = "") -> None:
        """Remember one fault."""
        self.found.append((order, f"{where}: {message}" if where else message))
        if hint and hint not in self.hints:
            self.hints.append(hint)

    def raise_any(self) -> None:
        """Return where nothing was found.

        Raises:
            InputError: all that was found, in the order of lines.

        """
        if not self.found:
            return
        told = [text for _, text in sorted(self.found, key=lambda one: one[0])]
        told = list(dict.fromkeys(told))
        if len(told) > MOST_SHOWN:
            told = [*told[:MOST_SHOWN], f"and {len(told) - MOST_SHOWN} more"]
        raise InputError.of_faults(told, hint=self.hints[0] if self.hints else USUAL_HINT)


def legal(name: str, known: Iterable[str]) -> str:
    """Return what may stand in the place of a name: the nearest, and all where they are few.

    Example:
        >>> legal("A10", ["A100", "T4"])
        'did you mean A100? There is: A100, T4'

    """
    names = sorted(set(known))
    if not names:
        return "there is none"
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    guess = f"did you mean {' or '.join(near)}?" if near else ""
    if guess and len(names) > _FEW_NAMES:
        return guess
    shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    return f"{guess} There is: {shown}" if guess else f"there is: {shown}"
