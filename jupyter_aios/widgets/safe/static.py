"""What a saved notebook keeps of the view: a page without scripts, and plain text.

Names are kept, as every table keeps them; values were never here.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from jupyter_aios.widgets.safe.model import laid_out
from jupyter_aios.widgets.safe.text import text
from jupyter_aios.widgets.tones import GREY, STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.widgets.safe.reading import SafeState

_COLOURS = {
    "open": STATES["succeeded"], "locked": STATES["undecided"], "damaged": STATES["failed"],
}  # fmt: skip
_TABLE = "border-collapse:collapse;margin:4px 0 10px;font-size:12px;text-align:left"
_HEAD = "text-align:left;padding:2px 14px 2px 0;opacity:0.7;font-weight:600"
_CELL = "text-align:left;padding:2px 14px 2px 0;vertical-align:top"
_UNBROKEN = 24
"""A text of so many letters, such as a time, stays on one line."""
_QUOTAS = ("ranks", "gpu_hours", "jobs", "disk")


def bundle(state: SafeState, place: str) -> dict[str, Any]:
    """Return the view as a display's data; `place` is where a page that still has it puts it."""
    return {"text/plain": text(state), "text/html": page(state, place)}


def page(state: SafeState, place: str) -> str:
    """Return the view as HTML without scripts; every text in it is escaped."""
    shown = laid_out(state)
    vault = shown["vault"]
    about = " · ".join([*vault["facts"], *vault["commands"]])
    colour = _COLOURS.get(vault["kind"], GREY)
    return "\n".join(
        [
            f'<div class="aios-place-{escape(place)}">',
            f'<div style="border-left:3px solid {colour};padding-left:8px">',
            f"<div>{escape(shown['heading'])}, read at {escape(shown['read_at'])}</div>",
            f"<div><b>{escape(vault['chip'])}</b> {escape(vault['line'])}</div>",
            f'<div style="opacity:0.7">{escape(about)}</div></div>',
            *_secrets(shown),
            *_members(shown),
            *_denials(shown),
            "</div>",
        ]
    )


def _secrets(shown: dict[str, Any]) -> list[str]:
    rows = [
        [
            secret["name"], secret["owner"], f"{secret['kind']}: {secret['why']}",
            secret["version"], secret["changed"], secret["used"],
            ", ".join(secret["who"]) or "nobody else", secret["may"],
        ]
        for secret in shown["secrets"]
    ]  # fmt: skip
    empty = shown["no_secrets"]
    heads = ("name", "owner", "class", "version", "changed", "last use", "who else may", "you")
    return _table("Secrets", heads, rows, f"{empty['text']} {empty['command']}")


def _members(shown: dict[str, Any]) -> list[str]:
    rows = [
        [
            member["name"], member["role"], ", ".join(member["groups"]),
            *(member["spent"].get(name, {}).get("text", "no limit") for name in _QUOTAS),
            "no limit" if member["priority"] is None else f"up to {member['priority']}",
        ]
        for member in shown["members"]
    ]  # fmt: skip
    heads = ("who", "role", "groups", "ranks", "GPU-hours", "jobs", "disk", "priority")
    return _table("Rights", heads, rows, "Nobody.")


def _denials(shown: dict[str, Any]) -> list[str]:
    rows = [
        [one["at"], one["user"], one["action"], one["resource"], one["reason"]]
        for one in shown["denials"]
    ]
    heads = ("time", "user", "asked for", "of", "why not")
    told = _table("Denied lately", heads, rows, "Nothing was denied.")
    return [*told, f'<div style="opacity:0.7">{escape(shown["chain"]["text"])}</div>']


def _table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[object]], empty: str
) -> list[str]:
    title = f"<b>{escape(title)}</b>"
    body = [f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows]
    if not body:
        return [f'<div style="margin-top:8px">{title} {escape(empty)}</div>']
    head = "".join(f'<th style="{_HEAD}">{escape(name)}</th>' for name in heads)
    return [
        f'<div style="margin-top:8px">{title}</div>',
        f'<div style="overflow-x:auto"><table style="{_TABLE}">',
        f"<tr>{head}</tr>",
        *body,
        "</table></div>",
    ]


def _cell(value: object) -> str:
    text = str(value)
    style = f"{_CELL};white-space:nowrap" if len(text) <= _UNBROKEN else _CELL
    return f'<td style="{style}">{escape(text)}</td>'
