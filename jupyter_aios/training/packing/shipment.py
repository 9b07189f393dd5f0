"""What has to travel so that some of the notebook's names mean the same in the ranks.

A name's object decides how: modules and importable objects by import, functions and classes of the
notebook as source where they still are their source, everything else by value. Whatever these read
in turn travels too.
"""

from __future__ import annotations

import ast
import pickle
import sys
from dataclasses import replace
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import ManifestEntry
from jupyter_aios.training.loading import PATCH
from jupyter_aios.training.packing.definitions import Definition, Unmatched, find_definition
from jupyter_aios.training.packing.helpers import edited_modules
from jupyter_aios.training.packing.lookup import (
    MISSING,
    importable_from,
    is_definition,
    resolve,
)
from jupyter_aios.training.packing.names import compiled, dotted_names, global_names
from jupyter_aios.training.packing.patches import Patch, find_patches
from jupyter_aios.training.packing.pickling import pickled_size
from jupyter_aios.training.packing.sources import cut_lines
from jupyter_aios.training.packing.tensors import Storages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.training.packing.sources import Sources

SHELL_NAMES = frozenset({
    "In", "Out", "_", "__", "___", "_ih", "_oh", "_dh", "_i", "_ii", "_iii",
    "get_ipython", "exit", "quit", "open", "display",
})  # fmt: skip
"""What IPython puts into the notebook's globals; a rank has no shell, and its own builtins."""
_TYPING = frozenset(["typing", "types", "typing_extensions"])
"""Where the types of type aliases are defined."""
_PLAIN = " (ranks run plain Python)"


class Shipment:
    """The closure of the names that were wanted, each with how it travels and why.

    `by_value` are definitions that must not travel as source, because an object that they need
    while being defined is made of them. `theirs` are names that the ranks have already: what they
    mean there is meant.
    """

    def __init__(
        self,
        namespace: Mapping[str, object],
        sources: Sources,
        by_value: Iterable[str] = (),
        theirs: Iterable[str] = (),
        *,
        with_annotations: bool = True,
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
        self.notices: dict[str, None] = {}
        """What the person should know before it starts, in order."""
        self.storages: Storages | None = Storages()
        self.delivered: dict[int, str] = {}
        """Id of an object that an earlier pickle brings → its name."""
        self._by_value = frozenset(by_value)
        self._with_annotations = with_annotations
        self._written: dict[str, set[int]] = {}
        self._pickling = ""
        self._theirs = frozenset(theirs)
        self.live: dict[str, object] = {}
        """All that travels, by name."""
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
        is_special = name in SHELL_NAMES or (name.startswith("__") and name.endswith("__"))
        if name in self.live or is_special or name not in self.namespace or name in self._theirs:
            return
        self._classify(name, self.namespace[name], reader)

    def want_annotation(self, name: str, reader: str) -> None:
        """Make a type travel that is only mentioned in an annotation of `reader`."""
        value = self.namespace.get(name)
        is_type = isinstance(value, (type, ModuleType)) or type(value).__module__ in _TYPING
        if self._with_annotations and is_type:
            self.want(name, reader)

    def add_import(self, name: str, value: object) -> None:
        """Make an importable object be there as `name`."""
        self._import(name, value, importable_from(value), str(getattr(value, "__qualname__", "")))

    def add_value(self, name: str, value: object, why: str) -> None:
        """Make `value` travel by value under `name`."""
        self.live[name] = value
        self.values[name] = value
        self.manifest[name] = ManifestEntry(name.replace(PATCH, "."), "value", 0, why)
        self._pending.append(name)

    def close(self) -> None:
        """Pickle each value once, alone, to learn its size and what else has to travel."""
        self._close_values()
        modules = self._import_submodules()
        for patch in find_patches(self.namespace, self.sources, modules):
            self._add_patch(patch)
        modules = self._import_submodules()
        for module, file in edited_modules(modules, [key for key in self.values if PATCH in key]):
            self.notices[
                f"{file} has been edited since this notebook imported it, and the ranks import it"
                f" as it is now; importlib.reload({module}) makes both equal"
            ] = None

    def _add_patch(self, patch: Patch) -> None:
        """Make a change of a library travel; do without one that cannot, and say so."""
        kept = "imports", "definitions", "values", "manifest", "faults", "made_of", "live"
        before = {name: dict(getattr(self, name)) for name in kept}
        self.add_value(patch.name, patch.value, patch.why)
        self._close_values()
        faults = [self.faults[name] for name in self.faults if name not in before["faults"]]
        if faults:
            vars(self).update(before)
            told = f"{patch.shown} was {patch.why}, but cannot travel: {faults[0]}"
            self.notices[f"{told}; the ranks have the original"] = None

    def _close_values(self) -> None:
        while self._pending:
            name = self._pending.pop(0)
            self._pickling, self._referred = name, set()
            try:
                size = pickled_size(self.values[name], self)
            except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
                self.faults[name] = " ".join(str(error).split()) or type(error).__name__
                continue
            self.made_of[name] = self._referred
            entry = self.manifest[name]
            self.manifest[name] = replace(entry, size_bytes=size)

    def _classify(self, name: str, value: object, reader: str) -> None:
        if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
            self._import(name, value, value.__name__, "")
        elif importable_from(value):
            self.add_import(name, value)
        elif is_definition(value):
            self._define(name, value)
        else:
            self.add_value(name, value, f"a {type(value).__name__} that {reader} reads")

    def _import(self, name: str, value: object, module: str, attribute: str) -> None:
        self.live[name] = value
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
            self.live[name] = value
            self.definitions[name] = found
            self._refuse_ipython(name, found)
            size = sum(len(ast.unparse(node).encode()) for node in found.nodes)
            why = f"{self.sources.label(found.filename)}, line {found.nodes[-1].lineno}"
            self.manifest[name] = ManifestEntry(name, "source", size, why)
            self.want_code(compiled(*found.nodes), found.early | found.late, f"{name}()")
            for mentioned in sorted(found.annotations):
                self.want_annotation(mentioned, f"{name}()")

    def _refuse_ipython(self, name: str, found: Definition) -> None:
        for node in found.nodes:
            last = node.end_lineno or node.lineno
            line = self.sources.ipython_line(found.filename, node.lineno, last)
            if line:
                self.faults[name] = line + _PLAIN

    def _import_submodules(self) -> list[str]:
        """Import what code mentions as `package.module` under the name of the package alone.

        Return all modules that code mentions.
        """
        packages = {module for _, module, attribute in self.imports.values() if not attribute}
        loaded = [key for key, module in list(sys.modules.items()) if module is not None]
        for key in sorted(loaded):
            for package in packages:
                if key.startswith(package + "."):
                    parts = key[len(package) + 1 :].split(".")
                    if self._mentioned.issuperset(parts):
                        self.imports.setdefault(f" {key}", ("", key, ""))
        return [module for _, module, _ in self.imports.values()]

    # ------------------------------------------------------------- what the pickler asks

    def reference(self, value: object) -> str:
        """Return the dotted name under which the rank's `__main__` has `value`, or nothing."""
        if id(value) in self.delivered:
            return self.delivered[id(value)]
        if not is_definition(value):
            return ""
        path = str(getattr(value, "__qualname__", "<"))
        root = path.partition(".")[0]
        if "<" in path:
            return ""
        if root in self._theirs:
            return path
        if root not in self.live:
            if root in self.namespace:
                self.want(root, "a value")
            elif root == path:  # the name was deleted, or never bound; its objects live on
                self._define(root, value)
        live = self.live.get(root, MISSING)
        if root not in self.definitions or resolve(live, path) is not value:
            self._tell_if_older(root, path, value)
            return ""
        self._referred.add(root)
        return path

    def _tell_if_older(self, root: str, path: str, value: object) -> None:
        """Note a value whose class has been defined anew since it was made."""
        newer = resolve(self.namespace.get(root, MISSING), path)
        if not (isinstance(value, type) and isinstance(newer, type)) or issubclass(newer, value):
            return  # a class that wraps another of its name is no newer one
        name = self._pickling
        how = "is" if type(self.values.get(name)) is value else "holds"
        self.notices[
            f"{name} {how} an instance of an older {path}: it travels with the older class, as it"
            f" is here; make {name} again to have the newer {path}"
        ] = None

    def written_in(self, code: CodeType) -> str:
        """Return the file name under which the rank finds the source of `code`."""
        filename = code.co_filename
        lines = [line for _, _, line in code.co_lines() if line] or [code.co_firstlineno]
        ipython = self.sources.ipython_line(filename, min(lines), max(lines))
        if ipython:
            raise pickle.PicklingError(ipython + _PLAIN)
        label = self.sources.label(filename)
        # A file of the person's is there under its own name.
        if label == filename or self.sources.original(filename):
            return filename
        first, last = self.sources.statement(filename, code.co_firstlineno)
        self._written.setdefault(filename, set()).update(range(first, last + 1))
        return label

    def texts(self) -> dict[str, str]:
        """Return file name → text of the code that travels by value, all other lines blank."""
        return {
            self.sources.label(filename): "\n".join(cut_lines(self.sources.text(filename), kept))
            for filename, kept in self._written.items()
        }

    def lose(self, what: str) -> None:
        """Note that a part of the value that is pickled now does not travel."""
        told = f"{self._pickling}: {what} do not travel; register them inside the cell"
        self.notices[told] = None

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
