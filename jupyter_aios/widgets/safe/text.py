"""Secrets and rights as a terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_aios.errors import UnknownNameError
from jupyter_aios.widgets.safe import words
from jupyter_aios.widgets.safe.rows import (
    AUDIT_COLUMNS,
    MEMBER_COLUMNS,
    SECRET_COLUMNS,
    ShownAudit,
    ShownSecret,
    shown_members,
)
from jupyter_aios.widgets.text.table import Table

if TYPE_CHECKING:
    from jupyter_aios.widgets.safe.reading import SafeState

TABLES = ("secrets", "members", "denials")
_SHOWN_DENIALS = 10


def table(state: SafeState, of: str = "secrets") -> Table[Any]:
    """Return rows of one kind.

    Raises:
        UnknownNameError: there is no such table.

    """
    if of == "secrets":
        rows = tuple(ShownSecret.of(row, state.at) for row in state.secrets)
        empty, command = words.no_secrets(state)
        return Table(rows, SECRET_COLUMNS, f"{empty} {command}".strip())
    if of == "members":
        members = shown_members(state.members, state.quotas)
        return Table(members, MEMBER_COLUMNS, "nobody")
    if of == "denials":
        return Table(tuple(map(ShownAudit.of, state.denials)), AUDIT_COLUMNS, "nothing was denied")
    raise UnknownNameError.among("table", of, TABLES)


def text(state: SafeState) -> str:
    """Return all of it: the vault, secrets, who may what, and the newest denials."""
    told = words.vault_told(state)
    vault = [f"{told.chip}: {told.line}"]
    vault += [f"  {fact}" for fact in told.facts]
    vault += [f"  type: {command}" for command in told.commands]
    denials = table(state, "denials")
    shown = Table(denials.rows[:_SHOWN_DENIALS], denials.columns, denials.empty)
    parts = [
        words.heading(state),
        "\n".join(vault),
        f"secrets\n{table(state)!r}",
        f"rights\n{table(state, 'members')!r}",
        f"denied lately\n{shown!r}",
        words.chain_told(state.audit)[0],
    ]
    return "\n\n".join(parts)
