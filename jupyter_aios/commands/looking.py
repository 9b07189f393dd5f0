"""The verbs that look: status, jobs, nodes, logs, attach."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jupyter_aios.commands.handle import check_rank
from jupyter_aios.commands.options import add_view, read_view
from jupyter_aios.core.snapshot import JobRow, NodeRow, Status, job_rows, node_rows, status
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import InputError, UnknownNameError
from jupyter_aios.widgets.text.table import Table, Text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.handle import JobHandle
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.entities import Job

LIVE = tuple(state for state in JobState if not state.is_terminal)
_JOBS = 20
_JOB_COLUMNS = (
    ("NAME", "name"), ("STATE", "state"), ("RANKS", "ranks"), ("NODES", "where"),
    ("TIME", "elapsed"), ("ATTEMPT", "attempt"), ("PRIORITY", "priority"), ("WHY", "reason"),
)  # fmt: skip
_NODE_COLUMNS = (
    ("NODE", "label"), ("MACHINE", "machine"), ("FREE CPUS", "cpus"), ("FREE MEMORY", "memory"),
    ("FREE GPUS", "gpus"), ("JOBS", "jobs"),
)  # fmt: skip
_SHOWN_LINES = 2000


def add_jobs(parser: Parser) -> None:
    """Declare the arguments of `jobs`."""
    states = "|".join(state.value for state in JobState)
    parser.add_argument("--state", metavar="STATE", help=f"only these: {states}")
    parser.add_argument("--limit", metavar="N", help=f"how many of the newest (default {_JOBS})")


def add_name(parser: Parser) -> None:
    """Declare a job's name."""
    parser.add_argument("name", metavar="NAME", help="a job's name or id")


def add_logs(parser: Parser) -> None:
    """Declare the arguments of `logs`."""
    add_name(parser)
    parser.add_argument("--rank", metavar="N", help="only what this rank printed")
    parser.add_argument("--follow", action="store_true", help="go on until the job ends")


def add_attach(parser: Parser) -> None:
    """Declare the arguments of `attach`."""
    add_name(parser)
    parser.add_argument(
        "--on-interrupt", metavar="cancel|detach", default="detach",
        help="what an interrupt does to the job (default detach)",
    )  # fmt: skip
    add_view(parser)


class StatusText(Text):
    """The status as text, with the status itself beside it."""

    __slots__ = ("status",)
    status: Status


def show_status(_: argparse.Namespace, place: Place) -> StatusText:
    """Return the whole at a glance."""
    place.warm_up()
    client = place.client
    live = client.jobs(states=LIVE)
    now = status(client.hello(), client.nodes(), live, time.time())
    lines = [f"jobs        {now.counts}", f"nodes       {now.nodes}"]
    lines += [f"warm        {line}" for line in now.warm] or ["warm        no process yet"]
    lines += [f"disk        {now.disk}", f"controller  {now.controller}"]
    lines += [f"trouble     {now.trouble}"] if now.trouble else []
    lines += ["", repr(_job_table(now.jobs))] if now.jobs else []
    text = StatusText("\n".join(lines))
    text.status = now
    return text


def show_jobs(arguments: argparse.Namespace, place: Place) -> Table[JobRow]:
    """Return the newest jobs."""
    legal = [state.value for state in JobState]
    if arguments.state is not None and arguments.state not in legal:
        raise UnknownNameError.among("state", arguments.state, legal)
    states = [JobState(arguments.state)] if arguments.state else []
    limit = whole(arguments.limit, "--limit") or _JOBS
    return job_table(place.client.jobs(states=states, limit=limit))


def job_table(jobs: Sequence[Job]) -> Table[JobRow]:
    """Return jobs as a table."""
    return _job_table(job_rows(jobs, time.time()))


def _job_table(rows: tuple[JobRow, ...]) -> Table[JobRow]:
    has_priorities = any(row.priority for row in rows)
    columns = tuple(one for one in _JOB_COLUMNS if has_priorities or one[0] != "PRIORITY")
    return Table(rows, columns, "no jobs yet")


def show_nodes(_: argparse.Namespace, place: Place) -> Table[NodeRow]:
    """Return the nodes with what is free on them."""
    client = place.client
    rows = node_rows(client.nodes(), client.jobs(states=LIVE))
    return Table(rows, _NODE_COLUMNS, "no nodes")


def show_logs(arguments: argparse.Namespace, place: Place) -> object:
    """Return a job's lines, or follow it."""
    job = place.client.job(arguments.name)
    rank = whole(arguments.rank, "--rank")
    check_rank(job, rank)
    if arguments.follow:
        return place.follow(job, on_interrupt="detach", only_rank=rank, view="text")
    text = place.handle(job).logs(rank)
    lines = text.count("\n") + 1
    if place.namespace is None or lines <= _SHOWN_LINES:
        return text
    return LongText.of(text, lines)


class LongText(Text):
    """All lines of a long log, of which a notebook shows the last ones."""

    __slots__ = ("_shown",)
    _shown: str

    @classmethod
    def of(cls, text: str, lines: int) -> LongText:
        """Return `text`, whose repr is its end."""
        made = cls(text)
        last = text.rsplit("\n", _SHOWN_LINES)[1:]
        left_out = lines - len(last)
        head = f"… {left_out} lines before these; log = _ has all of them as a str"
        made._shown = "\n".join([head, *last])
        return made

    def __repr__(self) -> str:
        return self._shown


def attach(arguments: argparse.Namespace, place: Place) -> JobHandle:
    """Show a job from its first line on, until it ends."""
    legal = ("cancel", "detach")
    if arguments.on_interrupt not in legal:
        raise InputError(f"--on-interrupt {arguments.on_interrupt}: one of {', '.join(legal)}")
    try:
        view = read_view(arguments.view) if arguments.view else ""
    except InputError as error:
        raise InputError(f"--view {arguments.view}: {error.message}") from None
    job = place.client.job(arguments.name)
    return place.follow(job, on_interrupt=arguments.on_interrupt, view=view)


def whole(text: str | None, option: str) -> int | None:
    """Return the number that an option was given.

    Raises:
        InputError: it is not a whole number of 0 or more.

    """
    if text is None:
        return None
    if not text.isdecimal():
        raise InputError(f"{option} {text}: a whole number, 0 or more")
    return int(text)
