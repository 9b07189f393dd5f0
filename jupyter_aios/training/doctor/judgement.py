"""Who holds the others up: a pure decision over what is known of every rank.

A rank that waits in a collective waits for the members of its group that have not come there, or
have come with something else. Whoever is waited for and does not wait itself is a root. A root that
has hope (computes, sleeps, reads) ends the matter: no verdict. Where nobody at the roots has hope,
the first of: stopped, ended, waiting for a lock for ever. Where there is no root, the ranks wait
for each other: they are in different calls, and what most of them do, or what they did before,
tells who is the odd one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.standings import EXCHANGE, Condition, Kind, Standing, Verdict
from jupyter_aios.training.doctor.vitals import NOBODY, Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.training.doctor.vitals import Line

_LONGEST_CONTEXT = 6


def judge(standings: Mapping[int, Standing]) -> Verdict | None:
    """Return who holds the others up; None where somebody has hope, or nothing can be proven."""
    waits = {rank: one for rank, one in standings.items() if _waits(one)}
    stuck, roots = _stuck(standings, waits)
    if stuck:
        held = tuple(sorted(rank for rank in stuck if rank not in roots))
        return _of_roots(standings, roots, held) or (
            _of_disagreement(standings, stuck) if not roots else None
        )
    living = [s for s in standings.values() if s.condition not in (Condition.ENDED, Condition.IDLE)]
    if living and not waits and all(_is_hopeless(one) for one in living):
        # Nobody waits for anybody, and nobody will ever move.
        return _of_roots(standings, {one.rank for one in living}, ())
    return None


def _waits(one: Standing) -> bool:
    return one.waiting is not None and one.condition not in (Condition.FROZEN, Condition.ENDED)


def _is_hopeless(one: Standing) -> bool:
    return one.condition is not Condition.HOPE and not one.is_unknown


def _stuck(
    standings: Mapping[int, Standing], waits: Mapping[int, Standing]
) -> tuple[set[int], set[int]]:
    """Return the ranks that wait without hope, and the roots that they wait for."""
    edges = {rank: blockers(one, standings) for rank, one in waits.items()}
    hopeful = {
        rank for rank, one in standings.items() if rank not in waits and not _is_hopeless(one)
    }
    # Everybody has come to where it is: data are under way, or it is something unknown.
    hopeful |= {rank for rank, found in edges.items() if not found}
    # Ranks of other machines are not in sight.
    hopeful |= {rank for rank, one in waits.items() if _awaited(one) - set(standings)}
    while True:
        # A rank that waits for anybody with hope has hope itself.
        more = {rank for rank, found in edges.items() if found & hopeful} - hopeful
        if not more:
            break
        hopeful |= more
    stuck = set(waits) - hopeful
    roots = {other for rank in stuck for other in edges[rank] if other not in waits}
    return stuck, roots


def _awaited(one: Standing) -> frozenset[int]:
    """Return the ranks that take part in the call that a rank waits in, as far as it is known."""
    call = one.waiting.call if one.waiting is not None else None
    if call is None:
        return frozenset()
    return frozenset({call.peer}) if call.is_pairwise and call.peer != NOBODY else call.members


def blockers(one: Standing, standings: Mapping[int, Standing]) -> set[int]:
    """Return the ranks that a waiting rank waits for."""
    waiting = one.waiting
    if waiting is None:
        return set()
    call = waiting.call
    if call is None:
        # Which of its calls it is in is unknown: everybody who is not in the same.
        return {
            rank
            for rank, other in standings.items()
            if rank != one.rank
            and (not _waits(other) or other.waiting is None or other.waiting.call is not None
                 or other.waiting.position != waiting.position or _counts_differ(one, other))
        }  # fmt: skip
    if call.is_pairwise:
        # From anybody: then whoever has hope may still send.
        peers = call.members - {one.rank} if call.peer == NOBODY else {call.peer}
        return set(peers) & set(standings)
    found = set()
    for rank in call.members & set(standings) - {one.rank}:
        theirs = standings[rank].entered.get(call.group)
        is_late = theirs is None or theirs.number < call.number
        # One that is stopped sends nothing, however far it has come.
        is_frozen = standings[rank].condition is Condition.FROZEN
        if is_late or is_frozen or (theirs is not None and conflict(call, theirs)):
            found.add(rank)
    return found


def _counts_differ(one: Standing, other: Standing) -> bool:
    """True where two ranks have made different numbers of calls in a group of both."""
    pair = {one.rank, other.rank}
    return any(
        call.members >= pair and call.number != theirs.number and not call.is_pairwise
        for group, call in one.entered.items()
        if (theirs := other.entered.get(group)) is not None
    )


def conflict(one: Call, other: Call) -> Kind | None:
    """Return how two calls of the same number of the same group disagree; None if they do not."""
    if one.number != other.number or one.group != other.group:
        return None
    if one.operation != other.operation:
        return Kind.MISMATCH
    return Kind.SHAPES if one.what != other.what else None


def _of_roots(
    standings: Mapping[int, Standing], roots: Iterable[int], held: tuple[int, ...]
) -> Verdict | None:
    one_of = [standings[rank] for rank in sorted(roots)]
    for kind, is_it in (
        (Kind.FROZEN, lambda s: s.condition is Condition.FROZEN),
        (Kind.ENDED, lambda s: s.condition in (Condition.ENDED, Condition.IDLE)),
        (Kind.LOADER, lambda s: s.condition is Condition.STILL and s.is_at_loader),
        (Kind.LOCK, lambda s: s.condition is Condition.STILL),
    ):
        found = tuple(one.rank for one in one_of if is_it(one))
        if found:
            return Verdict(kind, found, held)
    return None


def compare(standings: Mapping[int, Standing]) -> Verdict | None:
    """Return who disagrees with the others in the calls that they are in; None if nobody does."""
    calls = {
        r: one.waiting.call for r, one in standings.items() if one.waiting and one.waiting.call
    }
    disagreeing = {
        rank
        for rank, call in calls.items()
        if any(conflict(call, other) for other in calls.values())
    }
    return _of_disagreement(standings, disagreeing) if disagreeing else None


def _of_disagreement(standings: Mapping[int, Standing], stuck: set[int]) -> Verdict | None:
    """Return the verdict on ranks that wait for each other."""
    waiting = {rank: w for rank in sorted(stuck) if (w := standings[rank].waiting) is not None}
    # Without numbers a rank may simply be further on while the last bytes arrive: then it runs.
    is_certain = all(
        standings[rank].condition is Condition.STILL
        or (w.call is not None and not w.call.is_pairwise)
        for rank, w in waiting.items()
    )
    if not is_certain:
        return None
    calls = {rank: w.call for rank, w in waiting.items() if w.call is not None}
    if calls.keys() == waiting.keys() and _differ_in_shape_only(calls):
        return _by_majority(standings, Kind.SHAPES, {r: c.what for r, c in calls.items()})
    if calls.keys() == waiting.keys() and (
        len({call.group for call in calls.values()}) > 1
        or any(call.is_pairwise for call in calls.values())
    ):
        # In a loop over groups the line is the same.
        keys = {rank: (call.group, *waiting[rank].position) for rank, call in calls.items()}
        return _by_majority(standings, Kind.ORDER, keys)
    positions: dict[int, object] = {rank: one.position for rank, one in waiting.items()}
    if len(set(positions.values())) == 1:
        # In the same line, but not for the same time.
        positions = {rank: _counts(standings[rank], waiting) for rank in waiting}
    return _by_majority(standings, Kind.MISMATCH, positions)


def _counts(one: Standing, ranks: Iterable[int]) -> tuple[tuple[str, int], ...]:
    """Return how many calls a rank has made in the groups that all of `ranks` are in."""
    everybody = set(ranks)
    return tuple(
        sorted(
            (c.group, c.number)
            for c in one.entered.values()
            if c.members >= everybody and not c.is_pairwise
        )
    )


def _differ_in_shape_only(calls: Mapping[int, Call]) -> bool:
    first, *rest = calls.values()
    kinds = {conflict(first, other) for other in rest}
    return Kind.SHAPES in kinds and Kind.MISMATCH not in kinds and all(
        call.group == first.group and call.number == first.number and call.line == first.line
        for call in rest
    )  # fmt: skip


def _by_majority(
    standings: Mapping[int, Standing], kind: Kind, keys: Mapping[int, object]
) -> Verdict | None:
    counts = Counter(keys.values()).most_common()
    if len(counts) == 1 and kind is Kind.ORDER:
        return Verdict(kind, tuple(keys), tuple(keys), is_tie=True)  # each receives from the next
    if len(counts) == 1:
        return None  # all in the same place: whatever it is, no rank is the odd one
    norm = counts[0][0]
    is_tie = counts[0][1] == counts[1][1]
    expected = {rank: predicted(standings[rank].history) for rank in keys}
    if is_tie and kind is Kind.MISMATCH:
        # What came after this before is what everybody should be in now.
        known = Counter(e for e in expected.values() if e is not None and e in keys.values())
        if len(known) == 1:
            norm, is_tie = next(iter(known)), False
    if is_tie:
        return Verdict(kind, tuple(keys), tuple(keys), is_tie=True)
    odd = tuple(rank for rank, key in keys.items() if key != norm)
    held = tuple(rank for rank, key in keys.items() if key == norm)
    skipped = None
    if kind is Kind.MISMATCH:
        skipped = _skipped(standings[odd[0]], standings[held[0]])
    return Verdict(kind, odd, held, skipped=skipped)


def _skipped(odd: Standing, other: Standing) -> tuple[str, Line] | None:
    """Return the call that a rank went past, given that it is not in it; None if it is before it.

    A call that it never made before is an extra one, of the kind under `if rank == 0`.
    """
    own, theirs = odd.position, other.position
    if own is None or theirs is None or own == theirs or theirs[0] == EXCHANGE:
        return None
    past = odd.history[:-1]
    is_first_time = own not in past and theirs not in past
    is_past_it = own[1].file == theirs[1].file and own[1].number > theirs[1].number
    return theirs if own in past or (is_first_time and is_past_it) else None


def predicted(history: tuple[tuple[str, Line], ...]) -> tuple[str, Line] | None:
    """Return what followed the last time that the same calls came before; None if they never did.

    The newest entry is what the rank is in now, so it is not part of the past.
    """
    past = history[:-1]
    for length in range(min(_LONGEST_CONTEXT, len(past) - 1), 0, -1):
        context = past[-length:]
        for start in range(len(past) - length - 1, -1, -1):
            if past[start : start + length] == context:
                return past[start + length]
    return None
