"""What an input is made of before it is understood: mappings, lists and cells that know their line.

YAML is read from its events: every scalar stays the text that was typed, so `no` and `1e3` can be
names, `on` can be a key, and nothing is ever constructed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from jupyter_aios.allocation.assignment import AssignmentProblem
from jupyter_aios.allocation.problem import Problem
from jupyter_aios.allocation.reading.faults import Faults
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


EXAMPLE = "nodes: {count: 4, cpus: 32, gpus: 8} and tasks: [...], or r: [3, 5, 2] and c: [6, 4]"
_DEEPEST = 16
_EMPTY = frozenset({"", "~", "null", "Null", "NULL"})
_MERGE = "<<"


@dataclass(frozen=True, eq=False)
class Reading:
    """What an input asks for: to place tasks on nodes, or to do so at the least cost."""

    objective: str
    """What is meant where nobody says otherwise."""
    problem: Problem | None = None
    assignment: AssignmentProblem | None = None
    """A generalized assignment problem, in the place of `problem`."""


class Map(dict[str, Any]):
    """A mapping with the line of each value."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Seq(list[Any]):
    """A list with the line of each entry."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


def line_of(value: Any, *path: str | int) -> int:  # noqa: ANN401 - any part of an input
    """Return the line of what lies at a path, or of the last part of the way; 0 for none."""
    line = getattr(value, "line", 0)
    for key in path:
        is_there = (isinstance(value, Map) and key in value) or (
            isinstance(value, Seq) and isinstance(key, int) and key < len(value)
        )
        if not is_there:
            break
        line, value = value.lines[key], value[key]
    return line


def parse(text: str, first_line: int = 1) -> Any:  # noqa: ANN401 - whatever was typed
    """Return the mappings, lists and cells of a YAML text; `first_line` is its first line's number.

    Raises:
        InputError: the text is empty, or no YAML; with the line.

    """
    if not text.strip():
        raise InputError("there is nothing to read", hint=EXAMPLE)
    faults = Faults()
    try:
        found = _Builder(text, first_line, faults).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line if mark else 0) + first_line
        said = " ".join(str(part) for part in (error.problem, error.context) if part)
        raise InputError(f"line {line}: this is no YAML: {said}", hint=EXAMPLE) from None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0) or 0) + first_line
        said = getattr(error, "reason", None) or str(error)
        raise InputError(f"line {line}: this is no YAML: {said}", hint=EXAMPLE) from None
    faults.raise_any()
    return found


class _Builder:
    """Makes values of events, one after the other."""

    def __init__(self, text: str, first_line: int, faults: Faults) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=loader))
        self._first_line = first_line
        self._faults = faults
        self._anchors: dict[str, Any] = {}
        self._open: set[str] = set()

    def build(self) -> Any:  # noqa: ANN401 - whatever was typed
        found, documents = None, 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fault(event, "a second document begins; one is read")
                    break
                found = self._value(next(self._events), 0)
        return found

    def _line(self, event: Any) -> int:  # noqa: ANN401 - PyYAML's events have no common type
        return int(event.start_mark.line) + self._first_line

    def _fault(self, event: Any, message: str, hint: str = "") -> None:  # noqa: ANN401 - as above
        line = self._line(event)
        self._faults.add(message, f"line {line}", line, hint)

    def _value(self, event: Any, depth: int) -> Any:  # noqa: ANN401 - as above
        if depth > _DEEPEST:
            raise InputError(f"line {self._line(event)}: this is nested too deeply", hint=EXAMPLE)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open or event.anchor not in self._anchors:
                is_open = event.anchor in self._open
                why = "stands inside of itself" if is_open else "is defined nowhere before it"
                self._fault(event, f"*{event.anchor} {why}")
                return None
            return self._anchors[event.anchor]
        if event.anchor:
            self._open.add(event.anchor)
        found = self._new_value(event, depth)
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = found
        return found

    def _new_value(self, event: Any, depth: int) -> Any:  # noqa: ANN401 - as above
        if isinstance(event, yaml.ScalarEvent):
            return None if not event.style and event.value in _EMPTY else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        return self._mapping(event, depth)

    def _sequence(self, start: Any, depth: int) -> Seq:  # noqa: ANN401 - as above
        found = Seq(self._line(start))
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.lines.append(self._line(event))
            found.append(self._value(event, depth + 1))
        return found

    def _mapping(self, start: Any, depth: int) -> Map:  # noqa: ANN401 - as above
        found, merged = Map(self._line(start)), []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            of_value = next(self._events)
            value = self._value(of_value, depth + 1)
            if not isinstance(key, str):
                self._fault(event, "a key is a single word")
            elif key == _MERGE:
                merged += value if isinstance(value, Seq) else [value]
            elif key in found:
                self._fault(event, f"{key} is said twice, first in line {found.lines[key]}")
            else:
                found[key] = value
                found.lines[key] = self._line(of_value)
        for other in merged:
            if not isinstance(other, Map):
                self._fault(start, "<< merges mappings only")
                continue
            for key in other.keys() - found.keys():
                found[key], found.lines[key] = other[key], other.lines[key]
        return found
