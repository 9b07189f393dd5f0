"""What every route and every method of an engine asks for, in one table each.

A route without a rule cannot be built. docs/access.md shows the rules to people; a test holds the
two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jupyter_aios.core.policy import Action


class Audit(Enum):
    """When an allowed request is written down. A denied one always is."""

    FIRST = "first"
    """Before it is done; where that cannot be written, it is not done."""
    LATE = "late"
    """Before it is done, or as soon as the disk takes it: a full disk must keep nobody from
    looking, cancelling and pruning."""
    DENIED_ONLY = "denied only"
    """Never: a client repeats the request many times a minute, and it changes nothing. The first
    look at the job, which leads to it, stands in the audit."""


class Whose(Enum):
    """Whose the thing is that a route is about, where the path names none."""

    CONTROLLER = "the controller's"
    ASKER = "the asker's"


@dataclass(frozen=True)
class Rule:
    """What a route asks for, and of which kind of thing.

    A `job` is named by `{key}` in the path, a `secret` by `{owner}` and `{name}`; the gate finds
    them, and they are whose they are. Of other kinds `whose` says it.
    """

    action: Action
    kind: str
    audit: Audit = Audit.LATE
    whose: Whose = Whose.CONTROLLER


_JOBS, _JOB = "/v1/jobs", "/v1/jobs/{key}"
_SECRETS, _SECRET = "/v1/secrets", "/v1/secrets/{owner}/{name}"
_ASKER = Whose.ASKER

RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/v1/openapi.json"): Rule(Action.STATUS_READ, "controller"),
    ("GET", "/v1/hello"): Rule(Action.STATUS_READ, "controller"),
    ("POST", "/v1/shutdown"): Rule(Action.CONTROLLER_STOP, "controller"),
    ("POST", "/v1/warm"): Rule(Action.ENGINE_WARM, "controller"),
    ("GET", "/v1/nodes"): Rule(Action.NODE_READ, "nodes"),
    ("POST", "/v1/blobs/missing"): Rule(Action.BLOB_WRITE, "blobs", whose=_ASKER),
    ("PUT", "/v1/blobs/{sha256}"): Rule(Action.BLOB_WRITE, "blobs", Audit.FIRST, _ASKER),
    ("POST", "/v1/plans"): Rule(Action.JOB_SUBMIT, "jobs", whose=_ASKER),
    ("POST", _JOBS): Rule(Action.JOB_SUBMIT, "jobs", Audit.FIRST, _ASKER),
    ("GET", _JOBS): Rule(Action.JOB_READ, "jobs", whose=_ASKER),
    ("GET", _JOB): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/history"): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/events"): Rule(Action.JOB_READ, "job", Audit.DENIED_ONLY),
    ("GET", _JOB + "/kept"): Rule(Action.JOB_READ, "job"),
    ("POST", _JOB + "/cells"): Rule(Action.JOB_EXECUTE, "job", Audit.FIRST),
    ("POST", _JOB + "/cells/{number}/interrupt"): Rule(Action.JOB_EXECUTE, "job"),
    ("GET", _JOB + "/cells/{number}/ranks/{rank}/results"): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/cells/{number}/ranks/{rank}/results/{name}"): Rule(Action.JOB_READ, "job"),
    ("POST", _JOB + "/cancel"): Rule(Action.JOB_CANCEL, "job"),
    ("GET", _JOB + "/results"): Rule(Action.JOB_READ, "job"),
    ("GET", _JOB + "/results/{name:path}"): Rule(Action.JOB_READ, "job"),
    ("POST", "/v1/prune"): Rule(Action.JOB_PRUNE, "jobs", whose=_ASKER),
    ("GET", "/v1/vault"): Rule(Action.STATUS_READ, "vault", Audit.DENIED_ONLY),
    ("POST", "/v1/vault/unlock"): Rule(Action.VAULT_UNLOCK, "vault"),
    ("POST", "/v1/vault/lock"): Rule(Action.VAULT_LOCK, "vault"),
    ("POST", "/v1/vault/change"): Rule(Action.VAULT_CHANGE, "vault", Audit.FIRST),
    ("POST", "/v1/vault/recovery"): Rule(Action.VAULT_CHANGE, "vault", Audit.FIRST),
    ("POST", "/v1/vault/restore"): Rule(Action.VAULT_CHANGE, "vault", Audit.FIRST),
    ("GET", _SECRETS): Rule(Action.SECRET_LIST, "secrets", whose=_ASKER),
    ("PUT", _SECRETS + "/{name}"): Rule(Action.SECRET_SET, "secrets", Audit.FIRST, _ASKER),
    ("POST", _SECRETS + "/{name}/export"): Rule(Action.SECRET_READ, "secrets", Audit.FIRST, _ASKER),
    ("POST", _SECRETS + "/{name}/import"): Rule(Action.SECRET_SET, "secrets", Audit.FIRST, _ASKER),
    ("DELETE", _SECRET): Rule(Action.SECRET_REMOVE, "secret", Audit.FIRST),
    ("PUT", _SECRET + "/shares"): Rule(Action.SECRET_SHARE, "secret", Audit.FIRST),
    ("GET", "/v1/members"): Rule(Action.ROLE_READ, "members", whose=_ASKER),
    ("PUT", "/v1/members/{name}"): Rule(Action.ROLE_GRANT, "members", Audit.FIRST),
    ("GET", "/v1/tokens"): Rule(Action.TOKEN_REVOKE, "tokens", whose=_ASKER),
    ("POST", "/v1/members/{name}/tokens"): Rule(Action.TOKEN_ISSUE, "tokens", Audit.FIRST),
    ("DELETE", "/v1/tokens/{name}"): Rule(Action.TOKEN_REVOKE, "tokens", whose=_ASKER),
    ("GET", "/v1/quotas"): Rule(Action.QUOTA_READ, "quotas", whose=_ASKER),
    ("PUT", "/v1/quotas/{name}"): Rule(Action.QUOTA_SET, "quotas", Audit.FIRST),
    ("GET", "/v1/front"): Rule(Action.STATUS_READ, "front", Audit.DENIED_ONLY),
    ("POST", "/v1/front"): Rule(Action.CONTROLLER_SERVE, "front", Audit.FIRST),
    ("DELETE", "/v1/front"): Rule(Action.CONTROLLER_SERVE, "front"),
    ("GET", "/v1/audit"): Rule(Action.AUDIT_READ, "audit", whose=_ASKER),
    ("GET", "/v1/audit/head"): Rule(Action.AUDIT_READ, "audit"),
}
"""Where a use case looks further (whose token, whose quota, which rows), it asks the gate again."""

ENGINE_ACTIONS: dict[str, Action] = {
    "nodes": Action.NODE_READ,
    "plan": Action.JOB_SUBMIT,
    "launch": Action.JOB_SUBMIT,
    "status": Action.JOB_READ,
    "fence": Action.JOB_CANCEL,
    "stop": Action.JOB_CANCEL,
    "read": Action.JOB_READ,
    "results": Action.JOB_READ,
    "result_path": Action.JOB_READ,
    "run_cell": Action.JOB_EXECUTE,
    "interrupt_cell": Action.JOB_EXECUTE,
    "kept": Action.JOB_READ,
    "warm": Action.ENGINE_WARM,
    "warm_processes": Action.STATUS_READ,
    "discard": Action.JOB_PRUNE,
    "close": Action.CONTROLLER_STOP,
}
"""What whoever makes an engine do this must have been admitted for.

A route reaches only those methods that its rule covers, and no method is without a line here;
tests/controller/test_engine_rules.py reads the code for both. The loop does for a job what its
submitter was admitted for."""
