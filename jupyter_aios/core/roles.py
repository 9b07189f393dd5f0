"""What there is to be allowed, and which role may do it: the whole table, as data.

docs/access.md shows it to people; a test holds the two together.
"""
# ruff: noqa: S105 - names of actions, not passwords

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Action(str, Enum):
    """Everything that can be asked of the controller."""

    STATUS_READ = "status:read"
    CONTROLLER_STOP = "controller:stop"
    CONTROLLER_SERVE = "controller:serve"
    NODE_READ = "node:read"
    NODE_USE = "node:use"
    NODE_CHANGE = "node:change"
    ENGINE_WARM = "engine:warm"
    BLOB_WRITE = "blob:write"
    JOB_SUBMIT = "job:submit"
    JOB_READ = "job:read"
    JOB_CANCEL = "job:cancel"
    JOB_EXECUTE = "job:execute"
    JOB_PRUNE = "job:prune"
    DATA_READ = "data:read"
    DATA_USE = "data:use"
    DATA_SHARE = "data:share"
    GALLERY_READ = "gallery:read"
    GALLERY_PUBLISH = "gallery:publish"
    SECRET_LIST = "secret:list"
    SECRET_SET = "secret:set"
    SECRET_USE = "secret:use"
    SECRET_READ = "secret:read"
    SECRET_SHARE = "secret:share"
    SECRET_REMOVE = "secret:remove"
    VAULT_UNLOCK = "vault:unlock"
    VAULT_LOCK = "vault:lock"
    VAULT_CHANGE = "vault:change"
    ROLE_READ = "role:read"
    ROLE_GRANT = "role:grant"
    TOKEN_ISSUE = "token:issue"
    TOKEN_REVOKE = "token:revoke"
    QUOTA_READ = "quota:read"
    QUOTA_SET = "quota:set"
    AUDIT_READ = "audit:read"


class Role(str, Enum):
    """What a person is to the controller; one each, the greatest first."""

    ADMIN = "admin"
    TEACHER = "teacher"
    STUDENT = "student"
    GUEST = "guest"


class Scope(str, Enum):
    """Whose things a role may do something with; each includes the one before."""

    OWN = "own"
    GROUP = "group"
    """And those of students and guests who share a group."""
    ANY = "any"


A, OWN, GROUP, ANY = Action, Scope.OWN, Scope.GROUP, Scope.ANY

_GUEST = frozenset({(A.GALLERY_READ, ANY)})

_STUDENT = frozenset(
    {
        (A.STATUS_READ, ANY),
        (A.NODE_READ, ANY),
        (A.NODE_USE, ANY),
        (A.ENGINE_WARM, ANY),
        (A.BLOB_WRITE, OWN),
        (A.JOB_SUBMIT, OWN),
        (A.JOB_READ, OWN),
        (A.JOB_CANCEL, OWN),
        (A.JOB_EXECUTE, OWN),
        (A.JOB_PRUNE, OWN),
        (A.DATA_READ, OWN),
        (A.DATA_USE, OWN),
        (A.DATA_SHARE, OWN),
        (A.GALLERY_READ, ANY),
        (A.SECRET_LIST, OWN),
        (A.SECRET_SET, OWN),
        (A.SECRET_USE, OWN),
        (A.SECRET_READ, OWN),
        (A.SECRET_SHARE, OWN),
        (A.SECRET_REMOVE, OWN),
        (A.ROLE_READ, OWN),
        (A.TOKEN_REVOKE, OWN),
        (A.QUOTA_READ, OWN),
        (A.AUDIT_READ, OWN),
    }
)

_TAUGHT = frozenset({A.JOB_READ, A.JOB_CANCEL, A.ROLE_READ, A.QUOTA_READ, A.AUDIT_READ})

_TEACHER = frozenset(
    {
        *((action, GROUP if action in _TAUGHT else scope) for action, scope in _STUDENT),
        (A.GALLERY_PUBLISH, OWN),
    }
)
"""A quota is set by an admin only: else a teacher's own would hold nobody back."""

_NOT_FOR_OTHERS = frozenset({A.SECRET_READ, A.SECRET_SET, A.SECRET_SHARE, A.JOB_EXECUTE})
"""Each of these would be a way to somebody else's values: seeing them, having them sent to a target
of one's own, sharing them with oneself, running code in ranks that hold them."""

_ADMIN = frozenset({(action, OWN if action in _NOT_FOR_OTHERS else ANY) for action in Action})

RIGHTS: Mapping[Role, frozenset[tuple[Action, Scope]]] = {
    Role.ADMIN: _ADMIN,
    Role.TEACHER: _TEACHER,
    Role.STUDENT: _STUDENT,
    Role.GUEST: _GUEST,
}
"""An action that a role does not name is denied to it."""

SHARED: Mapping[Action, frozenset[str]] = {
    Action.SECRET_LIST: frozenset({"use", "read"}),
    Action.SECRET_USE: frozenset({"use", "read"}),
    Action.SECRET_READ: frozenset({"read"}),
    Action.DATA_USE: frozenset({"use", "read"}),
    Action.DATA_READ: frozenset({"read"}),
}
"""What an owner gives with a share of that right, whatever the role of who gets it."""

REACHED = frozenset({Role.STUDENT, Role.GUEST})
"""Whose things `Scope.GROUP` reaches: a teacher stands over students, not over teachers."""

_SCOPES = {role: dict(rights) for role, rights in RIGHTS.items()}


def scope_of(role: Role, action: Action) -> Scope | None:
    """Return whose things the role may do this with, or None: nobody's.

    Example:
        >>> scope_of(Role.TEACHER, Action.JOB_CANCEL)
        <Scope.GROUP: 'group'>

    """
    return _SCOPES[role].get(action)
