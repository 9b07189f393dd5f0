"""What `import jupyter_aios as aios` offers to whoever submits: submit, job, jobs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_aios.client import Client
from jupyter_aios.commands.handle import JobHandle
from jupyter_aios.commands.looking import job_table
from jupyter_aios.commands.options import read_options
from jupyter_aios.commands.submitting import make_spec, send
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_aios.core.snapshot import JobRow
    from jupyter_aios.training.packing.bundle import Packed
    from jupyter_aios.widgets.text.table import Table

_PREFIX = "%aios"


def submit(
    what: Callable[..., object] | str | Path,
    *,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - as they are typed after --: numbers or text
) -> JobHandle:
    """Run a function, a script or a cell's text on ranks, and return the job at once.

    Args:
        what: a function; the path of a script; or Python code of more than one line.
        args: the function's arguments, or the script's, which are text.
        kwargs: the function's keyword arguments.
        options: what can be said in `%%aios_train`, with underscores: nodes=2, memory="4GiB".

    Raises:
        InputError: an option that does not exist, or values that cannot be meant; all at once.
        ShippingError: something that the code reads cannot be pickled.
        CapacityError: more is asked than the nodes can ever give.

    Example:
        job = aios.submit("train.py", args=["--lr", "0.1"], nodes=2, name="mnist")
        job.wait()

    """
    chosen = read_options(options)
    if chosen.on:
        raise InputError("on= is for cells", hint=f'aios.job({chosen.on!r}).run("…")')
    packed, argv = _packed(what, args, kwargs, chosen.push)
    client = Client()
    typed = ", ".join(f"{name}={value!r}" for name, value in options.items())
    spec = make_spec(packed, replace(chosen, typed=typed), client.nodes(), argv)
    if chosen.dry_run:
        raise InputError("dry_run is for people", hint="%%aios_train --dry-run")
    return JobHandle(client, send(client, packed, spec), prefix=_PREFIX)


def _packed(
    what: Callable[..., object] | str | Path,
    args: Sequence[Any],
    kwargs: dict[str, Any] | None,
    push: Sequence[str],
) -> tuple[Packed, tuple[str, ...]]:
    from jupyter_aios.training.packing.bundle import pack_cell, pack_function, pack_script

    if callable(what):
        return pack_function(what, args, kwargs), ()
    if kwargs:
        raise InputError("only functions take kwargs", hint='args=["--lr", "0.1"]')
    argv = tuple(map(str, args))
    is_text = isinstance(what, str) and ("\n" in what or not what.strip().endswith(".py"))
    if is_text and not Path(what).is_file():
        namespace = vars(sys.modules["__main__"])
        return pack_cell(str(what), namespace, name="submitted text", push=push), argv
    return pack_script(what), argv


def job(name: str) -> JobHandle:
    """Return your newest job of this name, or the job of this id.

    Raises:
        UnknownNameError: there is none; the nearest names are offered.

    """
    client = Client()
    return JobHandle(client, client.job(name), prefix=_PREFIX)


def jobs(limit: int = 20) -> Table[JobRow]:
    """Return your newest jobs."""
    return job_table(Client().jobs(limit=limit))
