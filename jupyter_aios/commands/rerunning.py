"""The verb that repeats a job: the same code, values, options and seed, and what differs now."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.commands.looking import add_name
from jupyter_aios.commands.record import differences, record_now
from jupyter_aios.commands.submitting import draw_seed
from jupyter_aios.core.entities import CodeKind
from jupyter_aios.core.submission import blobs_of
from jupyter_aios.errors import InputError, StateError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from jupyter_aios.client import Client
    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.handle import JobHandle
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.entities import Job, JobSpec


def add_rerun(parser: Parser) -> None:
    """Declare the arguments of `rerun`."""
    add_name(parser)
    parser.add_argument("--name", dest="new_name", metavar="NEW", help="its name (default NAME)")
    parser.add_argument(
        "--detach", action="store_true", help="submit and return; `attach` shows it"
    )


def rerun(arguments: argparse.Namespace, place: Place) -> JobHandle:
    """Submit a job's spec again, say what differs from then, and show it until it ends.

    Raises:
        StateError: what it needs is not there any more; all of it at once.

    """
    old = place.client.job(arguments.name)
    _check(place.client, old)
    spec = old.spec
    now = record_now(spec)
    told = [*differences(spec.record, now), *_changed_scripts(spec)]
    seed = spec.seed
    if seed is None:
        seed = draw_seed()
        told.append("it had no seed of its own, and has one from now on")
    if spec.keep_idle_s is not None:
        told.append("only its first cell is repeated, not those that ran in it with --on")
    for difference in told:
        sys.stderr.write(f"not as then: {difference}\n")
    record = replace(now, rerun_of=str(old.id))
    name = arguments.new_name or old.name
    job = place.client.submit(replace(spec, name=name, seed=seed, record=record))
    return place.handle(job) if arguments.detach else place.follow(job)


def _check(client: Client, old: Job) -> None:
    spec = old.spec
    blobs = blobs_of(spec.code)
    missing = client.missing_blobs(blobs)
    is_executable = os.access(spec.interpreter, os.X_OK)
    found = [
        (not is_executable, f"its interpreter {spec.interpreter} is gone"),
        (not Path(spec.cwd).is_dir(), f"its folder {spec.cwd} is gone"),
        (bool(missing), f"{len(missing)} of its {len(blobs)} files of code and values are gone"),
    ]
    faults = [fault for is_fault, fault in found if is_fault]
    if faults:
        what = "script" if spec.code.kind is CodeKind.SCRIPT else "cell"
        raise StateError(
            f"{old.name} cannot be repeated: {'; '.join(faults)}",
            hint=f"submit the {what} anew, with --seed {spec.seed}",
        )


def _changed_scripts(spec: JobSpec) -> Iterable[str]:
    from jupyter_aios.training.packing.bundle import pack_script

    if spec.code.kind is not CodeKind.SCRIPT:
        return
    script = spec.code.files[-1]
    try:
        is_same = pack_script(script.original).code.files[-1].blob == script.blob
    except InputError:
        is_same = False
    if not is_same:
        yield f"{script.original} has changed since; this runs it as it was"
