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
from typing import Any

_UNNUMBERED = -1


class Sources:
    """The text behind a code object's file name, its label for people, and the order of cells."""

    def __init__(self, script: str = "") -> None:
        self._script = script
        self._trees: dict[str, ast.Module | None] = {}
        self._numbers: dict[str, int] = {}
        ipython = sys.modules.get("IPython")
        shell: Any = ipython.get_ipython() if ipython else None
        if shell is not None:
            self._numbers = dict(getattr(shell.compile, "_filename_map", {}))

    def text(self, filename: str) -> str:
        """Return the text of a cell or file, or nothing where it is not known."""
        return "".join(linecache.getlines(filename))

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

    def order(self, filename: str) -> tuple[int, str]:
        """Return what sorts file names by when they ran."""
        return self._numbers.get(filename, _UNNUMBERED), filename

    def cells_newest_first(self) -> list[str]:
        """Return the file names of all cells, and of the script that runs, if one does."""
        cells = sorted(self._numbers, key=self.order, reverse=True)
        return [*cells, self._script] if self._script else cells


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
