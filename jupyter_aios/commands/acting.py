"""The verbs that do: cancel, restart, prune, pull, submit."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.commands.looking import add_name, whole
from jupyter_aios.commands.options import add_train_options, read_options
from jupyter_aios.commands.results import LIMIT_BYTES, bind, fetch, loaded
from jupyter_aios.core.units import format_bytes, parse_bytes, parse_duration
from jupyter_aios.core.wire import PruneRequest
from jupyter_aios.errors import InputError, StateError, UnavailableError
from jupyter_aios.widgets.text.table import Text
from jupyter_aios.widgets.text.view import raise_failure

if TYPE_CHECKING:
    import argparse

    from jupyter_aios.client import Client
    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.handle import JobHandle
    from jupyter_aios.commands.place import Place

RETURNED = "return"
_RESTART_S = 30.0
_POLL_S = 0.05


def cancel(arguments: argparse.Namespace, place: Place) -> JobHandle:
    """Have a job end, and return it."""
    return place.handle(place.client.job(arguments.name)).cancel()


# ------------------------------------------------------------------------------------- restart


def restart(_: argparse.Namespace, place: Place) -> Text:
    """Replace the controller by a fresh one with the environment of here; jobs go on."""
    client = place.client
    if client.is_running():
        before = client.hello().pid
        client.shutdown()
        _until_gone(client, before)
    hello, nodes = client.hello(), len(client.nodes())
    place.warm_up(again=True)
    going = f"{hello.jobs_running} running and {hello.jobs_queued} waiting jobs go on"
    return Text(f"the controller is process {hello.pid} now, with {nodes} nodes; {going}")


def _until_gone(client: Client, pid: int) -> None:
    deadline = time.monotonic() + _RESTART_S
    while client.hello().pid == pid:
        if time.monotonic() > deadline:
            raise UnavailableError(f"the controller, process {pid}, does not end", hint="try again")
        time.sleep(_POLL_S)


# --------------------------------------------------------------------------------------- prune


def add_prune(parser: Parser) -> None:
    """Declare the arguments of `prune`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these jobs")
    parser.add_argument("--older-than", metavar="TIME", help="only what ended so long ago: 7d")
    parser.add_argument("--keep", metavar="N", help="keep the newest N")


def prune(arguments: argparse.Namespace, place: Place) -> Text:
    """Remove finished jobs with their logs and results, and return what that freed."""
    if not (arguments.names or arguments.older_than or arguments.keep):
        raise InputError(
            "prune removes jobs for good, so it wants to know which",
            hint="names, --older-than 7d, --keep 20, or --keep 0 for all that are over",
        )
    older = arguments.older_than
    request = PruneRequest(
        older_than_s=parse_duration(older) if older else None,
        keep=whole(arguments.keep, "--keep"),
        names=tuple(arguments.names),
    )
    report = place.client.prune(request)
    jobs = "1 job" if len(report.jobs) == 1 else f"{len(report.jobs)} jobs"
    return Text(f"removed {jobs}, freed {format_bytes(report.freed_bytes)}")


# ---------------------------------------------------------------------------------------- pull


def add_pull(parser: Parser) -> None:
    """Declare the arguments of `pull`."""
    add_name(parser)
    parser.add_argument("variables", nargs="*", metavar="VARIABLE", help="only these (default all)")
    parser.add_argument("--limit", metavar="SIZE", help="largest that is fetched (default 2GiB)")
    parser.add_argument("--to", metavar="FOLDER", help="write files there instead")
    parser.add_argument(
        "--ranks", metavar="LIST",
        help="while the ranks are kept: of one the value, of several {rank: value} (default 0)",
    )  # fmt: skip


def pull(arguments: argparse.Namespace, place: Place) -> Text:
    """Bring back what `--pull` kept: variables, and weights into the notebook's own model."""
    job = place.client.job(arguments.name)
    raise_failure(job)
    limit = parse_bytes(arguments.limit) if arguments.limit else LIMIT_BYTES
    if job.spec.keep_idle_s is not None and not job.state.is_terminal:
        from jupyter_aios.commands.keeping import pull_live

        return pull_live(arguments, job, limit, place)
    if arguments.ranks is not None:
        raise InputError(
            f"{job.name} has no ranks any more: what it left is rank 0's", hint="leave out --ranks"
        )
    if not job.state.is_terminal:
        raise StateError(
            f"{job.name} is {job.state.value}; its variables are there when it is over",
            hint=f"{place.prefix} attach {job.name}",
        )
    target = arguments.to or (None if place.namespace is not None else ".")
    options: dict[str, Any] = {
        "names": arguments.variables, "limit_bytes": limit, "prefix": place.prefix,
    }  # fmt: skip
    if target is not None:
        folder = Path(target).expanduser()
        if not folder.is_dir():
            raise InputError(f"{target} is not a folder", hint=f"mkdir -p {target}")
        items = fetch(place.client, job, folder, **options)
        return _told(job.name, [f"{item.path} ({format_bytes(item.size_bytes)})" for item in items])
    with tempfile.TemporaryDirectory() as temporary:
        items = fetch(place.client, job, Path(temporary), **options)
        # Everything is loaded and compared before anything in the notebook changes.
        ready = [loaded(item, place.namespace or {}) for item in items if item.name != RETURNED]
    assert place.namespace is not None  # noqa: S101 - else there would be a target
    return _told(job.name, [bind(place.namespace, *one) for one in ready])


def _told(name: str, lines: list[str]) -> Text:
    return Text(
        "\n".join(lines) if lines else f"{name} kept nothing: it was started without --pull"
    )


# -------------------------------------------------------------------------------------- submit


def add_submit(parser: Parser) -> None:
    """Declare the arguments of `submit`."""
    parser.add_argument("script", metavar="SCRIPT", help="a Python file; after -- its arguments")
    add_train_options(parser, in_notebook=False)


def submit(arguments: argparse.Namespace, place: Place) -> object:
    """Run a script on ranks, and show it until it ends."""
    from jupyter_aios.commands.submitting import launch
    from jupyter_aios.training.packing.bundle import pack_script

    options = replace(read_options(arguments), typed=arguments.typed)
    return launch(pack_script(arguments.script), options, place, arguments.rest)
