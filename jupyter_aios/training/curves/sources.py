"""The person's code as text: whose frame is whose, where a call stands, and what it is called."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
import sysconfig
from itertools import islice
from typing import TYPE_CHECKING

import torch

from jupyter_aios.training import loading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_LIBRARIES = tuple(
    os.path.join(folder, "")  # noqa: PTH118 - it must end with a slash
    for folder in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        __file__.rpartition("/training/")[0],
    )
)
_BACKWARDS = frozenset({"backward", "manual_backward"})
_LONGEST_NAME = 40


TENSOR_BACKWARD = torch.Tensor.backward.__code__
_TORCH = torch.__file__.rpartition("/")[0] + "/"


def caller_of(frame: FrameType | None) -> FrameType | None:
    """Return the frame outside torch that called `backward`; None for torch's own calls.

    Args:
        frame: of whoever called `torch.autograd.backward`.

    """
    if frame is None:
        return None
    is_method = frame.f_code is TENSOR_BACKWARD
    if not is_method and frame.f_code.co_filename.startswith(_TORCH):
        return None  # a checkpoint that is computed again, a stage of a pipeline
    caller = frame.f_back if is_method else frame
    while caller is not None and caller.f_code.co_filename.startswith(_TORCH):
        caller = caller.f_back
    return caller


@functools.cache
def is_persons(filename: str) -> bool:
    """Return whether the person wrote this file: a cell, a script, a package beside it."""
    return not (
        filename.startswith(("<", _LIBRARIES[0], _LIBRARIES[1], _LIBRARIES[2]))
        or "/site-packages/" in filename
        or "/dist-packages/" in filename
    )


def persons_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the person's frames from `frame` outwards, up to that of the module."""
    while frame is not None:
        if is_persons(frame.f_code.co_filename):
            yield frame
            if frame.f_code.co_name == "<module>":
                return
        frame = frame.f_back


def place_of(frame: FrameType) -> str:
    """Return where a frame is, as people call it: `Cell In[3], line 12`."""
    return f"{loading.origin_of(frame.f_code.co_filename)}, line {frame.f_lineno}"


_trees: dict[str, ast.Module | None] = {}


def tree_of(filename: str) -> ast.Module | None:
    """Return a file's syntax tree, or None where its text is not to be had."""
    if filename not in _trees:
        try:
            tree = ast.parse("".join(linecache.getlines(filename)))
        except (SyntaxError, ValueError):
            tree = None
        _trees[filename] = tree if tree is not None and tree.body else None
    return _trees[filename]


def call_at(frame: FrameType) -> ast.Call | None:
    """Return the call that a frame is in; where that is unclear, the one to backward() there."""
    tree = tree_of(frame.f_code.co_filename)
    if tree is None:
        return None
    line = frame.f_lineno
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if sys.version_info >= (3, 11):
        position = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
        for call in calls:
            own = (call.lineno, call.end_lineno, call.col_offset, call.end_col_offset)
            if own == position:
                return call
    candidates = [call for call in calls if is_backward(call)]
    return candidates[0] if candidates else None


def is_backward(call: ast.Call) -> bool:
    """Return whether a call looks like one to `backward`."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in _BACKWARDS
    return isinstance(call.func, ast.Name) and call.func.id in _BACKWARDS


def roots_of(call: ast.Call) -> list[ast.expr]:
    """Return the expressions that a call to `backward` differentiates."""
    given = [arg for arg in call.args if not isinstance(arg, ast.Constant)]
    given += [word.value for word in call.keywords if word.arg == "tensors"]
    root = given[0] if given else call.func
    if root is call.func:
        return [call.func.value] if isinstance(call.func, ast.Attribute) else []
    return list(root.elts) if isinstance(root, (ast.List, ast.Tuple)) else [root]


def name_of(node: ast.expr) -> str:
    """Return what people call the value of an expression.

    Example:
        >>> name_of(ast.parse("scaler.scale(self.loss / 4)", mode="eval").body)
        'loss'

    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.Mult)):
        scaled = node.right if isinstance(node.left, ast.Constant) else node.left
        if isinstance(node.op, ast.Div) or ast.Constant in (type(node.left), type(node.right)):
            return name_of(scaled)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "scale" and node.args:
            return name_of(node.args[0])
        if node.func.attr in ("mean", "sum", "float", "squeeze"):
            return name_of(node.func.value)
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).rpartition(".")[2][:_LONGEST_NAME]
    return ast.unparse(node).removeprefix("self.")[:_LONGEST_NAME]


def series_names(call: ast.Call, tree: ast.Module) -> list[str]:
    """Return the names of a call's curves: `loss` for the only one, else what tells them apart."""
    others = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_backward(node) and node is not call
    ]
    names = [name_of(root) for root in roots_of(call)] or ["loss"]
    if not others:
        return ["loss"] if len(names) == 1 else names
    taken = {name_of(root): other for other in others for root in roots_of(other)}
    scope = _function_around(call, tree)
    scopes = {_function_around(other, tree) for other in others}
    telling = f"{scope}" if scope and scope not in scopes else f"line {call.lineno}"
    return [f"{name} ({telling})" if name in taken else name for name in names]


def _function_around(call: ast.Call, tree: ast.Module) -> str:
    line = call.lineno
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno).name if around else ""
