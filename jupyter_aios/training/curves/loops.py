"""How many times a line will be reached, read from the `for` loops around it.

Only lengths that can be had without running anything of the person's are used: `len` of a value
that a name holds, and `range`, `enumerate`, `zip`, `tqdm` and the like around such.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.training import loading
from jupyter_aios.training.curves.sources import persons_frames, tree_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_AS_LONG_AS_THEIR_FIRST = frozenset(
    {"enumerate", "tqdm", "track", "list", "tuple", "reversed", "sorted", "iter", "shuffle"}
)
_LENGTH_IS_THE_ARGUMENT = frozenset({"trange", "randperm"})


@dataclass(frozen=True)
class Rounds:
    """How often the loops go round."""

    count: int
    """0 where that is unknown."""
    how: str
    """`20 epochs × 20 batches`, or why it is unknown."""
    loops: tuple[tuple[str, int], ...] = ()
    """Files and lines of the loops, outermost first: two calls in the same loops are one thing."""
    innermost: int = 1
    """How often the innermost loop goes round; groups of micro-batches begin anew with it."""

    def steps(self, micro_batches: int) -> int:
        """Return how many optimizer steps there will be, of so many rounds each."""
        if not self.count:
            return 0
        return self.count // self.innermost * math.ceil(self.innermost / micro_batches)


def rounds_of(frame: FrameType) -> Rounds:
    """Return how often the line that `frame` is at will be reached, of now and of the future."""
    found: list[tuple[FrameType, ast.For | ast.AsyncFor | ast.While]] = []
    for outer in persons_frames(frame):
        found = [(outer, loop) for loop in _loops_around(outer)] + found
    if not found:
        return Rounds(0, "no for loop goes around backward()")
    loops = tuple((outer.f_code.co_filename, loop.lineno) for outer, loop in found)
    count, innermost = 1, 1
    parts = []
    for outer, loop in found:
        place = f"{loading.origin_of(outer.f_code.co_filename)}, line {loop.lineno}"
        if isinstance(loop, ast.While):
            return Rounds(0, f"the while loop at {place} has no known end", loops)
        length = _length(loop.iter, outer)
        if length is None:
            text = ast.unparse(loop.iter)[:60]
            return Rounds(0, f"the length of {text} at {place} is not known", loops)
        count, innermost = count * length, length
        parts.append(f"{length} {_noun(loop)}")
    return Rounds(count, " × ".join(parts), loops, innermost)


def _loops_around(frame: FrameType) -> list[ast.For | ast.AsyncFor | ast.While]:
    """Return the loops of the frame's own function around its line, outermost first."""
    node: ast.AST | None = tree_of(frame.f_code.co_filename)
    loops: list[ast.For | ast.AsyncFor | ast.While] = []
    while node is not None:
        inner = next((s for s in _statements(node) if _has_line(s, frame.f_lineno)), None)
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and inner in node.body:
            loops.append(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            loops = []  # what is around a definition is not around its calls
        node = inner
    return loops


def _statements(node: ast.AST) -> Iterator[ast.stmt | ast.ExceptHandler]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield child
        elif isinstance(child, ast.match_case):
            yield from child.body


def _has_line(node: ast.stmt | ast.ExceptHandler, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or 0)


def _noun(loop: ast.For | ast.AsyncFor) -> str:
    target = loop.target
    if isinstance(target, ast.Tuple) and target.elts and _called(loop.iter) == "enumerate":
        target = target.elts[-1]
    if isinstance(target, ast.Name) and len(target.id.strip("_")) > 1:
        name = target.id.strip("_")
        return name if name.endswith("s") else f"{name}{'es' if name.endswith('tch') else 's'}"
    return "batches" if isinstance(target, ast.Tuple) else "rounds"


def _called(node: ast.expr) -> str:
    """Return the last part of the name of the function that is called."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _length(node: ast.expr, frame: FrameType) -> int | None:
    """Return how many items an expression will give, or None."""
    if isinstance(node, ast.Call):
        return _call_length(node, frame) if node.args else None
    if isinstance(node, (ast.List, ast.Tuple)):
        return None if any(isinstance(e, ast.Starred) for e in node.elts) else len(node.elts)
    return _len(_value(node, frame))


def _call_length(call: ast.Call, frame: FrameType) -> int | None:
    name, first = _called(call), call.args[0]
    length: int | None = None
    if name == "range":
        numbers = _all_known([_number(arg, frame) for arg in call.args])
        if numbers and len(numbers) <= 3 and numbers[2:] != [0]:  # noqa: PLR2004 - of range()
            length = len(range(*numbers))
    elif name == "zip":
        length = min(_all_known([_length(arg, frame) for arg in call.args]), default=None)
    elif name in _AS_LONG_AS_THEIR_FIRST:
        length = _length(first, frame)
    elif name in _LENGTH_IS_THE_ARGUMENT:
        length = _number(first, frame)
    elif name == "split" and isinstance(call.func, ast.Attribute):
        length = _pieces(call.func.value, first, frame)
    return length


def _all_known(numbers: list[int | None]) -> list[int]:
    """Return the numbers, or none of them where one is missing."""
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else []


def _pieces(whole: ast.expr, size: ast.expr, frame: FrameType) -> int | None:
    """Return the number of `tensor.split(size)`'s pieces; strings have a method of that name."""
    value = _value(whole, frame)
    if isinstance(value, str):
        return None
    length, each = _length(whole, frame), _number(size, frame)
    return math.ceil(length / each) if length is not None and each else None


_UNKNOWN = object()


def _value(node: ast.expr, frame: FrameType) -> object:
    """Return what a name, or an attribute of one, holds now."""
    if isinstance(node, ast.Name):
        for names in (frame.f_locals, frame.f_globals):
            if node.id in names:
                return names[node.id]
    if isinstance(node, ast.Attribute):
        holder = _value(node.value, frame)
        # From where it is stored: a property would run code.
        stored: dict[str, object] = getattr(holder, "__dict__", {})
        return stored.get(node.attr, _UNKNOWN)
    if isinstance(node, ast.Constant):
        return node.value
    return _UNKNOWN


def _len(value: object) -> int | None:
    try:
        return len(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - __len__ may be the person's, and an unknown length is none
        return None


_OPERATIONS: dict[type[ast.operator], Callable[[int, int], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Div: lambda a, b: a / b,
}


def _number(node: ast.expr, frame: FrameType) -> int | None:
    """Return the whole number that an expression of names, `len` and arithmetic means."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _number(node.left, frame), _number(node.right, frame)
        if left is None or right is None:
            return None
        try:
            result = _OPERATIONS[type(node.op)](left, right)
        except ArithmeticError:
            return None
        return int(result) if result == int(result) else None
    if isinstance(node, ast.Call) and node.args and _called(node) in ("len", "int"):
        inside = node.args[0]
        return _length(inside, frame) if _called(node) == "len" else _number(inside, frame)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _number(node.operand, frame)
        return None if number is None else -number
    value = _value(node, frame)
    return value if isinstance(value, int) else None
