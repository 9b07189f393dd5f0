"""What is typed for kept ranks: `%%aios_train --on`, and the verbs push, pull and interrupt."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.commands.cells import named
from jupyter_aios.commands.kept import KeptRanks, values_of
from jupyter_aios.commands.looking import add_name
from jupyter_aios.commands.results import bind, loaded
from jupyter_aios.commands.submitting import manifest_table, warn
from jupyter_aios.core.units import format_bytes
from jupyter_aios.errors import InputError
from jupyter_aios.widgets.text.screen import choose_screen
from jupyter_aios.widgets.text.table import Text
from jupyter_aios.widgets.text.transcript import Bounded

if TYPE_CHECKING:
    import argparse
    from collections.abc import MutableMapping, Sequence

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.options import TrainOptions
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.entities import Job


def run_on(options: TrainOptions, cell: str, place: Place, name: str) -> object:
    """Run a cell in the ranks that a job keeps, and show what they print until all are done.

    Raises:
        StateError: the job keeps no ranks, or not any more.
        TrainingError: the cell raised in a rank; the ranks stay.
        FollowInterrupt: the person interrupted, and with that the cell; the ranks stay.

    """
    from jupyter_aios.training.packing.bundle import pack_cell

    kept = kept_of(place.client.job(options.on), place)
    ranks = kept.ranks(options.ranks)
    status = kept.status()
    theirs = kept.known_names(ranks, status)
    namespace = {} if place.namespace is None else place.namespace
    packed = pack_cell(
        cell, namespace, name=name, first_line=2, push=options.push, theirs=theirs
    )  # fmt: skip
    warn(packed)
    changed = set(kept.other_definitions(cell, namespace, ranks, status)) - set(options.push)
    if changed:
        names = ", ".join(sorted(changed))
        sys.stderr.write(
            f"{names}: the ranks have another one than the notebook, and use theirs;"
            f" --push {names.replace(', ', ',')} gives them the notebook's\n"
        )
    if options.dry_run:
        return manifest_table(packed.code.manifest)
    ticket = kept.order(packed, ranks, push=options.push)
    if options.detach:
        return place.handle(kept.job)
    screen = place.screen or choose_screen()
    bounded = Bounded(f"{place.prefix} logs {kept.job.name}")
    try:
        kept.follow(ticket, ranks, lambda lines: screen.write(bounded.admit(lines)), screen.status)
        screen.write(bounded.end())
    finally:
        screen.close()
    if not options.pull:
        return None
    limit = options.pull_limit_bytes
    return _pull(kept, options.pull, place, ranks=options.ranks, limit_bytes=limit)


def kept_of(job: Job, place: Place) -> KeptRanks:
    """Return the kept ranks of a job."""
    return KeptRanks(place.client, job, place.prefix)


# ---------------------------------------------------------------------------------------- verbs


def add_push(parser: Parser) -> None:
    """Declare the arguments of `push`."""
    add_name(parser)
    parser.add_argument("variables", nargs="+", metavar="VARIABLE", help="of the notebook")
    parser.add_argument("--ranks", metavar="LIST", help="only to these: 0,2 or 1-3 (default all)")


def push(arguments: argparse.Namespace, place: Place) -> Text:
    """Give variables of the notebook to ranks that a job keeps; their own are replaced."""
    if place.namespace is None:
        raise InputError("push takes variables of a notebook", hint="in one: %aios push -h")
    kept = kept_of(place.client.job(arguments.name), place)
    ranks = kept.ranks(arguments.ranks)
    brought = kept.push(place.namespace, arguments.variables, ranks)
    return Text(f"{', '.join(brought)} to {named(ranks)} of {kept.job.name}")


def pull_live(arguments: argparse.Namespace, job: Job, limit_bytes: int, place: Place) -> Text:
    """Bring variables of ranks that a job keeps into the notebook, or into files."""
    if not arguments.variables:
        raise InputError(
            f"{job.name} lives: say which of its variables",
            hint=f"{place.prefix} pull {job.name} VARIABLE",
        )
    return _pull(
        kept_of(job, place),
        arguments.variables,
        place,
        ranks=arguments.ranks,
        limit_bytes=limit_bytes,
        to=arguments.to,
    )


def _pull(
    kept: KeptRanks,
    names: Sequence[str],
    place: Place,
    *,
    ranks: str | None,
    limit_bytes: int,
    to: str | None = None,
) -> Text:
    """Bind what ranks have: rank 0's value, or of several ranks {rank: value}."""
    chosen = kept.ranks(ranks, default=0)
    target = to or (None if place.namespace is not None else ".")
    if target is not None:
        folder = Path(target).expanduser()
        if not folder.is_dir():
            raise InputError(f"{target} is not a folder", hint=f"mkdir -p {target}")
        found = kept.pull(names, chosen, folder, limit_bytes)
        items = [item for by_rank in found.values() for item in by_rank.values()]
        return Text("\n".join(f"{i.path} ({format_bytes(i.size_bytes)})" for i in items))
    assert place.namespace is not None  # noqa: S101 - else there would be a target
    with tempfile.TemporaryDirectory() as temporary:
        found = kept.pull(names, chosen, Path(temporary), limit_bytes)
        if len(chosen) == 1:
            # Everything is loaded and compared before anything in the notebook changes.
            ready = [loaded(by_rank[chosen[0]], place.namespace) for by_rank in found.values()]
            return Text("\n".join(bind(place.namespace, *one) for one in ready))
        values = {name: values_of(by_rank) for name, by_rank in found.items()}
    return _bind_by_rank(place.namespace, values)


def _bind_by_rank(namespace: MutableMapping[str, Any], values: dict[str, dict[int, Any]]) -> Text:
    lines = []
    for name, by_rank in values.items():
        namespace[name] = by_rank
        kinds = ", ".join(dict.fromkeys(type(value).__name__ for value in by_rank.values()))
        lines.append(f"{name}: {{rank: value}} of {named(list(by_rank))} ({kinds})")
    return Text("\n".join(lines))


def interrupt(arguments: argparse.Namespace, place: Place) -> Text:
    """Interrupt what runs in ranks that a job keeps; the ranks and their variables stay."""
    kept = kept_of(place.client.job(arguments.name), place)
    numbers = kept.interrupt()
    if not numbers:
        return Text(f"no cell runs in the ranks of {kept.job.name}")
    cells = "1 cell" if len(numbers) == 1 else f"{len(numbers)} cells"
    return Text(f"{cells} of {kept.job.name} interrupted; its ranks stay")
