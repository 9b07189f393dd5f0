"""What has to travel so that some of the notebook's names mean the same in the ranks.

A name's object decides how: modules and importable objects by import, functions and classes of the
notebook as source where they still are their source, everything else by value. Whatever these read
in turn travels too.
"""

from __future__ import annotations

import ast
import operator
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import ManifestEntry
from jupyter_aios.training.packing.definitions import Definition, Unmatched, find_definition
from jupyter_aios.training.packing.names import compiled, dotted_names, global_names
from jupyter_aios.training.packing.pickling import pickled_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import CodeType

    from jupyter_aios.training.packing.sources import Sources

_SHELL_NAMES = frozenset({
    "In", "Out", "_", "__", "___", "_ih", "_oh", "_dh", "_i", "_ii", "_iii",
    "get_ipython", "exit", "quit", "open", "display",
})  # fmt: skip
"""What IPython puts into the notebook's globals; a rank has no shell, and its own builtins."""
_MISSING = object()


class Shipment:
    """The closure of the names that were wanted, each with how it travels and why.

    `by_value` are definitions that must not travel as source, because an object that they need
    while being defined is made of them.
    """

    def __init__(
        self,
        namespace: Mapping[str, object],
        sources: Sources,
        by_value: Iterable[str] = (),
    ) -> None:
        self.namespace = namespace
        self.sources = sources
        self.imports: dict[str, tuple[str, str, str]] = {}
        self.definitions: dict[str, Definition] = {}
        self.values: dict[str, object] = {}
        self.manifest: dict[str, ManifestEntry] = {}
        self.faults: dict[str, str] = {}
        self.made_of: dict[str, set[str]] = {}
        """Value → the definitions that its pickle refers to."""
        self.delivered: dict[int, str] = {}
        """Id of an object that an earlier pickle brings → its name."""
        self._by_value = frozenset(by_value)
        self._live: dict[str, object] = {}
        self._pending: list[str] = []
        self._referred: set[str] = set()
        self._mentioned: set[str] = set()

    # ------------------------------------------------------------------------------ wanting

    def want_code(self, code: CodeType, names: Iterable[str], reader: str) -> None:
        """Make `names`, which `code` reads, travel, and the submodules that it mentions."""
        self._mentioned |= dotted_names(code)
        for name in sorted(names):
            self.want(name, reader)

    def want(self, name: str, reader: str) -> None:
        """Make the notebook's global `name` travel; a name that it does not have is left alone."""
        is_special = name in _SHELL_NAMES or (name.startswith("__") and name.endswith("__"))
        if name in self._live or is_special or name not in self.namespace:
            return
        self._classify(name, self.namespace[name], reader)

    def add_import(self, name: str, value: object) -> None:
        """Make an importable object be there as `name`."""
        self._import(name, value, importable_from(value), str(getattr(value, "__qualname__", "")))

    def add_value(self, name: str, value: object, why: str) -> None:
        """Make `value` travel by value under `name`."""
        self._live[name] = value
        self.values[name] = value
        self.manifest[name] = ManifestEntry(name, "value", 0, why)
        self._pending.append(name)

    def close(self) -> None:
        """Pickle each value once, alone, to learn its size and what else has to travel."""
        while self._pending:
            name = self._pending.pop(0)
            self._referred = set()
            try:
                size = pickled_size(self.values[name], self)
            except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
                self.faults[name] = " ".join(str(error).split()) or type(error).__name__
                continue
            self.made_of[name] = self._referred
            entry = self.manifest[name]
            self.manifest[name] = ManifestEntry(name, "value", size, entry.why)
        self._import_submodules()

    def _classify(self, name: str, value: object, reader: str) -> None:
        if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
            self._import(name, value, value.__name__, "")
        elif importable_from(value):
            self.add_import(name, value)
        elif _is_definable(value) and getattr(value, "__module__", None) == "__main__":
            self._define(name, value)
        else:
            self.add_value(name, value, f"a {type(value).__name__} that {reader} reads")

    def _import(self, name: str, value: object, module: str, attribute: str) -> None:
        self._live[name] = value
        self.imports[name] = (name, module, attribute)
        why = f"import {module}" if not attribute else f"from {module} import {attribute}"
        self.manifest[name] = ManifestEntry(name, "import", 0, why)

    def _define(self, name: str, value: object) -> None:
        found = find_definition(value, self.namespace, self.sources)
        if isinstance(found, Unmatched):
            self.add_value(name, value, found.why)
        elif name in self._by_value:
            self.add_value(name, value, "what it needs to be defined is made of it")
        elif found.name != name:
            self.add_value(name, value, f"another name of {found.name}")
        else:
            self._live[name] = value
            self.definitions[name] = found
            size = sum(len(ast.unparse(node).encode()) for node in found.nodes)
            why = f"{self.sources.label(found.filename)}, line {found.nodes[-1].lineno}"
            self.manifest[name] = ManifestEntry(name, "source", size, why)
            self.want_code(compiled(*found.nodes), found.early | found.late, f"{name}()")

    def _import_submodules(self) -> None:
        """Import what code mentions as `package.module` under the name of the package alone."""
        packages = {module for _, module, attribute in self.imports.values() if not attribute}
        loaded = [key for key, module in list(sys.modules.items()) if module is not None]
        for key in sorted(loaded):
            for package in packages:
                if key.startswith(package + "."):
                    parts = key[len(package) + 1 :].split(".")
                    if self._mentioned.issuperset(parts):
                        self.imports.setdefault(f" {key}", ("", key, ""))

    # ------------------------------------------------------------- what the pickler asks

    def reference(self, value: object) -> str:
        """Return the dotted name under which the rank's `__main__` has `value`, or nothing."""
        if id(value) in self.delivered:
            return self.delivered[id(value)]
        if not _is_definable(value) or getattr(value, "__module__", None) != "__main__":
            return ""
        path = str(getattr(value, "__qualname__", "<"))
        root = path.partition(".")[0]
        if "<" in path:
            return ""
        if root not in self._live:
            if root in self.namespace:
                self.want(root, "a value")
            elif root == path:  # the name was deleted, or never bound; its objects live on
                self._define(root, value)
        live = self._live.get(root, _MISSING)
        if root not in self.definitions or resolve(live, path) is not value:
            return ""
        self._referred.add(root)
        return path

    # ----------------------------------------------------------------------------- needs

    def needs(self, name: str) -> set[str]:
        """Return the names that have to stand before `name` can.

        For a definition, what it reads while it is defined and what functions called then read;
        for a value, what it is made of.
        """
        if name not in self.definitions:
            return self.made_of.get(name, set())
        definition = self.definitions[name]
        found: set[str] = set()
        waiting = set(definition.early)
        while waiting:
            early = waiting.pop()
            is_known = early in self.definitions or early in self.values
            if is_known and early not in found and early != name:
                found.add(early)
                # A base class is not called when a class is derived from it; all else may be.
                waiting |= set() if early in definition.bases else self._read_when_called(early)
        return found

    def _read_when_called(self, name: str) -> frozenset[str]:
        if name in self.definitions:
            return self.definitions[name].late
        value = self.values.get(name)
        return global_names(value.__code__) if isinstance(value, FunctionType) else frozenset()


def importable_from(value: object) -> str:
    """Return the module that `value` can be imported from, or nothing."""
    if not isinstance(value, type) and not callable(value):
        return ""
    name, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(name, str) or not isinstance(path, str) or name == "__main__":
        return ""
    module = sys.modules.get(name)
    # A module without a spec was made by hand; a rank could not import it.
    if module is None or (getattr(module, "__spec__", None) is None and name != "builtins"):
        return ""
    return name if resolve(module, path, is_module=True) is value else ""


def resolve(root: object, path: str, *, is_module: bool = False) -> object:
    """Return the object at a dotted path, whose first part is `root` itself unless a module."""
    inner = path if is_module else path.partition(".")[2]
    if not inner:
        return root
    try:
        return operator.attrgetter(inner)(root)
    except AttributeError:
        return _MISSING


def _is_definable(value: object) -> bool:
    """True for what a `def` or `class` leaves behind, decorated or not."""
    return isinstance(value, (type, FunctionType)) or "__wrapped__" in getattr(
        value, "__dict__", ()
    )
