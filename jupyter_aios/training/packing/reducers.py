"""Objects that pickling alone would lose, or get wrong: how they are taken apart instead."""

from __future__ import annotations

import functools
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMED = tuple(
    getattr(typing, name)
    for name in ("NewType", "ParamSpec", "TypeVarTuple")
    if isinstance(getattr(typing, name, None), type)
)
"""What typing pickles as no more than a name of its module."""


_CACHE = type(functools.lru_cache(len))


def is_generic(function: object) -> bool:
    """True for a function made by `functools.singledispatch`."""
    registry = getattr(function, "registry", None)
    return isinstance(function, types.FunctionType) and isinstance(registry, types.MappingProxyType)


def reduce_special(obj: object) -> tuple[Any, ...] | None:
    """Return how an object of these kinds is pickled, None for all else."""
    if is_generic(obj):
        registry: dict[type, Any] = dict(obj.registry)  # type: ignore[attr-defined]
        return generic_function, (registry.pop(object), list(registry.items()))
    if type(obj) is functools.cached_property:
        return cached_property, (obj.func, obj.attrname)
    if type(obj) is _CACHE and obj.__module__ == "__main__":
        return cached_function, (obj.__wrapped__, obj.cache_parameters())
    if isinstance(obj, _NAMED) and obj.__module__ == "__main__":
        supertype = getattr(obj, "__supertype__", None)
        arguments = () if supertype is None else (supertype,)
        return named_type, (type(obj), obj.__name__, *arguments)
    return _reduce_memmap(obj)


def generic_function(base: Callable[..., Any], registered: list[tuple[type, Any]]) -> Any:  # noqa: ANN401
    """Return the generic function with all its registrations. Pickles call it."""
    function = functools.singledispatch(base)
    for kind, implementation in registered:
        function.register(kind, implementation)
    return function


def cached_property(function: Callable[[Any], Any], name: str | None) -> Any:  # noqa: ANN401
    """Return a `functools.cached_property`, which holds a lock. Pickles call it."""
    made = functools.cached_property(function)
    made.attrname = name
    return made


def cached_function(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the function with an empty `functools.lru_cache`. Pickles call it."""
    return functools.lru_cache(**parameters)(function)


def named_type(kind: Callable[..., Any], name: str, *arguments: object) -> Any:  # noqa: ANN401
    """Return a `NewType`, `ParamSpec` or `TypeVarTuple` of `__main__`. Pickles call it."""
    made = kind(name, *arguments)
    made.__module__ = "__main__"  # it has guessed the caller's
    return made


def _reduce_memmap(obj: object) -> tuple[Any, ...] | None:
    """Return a whole mapped file as the file. A part of one, and private pages, travel by value."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(obj) is not getattr(numpy, "memmap", None):
        return None
    array: Any = obj
    is_whole = type(array.base).__name__ == "mmap" and array.filename is not None
    if not is_whole or array.mode == "c" or not Path(array.filename).is_file():
        return None
    mode = "r" if array.mode == "r" else "r+"  # "w+" would empty it
    order = "F" if array.flags.fnc else "C"
    place = (str(Path(array.filename).absolute()), array.dtype, mode, array.offset)
    return numpy.memmap, (*place, array.shape, order)
