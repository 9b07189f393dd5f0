"""Functions of libraries that are replaced, and hooks that are registered with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """What was replaced and registered; it can be taken away and put back."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._hooks: list[tuple[Callable[..., Any], Any]] = []
        self._handles: list[Any] = []
        self.functions: list[Any] = []
        """Functions of ours that libraries call."""

    def replace(self, holder: Any, name: str, function: Callable[..., Any]) -> None:  # noqa: ANN401
        """Put `function` in the place of `holder.name`."""
        self._replaced.append((holder, name, getattr(holder, name), function))
        self.functions.append(function)
        setattr(holder, name, function)

    def hook(self, register: Callable[..., Any], function: Callable[..., Any]) -> None:
        """Register a hook whose handle can be removed."""
        self._hooks.append((register, function))
        self.functions.append(function)
        self._handles.append(register(function))

    def undo(self) -> None:
        """Give everything back, the last first."""
        for holder, name, original, _ in reversed(self._replaced):
            setattr(holder, name, original)
        while self._handles:
            self._handles.pop().remove()

    def redo(self) -> None:
        """Put everything in place again."""
        for holder, name, _, function in self._replaced:
            setattr(holder, name, function)
        self._handles = [register(function) for register, function in self._hooks]
