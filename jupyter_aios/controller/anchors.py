"""What the audit knows of the vault: its newest generation, and who used a secret last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jupyter_aios.core.audit import AuditRow
from jupyter_aios.core.policy import Action
from jupyter_aios.vault import Anchor

if TYPE_CHECKING:
    from jupyter_aios.core.entities import UserId
    from jupyter_aios.core.ports import AccessStore
    from jupyter_aios.core.secrets import SecretInfo

COMMIT = "vault:commit"
"""The deed of a row that anchors a generation: an older file is refused from then on."""
_ANCHOR = re.compile(r"vault:([0-9]+):([0-9a-f]{64})")
_JOB = re.compile(r"job ([^:]+):")


def commit_row(anchor: Anchor, user: UserId, at: float) -> AuditRow:
    """Return the row that a new generation of the vault leaves in the audit."""
    resource = f"vault:{anchor.generation}:{anchor.digest}"
    return AuditRow(at, user, COMMIT, resource, is_allowed=True, reason="a new generation")


def newest_anchor(store: AccessStore) -> Anchor | None:
    """Return the generation that the audit has seen last, or None."""
    for row in store.audit(1, action=COMMIT):
        found = _ANCHOR.fullmatch(row.resource)
        if found is not None:
            return Anchor(int(found[1]), found[2])
    return None


def last_use(store: AccessStore, info: SecretInfo) -> tuple[float, str] | None:
    """Return when a secret went to a job last, and to whose and which; None: never."""
    resource = f"secret:{info.owner}/{info.name}"
    rows = [
        row
        for action in (Action.SECRET_USE, Action.SECRET_READ)
        if (row := _newest_use(store, action, resource)) is not None
    ]
    if not rows:
        return None
    newest = max(rows, key=lambda row: row.seq)
    job = _JOB.match(newest.reason)
    return newest.at, f"{newest.user}, job {job[1] if job else ''}"


def _newest_use(store: AccessStore, action: Action, resource: str) -> AuditRow | None:
    """Return the newest row of a job's use. The store also finds longer names, so look further."""
    limit, looked_at = 20, 0
    while True:
        rows = store.audit(limit, action=action.value, resource=resource, is_allowed=True)
        for row in rows[looked_at:]:
            if row.resource == resource and _JOB.match(row.reason):
                return row
        if len(rows) < limit:
            return None
        limit, looked_at = 10 * limit, len(rows)
