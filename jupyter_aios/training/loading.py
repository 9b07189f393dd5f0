"""The rank's side of travelling code: run it as the real `__main__`, and tell faults by cell.

Order: imports, values that definitions need, definitions, the other values, and last the file
that was submitted. Every piece is compiled under its own file name with its own line numbers, so
tracebacks, `inspect.getsource` and pickling see what the person wrote.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import importlib
import operator
import pickle
import sys
import traceback
import types
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.entities import CodeKind
from jupyter_aios.errors import ShippingError
from jupyter_aios.training import introspection, workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jupyter_aios.core.entities import BlobId, Code, SourceFile

_OUR_FOLDER = __file__.rpartition("/")[0]
ARGUMENTS = "__aios_arguments__"
"""The name under which a submitted function's (args, kwargs) travel among the values."""
SOURCES = "__aios_sources__"
"""The name under which {file name: text} of code that travels by value lies among the values."""
FUTURE_ANNOTATIONS = "__future__.annotations"
"""Among the definitions of a file: they ran under `from __future__ import annotations`."""
PATCH = ":"
"""Stands in the name of a value that is set in a library: `math:sqrt`."""
CALL = "()"
"""Ends the name of a setting: the value is handed to a function."""


def make_main() -> types.ModuleType:
    """Return a fresh `__main__` that is in `sys.modules`, as a started script's is."""
    introspection.install()
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    return main


_ORIGINS: dict[str, str] = {}
_APPLIED: dict[str, object] = {}
"""What the notebook has set in libraries of this process."""
"""File name → what people call it, of all code that this rank has run."""


def run(
    code: Code,
    folder: Path,
    main: types.ModuleType,
    *,
    own: Mapping[str, object] | None = None,
    wants_value: bool = False,
) -> Any:  # noqa: ANN401
    """Run the code in `main`; return what a submitted function returned.

    Of other code, the value of its last expression where that is wanted, else None.

    Args:
        code: what runs.
        folder: the job's folder, with `code/` and `values/` in it.
        main: from `make_main`.
        own: names that mean this when the submitted code runs, whatever came along.
        wants_value: whether the submitted code is a cell with a value.

    """
    _ORIGINS.update((source_path(folder, file), file.origin) for file in code.files)
    if code.kind is not CodeKind.SCRIPT:
        workers.install()
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
    namespace.update(own or {})
    return _execute(submitted, folder, namespace, wants_value=wants_value)


def _attribute(module: types.ModuleType, path: str) -> Any:  # noqa: ANN401
    return operator.attrgetter(path)(module) if path else module


def _load_values(blob: BlobId | None, folder: Path, namespace: dict[str, Any]) -> None:
    if blob is None:
        return
    with (folder / "values" / blob).open("rb") as file:
        try:
            values: dict[str, Any] = pickle.load(file)  # noqa: S301 - the owner's own values
            for name in [name for name in values if PATCH in name]:
                _apply_patch(name, values.pop(name))
        except Exception as error:
            msg = f"the notebook's values cannot be loaded here: {type(error).__name__}: {error}"
            raise ShippingError(msg, hint="build them inside the cell") from error
    introspection.add_texts(values.pop(SOURCES, {}))
    namespace.update(values)


def _apply_patch(name: str, value: object) -> None:
    """Set what the notebook has set in a library: `math:sqrt`, or `torch:set_default_dtype()`."""
    # A kept rank may have set it otherwise since, and each cell brings the notebook's again.
    if name in _APPLIED and _is_same(_APPLIED[name], value):
        return
    _APPLIED[name] = value
    module, _, path = name.partition(PATCH)
    parents, _, attribute = path.rpartition(".")
    target = _attribute(importlib.import_module(module), parents)
    if attribute.endswith(CALL):
        getattr(target, attribute.removesuffix(CALL))(value)
    else:
        setattr(target, attribute, value)


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, types.FunctionType) and isinstance(other, types.FunctionType):
        return one.__code__ == other.__code__ and one.__defaults__ == other.__defaults__
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - an array, or whatever compares in its own way
        return False


def source_path(folder: Path, file: SourceFile) -> str:
    """Return the file name that the code runs under: the original's where there is one."""
    return file.original or str(folder / "code" / file.path)


def _execute(
    file: SourceFile, folder: Path, namespace: dict[str, Any], *, wants_value: bool = False
) -> Any:  # noqa: ANN401
    _load_values(file.values, folder, namespace)
    text = (folder / "code" / file.path).read_text(encoding="utf-8")
    tree = ast.parse(text, source_path(folder, file))
    if file.definitions:
        wanted = {*file.definitions, "__future__"}
        tree.body = [node for node in tree.body if _defines(node) & wanted]
    introspection.add_classes(tree, source_path(folder, file))
    last: ast.stmt | None = None
    if wants_value and tree.body and not text.rstrip().endswith(";"):
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    # dont_inherit: this module's own __future__ imports are not the person's.
    flags = __future__.annotations.compiler_flag if FUTURE_ANNOTATIONS in file.definitions else 0
    exec(  # noqa: S102 - running the person's code is the purpose
        compile(tree, source_path(folder, file), "exec", flags, dont_inherit=True), namespace
    )
    if not isinstance(last, ast.Expr):
        return None
    value = ast.Expression(last.value)
    return eval(  # noqa: S307 - as above
        compile(value, source_path(folder, file), "eval", dont_inherit=True), namespace
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


def origin_of(filename: str) -> str:
    """Return what people call a file that this rank runs: `Cell In[3]`, or its name."""
    return _ORIGINS.get(filename, filename.rpartition("/")[2])


def format_error(error: BaseException, code: Code, folder: Path) -> str:
    """Return the traceback as the person should see it: their frames, by cell and line."""
    origins = _ORIGINS | {source_path(folder, file): file.origin for file in code.files}
    shown = traceback.TracebackException.from_exception(error)
    for one in _chain(shown):
        kept = [frame for frame in one.stack if not _is_ours(frame.filename)]
        one.stack[:] = kept or one.stack
    text = "".join(shown.format()).rstrip("\n")
    # In the text: a data loader's worker sends its traceback as the message of an error.
    for path, origin in origins.items():
        text = text.replace(f'File "{path}"', f'File "{origin}"')
    return text


def _chain(shown: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    pending: list[traceback.TracebackException | None] = [shown]
    while pending:
        one = pending.pop()
        if one is not None:
            yield one
            pending += [one.__cause__, one.__context__, *(getattr(one, "exceptions", None) or ())]


def _is_ours(filename: str) -> bool:
    is_machinery = filename == ast.__file__ or filename.startswith("<frozen importlib")
    return is_machinery or filename.startswith(_OUR_FOLDER)
