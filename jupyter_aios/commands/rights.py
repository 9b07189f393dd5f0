"""The verbs of rights: login, logout, grant, token, audit."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.client import Client
from jupyter_aios.client.login import Login, forget_login, read_fingerprint, save_login
from jupyter_aios.commands.arguments import names
from jupyter_aios.commands.asking import ask, read_file, typed, write_new
from jupyter_aios.commands.looking import whole
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.quotas import DEFAULT_QUOTAS, Quota
from jupyter_aios.core.rights import (
    DEFAULT_TOKEN_DAYS,
    AuditQuery,
    MemberWish,
    QuotaWish,
    SignedHead,
    TokenWish,
)
from jupyter_aios.core.units import (
    format_duration,
    parse_bytes,
    parse_duration,
)
from jupyter_aios.core.wire import from_plain, to_plain
from jupyter_aios.errors import InputError, UnknownNameError
from jupyter_aios.widgets.safe.rows import (
    AUDIT_COLUMNS,
    MEMBER_COLUMNS,
    ShownAudit,
    ShownMember,
    shown_members,
)
from jupyter_aios.widgets.text.table import Table, Text

if TYPE_CHECKING:
    import argparse

    from jupyter_aios.commands.arguments import Parser
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.rights import AuditPage

_DAY_S = 86400.0
_QUOTA_OPTIONS = ("ranks", "gpu_hours", "jobs", "max_priority", "disk")
_TOKEN_COLUMNS = (("ID", "id"), ("USER", "user"), ("ENDS", "ends"), ("NOTE", "note"))


# ---------------------------------------------------------------------------------------- login


def add_login(parser: Parser) -> None:
    """Declare the arguments of `login`."""
    parser.add_argument("url", metavar="URL", help="https://HOST:PORT of a controller that serves")
    parser.add_argument(
        "--fingerprint", metavar="sha256:…", help="of its certificate, as `serve` prints it"
    )
    parser.add_argument("--file", metavar="PATH", help="where the token lies, instead of typing it")


def login(arguments: argparse.Namespace, place: Place) -> Text:
    """Use a controller elsewhere from now on, after it has been asked who one is there."""
    fingerprint = read_fingerprint(arguments.fingerprint) if arguments.fingerprint else ""
    token = read_file(arguments.file) if arguments.file else ask("token")
    home = place.client.home
    entry = Login(arguments.url.rstrip("/"), fingerprint, typed(token).strip())
    hello = Client.of_login(home, entry).hello()
    path = save_login(home, entry)
    place.forget_client()
    who = f"you are {hello.asker} ({hello.role}) at {entry.url}"
    return Text(f"{who}; the token is in {path} (mode 600)")


def logout(_: argparse.Namespace, place: Place) -> Text:
    """Use this machine's own controller again."""
    was_in = forget_login(place.client.home)
    place.forget_client()
    return Text("logged out; the controller is this machine's" if was_in else "not logged in")


# ---------------------------------------------------------------------------------------- grant


def add_grant(parser: Parser) -> None:
    """Declare the arguments of `grant`."""
    parser.add_argument("to", metavar="USER", nargs="?", help="a user, or group:NAME for a quota")
    parser.add_argument("--role", metavar="admin|teacher|student|guest", help="what the user may")
    parser.add_argument("--group", metavar="NAME[,NAME]", action="append", help="all groups")
    parser.add_argument("--ranks", metavar="N", help="quota: ranks at once; `none` is no limit")
    parser.add_argument("--gpu-hours", metavar="N", help="quota: GPU hours in all")
    parser.add_argument("--jobs", metavar="N", help="quota: jobs at once")
    parser.add_argument("--max-priority", metavar="N", help="quota: highest --priority")
    parser.add_argument("--disk", metavar="SIZE", help="quota: --disk of all jobs together")


def grant(arguments: argparse.Namespace, place: Place) -> Table[ShownMember]:
    """Give a role, groups or a quota; without arguments, show who has what."""
    safe = place.client.safe
    given = [name for name in _QUOTA_OPTIONS if getattr(arguments, name) is not None]
    if not arguments.to:
        if given or arguments.role or arguments.group:
            raise InputError("grant to whom?", hint="%aios grant eve --role student")
        return _members(place)
    is_group = arguments.to.startswith("group:")
    if is_group and (arguments.role or arguments.group):
        raise InputError("roles and groups are given to users", hint="%aios grant eve --role …")
    if not given and not arguments.role and arguments.group is None:
        raise InputError(f"grant {arguments.to} what?", hint="--role, --group, --ranks, …")
    # Everything is read before anything is changed.
    quota = _quota(arguments, place) if given else None
    if arguments.role or arguments.group is not None:
        known = {member.user: member for member in safe.members()}
        user = UserId(arguments.to)
        before = known.get(user, Member(user, Role.STUDENT))
        groups = before.groups if arguments.group is None else names(arguments.group)
        role = before.role if arguments.role is None else _role(arguments.role)
        safe.grant(user, MemberWish(role, groups))
    if quota is not None:
        safe.set_quota(_holder(arguments.to), QuotaWish(quota))
    return _members(place)


def _holder(to: str) -> str:
    return to if to.startswith("group:") else f"user:{to}"


def _quota(arguments: argparse.Namespace, place: Place) -> Quota:
    known = {row.holder: row.quota for row in place.client.safe.quotas()}
    quota = known.get(_holder(arguments.to)) or _default(arguments)
    if arguments.ranks is not None:
        quota = replace(quota, ranks=_number(arguments.ranks, "--ranks"))
    if arguments.jobs is not None:
        quota = replace(quota, jobs=_number(arguments.jobs, "--jobs"))
    if arguments.max_priority is not None:
        quota = replace(quota, priority=_number(arguments.max_priority, "--max-priority"))
    if arguments.gpu_hours is not None:
        hours = None if arguments.gpu_hours == "none" else _hours(arguments.gpu_hours)
        quota = replace(quota, gpu_hours=hours)
    if arguments.disk is not None:
        size = None if arguments.disk == "none" else parse_bytes(arguments.disk)
        quota = replace(quota, disk_bytes=size)
    return quota


def _default(arguments: argparse.Namespace) -> Quota:
    """What counts for somebody new: an option leaves the other limits of the role as they are."""
    if arguments.to.startswith("group:"):
        return Quota()
    return DEFAULT_QUOTAS[_role(arguments.role) if arguments.role else Role.STUDENT]


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise UnknownNameError.among("role", text, (role.value for role in Role)) from None


def _number(text: str, option: str) -> int | None:
    return None if text == "none" else whole(text, option)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours < float("inf"):
        raise InputError(f"--gpu-hours {text}: a number, 0 or more, or none")
    return hours


def _members(place: Place) -> Table[ShownMember]:
    safe = place.client.safe
    return Table(shown_members(safe.members(), safe.quotas()), MEMBER_COLUMNS, "nobody but you")


# ---------------------------------------------------------------------------------------- token


def add_token(parser: Parser) -> None:
    """Declare the arguments of `token`."""
    parser.add_argument("action", metavar="ACTION", help="issue|list|revoke")
    parser.add_argument("who", metavar="USER|ID", nargs="?", help="issue: for whom; revoke: which")
    parser.add_argument("--valid", metavar="TIME", help=f"issue: default {DEFAULT_TOKEN_DAYS}d")
    parser.add_argument("--note", metavar="TEXT", default="", help="issue: what it is for")
    parser.add_argument("--to", metavar="PATH", help="issue: the new file that gets the token")


def token(arguments: argparse.Namespace, place: Place) -> object:
    """Make, list and end tokens, by which people elsewhere log in."""
    actions = {"issue": _issue, "list": _tokens, "revoke": _revoke}
    if arguments.action not in actions:
        raise UnknownNameError.among("action of token", arguments.action, actions)
    return actions[arguments.action](arguments, place)


def _issue(arguments: argparse.Namespace, place: Place) -> Text:
    if not arguments.who or not arguments.to:
        # Into a file: what a notebook shows is saved with it.
        raise InputError(
            "issue wants a USER and a new file", hint="%aios token issue eve --to eve.token"
        )
    valid_s = parse_duration(arguments.valid) if arguments.valid else DEFAULT_TOKEN_DAYS * _DAY_S
    path = Path(arguments.to).expanduser()
    if path.exists():
        raise InputError(f"{path} is there already", hint="name a new file")
    wish = TokenWish(valid_s, arguments.note)
    issued = place.client.safe.issue_token(arguments.who, wish)
    try:
        write_new(path, issued.token.encode() + b"\n")
    except BaseException:
        place.client.safe.revoke_token(issued.row.id)
        raise
    return Text(
        f"token {issued.row.id} for {arguments.who} is in {path}"
        f" and ends in {format_duration(valid_s)}; {place.prefix} token revoke {issued.row.id}"
    )


@dataclass(frozen=True)
class ShownToken:
    """A token as the table shows it; the token itself is not kept anywhere."""

    id: str
    user: str
    ends: str
    note: str


def _tokens(_: argparse.Namespace, place: Place) -> Table[ShownToken]:
    now = time.time()
    rows = [
        ShownToken(row.id, row.user, f"in {format_duration(row.expires_at - now)}", row.note)
        for row in place.client.safe.tokens()
    ]
    return Table(tuple(rows), _TOKEN_COLUMNS, "no tokens")


def _revoke(arguments: argparse.Namespace, place: Place) -> Text:
    if not arguments.who:
        raise InputError("revoke wants a token's ID", hint=f"{place.prefix} token list")
    place.client.safe.revoke_token(arguments.who)
    return Text(f"token {arguments.who} is not accepted any more")


# ---------------------------------------------------------------------------------------- audit


def add_audit(parser: Parser) -> None:
    """Declare the arguments of `audit`."""
    parser.add_argument("--user", metavar="NAME", default="", help="only what this user asked")
    parser.add_argument("--action", metavar="ACTION", default="", help="only this: secret:use")
    parser.add_argument("--resource", metavar="TEXT", default="", help="only where this occurs")
    parser.add_argument("--denied", action="store_true", help="only what was not allowed")
    parser.add_argument("--since", metavar="TIME", help="only the last: 2h, 7d")
    parser.add_argument("--limit", metavar="N", help="how many of the newest (default 50)")
    parser.add_argument("--head", metavar="PATH", help="write the signed head to a new file")
    parser.add_argument("--against", metavar="PATH", help="hold the chain to a head kept elsewhere")


def audit(arguments: argparse.Namespace, place: Place) -> object:
    """Show who did what, when, allowed or not, and whether the chain of rows holds."""
    safe = place.client.safe
    if arguments.head:
        path = Path(arguments.head).expanduser()
        head = safe.audit_head()
        write_new(path, json.dumps(to_plain(head), indent=1).encode() + b"\n")
        return Text(f"the head of {head.length} rows is in {path}; keep it elsewhere")
    since = time.time() - parse_duration(arguments.since) if arguments.since else None
    query = AuditQuery(
        user=arguments.user,
        action=arguments.action,
        resource=arguments.resource,
        only_denied=arguments.denied,
        since=since,
        limit=whole(arguments.limit, "--limit") or AuditQuery.limit,
        against=_kept_head(Path(arguments.against).expanduser()) if arguments.against else "",
    )
    return AuditTable.of(safe.audit(query))


def _kept_head(path: Path) -> str:
    try:
        head = from_plain(SignedHead, json.loads(path.read_text()))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint="--against FILE"
        ) from error
    except ValueError:
        raise InputError(f"{path} is no head of an audit", hint="%aios audit --head FILE") from None
    return f"{head.length}:{head.mac}"


@dataclass(frozen=True, repr=False)
class AuditTable(Table[ShownAudit]):
    """The rows, and below them what the chain says."""

    verdict: str = ""

    @classmethod
    def of(cls, page: AuditPage) -> AuditTable:
        """Return a page as a table."""
        if page.fault:
            verdict = f"THE CHAIN IS BROKEN: {page.fault}"
        elif page.is_verified:
            verdict = f"the chain of {page.length} rows holds"
        else:
            verdict = f"{page.length} rows; the vault is locked, so their seals were not checked"
        rows = tuple(map(ShownAudit.of, page.rows))
        return cls(rows, AUDIT_COLUMNS, "no such rows", verdict)

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n\n{self.verdict}"
