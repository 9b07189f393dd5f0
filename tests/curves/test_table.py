"""docs/curves.md says what is captured of which loop; here every row of its table is run."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.events import EventKind
from tests.curves.reading import curves, logged, said
from tests.curves.shapes import SHAPES

if TYPE_CHECKING:
    from tests.launching import Launchpad

_PAGE = Path(__file__).parents[2] / "docs" / "curves.md"
_ROWS = {
    cells[0]: (tuple(re.findall(r"`([^`]+)`", cells[1])), cells[1], cells[2])
    for line in _PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| loop |")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}
_DERIVED = ("lr", "samples/s")


def test_the_table_and_the_shapes_are_the_same() -> None:
    assert list(_ROWS) == list(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_of_the_table_is_true(shape: str, launchpad: Launchpad) -> None:
    # Not to be had for every Python that the rest runs on.
    library = {"Keras 3 `fit`": "keras", "scikit-learn": "sklearn"}.get(shape, "torch")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    names, captured, words = _ROWS[shape]
    ranks = 2 if shape == "DDP" else 1
    ref = launchpad.run(
        SHAPES[shape], ranks_per_node=ranks, autolog=shape != "--no-autolog", timeout_s=100
    )
    status = launchpad.wait(ref, deadline_s=110)
    assert status.failure is None, status.failure
    events = launchpad.events(ref)
    for rank in range(ranks):
        found = {n: c for n, c in curves(events, rank).items() if not n.startswith(_DERIVED)}
        assert tuple(sorted(found)) == tuple(sorted(names))
        by_hand = logged(events, rank)
        for name, curve in found.items():
            steps, values = zip(*curve.points, strict=True)
            hand_steps, hand_values = zip(*by_hand[name], strict=True)
            assert steps == hand_steps
            # By hand the mean is taken before the division, which rounds in another order.
            is_mean = shape.startswith("accumulation")
            assert values == (pytest.approx(hand_values, rel=1e-6) if is_mean else hand_values)
            assert words in curve.how
    if captured == "not captured":
        assert words in said(events)
    if shape == "--no-autolog":
        kinds = {event.kind for event in events}
        assert not kinds & {EventKind.CURVE, EventKind.PROGRESS}
