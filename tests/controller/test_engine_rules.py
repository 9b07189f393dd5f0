"""No engine does what nobody was admitted for: these tests read the code of the controller."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios import controller
from jupyter_aios.controller.routes import ENDPOINTS
from jupyter_aios.controller.rules import ENGINE_ACTIONS, RULES
from jupyter_aios.controller.safe_routes import SAFE_ENDPOINTS
from jupyter_aios.core.policy import Action
from jupyter_aios.core.ports import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(controller.__file__).parent
METHODS = {name for name, _ in inspect.getmembers(Engine, inspect.isfunction) if name[0] != "_"}
CALLERS = ("service", "pruning", "loop")
"""The modules that hold engines. Who else calls one is found by the test that reads them all."""

FAREWELL = {Action.CONTROLLER_STOP: Action.STATUS_READ}
"""Whoever ends the controller is told how it was."""


def functions(module: str) -> dict[str, ast.FunctionDef]:
    """Return the functions and methods of a module of the controller, by name."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def calls(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (what it is called on, name) for every call; `self._engine(…)` reads as `_engine`."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
            receiver = one.func.value
            if isinstance(receiver, ast.Call):
                receiver = receiver.func
            if isinstance(receiver, ast.Subscript):
                receiver = receiver.value
            named = receiver.attr if isinstance(receiver, ast.Attribute) else ""
            yield (receiver.id if isinstance(receiver, ast.Name) else named), one.func.attr
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
            yield "", one.func.id


def is_engine(receiver: str) -> bool:
    return receiver.strip("_") in ("engine", "engines")


def engine_calls(name: str, seen: set[str]) -> set[str]:
    """Return the engine's methods that a use case reaches, through whatever functions it calls."""
    known = {n: f for module in ("service", "pruning") for n, f in functions(module).items()}
    if name in seen or name not in known:
        return set()
    seen.add(name)
    found: set[str] = set()
    for receiver, called in calls(known[name]):
        if is_engine(receiver) and called in METHODS:
            found.add(called)
        elif receiver in ("self", ""):
            found |= engine_calls(called, seen)
    return found


def test_every_method_of_an_engine_has_a_line() -> None:
    assert set(ENGINE_ACTIONS) == METHODS


def test_only_those_modules_hold_engines_that_these_tests_read() -> None:
    holders = {
        path.stem
        for path in FOLDER.glob("*.py")
        for receiver, called in calls(ast.parse(path.read_text(encoding="utf-8")))
        if is_engine(receiver) and called in METHODS
    }
    # The assembly closes them, at the controller's end.
    assert holders - {"assembly"} == set(CALLERS)


@pytest.mark.parametrize("module", CALLERS)
def test_whatever_an_engine_is_told_has_a_rule(module: str) -> None:
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    told = {called for receiver, called in calls(tree) if is_engine(receiver)}
    assert told & METHODS
    for called in told - {"values", "items", "get"}:  # of the mapping that holds the engines
        assert called in ENGINE_ACTIONS, called


def test_no_route_reaches_what_its_rule_does_not_cover() -> None:
    reached = {}
    for method, path, endpoint, _ in (*ENDPOINTS, *SAFE_ENDPOINTS):
        tree = ast.parse(inspect.getsource(endpoint))
        use_cases = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        told = set().union(*(engine_calls(name, set()) for name in use_cases))
        reached[method, path] = told
        action = RULES[method, path].action
        covered = {action, FAREWELL.get(action)}
        allowed = {name for name in METHODS if ENGINE_ACTIONS[name] in covered}
        assert told <= allowed, (method, path)
    # It does see through to the engines: these are known.
    assert reached["POST", "/v1/jobs/{key}/cancel"] == {"stop"}
    assert reached["POST", "/v1/jobs/{key}/cells"] == {"run_cell"}
    assert reached["GET", "/v1/jobs/{key}/results/{name:path}"] == {"results", "result_path"}
    assert reached["POST", "/v1/jobs"] == {"plan"}
    assert reached["POST", "/v1/prune"] == {"discard"}
