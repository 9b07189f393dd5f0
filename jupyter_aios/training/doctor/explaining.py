"""A failure that came of ranks in different calls, with the comparison that its message lacks.

gloo does not always hang: with different shapes it aborts one rank, and a rank that ends early cuts
the others' connections. What each rank was in still stands in its vitals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.judgement import compare
from jupyter_aios.training.doctor.standings import Condition, Kind, Standing, Verdict, Waiting
from jupyter_aios.training.doctor.vitals import Line
from jupyter_aios.training.doctor.words import Told, tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.core.entities import Failure
    from jupyter_aios.training.doctor.places import Places
    from jupyter_aios.training.doctor.vitals import Vitals

_LOST_PEER = ("connection closed by peer", "connection reset by peer", "broken pipe", "timed out")


def explain(
    failure: Failure, vitals: Mapping[int, Vitals], ended: Iterable[int], places: Places
) -> Told | None:
    """Return what the comparison of all ranks says of a failure, or None where it says nothing.

    Args:
        failure: what is about to be told.
        vitals: of all ranks, as they left them.
        ended: ranks that had ended by themselves before the failure.
        places: to name lines.

    """
    standings = {rank: _standing(rank, one) for rank, one in vitals.items()}
    own = standings.get(-1 if failure.rank is None else failure.rank)
    if own is None:
        return None
    is_lost_peer = any(words in failure.message.lower() for words in _LOST_PEER)
    if own.waiting is None and not is_lost_peer:
        return None
    verdict = compare(standings) if own.waiting is not None else None
    over = tuple(rank for rank in ended if rank in standings and rank != own.rank)
    if verdict is None and over and (is_lost_peer or own.waiting is not None):
        for rank in over:
            standings[rank] = replace(standings[rank], condition=Condition.ENDED, waiting=None)
        verdict = Verdict(Kind.ENDED, over, (own.rank,))
    return None if verdict is None else tell(verdict, standings, places)


def _standing(rank: int, vitals: Vitals) -> Standing:
    call = vitals.current
    return Standing(
        rank=rank,
        condition=Condition.STILL,
        step=vitals.step,
        waiting=Waiting(call.line, call) if call else None,
        line=vitals.history[-1][1] if vitals.history else Line(),
        entered={one.group: one for one in vitals.entered},
        history=vitals.history,
    )
