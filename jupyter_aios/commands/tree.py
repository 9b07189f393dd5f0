"""The verbs: what there is, its help, and how a typed line becomes a call."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from jupyter_aios.commands import (
    acting,
    allocating,
    doctor,
    keeping,
    looking,
    rerunning,
)
from jupyter_aios.commands.arguments import HELP, Parser
from jupyter_aios.commands.here import show_here
from jupyter_aios.errors import InputError, UnknownNameError
from jupyter_aios.widgets.text.table import Text

if TYPE_CHECKING:
    from jupyter_aios.commands.place import Place

Add = Callable[[Parser], None]
Run = Callable[[argparse.Namespace, "Place"], object]


def _nothing(_: Parser) -> None:
    """Declare no arguments."""


def _later(room: str, name: str) -> tuple[Run, Add]:
    """Return a verb's function and its arguments', of a room that is loaded when it is called.

    Most lines need none of these rooms, and `%load_ext` waits for no import that it can do without.
    """

    def run_it(arguments: argparse.Namespace, place: Place) -> object:
        return _found(name)(arguments, place)

    def add_to(parser: Parser) -> None:
        add = _found(f"add_{name}")
        if add is not None:
            add(parser)

    def _found(function: str) -> Any:  # noqa: ANN401 - Run or Add
        return getattr(import_module(f"jupyter_aios.commands.{room}"), function, None)

    return run_it, add_to


@dataclass(frozen=True)
class Verb:
    """One verb; `takes_jobs` says that its argument is a job's name."""

    name: str
    summary: str
    run: Run
    add: Add = _nothing
    takes_jobs: bool = False
    in_notebook: bool = True

    def parser(self, prefix: str) -> Parser:
        """Return the verb's parser as it is called after `prefix`."""
        parser = Parser(f"{prefix} {self.name}", self.summary)
        self.add(parser)
        return parser


VERBS = {
    verb.name: verb
    for verb in (
        Verb("status", "jobs, nodes, controller at a glance", looking.show_status),
        Verb("jobs", "your jobs, newest first", looking.show_jobs, looking.add_jobs),
        Verb("nodes", "the nodes, and what is free on them", looking.show_nodes),
        Verb(
            "attach", "show a job from its first line, until it ends", looking.attach,
            looking.add_attach, takes_jobs=True,
        ),
        Verb(
            "logs", "what a job printed", looking.show_logs, looking.add_logs, takes_jobs=True
        ),
        Verb("cancel", "end a job", acting.cancel, looking.add_name, takes_jobs=True),
        Verb(
            "pull", "bring back variables and weights", acting.pull, acting.add_pull,
            takes_jobs=True,
        ),
        Verb(
            "push", "give variables to ranks that are kept", keeping.push, keeping.add_push,
            takes_jobs=True,
        ),
        Verb(
            "interrupt", "interrupt the cell in ranks that are kept; they stay",
            keeping.interrupt, looking.add_name, takes_jobs=True,
        ),
        Verb(
            "rerun", "repeat a job: the same code, values, options and seed", rerunning.rerun,
            rerunning.add_rerun, takes_jobs=True,
        ),
        Verb(
            "submit", "run a script on ranks: submit train.py --nodes 2 -- its arguments",
            acting.submit, acting.add_submit, in_notebook=False,
        ),
        Verb(
            "prune", "remove finished jobs with their logs", acting.prune, acting.add_prune,
            takes_jobs=True,
        ),
        Verb(
            "allocate", "place tasks on nodes: a file, a trace, or what waits on this cluster",
            allocating.allocate_file, allocating.add_allocate,
        ),
        Verb("unlock", "open the vault, where secrets lie", *_later("vaulting", "unlock")),
        Verb("lock", "forget the vault's keys; jobs that run go on", *_later("vaulting", "lock")),
        Verb("passwd", "change what opens the vault", *_later("vaulting", "passwd")),
        Verb("vault", "how the vault is; restore a damaged one", *_later("vaulting", "vault")),
        Verb("secret", "set, list, share, rotate and remove them", *_later("vaulting", "secret")),
        Verb(
            "serve", "let a team use this controller: over TLS, with tokens",
            *_later("serving", "serve"), in_notebook=False,
        ),
        Verb("login", "use a controller elsewhere", *_later("rights", "login")),
        Verb("logout", "use this machine's own controller again", *_later("rights", "logout")),
        Verb("grant", "roles, groups and quotas, and who has them", *_later("rights", "grant")),
        Verb("token", "issue, list and revoke tokens for login", *_later("rights", "token")),
        Verb("audit", "who did what, when, allowed or not", *_later("rights", "audit")),
        Verb("restart", "replace the controller by a fresh one; jobs go on", acting.restart),
        Verb(
            "doctor", "look for what is wrong here, or what holds a job up", doctor.examine,
            doctor.add_job, takes_jobs=True,
        ),
    )
}  # fmt: skip


def known_verbs(*, in_notebook: bool) -> dict[str, Verb]:
    """Return the verbs of a skin."""
    return {name: verb for name, verb in VERBS.items() if verb.in_notebook or not in_notebook}


def overview(prefix: str, *, in_notebook: bool) -> Text:
    """Return the help on all verbs."""
    verbs = known_verbs(in_notebook=in_notebook)
    width = max(map(len, verbs))
    lines = [f"{prefix} {name.ljust(width)}  {verb.summary}" for name, verb in verbs.items()]
    return Text("\n".join([*lines, "", f"{prefix} VERB -h explains one of them"]))


def run(tokens: Sequence[str], place: Place) -> object:
    """Do what was typed and return what it gives; nothing typed is where one is.

    Raises:
        AiosError: what was typed cannot be meant, or done.

    """
    in_notebook = place.namespace is not None
    if tokens and tokens[0] in HELP:
        return overview(place.prefix, in_notebook=in_notebook)
    if not tokens:
        return show_here(place)
    name, *rest = tokens
    verbs = known_verbs(in_notebook=in_notebook)
    if name not in verbs:
        if name in VERBS:
            hint = "in a notebook: %%aios_train, or jupyter_aios.submit(...)"
            hint = hint if name == "submit" else f"jupyter aios {name}"
            raise InputError(f"{name} is for the command line", hint=hint)
        raise UnknownNameError.among("verb", name, verbs)
    verb = verbs[name]
    parser = verb.parser(place.prefix)
    own, after = split_rest(rest)
    arguments = parser.read(own)
    if arguments.help:
        return Text(parser.format_help().rstrip())
    if after and name != "submit":
        raise InputError(f"{place.prefix} {name} takes nothing after --")
    arguments.rest, arguments.typed = after, shlex.join(rest)
    return verb.run(arguments, place)


def split_rest(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before `--`, and what stands after it.

    Example:
        >>> split_rest(["train.py", "--nodes", "2", "--", "--lr", "0.1"])
        (['train.py', '--nodes', '2'], ['--lr', '0.1'])

    """
    if "--" not in tokens:
        return list(tokens), []
    at = list(tokens).index("--")
    return list(tokens[:at]), list(tokens[at + 1 :])
