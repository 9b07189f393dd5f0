"""A cell's text as Python: what is wrong with it in one line, and which backend it names."""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING

from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from types import CodeType

_LINE = re.compile(r"\b(on|at) line (\d+)")
_IPYTHON = re.compile(r"\s*(?:[%!?].*|[\w.]+\s*=\s*[%!].*|.*\?\s*)")


def parse_cell(text: str, *, first_line: int = 1, what: str = "the cell") -> ast.Module:
    """Return the syntax tree of a cell; `first_line` is the number of its first line for people.

    Raises:
        InputError: it is not Python, or it holds IPython's own syntax, which no rank knows.

    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text)
            # Compiling finds what parsing lets pass: `return` and `await` outside functions.
            compile(tree, "<cell>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _syntax_fault(error, text, first_line, what) from None
    except (ValueError, RecursionError) as error:
        msg = f"{what} is not Python: {error}"
        raise InputError(msg) from None
    return tree


def _syntax_fault(error: SyntaxError, text: str, first_line: int, what: str) -> InputError:
    number = error.lineno or 1
    lines = text.splitlines()
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    place = f"line {number + first_line - 1} of {what}"
    said = _LINE.sub(lambda m: f"{m[1]} line {int(m[2]) + first_line - 1}", error.msg)
    if _IPYTHON.fullmatch(line):
        return InputError(
            f"{place} is IPython's, and ranks run plain Python: {line}",
            hint="move it to a cell of its own, above this one",
        )
    if "await" in error.msg or "asynchronous" in error.msg or "async" in error.msg:
        hint = "wrap it: async def main(): …, then asyncio.run(main())"
        return InputError(f"{place}: {said}: {line}", hint=hint)
    hint = "mend the line; nothing was started"
    return InputError(f"{place}: {said}: {line}" if line else f"{place}: {said}", hint=hint)


def compile_cell(tree: ast.Module) -> CodeType:
    """Return the code of a cell that `parse_cell` has accepted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return compile(tree, "<cell>", "exec", dont_inherit=True)


def literal_backend(tree: ast.AST) -> tuple[str, int] | None:
    """Return the backend that the first literal `init_process_group("…")` asks for, and its line.

    Example:
        >>> literal_backend(ast.parse('dist.init_process_group(backend="nccl")'))
        ('nccl', 1)

    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name != "init_process_group":
            continue
        words = [word.value for word in node.keywords if word.arg == "backend"]
        for value in [*node.args[:1], *words]:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value, node.lineno
    return None
