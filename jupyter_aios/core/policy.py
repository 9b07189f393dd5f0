"""Who may do what: one pure function that every request to the controller passes.

It knows no table of its own: `core.roles` says what a role may, `core.secrets.Share` what an owner
has given away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.roles import REACHED, RIGHTS, SHARED, Action, Role, Scope, scope_of
from jupyter_aios.core.secrets import Share

__all__ = [
    "Action",
    "Actor",
    "ActorKind",
    "Decision",
    "Member",
    "Resource",
    "Role",
    "Token",
    "authorise",
    "shared_group",
]


class ActorKind(str, Enum):
    """How the transport proved who asks."""

    LOCAL = "local"
    """The operating system vouches for the user at the other end of the Unix socket."""
    TOKEN = "token"  # noqa: S105 - a kind
    HUB = "hub"


@dataclass(frozen=True)
class Member:
    """A person as the store knows them."""

    user: UserId
    role: Role = Role.GUEST
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Actor:
    """Who asks, as the transport proved it; never as the request claims it."""

    user: UserId
    kind: ActorKind = ActorKind.LOCAL
    role: Role = Role.GUEST
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Token:
    """What is known of a bearer token; the token itself is known to nobody but its user."""

    id: str
    digest: str
    """SHA-256 in hexadecimal."""
    user: UserId
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    note: str = ""

    def is_valid(self, now: float) -> bool:
        """True where it still opens anything."""
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True)
class Resource:
    """What is asked about, and whose it is.

    `group` is the group through which a role reaches it: one that the actor shares with its owner,
    where the owner is a student or a guest. `shared_group` finds it.
    """

    kind: str
    name: str
    owner: UserId
    group: str = ""
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class Decision:
    """Allowed or not, and why, in a sentence for the person and the audit."""

    is_allowed: bool
    reason: str
    ask: str = ""
    """Whom to ask, where it is not allowed."""


def shared_group(actor: Actor, owner: Member) -> str:
    """Return the group that makes `owner`'s things the actor's business, or an empty text.

    Example:
        >>> teacher = Actor(UserId("eve"), role=Role.TEACHER, groups=("ml",))
        >>> shared_group(teacher, Member(UserId("bob"), Role.STUDENT, ("art", "ml")))
        'ml'
        >>> shared_group(teacher, Member(UserId("tom"), Role.TEACHER, ("ml",)))
        ''

    """
    if owner.role not in REACHED:
        return ""
    return next((group for group in actor.groups if group in owner.groups), "")


def authorise(actor: Actor, action: Action, resource: Resource) -> Decision:
    """Return whether `actor` may do `action` on `resource`. What nothing allows is denied.

    Example:
        >>> ada = Actor(UserId("ada"), role=Role.STUDENT)
        >>> authorise(ada, Action.JOB_READ, Resource("job", "mnist", UserId("ada"))).is_allowed
        True
        >>> authorise(ada, Action.JOB_READ, Resource("job", "gpt", UserId("bob"))).reason
        "ada (student) may not job:read on job 'gpt' of bob"

    """
    because = _permission(actor, action, resource)
    if because:
        return Decision(is_allowed=True, reason=because)
    whose = "their own" if actor.user == resource.owner else resource.owner
    what = f"{resource.kind} {resource.name!r}" if resource.name else resource.kind
    return Decision(
        is_allowed=False,
        reason=f"{actor.user} ({actor.role.value}) may not {action.value} on {what} of {whose}",
        ask=_whom_to_ask(actor, action, resource),
    )


def _permission(actor: Actor, action: Action, resource: Resource) -> str:
    """Return what allows it, or an empty text."""
    scope = scope_of(actor.role, action)
    if scope is not None and actor.user == resource.owner:
        return f"{actor.role.value}, own"
    if scope is Scope.ANY:
        return f"{actor.role.value}, anybody's"
    if scope is Scope.GROUP and resource.group and resource.group in actor.groups:
        return f"{actor.role.value}, group {resource.group}"
    rights = SHARED.get(action)
    if rights and resource.shares:
        names = {f"user:{actor.user}", *(f"group:{group}" for group in actor.groups)}
        for share in resource.shares:
            if share.right in rights and share.to in names:
                return f"shared with {share.to}"
    return ""


def _whom_to_ask(actor: Actor, action: Action, resource: Resource) -> str:
    if actor.user != resource.owner:
        return resource.owner
    # One's own thing, so it is the role that does not reach; an admin grants another.
    able = [role for role in RIGHTS if scope_of(role, action) is not None]
    return f"an admin for the role {able[-1].value}"
