"""Every error that jupyter_aios raises on purpose, one class per remedy.

::

    AiosError
    ├── InputError          mend what was typed or passed
    │   └── UnknownNameError    pick one of the names that exist
    ├── CapacityError       ask for less, or add nodes
    ├── DeniedError         ask the person who may
    ├── StateError          too late or too early for this
    ├── LockedError         unlock the vault
    ├── ShippingError       change what the cell takes along
    ├── TrainingError       mend the training code (the job ran and failed)
    ├── StorageError        make room, or move the folder
    ├── VersionError        upgrade one side
    ├── UnavailableError    start or reach the other side
    └── MissingExtraError   install the named extra

A message says what was asked and what was found, with values; the hint can be typed. Errors cross
the controller's socket as `{kind, message, hint}` and arrive as the same class.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class AiosError(Exception):
    """Something a person can mend; `hint` says how."""

    kinds: ClassVar[dict[str, type[AiosError]]] = {}

    def __init_subclass__(cls) -> None:
        """Register the kind, so that `from_kind` finds it again on the other side of a socket."""
        AiosError.kinds[cls.__name__] = cls

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Give IPython two lines instead of fifty: the person can act on these."""
        lines = [f"{type(self).__name__}: {self.message}"]
        return [*lines, f"hint: {self.hint}"] if self.hint else lines

    @staticmethod
    def from_kind(kind: str, message: str, hint: str) -> AiosError:
        """Return the error that the other side raised; an unknown kind becomes `AiosError`."""
        cls = AiosError.kinds.get(kind, AiosError)
        error = cls.__new__(cls)
        AiosError.__init__(error, message, hint=hint)
        return error


class InputError(AiosError):
    """What was typed or passed cannot be meant."""

    @classmethod
    def of_faults(cls, faults: Sequence[str], *, hint: str = "") -> InputError:
        """Return one error that lists all faults of an input at once."""
        if len(faults) == 1:
            return cls(faults[0], hint=hint)
        return cls(f"{len(faults)} faults: " + "; ".join(faults), hint=hint)


class UnknownNameError(InputError):
    """A name that nothing has; the nearest existing names are offered."""

    @classmethod
    def among(cls, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Return the error for `name`, with the nearest of `known` as the hint."""
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            hint = "did you mean " + " or ".join(near) + "?"
        elif names:
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")  # noqa: PLR2004
            hint = f"there is: {shown}"
        else:
            hint = f"there is no {what} yet"
        return cls(f"no {what} is named {name!r}", hint=hint)


class CapacityError(AiosError):
    """More was asked than the nodes can ever give."""


class DeniedError(AiosError):
    """Policy does not allow this actor to do this."""


class StateError(AiosError):
    """The thing is in a state in which this cannot be done."""


class LockedError(AiosError):
    """The vault is locked, and what was asked for lies in it."""


class ShippingError(AiosError):
    """Code or values cannot travel to the ranks as they are."""


class TrainingError(AiosError):
    """The job ran and did not succeed; the message holds the first rank's traceback."""


class StorageError(AiosError):
    """The disk or the file system cannot hold what was asked of it."""


class VersionError(AiosError):
    """The two sides of the socket are of versions that do not go together."""


class UnavailableError(AiosError):
    """The controller, an engine or a node does not answer."""


class MissingExtraError(AiosError):
    """An optional package is missing; the hint is the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            hint=f'pip install "jupyter-aios[{extra}]"',
        )
