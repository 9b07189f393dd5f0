"""Where objects can be found by name: in modules, and below a name of `__main__`."""

from __future__ import annotations

import operator
import sys
from types import FunctionType

MISSING = object()


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
        return MISSING


def is_definition(value: object) -> bool:
    """True for what a `def` or `class` of `__main__` leaves behind, decorated or not."""
    if getattr(value, "__module__", None) != "__main__":
        return False
    return isinstance(value, (type, FunctionType)) or "__wrapped__" in getattr(
        value, "__dict__", ()
    )
