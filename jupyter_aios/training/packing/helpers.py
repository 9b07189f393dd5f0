"""Modules beside the notebook that were edited since they were imported there.

Ranks import them from disk, the notebook has them as they were. Only modules of the person's are
looked at, and only what can be compared without running anything: code, and literals.
"""

from __future__ import annotations

import ast
import functools
import os
import site
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.training.packing.comparison import functions_of, same_code
from jupyter_aios.training.packing.names import walk

if TYPE_CHECKING:
    import types
    from collections.abc import Collection, Iterator


def edited_modules(
    imported: Collection[str], patched: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield (module, file) of the person's modules that are not what their file says.

    Args:
        imported: modules that ranks import; what else is loaded of their packages counts too.
        patched: `module:name` of what the notebook has set in modules on purpose.

    """
    packages = {name.partition(".")[0] for name in imported}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] not in packages:
            continue
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".py") and not file.startswith(_installed()):
            own = {one.partition(":")[2] for one in patched if one.partition(":")[0] == name}
            if _is_edited(module, file, own):
                yield name, os.path.relpath(file)


@functools.cache
def _installed() -> tuple[str, ...]:
    """Return the folders of what is installed; asking for them is slow."""
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
    paths |= {sysconfig.get_path("platlib"), site.getusersitepackages(), *site.getsitepackages()}
    return tuple(f"{path}{os.sep}" for path in paths)


def _is_edited(module: types.ModuleType, file: str, patched: Collection[str]) -> bool:
    try:
        text = Path(file).read_text(encoding="utf-8")
        tree = ast.parse(text)
        codes = list(walk(compile(tree, file, "exec", dont_inherit=True)))
    except (OSError, SyntaxError, ValueError):
        return False  # the import in the rank will tell
    live = vars(module)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name not in live:
                return True
        elif isinstance(node, ast.Assign) and _is_another_literal(node, live, patched):
            return True
    return any(
        not any(code.co_name == own.co_name and same_code(code, own) for code in codes)
        for own in _codes_of(live, file)
    )


def _codes_of(live: dict[str, object], file: str) -> Iterator[types.CodeType]:
    """Yield the code of the module's functions and methods that came from its file."""
    for value in live.values():
        held = list(vars(value).values()) if isinstance(value, type) else [value]
        for function in (one for thing in held for one in functions_of(thing)):
            if function.__code__.co_filename == file:
                yield function.__code__


def _is_another_literal(
    node: ast.Assign, live: dict[str, object], patched: Collection[str]
) -> bool:
    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    if not isinstance(node.value, ast.Constant):
        return False
    # Where a name is assigned twice, the last one counts; that one is compared when it comes.
    return any(
        name not in live or (name not in patched and type(live[name]) is type(node.value.value)
        and live[name] != node.value.value)
        for name in names
    )  # fmt: skip
