"""`docs/travel.md` says what is tested, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_row_of_the_table_is_a_test_and_each_test_a_row() -> None:
    page = (ROOT / "docs" / "travel.md").read_text(encoding="utf-8")
    told = re.findall(r"^\|.*\| `(\w+)` \|$", page, re.MULTILINE)
    files = set(Path(__file__).parent.glob("test_*.py")) - {Path(__file__)}
    written = [
        name
        for file in sorted(files)
        for name in re.findall(r"^def test_(\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(told) == sorted(written)
