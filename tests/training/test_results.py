"""What rank 0 leaves for `pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_aios.training import results

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_too_large_or_cannot_be_pickled_is_told_and_the_rest_is_kept(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    values = {"big": bytes(10_000), "small": 7, "odd": (i for i in "ab"), "gone": results.MISSING}
    results.save(tmp_path, values, frozenset(), limit_bytes=1000, notice=told.append)
    left = {
        result.name: (result.kind, bool(result.error)) for result in results.load_index(tmp_path)
    }
    assert left == {
        "big": ("none", True),
        "small": ("pickle", False),
        "odd": ("none", True),
        "gone": ("none", True),
    }
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "index.json",
        "small.pickle",
    ]
    assert told[0] == "--pull big: larger than --pull-limit 1000 B"
    assert len(told) == 3
