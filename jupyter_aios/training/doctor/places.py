"""Which cell and line a place in the code is, and what stands there."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.core.cells import Cell
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training.doctor.callers import library_folders
from jupyter_aios.training.kept import orders
from jupyter_aios.training.loading import source_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.core.entities import Code
    from jupyter_aios.core.ports import LaunchPlan
    from jupyter_aios.training.doctor.stacks import Frame
    from jupyter_aios.training.doctor.vitals import Line

_LONGEST_LINE = 80
_OURS = str(Path(__file__).parents[2]) + os.sep


class Places:
    """The person's code of one attempt."""

    def __init__(self, plan: LaunchPlan, attempt: Path) -> None:
        self._attempt = attempt
        self._cwd = plan.cwd
        self._origins: dict[str, tuple[str, Path]] = {}
        """File name that the code runs under → what people call it, and where its text lies."""
        self._cells = 0
        self._libraries = library_folders()
        self._learn(plan.code, Path(plan.folder))

    def _learn(self, code: Code, folder: Path) -> None:
        for file in code.files:
            text = folder / "code" / file.path
            self._origins[source_path(folder, file)] = (file.origin, text)

    def _learn_cells(self) -> None:
        """Take in cells that kept ranks were given since."""
        while (order := orders.read_order(self._attempt, self._cells + 1)) is not None:
            self._cells += 1
            if "cell" in order:
                cell = from_plain(Cell, order["cell"])
                self._learn(cell.code, orders.cell_folder(self._attempt, cell.id))

    def is_person(self, file: str) -> bool:
        """True for code that is neither a library's nor ours."""
        return file in self._origins or not file.startswith(self._libraries)

    def show(self, line: Line) -> str:
        """Return a place as people name it: Cell In[3], line 14 (`loss.backward()`)."""
        if not line.file:
            return "an unknown line"
        text = self.text(line)
        return f"{self._name(line.file)}, line {line.number}" + (f" (`{text}`)" if text else "")

    def _name(self, file: str) -> str:
        if file not in self._origins:
            self._learn_cells()
        if file in self._origins:
            return self._origins[file][0]
        if file.startswith(self._cwd.rstrip("/") + "/"):
            return os.path.relpath(file, self._cwd)
        return file

    def stack(self, frames: Sequence[Frame]) -> str:
        """Return a stack as text, the newest call first, without what started the rank."""
        kept = [frame for frame in frames if not frame.file.startswith((_OURS, "<frozen "))]
        return "\n".join(
            f'  File "{self._name(frame.file)}", line {frame.line}, in {frame.function}'
            for frame in kept
        )

    def text(self, line: Line) -> str:
        """Return what stands in the line, shortened; nothing where it cannot be read."""
        lines = self._source(line.file).splitlines()
        if not 0 < line.number <= len(lines):
            return ""
        text = lines[line.number - 1].strip()
        return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"

    def rank_condition(self, line: Line) -> str:
        """Return the `if` around a line that asks for the rank, as it is written, or nothing."""
        source = self._source(line.file)
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return ""
        found = ""
        for node in ast.walk(tree):
            inside = isinstance(node, ast.If) and any(
                one.lineno <= line.number <= (one.end_lineno or one.lineno)
                for one in (*node.body, *node.orelse)
            )
            if inside and isinstance(node, ast.If):
                test = ast.get_source_segment(source, node.test) or ""
                found = test if "rank" in test.lower() else found
        return found

    def _source(self, file: str) -> str:
        path = self._origins[file][1] if file in self._origins else Path(file)
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            return ""
