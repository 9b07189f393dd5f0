"""What looks at source code in a rank finds it: `inspect`, tracebacks, `torch.jit.script`.

Python looks for the source of a class in the file of its module. `__main__` is made of many files
here, so the class's own file is told; and code that travelled by value has no file at all.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_files: dict[str, str] = {}
"""Class of `__main__` → the file that defined it last."""


def add_texts(texts: Mapping[str, str]) -> None:
    """Make the text of files known that are nowhere on this disk."""
    for filename, text in texts.items():
        lines = [line + "\n" for line in text.split("\n")]
        # Without a time of change: Python's own checks leave it alone.
        linecache.cache[filename] = (len(text), None, lines, filename)


def add_classes(tree: ast.Module, filename: str) -> None:
    """Remember which classes a file is about to define."""
    _files.update((node.name, filename) for node in tree.body if isinstance(node, ast.ClassDef))


def install() -> None:
    """Let `inspect` find classes of `__main__` in the files that define them. Idempotent."""
    if not hasattr(inspect.getfile, "__wrapped__"):
        inspect.getfile = _finding(inspect.getfile)


def _finding(getfile: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(getfile)
    def find(thing: object) -> str:
        if isinstance(thing, type) and thing.__module__ == "__main__":
            found = _file_of(thing)
            if found:
                return found
        return getfile(thing)

    return find


def _file_of(cls: type) -> str:
    for value in vars(cls).values():
        function = inspect.unwrap(value) if callable(value) else value
        if isinstance(function, types.FunctionType):
            is_own = function.__qualname__.startswith(cls.__qualname__ + ".")
            filename = function.__code__.co_filename
            if is_own and not filename.startswith("<"):  # a dataclass writes methods of its own
                return filename
    return _files.get(cls.__qualname__.partition(".")[0], "")
