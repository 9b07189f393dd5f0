"""Whether a live function or class is still what its source says.

Code objects are compared wherever they were written; defaults, bases and attributes are compared
where that takes no running of code: literals and plain names.
"""

from __future__ import annotations
import __future__

import ast
import dis
import functools
import types
from typing import TYPE_CHECKING, Any

from jupyter_aios.training.packing.names import Function, compiled, nested, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ANNOTATIONS = __future__.annotations.compiler_flag
"""The flag of code that was compiled under `from __future__ import annotations`."""


def innermost(live: object) -> tuple[types.FunctionType | None, int]:
    """Return the function at the end of the `__wrapped__` chain, and the chain's length."""
    depth, seen = 0, live
    while hasattr(seen, "__wrapped__") and depth < 100:  # noqa: PLR2004 - a chain may be a ring
        seen, depth = seen.__wrapped__, depth + 1
    return (seen if isinstance(seen, types.FunctionType) else None), depth


# ---------------------------------------------------------------------------------- functions


def function_difference(live: object, node: Function, namespace: Mapping[str, object]) -> str:
    """Return how a live function, decorated or not, differs from its source, or nothing."""
    function, depth = innermost(live)
    if function is None:
        return "it is no function any more"
    flags = function.__code__.co_flags & ANNOTATIONS
    if not any(same_code(function.__code__, code) for code in nested(compiled(node, flags=flags))):
        return "its code was changed"
    if depth > len(node.decorator_list):
        return "it was wrapped"
    if not node.decorator_list and vars(function):
        return "attributes were set on it"
    if _keeps_state(live, namespace):
        return "its decorator keeps state"
    return _default_difference(function, node.args, namespace)


def _keeps_state(live: object, namespace: Mapping[str, object]) -> bool:
    """True where a decorator of the notebook has left more on a function than code.

    Its source would run the decorator anew, and a counter would start at nothing. Decorators of
    libraries are taken to be what they say: a cache may be empty again.
    """
    while isinstance(live, types.FunctionType) and "__wrapped__" in vars(live):
        inner = vars(live)["__wrapped__"]
        if live.__globals__ is namespace:
            cells = [_content(cell) for cell in live.__closure__ or ()]
            plain = (types.FunctionType, types.ModuleType, type)
            if vars(live).keys() - getattr(inner, "__dict__", {}).keys() - {"__wrapped__"}:
                return True
            if not all(isinstance(content, plain) or content is live for content in cells):
                return True
        live = inner
    return False


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _default_difference(
    function: types.FunctionType, args: ast.arguments, namespace: Mapping[str, object]
) -> str:
    positional = args.posonlyargs + args.args
    live = list(function.__defaults__ or ())
    if len(live) != len(args.defaults):
        return "its defaults were changed"
    pairs = [
        (arg.arg, node, value)
        for arg, node, value in zip(
            positional[len(positional) - len(live) :], args.defaults, live, strict=True
        )
    ]
    keyword = function.__kwdefaults__ or {}
    for arg, node in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if (node is None) != (arg.arg not in keyword):
            return "its defaults were changed"
        if node is not None:
            pairs.append((arg.arg, node, keyword[arg.arg]))
    for name, node, value in pairs:
        if _is_changed(node, value, namespace):
            return f"the default of {name} was changed"
    return ""


def _is_changed(node: ast.expr, live: object, namespace: Mapping[str, object]) -> bool:
    """True where an expression surely gives something else now than `live`.

    Literals and plain names can be told without running anything; the rest is taken on trust.
    """
    if isinstance(node, ast.Name) and node.id in namespace:
        return namespace[node.id] is not live
    try:
        literal = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return type(literal) is not type(live) or repr(literal) != repr(live)


def same_code(one: types.CodeType, two: types.CodeType) -> bool:
    """True where two code objects do the same, wherever they were written."""
    plain = (
        "co_name", "co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars",
        "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags",
    )  # fmt: skip
    return all(getattr(one, field) == getattr(two, field) for field in plain) and _same_constants(
        one.co_consts, two.co_consts
    )


def _same_constants(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    if len(one) != len(two):
        return False
    for left, right in zip(one, two, strict=True):
        if type(left) is not type(right):
            return False
        if isinstance(left, types.CodeType):
            is_same = same_code(left, right)
        elif isinstance(left, tuple):
            is_same = _same_constants(left, right)
        else:
            is_same = repr(left) == repr(right)  # tells 0.0 from -0.0, and nan equals itself
        if not is_same:
            return False
    return True


# ------------------------------------------------------------------------------------ classes


def functions_of(value: object) -> Iterator[types.FunctionType]:
    """Yield the plain functions inside a class attribute: methods, properties, wrapped ones."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        parts: list[object] = [value.fget, value.fset, value.fdel]
    elif isinstance(value, functools.cached_property):
        parts = [value.func]
    else:
        parts = [value]
    for part in parts:
        function, _ = innermost(part)
        if function is not None:
            yield function


def class_difference(
    live: type,
    node: ast.ClassDef,
    filename: str,
    namespace: Mapping[str, object],
    *,
    future: bool,
) -> str:
    """Return how a live class differs from its source, or nothing."""
    body = _class_code(node, future=future)
    if body is None:
        return "its source cannot be cut out"
    written = nested(body)
    for attribute, value in vars(live).items():
        if isinstance(value, functools.singledispatchmethod):
            made = value.dispatcher.registry.values()
            codes = [getattr(one, "__code__", None) for one in made]
            if not all(code and any(same_code(code, other) for other in written) for code in codes):
                return f"{attribute} was registered for more types"
        for function in functions_of(value):
            if function.__code__.co_filename != filename:
                continue
            if not any(same_code(function.__code__, code) for code in written):
                return f"{attribute} was changed"
    named_bases = [base for base in node.bases if isinstance(base, ast.Name)]
    for base in named_bases:
        if base.id in namespace and namespace[base.id] not in (*live.__bases__, *_originals(live)):
            return f"its base {base.id} was defined anew"
    return _body_difference(live, node, written, namespace)


def _originals(live: type) -> tuple[object, ...]:
    """Return bases that are no classes themselves: `NamedTuple`, `Generic[T]`."""
    return tuple(vars(live).get("__orig_bases__", ()))


def _class_code(node: ast.ClassDef, *, future: bool) -> types.CodeType | None:
    module = compiled(node, flags=ANNOTATIONS if future else 0)
    bodies = [code for code in walk(module) if code.co_name == node.name]
    return bodies[0] if bodies else None


def _body_difference(
    live: type,
    node: ast.ClassDef,
    codes: list[types.CodeType],
    namespace: Mapping[str, object],
) -> str:
    """Compare the statements of the class body with the live class's attributes."""
    attributes = vars(live)
    is_plain = _is_plain(live, node)
    bound = _bound_in(node)
    outside = {name: value for name, value in namespace.items() if name not in bound}
    for statement in node.body:
        why = ""
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            why = _method_difference(statement, attributes, node.name, codes)
        elif is_plain and isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value:
            why = _attribute_difference(statement, attributes, node.name, outside)
        if why:
            return why
    written = {_mangled(name, node.name) for name in bound}
    for name, value in attributes.items():
        if is_plain and name not in written and not _is_dunder(name) and not _is_slot(value):
            return f"{name} was added"
    return ""


def _method_difference(
    node: Function, attributes: Mapping[str, object], owner: str, codes: list[types.CodeType]
) -> str:
    name = _mangled(node.name, owner)
    if name not in attributes:
        return f"{node.name} was removed"
    first = next(functions_of(attributes[name]), None)
    if not node.decorator_list and first is not _undecorated(attributes[name]):
        return f"{node.name} was wrapped or replaced"
    # A decorator without functools.wraps hides the method in a closure: by value, with the closure.
    if first is not None and not any(same_code(first.__code__, code) for code in codes):
        return f"{node.name} was replaced"
    return ""


def _attribute_difference(
    node: ast.Assign | ast.AnnAssign,
    attributes: Mapping[str, object],
    owner: str,
    namespace: Mapping[str, object],
) -> str:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        if not isinstance(target, ast.Name) or node.value is None:
            continue
        name = _mangled(target.id, owner)
        if name not in attributes:
            return f"{name} was removed"
        if _is_changed(node.value, attributes[name], namespace):
            return f"{name} was changed"
    return ""


def _is_slot(value: object) -> bool:
    return isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType))


def _undecorated(value: object) -> object:
    """Return what a method without decorators is; these two are made class methods by Python."""
    return value.__func__ if isinstance(value, (staticmethod, classmethod)) else value


def _is_plain(live: type, node: ast.ClassDef) -> bool:
    """True where nothing but the class body made the class's attributes."""
    hooks = [base for base in live.__mro__[1:-1] if "__init_subclass__" in vars(base)]
    return type(live) is type and not (node.decorator_list or hooks or _originals(live))


def _bound_in(node: ast.ClassDef) -> set[str]:
    """Return the names that the class body binds."""
    bodies = [code for code in walk(compiled(node)) if code.co_name == node.name]
    steps = [step for code in bodies for step in dis.get_instructions(code)]
    return {step.argval for step in steps if step.opname == "STORE_NAME"}


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _mangled(name: str, owner: str) -> str:
    is_private = name.startswith("__") and not name.endswith("__")
    return f"_{owner.lstrip('_')}{name}" if is_private else name
