"""`%aios` without a verb: at most a dozen lines, and each says what to type next."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jupyter_aios.commands import tree
from jupyter_aios.core.entities import JobId
from jupyter_aios.core.states import JobState
from tests.fake_client import FakeClient, FakePlace, job, node

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job


def here(*jobs: Job, prefix: str = "%aios", **fields: Any) -> list[str]:
    """Return the lines of `%aios`, each with single spaces."""
    namespace: dict[str, Any] | None = {} if prefix == "%aios" else None
    fake = FakeClient(**{"jobs_here": list(jobs), **fields})
    shown = tree.run([], FakePlace(prefix=prefix, fake=fake, namespace=namespace))
    return [" ".join(line.split()) for line in repr(shown).splitlines()]


def over(state: JobState, **changes: Any) -> Job:
    ended = job(state, nodes=2, attempt=1, ended_at=time.time() - 180, **changes)
    return replace(ended, id=JobId(f"20260101-000000-{len(changes):06x}"))


def test_whoever_begins_gets_the_line_to_copy() -> None:
    assert here() == [
        "nodes 2 of 2 virtual nodes free, no GPU",
        "next begin a cell that trains with %%aios_train --nodes 2 --name first",
        "",
        "%aios status says more, %aios -h lists what can be typed",
    ]
    assert (
        "next run a script on ranks with jupyter aios submit train.py --nodes 2 --name first"
        in here(prefix="jupyter aios")
    )


def test_what_runs_what_waits_and_what_ended_have_their_commands() -> None:
    waits = job(JobState.QUEUED, name="later", reason="2 nodes wanted, 0 free")
    lines = here(waits, job(nodes=2), over(JobState.SUCCEEDED, name="first", pull=("model",)))
    assert lines[0] == "nodes 0 of 2 virtual nodes free, no GPU"
    assert lines[1].startswith("job mnist is running for ")
    assert lines[1].endswith("on v0, v1 %aios attach mnist")
    assert lines[2].startswith("job later is queued for ")
    assert lines[2].endswith(": 2 nodes wanted, 0 free %aios attach later")
    assert lines[3] == "last first succeeded 3 min 00 s ago %aios pull first · %aios rerun first"
    assert lines[4] == "next begin a cell that trains with %%aios_train --nodes 2"


def test_a_failure_is_told_with_its_reason_and_where_to_see_it() -> None:
    failed = over(JobState.FAILED, reason="rank 1 raised ValueError: bad\nmore")
    line = "last mnist failed 3 min 00 s ago: rank 1 raised ValueError: bad %aios attach mnist"
    assert line in here(failed)
    assert any("mnist was cancelled" in line for line in here(over(JobState.CANCELLED)))


def test_a_name_that_runs_again_is_not_offered_for_what_it_was_before() -> None:
    assert not [line for line in here(job(nodes=2), over(JobState.FAILED)) if "last" in line]


def test_ranks_that_are_kept_offer_the_next_cell() -> None:
    kept = job(nodes=2, keep_idle_s=600.0, is_idle=True)
    (line,) = [line for line in here(kept) if line.startswith("job mnist is kept for ")]
    assert line.endswith("%%aios_train --on mnist")
    assert any(line.endswith("%aios attach mnist") for line in here(replace(kept, is_idle=False)))


def test_it_is_a_dozen_lines_at_most_however_much_runs_and_is_wrong() -> None:
    jobs = [job(nodes=2, name=f"job-{i}") for i in range(30)]
    lines = here(*jobs, over(JobState.SUCCEEDED), trouble="the disk is full\nreally")
    assert len(lines) <= 12
    assert "and 25 more %aios jobs" in lines
    assert "trouble the disk is full %aios doctor" in lines


def test_gpus_are_counted() -> None:
    assert here(nodes_here=[node("a")])[0].endswith("no GPU")
