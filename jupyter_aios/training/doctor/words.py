"""A verdict as a person reads it: who, where, what the others do, and what to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.training.doctor.standings import EXCHANGE, Condition, Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jupyter_aios.training.doctor.places import Places
    from jupyter_aios.training.doctor.standings import Standing
    from jupyter_aios.training.doctor.vitals import Line


@dataclass(frozen=True)
class Told:
    """What is said: one sentence on what it is, one on what to try, and the place."""

    text: str
    hint: str
    where: str


def tell(verdict: Verdict, standings: Mapping[int, Standing], places: Places) -> Told:
    """Return a verdict in words."""
    culprit = standings[verdict.ranks[0]]
    # Of one that ended or was stopped between its calls only the others' line is known.
    lines = [_line(standings[rank]) for rank in (*verdict.ranks[:1], *verdict.waiting)]
    where = places.show(next((line for line in lines if line.file), lines[0]))
    held = _held(verdict.waiting, standings, places)
    if verdict.kind in (Kind.MISMATCH, Kind.ORDER, Kind.SHAPES):
        return _disagreement(verdict, standings, places)
    who = names(verdict.ranks)
    up = (
        f"{who} {_s(verdict.ranks, 'holds', 'hold')} the others up: "
        if verdict.waiting
        else f"{who}: "
    )
    it = _s(verdict.ranks, "it", "they")
    what, hint = {
        Kind.FROZEN: lambda: _frozen(verdict, culprit, it, places),
        Kind.ENDED: lambda: _ended(
            culprit, it, {_operation(standings[r]) for r in verdict.waiting}
        ),
        Kind.LOADER: lambda: _loader(culprit, it, where, places),
        Kind.LOCK: lambda: _lock(culprit, it, where),
    }[verdict.kind]()
    return Told(f"{up}{what}{held}", hint, where)


def _frozen(verdict: Verdict, culprit: Standing, it: str, places: Places) -> tuple[str, str]:
    line = _line(culprit)
    seen = f", last seen at {places.show(line)}" if line.file else ""
    step = f" after step {culprit.step}" if culprit.step else ""
    are = _s(verdict.ranks, "is", "are")
    hint = (
        "somebody or something sent SIGSTOP (a debugger, a batch system, `kill -STOP`):"
        " `kill -CONT` its process, or cancel the job"
    )
    return f"{it} {are} stopped (SIGSTOP){step}{seen}", hint


def _operation(one: Standing) -> str:
    return one.waiting.operation if one.waiting is not None else ""


def _ended(culprit: Standing, it: str, awaited: set[str]) -> tuple[str, str]:
    if culprit.condition is Condition.IDLE:
        return (
            f"{it} has nothing to run, the cell runs in the others only",
            "run cells with collectives in all ranks: leave --ranks out",
        )
    step = f" after step {culprit.step}" if culprit.step else ""
    if awaited == {"init_process_group"}:
        hint = "no rank may return before it has called init_process_group"
        return f"{it} has ended its work without calling it", hint
    hint = (
        "all ranks have to make the same number of steps: DistributedSampler with drop_last=True,"
        " or model.join(); and no rank may return early"
    )
    return f"{it} has ended its work{step}", hint


def _loader(culprit: Standing, it: str, where: str, places: Places) -> tuple[str, str]:
    worker = culprit.worker
    if worker is None:
        return f"{it} waits for its DataLoader at {where}", "num_workers=0 shows where"
    at = f" at {places.show(worker.line)}" if worker.line.file else ""
    if worker.is_stopped:
        state, hint = "is stopped (SIGSTOP)", f"kill -CONT {worker.pid}, or cancel the job"
    else:
        state = "waits for a lock that nobody holds in its process"
        hint = (
            "a worker that is forked inherits locks as they are: make locks, queues and pools"
            " inside the dataset's first __getitem__, use multiprocessing_context='forkserver',"
            " or num_workers=0"
        )
    text = (
        f"{it} waits for its DataLoader at {where}, whose worker (process {worker.pid}) {state}{at}"
    )
    return text, hint


def _lock(culprit: Standing, it: str, where: str) -> tuple[str, str]:
    calls = f", in {culprit.doing}()," if culprit.doing else ""
    hint = "nothing in this process can release it: give the wait a timeout, or look who forgot to"
    return f"{it} waits for ever at {where}{calls} for a lock or a queue", hint


def _disagreement(verdict: Verdict, standings: Mapping[int, Standing], places: Places) -> Told:
    culprit = standings[verdict.ranks[0]]
    where = places.show(_line(culprit))
    everybody = sorted({*verdict.ranks, *verdict.waiting})
    if verdict.is_tie:
        text = f"{names(everybody)} wait for each other: " + "; ".join(
            f"{names(ranks)} {_s(ranks, 'is', 'are')} {what}"
            for what, ranks in _grouped(everybody, standings, places, verdict.kind)
        )
    else:
        theirs = "; ".join(
            f"{names(ranks)} {_s(ranks, 'is', 'are')} {what}"
            for what, ranks in _grouped(verdict.waiting, standings, places, verdict.kind)
        )
        own = _activity(culprit, places, verdict.kind)
        past = ""
        if verdict.skipped is not None:
            past = f", having gone past line {verdict.skipped[1].number}"
        holds = _s(verdict.ranks, "holds", "hold")
        it = _s(verdict.ranks, "it is", "they are")
        ahead = _ahead(culprit, standings[verdict.waiting[0]], places)
        text = (
            f"{names(verdict.ranks)} {holds} the others up: {it} {own}{past}, while {theirs}{ahead}"
        )
    return Told(text, _disagreement_hint(verdict, standings, places), where)


def _ahead(culprit: Standing, other: Standing, places: Places) -> str:
    """Return how the counts of two ranks differ that are in the same line."""
    if culprit.position != other.position or other.waiting is None or other.waiting.call:
        return ""
    for group, call in culprit.entered.items():
        theirs = other.entered.get(group)
        if theirs is not None and theirs.number != call.number:
            return (
                f"; it has made {call.number} calls of {call.operation} and its like, the others"
                f" {theirs.number}, the last at {places.show(call.line)}"
            )
    return ""


def _disagreement_hint(verdict: Verdict, standings: Mapping[int, Standing], places: Places) -> str:
    if verdict.kind is Kind.SHAPES:
        return "all ranks have to give the same shape and dtype: pad, or drop_last=True"
    lines = [_line(standings[rank]) for rank in {*verdict.ranks, *verdict.waiting}]
    lines += [verdict.skipped[1]] if verdict.skipped is not None else []
    for line in lines:
        condition = places.rank_condition(line)
        if condition:
            return (
                f"line {line.number} stands under `if {condition}`: every rank of the group has to"
                " make each collective call, so take it out of the condition"
            )
    if verdict.kind is Kind.ORDER:
        return "all ranks have to make the calls of their groups in the same order"
    return (
        "every rank of the group has to make the same collective calls in the same order, equally"
        " often: look for a condition, a `continue` or a shorter loop"
    )


def _held(waiting: Sequence[int], standings: Mapping[int, Standing], places: Places) -> str:
    parts = [
        f"; {names(ranks)} {_s(ranks, 'waits', 'wait')} {what}"
        for what, ranks in _grouped(waiting, standings, places, Kind.FROZEN)
        if _line(standings[ranks[0]]).file
    ]
    return "".join(parts)


def _grouped(
    ranks: Iterable[int], standings: Mapping[int, Standing], places: Places, kind: Kind
) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for rank in ranks:
        found.setdefault(_activity(standings[rank], places, kind), []).append(rank)
    return list(found.items())


def _activity(one: Standing, places: Places, kind: Kind) -> str:
    """Return `in all_reduce of float32 [10] at Cell In[3], line 5 (…)`."""
    waiting = one.waiting
    if waiting is None:
        return f"at {places.show(one.line)}"
    if waiting.operation == EXCHANGE:
        return f"in the exchange with the others at {places.show(waiting.line)}"
    call = waiting.call
    of = f" of {call.what}" if kind is Kind.SHAPES and call is not None and call.what else ""
    group = ""
    if kind is Kind.ORDER and call is not None:
        group = f" of process group {call.group} ({names(sorted(call.members))})"
        if call.peer >= 0:
            group = f" with rank {call.peer}"
    return f"in {waiting.operation}{of}{group} at {places.show(waiting.line)}"


def _line(one: Standing) -> Line:
    return one.waiting.line if one.waiting is not None else one.line


def names(ranks: Sequence[int]) -> str:
    """Return `rank 2`, or `ranks 0, 1 and 3`.

    Example:
        >>> names((0, 1, 3))
        'ranks 0, 1 and 3'

    """
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def _s(ranks: Sequence[int], one: str, many: str) -> str:
    return one if len(ranks) == 1 else many
