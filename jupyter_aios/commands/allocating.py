"""`allocate`: place tasks on nodes, from a file, a cell, tables, traces or the live cluster.

This file is loaded with the first verb; numpy and the allocator are when something is placed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.allocation.levels import FIRST_LEVELS, LATER_LEVELS
from jupyter_aios.commands.options import VIEWS, read_view
from jupyter_aios.commands.solving import (
    AllocateOptions,
    read_objective,
    read_seed,
    read_time_limit,
    solve,
)
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from jupyter_aios.allocation.assignment import AssignmentProblem
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.allocation.reading import Reading
    from jupyter_aios.commands.answer import AllocationAnswer
    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.place import Place

_EXAMPLE = "%%aios_allocate with `nodes:` and `tasks:` below it, or `r: [3, 5, 2]` and `c: [6, 4]`"


def add_allocate(parser: Parser) -> None:
    """Declare the arguments of `allocate`."""
    add = parser.add_argument
    add(
        "file",
        metavar="FILE",
        nargs="?",
        help="a text of nodes and tasks (docs/allocation-input.md)",
    )
    add(
        "--objective", metavar="NAME[,NAME]",
        help=f"first {', '.join(FIRST_LEVELS)}; then any of {', '.join(LATER_LEVELS)}"
        " (default priority; feasible for r and c)",
    )  # fmt: skip
    add(
        "--time-limit",
        metavar="TIME",
        help="return the best after so long (default 5 s; more from 100,000 tasks on)",
    )
    add("--seed", metavar="N", help="of everything random (default 0)")
    add("--compare", action="store_true", help="solve it with the usual schedulers' rules too")
    add("--nodes-csv", metavar="FILE", help="machines of a trace; with --tasks-csv")
    add("--tasks-csv", metavar="FILE", help="tasks of a trace; with --nodes-csv")
    add("--live", action="store_true", help="the jobs that wait, on this cluster, beside what runs")
    if parser.prog.startswith("%"):
        add("--nodes", metavar="VARIABLE", help="a DataFrame of nodes; with --tasks")
        add("--tasks", metavar="VARIABLE", help="a DataFrame of tasks; with --nodes")
        add("--name", metavar="VARIABLE", help="what the answer is called in the notebook")
        add(
            "--view", metavar="|".join(VIEWS),
            help="a map, or only text (default: a map in a notebook, unless AIOS_VIEW=text)",
        )  # fmt: skip


def allocate_file(arguments: argparse.Namespace, place: Place) -> AllocationAnswer:
    """Place what the arguments name."""
    return allocate_typed(arguments, "", place)


def allocate_typed(arguments: argparse.Namespace, cell: str, place: Place) -> AllocationAnswer:
    """Place what the arguments or the cell below them say; return the answer.

    Raises:
        InputError: nothing, or several things, are to be placed; all faults of the input at once.

    """
    options = read_allocate_options(arguments)
    name = getattr(arguments, "name", None) or ""
    if name and not name.isidentifier():
        raise InputError(f"--name {name}: not a variable's name", hint="--name answer")
    answer = solve(_source(arguments, cell, place), options)
    if name and place.namespace is not None:
        place.namespace[name] = answer
    return answer


def read_allocate_options(arguments: argparse.Namespace) -> AllocateOptions:
    """Return the options of a typed line.

    Raises:
        InputError: all faults at once.

    """
    found: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    view = getattr(arguments, "view", None)
    for option, text, read in (
        ("objective", arguments.objective, read_objective),
        ("time_limit_s", arguments.time_limit, read_time_limit),
        ("seed", arguments.seed, read_seed),
        ("view", view, read_view),
    ):
        if text is None:
            continue
        try:
            found[option] = read(text)
        except InputError as error:
            shown = f"--{option.removesuffix('_s').replace('_', '-')} {text}"
            faults.append((f"{shown}: {error.message}", error.hint))
    if faults:
        raise InputError.of_faults([text for text, _ in faults], hint=faults[0][1])
    return AllocateOptions(**found, compare=bool(arguments.compare))


# ---------------------------------------------------------------------------- what is to be placed


def _source(arguments: argparse.Namespace, cell: str, place: Place) -> Reading:
    tables = [getattr(arguments, key, None) for key in ("nodes", "tasks")]
    files = [arguments.nodes_csv, arguments.tasks_csv]
    given = {
        "FILE": bool(arguments.file),
        "the cell": bool(cell.strip()),
        "--nodes and --tasks": any(tables),
        "--nodes-csv and --tasks-csv": any(files),
        "--live": bool(arguments.live),
    }
    said = [what for what, is_said in given.items() if is_said]
    # A cell below tables may hold quotas.
    if len(said) > 1 and said != ["the cell", "--nodes and --tasks"]:
        raise InputError(f"{' and '.join(said)}: one of them says what is to be placed")
    if not said:
        hint = _EXAMPLE if place.namespace is not None else f"{place.prefix} allocate problem.yaml"
        raise InputError("there is nothing to place", hint=hint)
    if any(tables):
        return _of_tables(tables, cell, place)
    if any(files):
        return _of_traces(files)
    if arguments.live:
        return _of_cluster(place)
    return _of_text(arguments.file, cell)


def _of_text(file: str | None, cell: str) -> Reading:
    from jupyter_aios.allocation.reading import read

    if file is None:
        return read(cell, first_line=2)  # the magic's own line is the first of the cell
    return read(_text_of(Path(file)))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "this is no text in UTF-8"
        raise InputError(f"{path}: {why}", hint="a file with nodes: and tasks:") from None


def _of_tables(names: list[str | None], cell: str, place: Place) -> Reading:
    from jupyter_aios.allocation.reading import read_plain
    from jupyter_aios.allocation.reading.tree import parse

    found: dict[str, Any] = {}
    if cell.strip():
        below = parse(cell, first_line=2)
        if not isinstance(below, dict) or set(below) - {"quotas"}:
            raise InputError("below --nodes and --tasks there may only be quotas")
        found = below
    variables = place.namespace or {}
    for key, name in zip(("nodes", "tasks"), names, strict=True):
        if name is None:
            raise InputError(f"--{key} is missing", hint="--nodes VARIABLE --tasks VARIABLE")
        if name not in variables:
            shown = [one for one in variables if not one.startswith("_")]
            raise UnknownNameError.among("variable", name, shown)
        found[key] = variables[name]
    return read_plain(found)


def _of_traces(files: list[str | None]) -> Reading:
    from jupyter_aios.allocation.reading import Reading, read_trace

    nodes, tasks = files
    if nodes is None or tasks is None:
        missing = "--nodes-csv" if nodes is None else "--tasks-csv"
        raise InputError(f"{missing} is missing", hint="--nodes-csv FILE --tasks-csv FILE")
    return Reading("priority", read_trace(nodes, tasks))


def _of_cluster(place: Place) -> Reading:
    from jupyter_aios.allocation.reading import Reading, problem_of_cluster

    live = [state for state in JobState if not state.is_terminal]
    jobs = place.client.jobs(states=live)
    return Reading("priority", problem_of_cluster(place.client.nodes(), jobs))


def allocate(
    what: Problem | AssignmentProblem | Mapping[str, Any] | str | Path | None = None,
    *,
    nodes: Any = None,  # noqa: ANN401 - any table, or what the text format says
    tasks: Any = None,  # noqa: ANN401 - the same
    quotas: Mapping[str, Any] | None = None,
    objective: str = "",
    time_limit_s: float | None = None,
    seed: int = 0,
    compare: bool = False,
) -> AllocationAnswer:
    """Place tasks on nodes, and return the best allocation with what it is worth and why.

    Args:
        what: the text of a problem, the path of such a text, a mapping with the same keys, or a
            problem as data. Without it, `nodes` and `tasks` are DataFrames or lists of mappings.
        nodes: a row for each node.
        tasks: a row for each task.
        quotas: limits of users and groups: `{"user ada": {"gpus": 4}}`.
        objective: levels, the first one first: `priority`, `gpu,moves,balance`, `feasible`, `cost`.
        time_limit_s: the best is returned after so many seconds (None: 5, or more from 100,000
            tasks on).
        seed: of everything random.
        compare: also solve it with the usual schedulers' rules.

    Raises:
        InputError: all faults of the input at once, with line or row.

    Example:
        answer = aios.allocate({"r": [3, 5, 2], "c": [6, 5]})
        answer.allocation.status, answer.table()

    """
    options = AllocateOptions(
        read_objective(objective) if objective else "",
        None if time_limit_s is None else read_time_limit(f"{time_limit_s:f}"),
        read_seed(seed),
        compare,
    )
    if what is None:
        what = {"nodes": nodes, "tasks": tasks} | ({"quotas": quotas} if quotas else {})
    elif nodes is not None or tasks is not None or quotas is not None:
        raise InputError("the problem is said twice", hint="allocate(nodes=…, tasks=…)")
    return solve(_reading_of(what), options)


def _reading_of(what: object) -> Reading:
    from jupyter_aios.allocation.assignment import AssignmentProblem
    from jupyter_aios.allocation.problem import Problem
    from jupyter_aios.allocation.reading import Reading, read, read_plain

    if isinstance(what, Problem):
        return Reading("priority", what)
    if isinstance(what, AssignmentProblem):
        return Reading("cost", assignment=what)
    if isinstance(what, Path):
        return read(_text_of(what))
    if isinstance(what, str):
        return read(what if ":" in what else _text_of(Path(what)))
    return read_plain(what)  # type: ignore[arg-type] # it says what it is not
