"""What can be said about a training job: one list for `%%aios_train`, `submit` and Python."""

from __future__ import annotations

import argparse
import keyword
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_aios.commands.arguments import names
from jupyter_aios.core.entities import (
    MAX_NODES,
    MAX_RANKS_PER_NODE,
    MIB,
    Backend,
    Launcher,
    SecretUse,
)
from jupyter_aios.core.submission import SEEDS, secret_faults, secret_use
from jupyter_aios.core.units import parse_bytes, parse_duration, parse_milli, parse_shape
from jupyter_aios.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_aios.commands.arguments import Parser

T = TypeVar("T")

KEEP = "10min"
_WITH_ON = ("on", "ranks", "push", "pull", "pull_limit", "dry_run", "detach")
ON_INTERRUPT = ("cancel", "detach")
VIEWS = ("live", "text")


@dataclass(frozen=True)
class TrainOptions:
    """The options with their values; None is: not said."""

    nodes: int = 1
    ranks_per_node: int | None = None
    backend: Backend = Backend.AUTO
    launcher: Launcher = Launcher.WARM
    name: str = ""
    push: tuple[str, ...] = ()
    pull: tuple[str, ...] = ()
    max_restarts: int = 0
    timeout_s: float | None = None
    detach: bool = False
    dry_run: bool = False
    on_interrupt: str = "cancel"
    view: str = ""
    """`live` or `text`; empty is what the place has by default."""
    priority: int = 0
    cpu_milli: int = 0
    gpu_milli: int | None = None
    memory_bytes: int = 0
    pull_limit_bytes: int = 2048 * MIB
    log_limit_bytes: int = 256 * MIB
    seed: int | None = None
    secrets: tuple[SecretUse, ...] = ()
    autolog: bool = True
    keep_idle_s: float | None = None
    on: str = ""
    ranks: str | None = None
    typed: str = ""
    """All of it as it was typed, for the record."""


def add_train_options(parser: Parser, *, in_notebook: bool) -> None:
    """Add the options to a parser; their values stay text until `read_options`."""
    many: dict[str, Any] = {"action": "append", "metavar": "NAME[,NAME]"}
    add = parser.add_argument
    add("--nodes", metavar="N|NxP", help="how many nodes, or nodes x ranks on each (default 1)")
    add("--nproc-per-node", metavar="P", help="ranks on each node (default: 1, or 1 for each GPU)")
    add(
        "--backend",
        metavar="|".join(choices("--backend")),
        help="of the process group (default auto)",
    )
    add(
        "--launcher", metavar="|".join(choices("--launcher")), help="how ranks start (default warm)"
    )
    add("--name", metavar="NAME", help="what the job is called (default train-1, train-2, …)")
    add(
        "--keep", metavar="TIME", nargs="?", const=KEEP,
        help="keep the ranks with their variables for more cells, until none came for so long"
        f" (default {KEEP})",
    )  # fmt: skip
    if in_notebook:
        add("--on", metavar="NAME", help="run the cell in ranks that a job keeps, nowhere else")
        add("--ranks", metavar="LIST", help="with --on: only in these: 0,2 or 1-3 (default all)")
        add("--push", **many, help="variables to take along though the cell does not read them")
    add("--pull", **many, help="variables of rank 0 to keep for `pull` (weights of modules)")
    add(
        "--secret", action="append", metavar="[OWNER/]NAME[:VARIABLE]",
        help="let the code have a secret, by aios.secret(NAME), or in that variable too;"
        " may be repeated",
    )  # fmt: skip
    add("--max-restarts", metavar="N", help="start again after a failure, up to N times")
    add("--timeout", metavar="TIME", help="end it after so long: 30min, 2h")
    add("--detach", action="store_true", help="submit and return; `attach` shows it")
    add("--dry-run", action="store_true", help="show what would be started and stop")
    add("--on-interrupt", metavar="cancel|detach", help="what an interrupt does (default cancel)")
    if in_notebook:
        add_view(parser)
    add("--priority", metavar="N", help="higher goes first (default 0)")
    add("--cpus", metavar="N", help="per node (default: a node's share)")
    add("--gpus", metavar="N", help="per node (default: one for each rank, where there are any)")
    add("--memory", metavar="SIZE", help="per node: 4GiB (default: no demand, no limit)")
    add("--pull-limit", metavar="SIZE", help="largest variable that is kept (default 2GiB)")
    add("--log-limit", metavar="SIZE", help="largest output of a rank that is kept (256MiB)")
    no_curves = "draw no curves from the loop, patch nothing for them"
    add("--no-autolog", dest="autolog", action="store_const", const=False, help=no_curves)
    add("--seed", metavar="N", help="of the ranks' random numbers: rank r has N+r (default: drawn)")


def add_view(parser: Parser) -> None:
    """Declare how a notebook shows a job that is followed."""
    parser.add_argument(
        "--view", metavar="|".join(VIEWS),
        help="a live view, or only text (default: live in a notebook, unless AIOS_VIEW=text)",
    )  # fmt: skip


def read_view(value: object) -> str:
    """Return `live` or `text`.

    Raises:
        InputError: it is neither.

    """
    return _one_of(*VIEWS)(value)


def choices(option: str) -> tuple[str, ...]:
    """Return the legal values of an option, where they can be listed.

    Example:
        >>> choices("--backend")
        ('auto', 'nccl', 'gloo')

    """
    legal = {
        "--backend": tuple(item.value for item in Backend),
        "--launcher": tuple(item.value for item in Launcher),
        "--on-interrupt": ON_INTERRUPT,
        "--view": VIEWS,
    }
    return legal.get(option, ())


def read_options(raw: Mapping[str, Any] | argparse.Namespace) -> TrainOptions:
    """Return the options from text, or from Python values with the same names.

    Raises:
        InputError: all faults at once.

    Example:
        >>> read_options({"nodes": "2x4", "memory": "4GiB"}).memory_bytes
        4294967296

    """
    given = dict(vars(raw) if isinstance(raw, argparse.Namespace) else raw)
    known = set(_READERS) | {"nproc_per_node", "detach", "dry_run", "autolog"}
    _check_on(given)
    if not isinstance(raw, argparse.Namespace):
        for name in given:
            if name not in known:
                raise UnknownNameError.among("option", name, known)
    faults: list[str] = []
    hints: list[str] = []
    values: dict[str, Any] = {
        name: bool(given[name])
        for name in ("detach", "dry_run", "autolog")
        if given.get(name) is not None
    }

    def read(name: str, reader: Callable[[Any], T], value: object) -> T | None:
        try:
            return reader(value)
        except InputError as error:
            shown = ",".join(value) if isinstance(value, list) else value
            # Somebody may have typed a value where a name belongs.
            told = "" if name == "secret" else f" {shown}"
            faults.append(f"--{name.replace('_', '-')}{told}: {error.message}")
            hints.append(error.hint)
            return None

    for name, (field, reader) in _READERS.items():
        if given.get(name) is not None:
            values[field] = read(name, reader, given[name])
    shape = values.pop("nodes", (1, None)) or (1, None)
    per_node = given.get("nproc_per_node")
    ranks = shape[1] if per_node is None else read("nproc_per_node", _ranks, per_node)
    if per_node is not None and shape[1] is not None and ranks is not None and shape[1] != ranks:
        faults.append(f"--nodes says {shape[1]} ranks on each node, --nproc-per-node {ranks}")
    if faults:
        raise InputError.of_faults(
            faults, hint=next(filter(None, hints), "-h explains the options")
        )
    return TrainOptions(nodes=shape[0], ranks_per_node=ranks, **values)


def _check_on(given: Mapping[str, Any]) -> None:
    if not given.get("on"):
        if given.get("ranks") is not None:
            hint = "--on NAME --ranks 0,2; how many ranks a new job has: --nodes 4"
            raise InputError("--ranks chooses among ranks that are kept", hint=hint)
        return
    superfluous = [
        f"--{name.replace('_', '-')}"
        for name, value in given.items()
        if name not in _WITH_ON and value not in (None, False)
    ]
    if superfluous:
        raise InputError(
            f"--on {given['on']} runs in ranks that exist already: {', '.join(superfluous)}"
            " cannot be changed any more",
            hint="with --on go --ranks, --push, --pull, --pull-limit, --dry-run, --detach",
        )


# ------------------------------------------------------------------------- one reader an option


def _shape(value: object) -> tuple[int, int | None]:
    nodes, ranks = parse_shape(str(value))
    if nodes > MAX_NODES:
        raise InputError(f"at most {MAX_NODES} nodes", hint=f"--nodes {MAX_NODES}")
    return nodes, None if ranks is None else _ranks(ranks)


def _ranks(value: object) -> int:
    count = _whole(value)
    if not 1 <= count <= MAX_RANKS_PER_NODE:
        raise InputError(f"1 to {MAX_RANKS_PER_NODE} ranks fit on a node")
    return count


def _whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise InputError("not a whole number") from None


def _count(value: object) -> int:
    count = _whole(value)
    if count < 0:
        raise InputError("0 or more")
    return count


def _seed(value: object) -> int:
    seed = _whole(value)
    if not 0 <= seed < SEEDS:
        raise InputError(f"0 to {SEEDS - 1}")
    return seed


def _one_of(*legal: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = str(getattr(value, "value", value))
        if text not in legal:
            raise InputError(f"one of {', '.join(legal)}")
        return text

    return read


def _backend(value: object) -> Backend:
    return Backend(_one_of(*choices("--backend"))(value))


def _launcher(value: object) -> Launcher:
    return Launcher(_one_of(*choices("--launcher"))(value))


def _names(value: object) -> tuple[str, ...]:
    found = names([value] if isinstance(value, str) else list(value))  # type: ignore[call-overload]
    for name in found:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InputError(f"{name!r} is not a variable's name", hint="--pull model,history")
    return found


def _secrets(value: object) -> tuple[SecretUse, ...]:
    texts = value if isinstance(value, (list, tuple)) else [value]
    uses = tuple(dict.fromkeys(secret_use(str(text)) for text in texts))
    faults = secret_faults(uses)
    if faults:
        raise InputError.of_faults(faults, hint="--secret NAME:VARIABLE")
    return uses


def _keep(value: object) -> float:
    return parse_duration(KEEP if value is True else str(value))


def _bytes(value: object) -> int:
    return parse_bytes(str(value))


def _milli(what: str) -> Callable[[object], int]:
    def read(value: object) -> int:
        return parse_milli(str(value), what)

    return read


def _seconds(value: object) -> float:
    return parse_duration(str(value))


_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "nodes": ("nodes", _shape),
    "backend": ("backend", _backend),
    "launcher": ("launcher", _launcher),
    "name": ("name", str),
    "push": ("push", _names),
    "pull": ("pull", _names),
    "max_restarts": ("max_restarts", _count),
    "timeout": ("timeout_s", _seconds),
    "on_interrupt": ("on_interrupt", _one_of(*ON_INTERRUPT)),
    "view": ("view", read_view),
    "priority": ("priority", _whole),
    "cpus": ("cpu_milli", _milli("CPUs")),
    "gpus": ("gpu_milli", _milli("GPUs")),
    "memory": ("memory_bytes", _bytes),
    "pull_limit": ("pull_limit_bytes", _bytes),
    "log_limit": ("log_limit_bytes", _bytes),
    "seed": ("seed", _seed),
    "secret": ("secrets", _secrets),
    "keep": ("keep_idle_s", _keep),
    "on": ("on", str),
    "ranks": ("ranks", str),
}
