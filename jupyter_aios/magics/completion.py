"""What may stand at the cursor: verbs, options, their values, names of jobs and variables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion

from jupyter_aios.commands import tree
from jupyter_aios.commands.options import choices
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import AiosError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.place import Place

_JOBS = 50
_FRESH_S = 5.0
"""Job names are asked for at most so often: completion runs at every key in some editors."""
_known: tuple[float, list[str]] = (float("-inf"), [])


def completions(line: str, token: str, place: Place) -> dict[str, Any]:
    """Return the completions of `line` in the form of IPython's matchers."""
    word = "" if line.endswith(" ") else line.rsplit(maxsplit=1)[-1]
    # IPython's token may begin after the dashes of an option.
    head = word[: len(word) - len(token)]
    texts = [one[len(head) :] for one in words_after(line, place) if one.startswith(word)]
    return {
        "completions": [SimpleCompletion(text, type="param") for text in texts],
        "suppress": bool(texts),
        "matched_fragment": token,
    }


def words_after(line: str, place: Place) -> Iterable[str]:
    """Return all words that may be the last one of `line`."""
    words = line.split()
    before = words if line.endswith(" ") else words[:-1]
    word = "" if line.endswith(" ") or not words else words[-1]
    if not before:
        return []
    if before[0] in {"%%aios_train", "%aios_train"}:
        from jupyter_aios.magics.training import train_parser

        return _of_parser(train_parser(), before[1:], place)
    if before[0] in {"%%aios_allocate", "%aios_allocate"}:
        from jupyter_aios.magics.allocating import allocate_parser

        return _of_parser(allocate_parser(), before[1:], place, word)
    verbs = tree.known_verbs(in_notebook=True)
    if len(before) == 1:
        return [*verbs, "-h"]
    verb = verbs.get(before[1])
    if verb is None:
        return []
    parser = verb.parser("%aios")
    found = _of_parser(parser, before[2:], place, word)
    takes_name = verb.takes_jobs and not _takes_value(parser, before[-1])
    return [*_job_names(place), *found] if takes_name else found


def _takes_value(parser: Parser, word: str) -> bool:
    action = parser.options().get(word)
    return action is not None and action.nargs != 0


def _of_parser(parser: Parser, before: list[str], place: Place, word: str = "") -> Iterable[str]:
    last = before[-1] if before else ""
    if not _takes_value(parser, last):
        return [option for option in parser.options() if option not in before]
    if last in {"--nodes", "--tasks"} and "--nodes-csv" not in parser.options():
        return []
    values = _VALUES.get(last)
    return choices(last) if values is None else values(place, word)


def _objectives(word: str) -> list[str]:
    """Return the levels that may follow those that are typed already: `gpu,mo` → `gpu,moves`."""
    from jupyter_aios.allocation.levels import FIRST_LEVELS, LATER_LEVELS

    head, comma, _ = word.rpartition(",")
    if not comma:
        return list(FIRST_LEVELS)
    return [f"{head},{level}" for level in LATER_LEVELS if level not in head.split(",")]


def _job_names(place: Place) -> list[str]:
    global _known  # noqa: PLW0603 - one process has one controller
    now = time.monotonic()
    if now - _known[0] > _FRESH_S:
        _known = (now, _ask(place))
    return _known[1]


def _ask(place: Place) -> list[str]:
    try:
        client = place.client
        # Completion must not start anything.
        found = client.jobs(limit=_JOBS) if client.is_running() else []
    except (AiosError, OSError):
        return []
    return list(dict.fromkeys(job.name for job in found))


def _variables(place: Place, _: str) -> list[str]:
    return [name for name in place.namespace or {} if not name.startswith("_")]


def _tables(place: Place, _: str) -> list[str]:
    found = (place.namespace or {}).items()
    return [name for name, value in found if hasattr(value, "columns") and name[0] != "_"]


_VALUES: dict[str, Callable[[Place, str], list[str]]] = {
    "--on": lambda place, _: _job_names(place),
    "--push": _variables,
    "--pull": _variables,
    "--state": lambda *_: [state.value for state in JobState],
    "--objective": lambda _, word: _objectives(word),
    "--nodes": _tables,
    "--tasks": _tables,
}
"""What may follow an option, by the place and by what is typed of it already."""
