"""Sentences of explanations: amounts as people say them, names where there are few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.allocation.problem import QUOTA_COLUMNS
from jupyter_aios.core.units import MILLI, format_bytes, format_milli

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.allocation.explain.limits import Bound
    from jupyter_aios.allocation.explain.reasons import Reason
    from jupyter_aios.allocation.problem import Problem

_MOST_NAMES = 3
RESOURCE_WORDS = {"gpus": "GPU", "cpu": "CPU", "memory": "memory", "disk": "disk"}
_LACKS_WORDS = RESOURCE_WORDS | {
    "zone": "a node of the right model and labels",
    "apart": "a node without a task to be apart from",
    "together": "one place for all together",
    "quota": "quota",
}
_QUOTA_WORDS = ("CPUs", "memory", "disk", "GPUs", "tasks")


def count(number: int, noun: str) -> str:
    """Return `1 node`, `3 nodes`.

    Example:
        >>> count(3, "node")
        '3 nodes'

    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Return `a, b and c`, or the first ones and how many more.

    Example:
        >>> listed(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'

    """
    found = list(names)
    if len(found) > most + 1:
        return f"{', '.join(found[:most])} and {len(found) - most} more"
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def gpus(number: int, milli: int) -> str:
    """Return `8 whole GPUs`, `0.25 of a GPU`.

    Example:
        >>> gpus(1, 250)
        '0.25 of a GPU'

    """
    if milli < MILLI:
        return f"{format_milli(milli)} of a GPU"
    return f"{number} whole GPU" + "s" * (number != 1)


def amount(resource: str, value: int) -> str:
    """Return an amount of `cpu`, `memory`, `disk` or `gpus` with its unit."""
    if resource == "cpu":
        number = format_milli(value)
        return f"{number} CPU" + "s" * (number != "1")
    if resource == "gpus":
        return count(value, "GPU")
    return f"{format_bytes(value)} of {resource}"


def quota_amount(column: int, value: int) -> str:
    """Return an amount of a column of `QUOTA_COLUMNS`."""
    name = QUOTA_COLUMNS[column]
    if name == "tasks":
        return count(value, "task")
    if name.endswith("_milli"):
        number = format_milli(value)
        return f"{number} {_QUOTA_WORDS[column][: -1 if number == '1' else None]}"
    return f"{format_bytes(value)} of {_QUOTA_WORDS[column]}"


def demand(problem: Problem, task: int) -> str:
    """Return what a task asks for, and where: `8 whole GPUs on one T4 node`."""
    tasks = problem.tasks
    zone = problem.zone_names[tasks.zone[task]]
    where = f" on one {zone} node" if zone else ""
    if tasks.gpus[task]:
        return gpus(int(tasks.gpus[task]), int(tasks.milli[task])) + where
    cpu, memory, disk = tasks.demand[task].tolist()
    parts = [
        amount(name, value)
        for name, value in (("cpu", cpu), ("memory", memory), ("disk", disk))
        if value
    ]
    return (listed(parts) or "nothing") + where


def unit(problem: Problem, members: Sequence[int], task: int) -> str:
    """Return what a task or its gang asks for."""
    asked = demand(problem, task)
    if len(members) == 1:
        return asked
    return f"a gang of {len(members)} × {asked}"


def freed(resource: str, value: int) -> str:
    """Return an amount that is given up: `2 GPUs`, `4 CPUs`, `8 GiB of memory`."""
    if resource == "gpus":
        number = format_milli(value)
        return f"{number} GPU" + "s" * (number != "1")
    return amount(resource, value)


def names_of(problem: Problem, tasks: Iterable[int]) -> str:
    """Return the names of some tasks, the first of them where they are many."""
    return listed([problem.tasks.names[i] for i in tasks])


def sentence(asked: str, reason: Reason, bound: Bound, as_good: int | None) -> str:
    """Return why a task is not placed, and what no schedule could do."""
    return "; ".join([f"{asked}: {_TOLD[reason.kind](reason)}", *_bounds(bound, as_good)])


def _bounds(bound: Bound, as_good: int | None) -> list[str]:
    most, of = bound.most, bound.of
    told = []
    if most < of:
        these = f"more than {most:,} of these {of:,}" if most else "it"
        told.append(f"no schedule can place {these}")
    if as_good is not None and as_good < most:
        told.append(f"no schedule that is worth as much places more than {as_good:,} of {of:,}")
    return told


def _devices(reason: Reason) -> str:
    """No node has more than so many free."""
    values = reason.values
    wanted, most, total = (
        int(values[key]) for key in ("wanted_in_all", "most_free", "free_in_all")
    )
    elsewhere = int(values["most_free_anywhere"]) >= wanted
    node = "no node with room for the rest" if elsewhere else "no node"
    if int(values["milli"]) < MILLI:
        free = format_milli(total)
        has = f"{node} has more than {format_milli(most)} of a GPU free"
        has = has if most else f"{node} has any of a GPU free"
    else:
        free = str(total)
        has = f"{node} has more than {most} free" if most else f"{node} has a whole one free"
    has = f"{has} ({free} in all)" if total > most else has
    only = [
        f"{count(number, 'node')} with enough free GPUs lack{'s' * (number == 1)} only {word}"
        for name, word in RESOURCE_WORDS.items()
        if (number := int(values.get(f"only_{name}", 0)))
    ]
    return "; ".join([has, *only])


def _missing(reason: Reason) -> str:
    """The nearest node, and what it lacks."""
    values = reason.values
    lacks = [
        amount(name, int(values[f"missing_{name}"]))
        for name in RESOURCE_WORDS
        if f"missing_{name}" in values
    ]
    return f"the nearest, {values['nearest']}, lacks {listed(lacks)}" if lacks else ""


def _too_large(reason: Reason) -> str:
    told = _missing(reason)
    return "it fits no node, even an empty one" + (f"; {told}" if told else "")


def _exhausted(reason: Reason) -> str:
    name, values = reason.lacking[0], reason.values
    which = "nodes with enough free GPUs" if values["gpus"] else "its nodes"
    most = int(values[f"most_{name}"])
    left = f"at most {amount(name, most)}" if most else f"no {RESOURCE_WORDS[name]}"
    return f"{which} have {left} left, and it needs {amount(name, int(values[f'wanted_{name}']))}"


def _no_node(reason: Reason) -> str:
    values = reason.values
    zone, nodes, own = str(values["zone"]), int(values["nodes"]), int(values["zone_nodes"])
    kind = f"{zone} node" if zone else "node"
    has = f"none of its {count(own, kind)} has room" if own else f"no {kind} takes it"
    has = f"its only {kind} has no room" if own == 1 else has
    return f"{has}; {count(nodes, 'other node')} would have room" if nodes else has


def _quota(reason: Reason) -> str:
    values = reason.values
    column = int(values["column"])
    left = quota_amount(column, max(int(values["left"]), 0))
    wanted = quota_amount(column, int(values["wanted"]))
    return f"{values['quota']} has {left} left, and it counts {wanted}"


def _apart(reason: Reason) -> str:
    nodes = count(int(reason.values["nodes"]), "node")
    return f"it must be apart from tasks on every node with room ({nodes})"


def _together(_: Reason) -> str:
    return "it must be together with tasks where there is no room"


def _several(reason: Reason) -> str:
    words = {name: f"enough {word} free" for name, word in RESOURCE_WORDS.items()} | {
        "zone": "the right model and labels",
        "apart": "no task that it must be apart from",
        "together": "the tasks that it must be together with",
        "quota": "quota left",
    }
    told = _missing(reason)
    lacking = listed([words[name] for name in reason.lacking], most=len(words))
    return f"no node has {lacking} at once" + (f"; {told}" if told else "")


def _gang(reason: Reason) -> str:
    values = reason.values
    fit, of = int(values["fit"]), int(values["of"])
    at_once = " even on empty nodes" if reason.is_static else ""
    lacking = listed([_LACKS_WORDS[name] for name in reason.lacking], most=len(_LACKS_WORDS))
    return f"only {fit} of {of} fit{at_once}; for the rest {lacking} is lacking"


def _outbid(reason: Reason) -> str:
    values = reason.values
    return (
        f"what would have to stop for it is worth {values['lost']} or more, and it is worth "
        f"{values['worth']} (the least found: {values['holders']} on {values['node']})"
    )


def _undecided(reason: Reason) -> str:
    values = reason.values
    if values.get("fits"):
        return f"there is room on {values['node']}; the search ended before it was used"
    return (
        f"{values['holders']} on {values['node']} could stop for it, worth {values['lost']} and it "
        f"{values['worth']}; the search ended before that was used"
    )


_TOLD = {
    "fragmented": _devices,
    "full": _devices,
    "too-large": _too_large,
    "exhausted": _exhausted,
    "no-node": _no_node,
    "quota": _quota,
    "apart": _apart,
    "together": _together,
    "several": _several,
    "gang": _gang,
    "outbid": _outbid,
    "undecided": _undecided,
}
