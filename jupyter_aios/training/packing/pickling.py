"""Pickles in which `__main__` means the rank's own `__main__`.

A class or function that travels as source, or with an earlier pickle, is written as "the attribute
of that name of `__main__`"; a function of the notebook that travels by value gets the rank's
`__main__` as its globals. So there is one class of each name, and one set of globals.
"""

from __future__ import annotations

import importlib
import io
import operator
import pickle
import sys
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle

from jupyter_aios.training.packing.names import annotation_names, global_names
from jupyter_aios.training.packing.reducers import reduce_special
from jupyter_aios.training.packing.tensors import Storages, lost_hooks

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOL = 5


class References(Protocol):
    """What the pickler asks about objects that it meets."""

    namespace: Mapping[str, object]
    storages: Storages | None
    """Packs tensors; None: as multiprocessing does, in shared memory."""

    def reference(self, value: object) -> str:
        """Return the dotted name under which the rank's `__main__` has `value`, or nothing."""

    def want(self, name: str, reader: str) -> None:
        """Make the notebook's global `name`, which `reader` reads, travel too."""

    def want_annotation(self, name: str, reader: str) -> None:
        """Make a type travel that an annotation of `reader` only mentions."""

    def written_in(self, code: CodeType) -> str:
        """Return the file name under which the rank finds the source of `code`."""

    def lose(self, what: str) -> None:
        """Tell the person that `what` of the value does not travel."""


class _Main:
    """Stands for the module `__main__` of whoever loads the pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("__main__",)


class _MainGlobals(dict[str, object]):
    """Stands for `vars(__main__)`; a filled dict, because cloudpickle fills empty ones."""

    def __reduce__(self) -> tuple[Any, ...]:
        return vars, (_Main(),)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
    """Writes what `__main__` has as references to `__main__`, and asks `references` about it."""

    def __init__(self, file: Any, references: References) -> None:  # noqa: ANN401 - has write()
        super().__init__(file, protocol=PROTOCOL)
        self._references = references

    def reducer_override(self, obj: Any) -> Any:  # noqa: ANN401 - the interface of pickle
        """Return how an object is taken apart, or NotImplemented for pickle's own way."""
        if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr, sys.stdin):
            # cloudpickle would send the contents of the file in its place.
            msg = f"it holds an open file ({getattr(obj, 'name', '')})"
            raise pickle.PicklingError(msg)
        name = self._references.reference(obj)
        if name:
            return operator.attrgetter(name), (_Main(),)
        if lost := lost_hooks(obj):
            self._references.lose(lost)
        if isinstance(obj, CodeType):
            place = self._references.written_in(obj)
            return self.dispatch_table[CodeType](obj.replace(co_filename=place))
        special = reduce_special(obj)
        if special is None and self._references.storages is not None:
            special = self._references.storages.reduce(obj)
        return super().reducer_override(obj) if special is None else special

    def _dynamic_function_reduce(self, func: FunctionType) -> tuple[Any, ...]:
        reduced: tuple[Any, ...] = super()._dynamic_function_reduce(func)
        if func.__globals__ is not self._references.namespace:
            return reduced
        for name in sorted(global_names(func.__code__)):
            self._references.want(name, func.__qualname__)
        for name in sorted(annotation_names(*func.__annotations__.values())):
            self._references.want_annotation(name, func.__qualname__)
        rebuild, (code, _globals, *rest), (state, slots), *setters = reduced
        main_globals = _MainGlobals(__name__="__main__")
        return (
            rebuild,
            (code, main_globals, *rest),
            (state, slots | {"__globals__": {}}),
            *setters,
        )


class _Counter:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: Any) -> int:  # noqa: ANN401 - bytes, or a buffer of any item size
        length = memoryview(data).nbytes
        self.size_bytes += length
        return length


def pickled_size(value: object, references: References) -> int:
    """Return the bytes of `value` alone; raises whatever its pickling raises."""
    counter = _Counter()
    Pickler(counter, references).dump(value)
    return counter.size_bytes


def pickled(values: Mapping[str, object], references: References) -> bytes:
    """Return one pickle of all `values`: what they share, they share on the other side too."""
    buffer = io.BytesIO()
    Pickler(buffer, references).dump(dict(values))
    return buffer.getvalue()


class _Shipped:
    """The rank's view: what came from the notebook is there under the same name."""

    def __init__(self, names: frozenset[str]) -> None:
        self.namespace: Mapping[str, object] = {}  # functions keep their globals by value
        self.storages: Storages | None = Storages()
        self._main = vars(sys.modules["__main__"])
        self._names = names

    def reference(self, value: object) -> str:
        if not isinstance(value, (type, FunctionType)) or value.__module__ != "__main__":
            return ""
        name = value.__qualname__
        return name if name in self._names and self._main.get(name) is value else ""

    def want(self, name: str, reader: str) -> None:
        """Nothing more travels back than the values that were asked for."""

    want_annotation = want

    def written_in(self, code: CodeType) -> str:
        return code.co_filename

    def lose(self, what: str) -> None:
        """Hooks belong to the training that is over."""


def dump_values(value: object, file: Any, shipped: frozenset[str]) -> None:  # noqa: ANN401
    """Pickle a rank's value for the notebook; what is `shipped` exists there under its name."""
    Pickler(file, _Shipped(shipped)).dump(value)
