"""Which global names a piece of code reads, and whether it binds them before it does."""

# ruff: noqa: N815 - ast.NodeVisitor names its methods after the classes of nodes.
from __future__ import annotations

import ast
import contextlib
import dis
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_READS = frozenset({"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"})
_NEW_LOCALS = 0x2
"""`CO_NEWLOCALS`: set for functions, not for the bodies of classes."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definable = Function | ast.ClassDef


def global_names(code: CodeType) -> frozenset[str]:
    """Return the names that `code`, and all code inside it, looks up outside of itself."""
    return frozenset(name for part in walk(code) for name in _own_names(part))


def dotted_names(code: CodeType) -> frozenset[str]:
    """Return every name and attribute that `code`, and all code inside it, mentions."""
    return frozenset(name for part in walk(code) for name in part.co_names)


def annotation_names(*annotations: object) -> frozenset[str]:
    """Return the names in annotations: in trees of code, and in texts that are read only later."""
    found: set[str] = set()
    for annotation in annotations:
        if isinstance(annotation, str):
            with contextlib.suppress(SyntaxError, ValueError):
                found |= annotation_names(ast.parse(annotation, mode="eval"))
        elif isinstance(annotation, ast.AST):
            for node in ast.walk(annotation):
                if isinstance(node, ast.Name):
                    found.add(node.id)
                elif isinstance(node, ast.Constant):
                    found |= annotation_names(node.value)
    return frozenset(found)


def annotations_in(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield all annotations of variables, arguments and results in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            yield node.returns


def early_names(code: CodeType) -> frozenset[str]:
    """Return the names that a module's code looks up while it runs, functions left out.

    Comprehensions and lambdas count: `sorted(x, key=lambda …)` in a class body runs at once.
    """
    names = set(_own_names(code))
    for part in nested(code):
        if not part.co_flags & _NEW_LOCALS or part.co_name.startswith("<"):
            names |= early_names(part)
    return frozenset(names)


def walk(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and all code objects inside it."""
    yield code
    for part in nested(code):
        yield from walk(part)


def nested(code: CodeType) -> list[CodeType]:
    """Return the code objects directly inside `code`."""
    return [const for const in code.co_consts if isinstance(const, CodeType)]


def _own_names(code: CodeType) -> set[str]:
    return {step.argval for step in dis.get_instructions(code) if step.opname in _READS}


def compiled(*statements: ast.stmt, flags: int = 0) -> CodeType:
    """Return the code of a module that consists of `statements`."""
    module = ast.Module(body=list(statements), type_ignores=[])
    code: CodeType = compile(module, "<cut>", "exec", flags=flags, dont_inherit=True)
    return code


def unbound_names(tree: ast.Module) -> frozenset[str]:
    """Return the global names that a cell reads before it binds them itself.

    A function's names count from where the function is first mentioned, because it cannot be
    called before; bodies of loops count as run; of branches, only what all of them bind is bound.
    """
    flow = _Flow()
    flow.run(tree.body)
    for name in list(flow.deferred):
        flow.read(name)
    return frozenset(flow.free)


class _Flow(ast.NodeVisitor):
    """Walks the statements of a module in the order of their evaluation."""

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self.free: set[str] = set()
        self.deferred: dict[str, set[str]] = {}
        self._owner = ""

    def run(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def read(self, name: str) -> None:
        """Count a use of `name`: its own, and those of the function that it names."""
        if name not in self.bound:
            self.free.add(name)
        for inner in self.deferred.pop(name, ()):
            self.read(inner)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)
        else:
            self.bound.discard(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.run([node.value, *node.targets])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.run([node.annotation, node.value])
        if node.value is not None:
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self.run([node.value, node.target])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.run([node.value, node.target])

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}

    visit_ImportFrom = visit_Import

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.run([node.iter, node.target, *node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches([node.body, node.orelse])

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        # Without a case for everything, no case may run; nothing is surely bound afterwards.
        self._branches([*([case] for case in node.cases), []])

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name is not None:
            self.bound.add(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_Try(self, node: ast.Try) -> None:
        bodies: list[list[ast.AST]] = [[*node.body, *node.orelse]]
        bodies += [[handler] for handler in node.handlers]
        self._branches(bodies)
        self.run(node.finalbody)

    visit_TryStar = visit_Try

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.run([node.type])
        if node.name:
            self.bound.add(node.name)
        self.run(node.body)
        self.bound.discard(node.name or "")

    def _branches(self, bodies: Iterable[Iterable[ast.AST]]) -> None:
        before, results = self.bound, []
        for body in bodies:
            self.bound = set(before)
            self.run(body)
            results.append(self.bound)
        self.bound = set.intersection(*results)

    def _visit_scope(self, node: ast.expr) -> None:
        """Count what a comprehension or lambda reads; its own variables are not of the module."""
        code = compile(ast.Expression(node), "<cut>", "eval", dont_inherit=True)
        for name in global_names(code):
            self.read(name)

    visit_ListComp = visit_SetComp = visit_DictComp = _visit_scope
    visit_GeneratorExp = visit_Lambda = _visit_scope

    def visit_FunctionDef(self, node: Function) -> None:
        module = compiled(node)
        for name in early_names(module):
            self.read(name)
        self.bound.add(node.name)
        body = {name for part in nested(module) for name in global_names(part)}
        self.deferred.setdefault(self._owner or node.name, set()).update(body)
        if node.decorator_list and not self._owner:
            self.read(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.run([*node.decorator_list, *node.bases, *(word.value for word in node.keywords)])
        outer, owner = self.bound, self._owner
        self.bound, self._owner = set(outer), owner or node.name
        self.run(node.body)
        self.bound, self._owner = outer, owner
        self.bound.add(node.name)
        if node.decorator_list and not owner:
            self.read(node.name)
