"""The rank's side of travelling code: run it as the real `__main__`, and tell faults by cell.

Order: imports, values that definitions need, definitions, the other values, and last the file
that was submitted. Every piece is compiled under its own file name with its own line numbers, so
tracebacks, `inspect.getsource` and pickling see what the person wrote.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import pickle
import sys
import traceback
import types
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import CodeKind
from jupyter_aios.errors import ShippingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_aios.core.entities import BlobId, Code, SourceFile

_OUR_FOLDER = __file__.rpartition("/")[0]
ARGUMENTS = "__aios_arguments__"
"""The name under which a submitted function's (args, kwargs) travel among the values."""


def make_main() -> types.ModuleType:
    """Return a fresh `__main__` that is in `sys.modules`, as a started script's is."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main


def run(code: Code, folder: Path, main: types.ModuleType) -> Any:  # noqa: ANN401
    """Run the code in `main`; return what a submitted function returned, else None.

    Args:
        code: what runs.
        folder: the job's folder, with `code/` and `values/` in it.
        main: from `make_main`.

    """
    namespace = main.__dict__
    for name, module, attribute in code.imports:
        loaded = importlib.import_module(module)
        namespace[name] = _attribute(loaded, attribute) if attribute else loaded
    _load_values(code.early_values, folder, namespace)
    submitted = code.files[-1]
    main.__file__ = source_path(folder, submitted)
    for file in code.files[:-1]:
        _execute(file, folder, namespace)
    if code.kind is CodeKind.FUNCTION:
        _execute(submitted, folder, namespace)
        _load_values(code.values, folder, namespace)
        args, kwargs = namespace.pop(ARGUMENTS)
        return namespace[code.function](*args, **kwargs)
    _load_values(code.values, folder, namespace)
    _execute(submitted, folder, namespace)
    return None


def _attribute(module: types.ModuleType, path: str) -> Any:  # noqa: ANN401
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _load_values(blob: BlobId | None, folder: Path, namespace: dict[str, Any]) -> None:
    if blob is None:
        return
    with (folder / "values" / blob).open("rb") as file:
        try:
            namespace.update(pickle.load(file))  # noqa: S301 - the owner's own values
        except Exception as error:
            msg = f"the notebook's values cannot be loaded here: {type(error).__name__}: {error}"
            raise ShippingError(msg, hint="build them inside the cell") from error


def source_path(folder: Path, file: SourceFile) -> str:
    """Return the file name that the code runs under: the original's where there is one."""
    return file.original or str(folder / "code" / file.path)


def _execute(file: SourceFile, folder: Path, namespace: dict[str, Any]) -> None:
    _load_values(file.values, folder, namespace)
    text = (folder / "code" / file.path).read_text(encoding="utf-8")
    tree = ast.parse(text, source_path(folder, file))
    if file.definitions:
        wanted = {*file.definitions, "__future__"}
        tree.body = [node for node in tree.body if _defines(node) & wanted]
    # dont_inherit: this module's own __future__ imports are not the person's.
    exec(  # noqa: S102 - running the person's code is the purpose
        compile(tree, source_path(folder, file), "exec", dont_inherit=True), namespace
    )


def _defines(node: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    # `from __future__` must come along with the definitions that were compiled under it.
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return {alias.name for alias in node.names} | {"__future__"}
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}


def format_error(error: BaseException, code: Code, folder: Path) -> str:
    """Return the traceback as the person should see it: their frames, by cell and line."""
    origins = {source_path(folder, file): file.origin for file in code.files}
    shown = traceback.TracebackException.from_exception(error)
    for one in _chain(shown):
        kept = [frame for frame in one.stack if not _is_ours(frame.filename)]
        one.stack[:] = [
            traceback.FrameSummary(
                origins.get(frame.filename, frame.filename),
                frame.lineno,
                frame.name,
                lookup_line=False,
                line=frame.line,
            )
            for frame in kept or one.stack
        ]
        if isinstance(error, SyntaxError) and one.filename is not None:
            one.filename = origins.get(one.filename, one.filename)
    return "".join(shown.format()).rstrip("\n")


def _chain(shown: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    pending: list[traceback.TracebackException | None] = [shown]
    while pending:
        one = pending.pop()
        if one is not None:
            yield one
            pending += [one.__cause__, one.__context__]


def _is_ours(filename: str) -> bool:
    is_machinery = filename == ast.__file__ or filename.startswith("<frozen importlib")
    return is_machinery or filename.startswith(_OUR_FOLDER)
