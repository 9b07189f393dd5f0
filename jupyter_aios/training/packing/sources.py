"""Where the code of live objects was written: the notebook's cells, or the script that runs.

IPython registers the text of every cell with `linecache` under the file name that the cell's code
objects carry (`<ipython-input-3-…>` in a terminal, `/tmp/ipykernel_…/….py` in a kernel), and keeps
the cell's number in its compiler. IPython is looked for, never imported.
"""

from __future__ import annotations

import ast
import linecache
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.training.packing.comparison import ANNOTATIONS, same_code
from jupyter_aios.training.packing.names import compiled, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from types import CodeType

_UNNUMBERED = -1
_TIME, _TIMED = "get_ipython().run_cell_magic('time'", "<timed exec>"
"""What IPython makes of `%%time`, and the file name of all code that ran under it."""
_MAGICS = {
    "system": "!", "getoutput": "!", "run_line_magic": "%", "run_cell_magic": "%%",
}  # fmt: skip
"""The shell's methods that IPython puts in the place of its own syntax."""


class Sources:
    """The text behind a code object's file name, its label for people, and the order of cells."""

    def __init__(self, script: str = "") -> None:
        self._script = script
        self._trees: dict[str, ast.Module | None] = {}
        self._numbers: dict[str, int] = {}
        ipython = sys.modules.get("IPython")
        shell: Any = ipython.get_ipython() if ipython else None
        self._transform: Callable[[str], str] = str
        if shell is not None:
            self._numbers = dict(getattr(shell.compile, "_filename_map", {}))
            self._transform = shell.transform_cell

    def text(self, filename: str) -> str:
        """Return the text of a cell or file, or nothing where it is not known."""
        text = "".join(linecache.getlines(filename))
        if not text.startswith(_TIME):
            return text
        call = ast.parse(text).body[0].value  # type: ignore[attr-defined]
        return "\n" + self._transform(ast.literal_eval(call.args[2]))

    def place(self, code: CodeType) -> str:
        """Return the file name of the cell that code comes from, under `%%time` too."""
        if code.co_filename != _TIMED:
            return code.co_filename
        for filename in self.cells_newest_first():
            tree = self.tree(filename)
            if tree is not None and "".join(linecache.getlines(filename)).startswith(_TIME):
                flags = code.co_flags & ANNOTATIONS
                if any(same_code(code, one) for one in walk(compiled(*tree.body, flags=flags))):
                    return filename
        return code.co_filename

    def tree(self, filename: str) -> ast.Module | None:
        """Return the parsed text, or None where it is not known or cannot be parsed."""
        if filename not in self._trees:
            self._trees[filename] = _parsed(self.text(filename))
        return self._trees[filename]

    def label(self, filename: str) -> str:
        """Return what people call the place: `Cell In[3]`, or the file's name."""
        if filename in self._numbers:
            return f"Cell In[{self._numbers[filename]}]"
        return filename if filename.startswith("<") else Path(filename).name

    def original(self, filename: str) -> str:
        """Return the absolute path of a file that a person wrote, nothing for a cell."""
        if filename in self._numbers or filename.startswith("<"):
            return ""
        path = Path(filename).absolute()
        return str(path) if path.is_file() else ""

    def statement(self, filename: str, line: int) -> tuple[int, int]:
        """Return the first and last line of the top-level statement around a line."""
        tree = self.tree(filename)
        for node in tree.body if tree else []:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            last = node.end_lineno or node.lineno
            if first <= line <= last:
                return first, last
        return line, line

    def ipython_line(self, filename: str, first: int, last: int) -> str:
        """Return what is IPython's own between two lines, as a person wrote it, or nothing.

        What stands in a `try` is left alone: code that asks where it runs.
        """
        tree = self.tree(filename)
        pending: list[ast.AST] = [tree] if tree else []
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Call) and first <= node.lineno <= last:
                written = _as_written(node)
                if written:
                    return f"{self.label(filename)}, line {node.lineno}, is IPython's: {written}"
            if not isinstance(node, ast.Try):
                pending += ast.iter_child_nodes(node)
        return ""

    def order(self, filename: str) -> tuple[int, str]:
        """Return what sorts file names by when they ran."""
        return self._numbers.get(filename, _UNNUMBERED), filename

    def cells_newest_first(self) -> list[str]:
        """Return the file names of all cells, and of the script that runs, if one does."""
        cells = sorted(self._numbers, key=self.order, reverse=True)
        return [*cells, self._script] if self._script else cells


def _as_written(call: ast.Call) -> str:
    """Return `!ls` for `get_ipython().system('ls')`, which IPython makes of it."""
    function = call.func
    owner = getattr(function, "value", None)
    if getattr(getattr(owner, "func", None), "id", "") != "get_ipython":
        return ""
    words = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    kind = getattr(function, "attr", "")
    text = " ".join(str(word) for word in words[:2]).strip()
    return _MAGICS[kind] + text.split("\n")[0] if kind in _MAGICS else ""


def cut_lines(text: str, kept: Container[int]) -> list[str]:
    """Return the lines of a text with all but the kept ones blank: lines keep their numbers."""
    lines = [
        line if number in kept else "" for number, line in enumerate(text.splitlines(), start=1)
    ]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _parsed(text: str) -> ast.Module | None:
    if not text:
        return None
    try:
        with warnings.catch_warnings():
            # The notebook has already warned of the cell's own invalid escapes.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError):
        return None
