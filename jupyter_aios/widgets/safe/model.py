"""What the view shows, as a page lays it out: plain values, words already chosen.

Pure: no widget, no page, no clock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.policy import Role
from jupyter_aios.widgets.safe import words
from jupyter_aios.widgets.safe.rows import ShownAudit, ShownSecret, spent_of, with_quotas

if TYPE_CHECKING:
    from jupyter_aios.core.policy import Member
    from jupyter_aios.core.rights import QuotaRow
    from jupyter_aios.core.safe import SecretRow
    from jupyter_aios.widgets.safe.reading import SafeState

CLOSE_TO_THE_LIMIT = 0.85


def laid_out(state: SafeState) -> dict[str, Any]:
    """Return the state as JSON for the page; view.py says what is in it."""
    told = words.vault_told(state)
    empty, command = words.no_secrets(state)
    chain, is_alarming = words.chain_told(state.audit)
    return {
        "heading": words.heading(state),
        "read_at": time.strftime("%H:%M:%S", time.localtime(state.at)),
        "vault": {
            "kind": told.kind,
            "chip": told.chip,
            "line": told.line,
            "facts": list(told.facts),
            "commands": list(told.commands),
        },
        "secrets": [_secret(row, state.at) for row in state.secrets],
        "no_secrets": {"text": empty, "command": command},
        "members": [
            _member(name, member, row, is_you=name == state.asker)
            for name, member, row in with_quotas(state.members, state.quotas)
        ],
        "grant": "%aios grant NAME --role student" if state.role is Role.ADMIN else "",
        "denials": [_denial(ShownAudit.of(row)) for row in state.denials],
        "chain": {"text": chain, "is_alarming": is_alarming},
    }


def _secret(row: SecretRow, now: float) -> dict[str, Any]:
    shown = ShownSecret.of(row, now)
    return {
        "name": shown.name,
        "owner": shown.owner,
        "kind": shown.kind,
        "why": words.CLASSES[row.info.kind],
        "version": shown.version,
        "changed": shown.changed,
        "used": shown.used,
        "who": list(shown.who),
        "may": shown.may,
        "facts": [list(fact) for fact in words.facts_of(row, now)],
        "commands": words.commands_of(row),
    }


def _member(
    name: str, member: Member | None, row: QuotaRow | None, *, is_you: bool
) -> dict[str, Any]:
    spent = spent_of(row.quota, row.usage) if row is not None else ()
    return {
        "name": name,
        "role": member.role.value if member is not None else "",
        "groups": list(member.groups) if member is not None else [],
        "is_you": is_you,
        "is_default": row is not None and row.is_default,
        "priority": None if row is None else row.quota.priority,
        "spent": {
            one.name: {
                "text": one.text,
                "part": round(one.part, 4),
                "is_close": one.part >= CLOSE_TO_THE_LIMIT,
            }
            for one in spent
        },
    }


def _denial(row: ShownAudit) -> dict[str, Any]:
    return {
        "at": row.at,
        "user": row.user,
        "action": row.action,
        "resource": row.resource,
        "reason": row.reason,
    }
