"""What the notebook has changed in libraries: the ranks have it too, or the person is told.

Two places to look, because neither sees all: what cells assign to attributes of modules and of
their classes (`torch.nn.Linear.forward = …`, `config.lr = 0.1`), and functions of the notebook
that modules hold which the cell mentions, however they came there. The live object decides.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from jupyter_aios.training.loading import CALL, PATCH
from jupyter_aios.training.packing.comparison import functions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jupyter_aios.training.packing.sources import Sources

_HERE = frozenset({
    "sys", "IPython", "ipykernel", "ipywidgets", "anywidget", "jupyter_client", "jupyter_aios",
    "matplotlib_inline", "tqdm",
})  # fmt: skip
"""Packages that belong to the kernel and its screen: a rank has its own."""
_SETTINGS = (
    ("torch", "get_default_dtype", "set_default_dtype", "torch.float32"),
    ("torch", "get_float32_matmul_precision", "set_float32_matmul_precision", "highest"),
    ("torch", "are_deterministic_algorithms_enabled", "use_deterministic_algorithms", "False"),
)
"""(module, how to ask, how to set, what a fresh process answers)."""
_MISSING = object()


@dataclass(frozen=True)
class Patch:
    """A changed attribute of a library; `name` is `module:path`."""

    name: str
    value: object
    why: str

    @property
    def shown(self) -> str:
        """The name as people write it."""
        return self.name.replace(PATCH, ".")


def find_patches(
    namespace: Mapping[str, object], sources: Sources, mentioned: Iterable[str]
) -> list[Patch]:
    """Return what is changed in libraries, each attribute once.

    Args:
        namespace: the notebook's globals.
        sources: all cells that ran.
        mentioned: modules that the code which travels mentions.

    """
    found: dict[str, Patch] = {}
    for filename in sources.cells_newest_first():
        for path, line in _assigned(sources.tree(filename)):
            patch = _live_patch(path, namespace)
            if patch is not None:
                where = f"set in {sources.label(filename)}, line {line}"
                found.setdefault(patch[0], Patch(*patch, where))
    for name, value in _held(mentioned, namespace):
        found.setdefault(name, Patch(name, value, "replaced by the notebook"))
    found.update((patch.name, patch) for patch in _settings())
    return list(found.values())


def _assigned(tree: ast.Module | None) -> Iterator[tuple[list[str], int]]:
    """Yield the dotted targets of all assignments to attributes, with their lines."""
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, (ast.stmt, ast.expr)):
            continue
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr":
            owner, *rest = node.args or [ast.Constant(None)]
            if rest and isinstance(rest[0], ast.Constant) and isinstance(rest[0].value, str):
                targets = [ast.Attribute(owner, rest[0].value)]
        for target in targets:
            for one in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
                path = _dotted(one)
                if len(path) > 1:
                    yield path, node.lineno


def _dotted(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return [*before, node.attr] if before else []
    return []


def _live_patch(path: list[str], namespace: Mapping[str, object]) -> tuple[str, object] | None:
    """Return name and live value of an attribute of a library, None for anything else."""
    root, *middle, attribute = path
    owner = namespace.get(root, _MISSING)
    for part in middle:
        owner = getattr(owner, part, _MISSING)
    if isinstance(owner, ModuleType) and sys.modules.get(owner.__name__) is owner:
        module, inner = owner.__name__, attribute
    elif isinstance(owner, type) and owner.__module__ != "__main__":
        module, inner = owner.__module__, f"{owner.__qualname__}.{attribute}"
    else:
        return None
    value = vars(owner).get(attribute, getattr(owner, attribute, _MISSING))
    is_foreign = module.partition(".")[0] in _HERE or not _is_importable(owner)
    if value is _MISSING or is_foreign or _is_original(value, module, inner):
        return None
    return f"{module}{PATCH}{inner}", value


def _is_importable(owner: object) -> bool:
    """True unless the module was made by hand, and a rank could not import it."""
    if not isinstance(owner, ModuleType):
        return True
    # `torch.backends.cudnn` is an object in a module's place: it has a file, but no spec.
    return owner.__spec__ is not None or getattr(owner, "__file__", None) is not None


def _is_original(value: object, module: str, path: str) -> bool:
    """True for what the library itself has there, put back."""
    name = getattr(value, "__qualname__", None)
    return isinstance(value, ModuleType) or (getattr(value, "__module__", None), name) == (
        module,
        path,
    )


def _held(mentioned: Iterable[str], namespace: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    """Yield the notebook's functions and classes that modules, or classes in them, hold."""
    for name in dict.fromkeys(mentioned):
        module = sys.modules.get(name)
        if module is None or name.partition(".")[0] in _HERE | {"__main__"}:
            continue
        for attribute, value in list(vars(module).items()):
            if _is_ours(value, namespace):
                yield f"{name}{PATCH}{attribute}", value
            elif _is_class(value) and value.__module__ != "__main__":
                owner = f"{value.__module__}{PATCH}{value.__qualname__}"
                for inner, held in list(vars(value).items()):
                    if any(f.__globals__ is namespace for f in functions_of(held)):
                        yield f"{owner}.{inner}", held


def _is_ours(value: Any, namespace: Mapping[str, object]) -> bool:  # noqa: ANN401 - anything
    if type(value) is FunctionType:
        return value.__globals__ is namespace
    return _is_class(value) and value.__module__ == "__main__"


def _is_class(value: object) -> bool:
    """True for a class, by type: isinstance asks deprecated and lazy proxies, which then warn."""
    return issubclass(type(value), type)


def _settings() -> Iterator[Patch]:
    for name, ask, change, fresh in _SETTINGS:
        module = sys.modules.get(name)
        value = getattr(module, ask)() if module is not None else fresh
        if str(value) != fresh:
            yield Patch(f"{name}{PATCH}{change}{CALL}", value, f"{name}.{change} was called")
