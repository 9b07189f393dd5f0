"""Who may do what: one pure function that every route of the controller passes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jupyter_aios.core.entities import UserId


class Action(str, Enum):
    """Everything that can be asked of the controller."""

    STATUS_READ = "status:read"
    CONTROLLER_STOP = "controller:stop"
    NODE_READ = "node:read"
    ENGINE_WARM = "engine:warm"
    BLOB_WRITE = "blob:write"
    JOB_SUBMIT = "job:submit"
    JOB_READ = "job:read"
    JOB_CANCEL = "job:cancel"
    JOB_EXECUTE = "job:execute"
    JOB_PRUNE = "job:prune"


@dataclass(frozen=True)
class Actor:
    """Who asks, as the transport proved it; never as the request claims it."""

    user: UserId


@dataclass(frozen=True)
class Resource:
    """What is asked about, and whose it is."""

    kind: str
    name: str
    owner: UserId


@dataclass(frozen=True)
class Decision:
    """Allowed or not, and why, in a sentence for the person and the audit."""

    is_allowed: bool
    reason: str


def authorise(actor: Actor, action: Action, resource: Resource) -> Decision:
    """Return whether `actor` may do `action` on `resource`: the owner may, nobody else.

    Roles and groups join here, as data, when the controller serves more than one person.
    """
    if actor.user == resource.owner:
        return Decision(is_allowed=True, reason="owner")
    return Decision(
        is_allowed=False,
        reason=f"{action.value} on {resource.kind} {resource.name!r} is for its owner,"
        f" {resource.owner}; you are {actor.user}",
    )
