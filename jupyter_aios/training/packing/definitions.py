"""The source of live functions and classes, where it still is their source.

The live object decides. Its code object names the cell that made it; the definition is cut out of
that cell, compiled, and its code objects are compared with the live ones. Whatever differs (patched
methods, changed defaults, another decorator, a closure) makes the object travel by value instead.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.training.packing.comparison import (
    ANNOTATIONS,
    class_difference,
    function_difference,
    functions_of,
    innermost,
)
from jupyter_aios.training.packing.names import (
    Definable,
    annotation_names,
    annotations_in,
    compiled,
    early_names,
    global_names,
)
from jupyter_aios.training.packing.reducers import is_generic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FunctionType

    from jupyter_aios.training.packing.sources import Sources


_FOREIGN = "its globals are not the notebook's"
"""As `%run script.py` leaves them behind: a copy of the script's."""


@dataclass(frozen=True)
class Definition:
    """A top-level definition of a cell, equal to the live object of its name."""

    name: str
    filename: str
    nodes: tuple[Definable, ...]
    """All of that name in the cell: overloads come before what they overload."""
    early: frozenset[str]
    """Global names it reads while it is being defined: decorators, defaults, bases, class body."""
    late: frozenset[str]
    """Global names it reads when it is called."""
    bases: frozenset[str]
    """Of the early names, those of base classes."""
    has_future_annotations: bool

    @property
    def annotations(self) -> frozenset[str]:
        """Global names in its annotations, which `typing.get_type_hints` may look up."""
        return annotation_names(*(one for node in self.nodes for one in annotations_in(node)))


@dataclass(frozen=True)
class Unmatched:
    """The object travels by value, and why."""

    why: str


def find_definition(
    live: object, namespace: Mapping[str, object], sources: Sources
) -> Definition | Unmatched:
    """Return the source of a function or class of `__main__`, or why it has none that matches."""
    name = str(getattr(live, "__qualname__", ""))
    if "." in name or "<" in name:
        is_lambda = "<lambda>" in name
        why = "a lambda has no definition to cut out" if is_lambda else ""
        return Unmatched(why or f"made inside {name.partition('.')[0]}()")
    if isinstance(live, type):
        return _find_class(live, name, namespace, sources)
    function, _ = innermost(live)
    if function is None or type(live).__module__ == "__main__":
        return Unmatched(f"a {type(live).__name__} made by a decorator")
    if is_generic(live):
        return Unmatched("a generic function, with what is registered")
    if function.__globals__ is not namespace:
        return Unmatched(_FOREIGN)
    return _find_function(live, function, namespace, sources)


def _find_function(
    live: object, function: FunctionType, namespace: Mapping[str, object], sources: Sources
) -> Definition | Unmatched:
    name = str(getattr(live, "__qualname__", ""))
    filename = sources.place(function.__code__)
    label = sources.label(filename)
    nodes = _nodes(sources.tree(filename), name)
    if not nodes:
        return Unmatched("its source is not known")
    node = nodes[-1]
    if isinstance(node, ast.ClassDef):
        return Unmatched(f"{label} defines a class of its name")
    why = function_difference(live, node, namespace)
    if why:
        return Unmatched(f"{why} since {label}")
    future = bool(function.__code__.co_flags & ANNOTATIONS)
    return _definition(name, filename, nodes, future=future)


def _definition(
    name: str, filename: str, nodes: tuple[Definable, ...], *, future: bool
) -> Definition:
    code = compiled(*nodes, flags=ANNOTATIONS if future else 0)
    early = early_names(code)
    bases = frozenset(
        base.id
        for node in nodes
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    )
    return Definition(name, filename, nodes, early, global_names(code), bases, future)


def _nodes(tree: ast.Module | None, name: str) -> tuple[Definable, ...]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = tree.body if tree else []
    return tuple(node for node in body if isinstance(node, kinds) and node.name == name)


def _find_class(
    live: type, name: str, namespace: Mapping[str, object], sources: Sources
) -> Definition | Unmatched:
    functions = [f for value in vars(live).values() for f in functions_of(value)]
    own = [f for f in functions if f.__module__ == "__main__"]
    if any(f.__globals__ is not namespace for f in own):
        return Unmatched(_FOREIGN)
    # A method's file first; a class without methods is looked for from the newest cell backwards.
    files = [sources.place(f.__code__) for f in functions if f.__qualname__.startswith(name + ".")]
    why = "its source is not known"
    for filename in dict.fromkeys([*files, *sources.cells_newest_first()]):
        nodes = _nodes(sources.tree(filename), name)
        node = nodes[-1] if nodes else None
        if not isinstance(node, ast.ClassDef):
            continue
        future = any(f.__code__.co_flags & ANNOTATIONS for f in functions) or any(
            isinstance(a, str) for a in vars(live).get("__annotations__", {}).values()
        )
        difference = class_difference(live, node, filename, namespace, future=future)
        if not difference:
            return _definition(name, filename, nodes, future=future)
        why = f"{difference} since {sources.label(filename)}"
        if files:
            break
    return Unmatched(why)
