"""HiGHS, the solver of linear programmes, as all rungs use it."""

from __future__ import annotations

from typing import Any


def quiet_highs() -> Any:  # noqa: ANN401 - HiGHS publishes no types for it
    """Return a HiGHS that prints nothing, on one thread.

    `highspy.Highs` prints the version's banner when the first one of a process is made, before any
    option can be set; the class it derives from does not.
    """
    from highspy._core import _Highs

    highs = _Highs()
    highs.setOptionValue("output_flag", False)  # noqa: FBT003 - HiGHS' own signature
    highs.setOptionValue("threads", 1)
    return highs
