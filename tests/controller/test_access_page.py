"""The tables of docs/access.md are what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from jupyter_aios.controller.rules import RULES, Whose
from jupyter_aios.core.policy import Action, Role
from jupyter_aios.core.quotas import DEFAULT_QUOTAS, Quota
from jupyter_aios.core.roles import scope_of
from jupyter_aios.core.units import format_bytes

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")


def rows_under(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, its head line included."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in re.split(r"\|", line)[1:-1]] for line in lines]


def test_the_roles_and_permissions_are_those_of_the_code() -> None:
    head, _, *rows = rows_under("Roles and permissions")
    assert head == ["permission", *(role.value for role in Role)]
    scopes = [[scope_of(role, action) for role in Role] for action in Action]
    assert rows == [
        [action.value, *(scope.value if scope else "no" for scope in row)]
        for action, row in zip(Action, scopes, strict=True)
    ]


def test_the_routes_are_those_of_the_code() -> None:
    _, _, *rows = rows_under("Routes")
    written = {tuple(row[0].split(" ", 1)): row[1:] for row in rows}
    assert len(written) == len(rows)
    assert written == {
        route: [
            rule.action.value,
            rule.kind
            if rule.kind in ("job", "secret")
            else f"{rule.kind}, {Whose(rule.whose).value}",
            rule.audit.value,
        ]
        for route, rule in RULES.items()
    }


def test_the_default_quotas_are_those_of_the_code() -> None:
    _, _, *rows = rows_under("Quotas")
    assert rows == [[role.value, *cells_of(DEFAULT_QUOTAS[role])] for role in Role]


def cells_of(quota: Quota) -> list[str]:
    disk = None if quota.disk_bytes is None else format_bytes(quota.disk_bytes)
    values = (quota.ranks, quota.gpu_hours, quota.jobs, quota.priority, disk)
    return ["no limit" if v is None else v if isinstance(v, str) else f"{v:g}" for v in values]
