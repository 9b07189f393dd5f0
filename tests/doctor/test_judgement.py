"""Who holds the others up: the decision alone, over ranks that the test makes up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jupyter_aios.training.doctor.judgement import compare, judge, predicted
from jupyter_aios.training.doctor.standings import Condition, Kind, Standing, Waiting, Worker
from jupyter_aios.training.doctor.vitals import NOBODY, PAIRWISE, Call, Line

WORLD = frozenset(range(4))
REDUCE, BARRIER, BACKWARD = Line("train.py", 7), Line("train.py", 8), Line("train.py", 5)
LOOP = (("all_reduce", REDUCE), ("barrier", BARRIER))


def call(
    number: int = 10,
    operation: str = "all_reduce",
    line: Line = REDUCE,
    *,
    group: str = "0",
    members: frozenset[int] = WORLD,
    what: str = "float32 [10]",
    peer: int = NOBODY,
) -> Call:
    return Call(operation, group, members, number, what, line, 0, peer)


def waits(rank: int, one: Call, history: tuple[tuple[str, Line], ...] = ()) -> Standing:
    return Standing(
        rank, Condition.STILL, waiting=Waiting(one.line, one), entered={one.group: one},
        history=(*history, (one.operation, one.line)),
    )  # fmt: skip


def exchanges(rank: int, *entered: Call, line: Line = BACKWARD) -> Standing:
    return Standing(
        rank, Condition.STILL, waiting=Waiting(line), entered={c.group: c for c in entered}
    )


def has(rank: int, condition: Condition, number: int = 9) -> Standing:
    return Standing(rank, condition, line=BARRIER, entered={"0": call(number)})


def of(*standings: Standing) -> dict[int, Standing]:
    return {one.rank: one for one in standings}


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        (Condition.FROZEN, Kind.FROZEN),
        (Condition.ENDED, Kind.ENDED),
        (Condition.IDLE, Kind.ENDED),
        (Condition.STILL, Kind.LOCK),
    ],
)
def test_the_rank_that_the_others_wait_for_is_named(condition: Condition, kind: Kind) -> None:
    verdict = judge(of(waits(0, call()), waits(1, call()), has(2, condition), waits(3, call())))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks, verdict.waiting) == (kind, (2,), (0, 1, 3))


def test_a_rank_that_waits_for_its_loader_is_named_as_such() -> None:
    starved = replace(has(2, Condition.STILL), is_at_loader=True, worker=Worker(7, BARRIER))
    verdict = judge(of(waits(0, call()), waits(1, call()), starved, waits(3, call())))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks) == (Kind.LOADER, (2,))


def test_who_waits_for_a_rank_that_runs_is_left_in_peace() -> None:
    ranks = of(waits(0, call()), waits(1, call()), has(2, Condition.HOPE), waits(3, call()))
    assert judge(ranks) is None


def test_who_waits_for_ranks_of_which_one_runs_is_left_in_peace() -> None:
    ranks = of(waits(0, call()), has(1, Condition.HOPE), has(2, Condition.STILL), waits(3, call()))
    assert judge(ranks) is None


def test_who_waits_for_one_that_waits_for_one_that_runs_is_left_in_peace() -> None:
    pair, other = frozenset({0, 1}), frozenset({1, 2})
    ranks = of(
        waits(0, call(members=pair, group="a")),
        waits(1, call(members=other, group="b")),
        has(2, Condition.HOPE),
        has(3, Condition.HOPE),
    )
    assert judge(ranks) is None


def test_a_hang_of_two_is_told_while_the_others_train() -> None:
    pair = frozenset({0, 1})
    ranks = of(
        waits(0, call(members=pair, group="a")),
        has(1, Condition.FROZEN),
        has(2, Condition.HOPE),
        has(3, Condition.HOPE),
    )
    verdict = judge(ranks)
    assert verdict is not None
    assert (verdict.kind, verdict.ranks, verdict.waiting) == (Kind.FROZEN, (1,), (0,))


def test_ranks_that_have_all_come_wait_for_bytes_and_not_for_a_rank() -> None:
    assert judge(of(*(waits(rank, call()) for rank in range(4)))) is None
    assert judge(of(*(exchanges(rank) for rank in range(4)))) is None


def test_one_that_was_stopped_inside_the_call_is_named() -> None:
    inside = replace(waits(2, call()), condition=Condition.FROZEN)
    verdict = judge(of(waits(0, call()), waits(1, call()), inside, waits(3, call())))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks) == (Kind.FROZEN, (2,))


def test_without_a_stack_a_silent_rank_is_not_blamed() -> None:
    unknown = replace(has(2, Condition.STILL), is_unknown=True)
    assert judge(of(waits(0, call()), waits(1, call()), unknown, waits(3, call()))) is None


def test_members_on_other_machines_have_hope() -> None:
    far = call(members=frozenset(range(8)))
    assert judge(of(waits(0, far), waits(1, far), has(2, Condition.STILL), waits(3, far))) is None


def test_the_one_in_another_call_is_the_odd_one() -> None:
    odd = waits(2, call(10, "barrier", BARRIER, what=""), LOOP)
    verdict = judge(of(waits(0, call(), LOOP), waits(1, call(), LOOP), odd, waits(3, call(), LOOP)))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks, verdict.waiting) == (Kind.MISMATCH, (2,), (0, 1, 3))
    assert verdict.skipped == ("all_reduce", REDUCE)


def test_an_extra_call_skips_nothing() -> None:
    extra = waits(0, call(10, "barrier", Line("train.py", 3), what=""), (("all_reduce", REDUCE),))
    others = [waits(rank, call(), (("all_reduce", REDUCE),)) for rank in (1, 2, 3)]
    verdict = judge(of(extra, *others))
    assert verdict is not None
    assert (verdict.ranks, verdict.skipped) == ((0,), None)


def test_of_two_the_past_tells_who_is_wrong() -> None:
    both = frozenset({0, 1})
    loop = LOOP * 3
    one = waits(0, call(members=both), loop)
    other = waits(1, call(10, "barrier", BARRIER, members=both, what=""), loop)
    verdict = judge(of(one, other))
    assert verdict is not None
    assert (verdict.ranks, verdict.is_tie) == ((1,), False)


def test_of_two_without_a_past_both_are_named() -> None:
    both = frozenset({0, 1})
    other = waits(1, call(10, "barrier", BARRIER, members=both, what=""))
    verdict = judge(of(waits(0, call(members=both)), other))
    assert verdict is not None
    assert (verdict.ranks, verdict.is_tie) == ((0, 1), True)


def test_different_shapes_in_the_same_line_are_told_as_such() -> None:
    odd = waits(1, call(what="float32 [5]"))
    verdict = judge(of(waits(0, call()), odd, waits(2, call()), waits(3, call())))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks) == (Kind.SHAPES, (1,))


def test_groups_in_another_order_are_told_as_such() -> None:
    first, second = call(5, group="1"), call(5, group="2")
    before = {"1": call(4, group="1"), "2": call(4, group="2")}
    ranks = of(*(waits(rank, second if rank == 3 else first) for rank in range(4)))
    ranks = {r: replace(one, entered={**before, **one.entered}) for r, one in ranks.items()}
    verdict = judge(ranks)
    assert verdict is not None
    assert (verdict.kind, verdict.ranks, verdict.waiting) == (Kind.ORDER, (3,), (0, 1, 2))


def test_two_that_wait_to_receive_from_each_other_are_told() -> None:
    one = waits(0, call(operation="recv", group=f"0{PAIRWISE}", peer=1))
    other = waits(1, call(operation="recv", group=f"0{PAIRWISE}", peer=0))
    verdict = judge(of(one, other))
    assert verdict is not None
    assert verdict.kind is Kind.ORDER
    # While their processes work the bytes may be on their way.
    assert judge(of(replace(one, condition=Condition.HOPE), other)) is None


def test_one_that_left_the_exchange_out_is_named() -> None:
    ranks = of(exchanges(0, call(9)), exchanges(1, call(9)), waits(2, call(10)), exchanges(3))
    verdict = judge(ranks)
    assert verdict is not None
    assert (verdict.kind, verdict.ranks) == (Kind.MISMATCH, (2,))


def test_one_that_is_a_round_ahead_in_the_same_line_is_named() -> None:
    ranks = of(*(exchanges(rank, call(10 if rank == 1 else 9)) for rank in range(4)))
    verdict = judge(ranks)
    assert verdict is not None
    assert (verdict.kind, verdict.ranks) == (Kind.MISMATCH, (1,))
    ranks[3] = replace(ranks[3], condition=Condition.HOPE)
    assert judge(ranks) is None


def test_independent_ranks_are_told_only_when_none_of_them_will_ever_move() -> None:
    still, over = Standing(0, Condition.STILL), Standing(1, Condition.ENDED)
    verdict = judge(of(still, over))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks, verdict.waiting) == (Kind.LOCK, (0,), ())
    assert judge(of(still, Standing(1, Condition.HOPE))) is None


def test_idle_ranks_are_no_hang_unless_somebody_waits_for_them() -> None:
    assert judge(of(*(Standing(rank, Condition.IDLE) for rank in range(4)))) is None
    assert judge(of(Standing(0, Condition.IDLE), Standing(1, Condition.HOPE))) is None


def test_a_comparison_of_calls_needs_two_that_disagree() -> None:
    assert compare(of(waits(0, call()), waits(1, call()), has(2, Condition.STILL))) is None
    odd = waits(1, call(what="float32 [5]"))
    verdict = compare(of(waits(0, call()), odd, waits(2, call()), has(3, Condition.STILL)))
    assert verdict is not None
    assert (verdict.kind, verdict.ranks) == (Kind.SHAPES, (1,))


def test_the_past_predicts_the_longest_context_first() -> None:
    a, b, c, d = (("all_reduce", Line("f", number)) for number in range(4))
    assert predicted((a, b, a, c, a, b, a, d)) == c
    assert predicted((a, b)) is None
