from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

import jupyter_aios
from jupyter_aios.commands.handle import JobHandle
from jupyter_aios.core.entities import Attempt, Code, CodeKind, Transition
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import InputError, StateError, TrainingError, UnknownNameError
from tests.fake_client import FakeClient, job, output

RUNNING = job(nodes=2)
DONE = replace(RUNNING, state=JobState.SUCCEEDED, ended_at=1010.0)


def handle(start: object = RUNNING, **fields: object) -> JobHandle:
    client = FakeClient(**{"jobs_here": [DONE], **fields})  # type: ignore[arg-type]
    return JobHandle(client, start)  # type: ignore[arg-type]


def test_a_job_shows_itself_in_two_lines() -> None:
    assert repr(handle(jobs_here=[replace(RUNNING, attempt=3)])).startswith(
        "Job mnist: running, 2 ranks on v0, v1, attempt 3, "
    )
    assert repr(handle()) == (
        "Job mnist: succeeded, 2 ranks on v0, v1, 5.0 s\n%aios logs mnist · %aios pull mnist"
    )


def test_the_state_is_asked_for_until_it_is_the_last() -> None:
    one = handle()
    assert one.state == "succeeded"
    one._client.jobs_here = []  # type: ignore[attr-defined]  # noqa: SLF001 - nothing is asked any more
    assert one.state == "succeeded"


def test_attempts_and_history_are_tables() -> None:
    attempts = (Attempt(DONE.id, 1, 1005.0, 1010.0, "succeeded", "warm"),)
    history = [Transition(DONE.id, None, JobState.QUEUED, 1000.0, 0, "submitted")]
    one = handle(jobs_here=[replace(DONE, attempts=attempts)], history_here=history)
    assert repr(one.attempts).splitlines()[1] == "1        succeeded  5.0 s  warm"
    assert [row.state for row in one.history] == ["queued"]


def test_waiting_returns_the_last_state_and_reads_on_while_there_is_output() -> None:
    assert handle(replies=[(RUNNING, [output("a\n")]), (DONE, [])]).wait() == "succeeded"


def test_waiting_too_long_is_an_error_and_the_job_goes_on() -> None:
    one = handle(jobs_here=[RUNNING])
    with pytest.raises(StateError, match="mnist is running after") as caught:
        one.wait(timeout=0.0)
    assert caught.value.hint == "%aios attach mnist"


def test_a_function_gives_what_it_returned() -> None:
    code = Code(CodeKind.FUNCTION, (), function="f")
    done = replace(DONE, spec=replace(DONE.spec, code=code))
    kept = {"return": ("pickle", pickle.dumps({"accuracy": 0.9}))}
    assert handle(done, jobs_here=[done], kept=kept).result == {"accuracy": 0.9}


def test_a_cell_gives_its_pulled_variables() -> None:
    kept = {"x": ("pickle", pickle.dumps(1)), "y": ("pickle", pickle.dumps(2))}
    assert handle(DONE, kept=kept).result == {"x": 1, "y": 2}


def test_results_of_a_job_that_did_not_succeed_are_refused_with_the_reason() -> None:
    failed = replace(DONE, state=JobState.FAILED, reason="rank 0 raised ValueError: no")
    with pytest.raises(TrainingError, match="rank 0 raised ValueError"):
        _ = handle(failed).result
    with pytest.raises(StateError, match="was cancelled"):
        _ = handle(replace(DONE, state=JobState.CANCELLED)).result
    with pytest.raises(StateError, match="results are there when it is over"):
        handle(jobs_here=[RUNNING]).state_dict()


def test_a_module_that_was_not_kept_is_answered_with_those_that_were() -> None:
    with pytest.raises(UnknownNameError, match="no module kept by --pull"):
        handle(DONE, kept={"x": ("pickle", b"")}).state_dict()
    with pytest.raises(UnknownNameError) as caught:
        handle(DONE, kept={"model": ("state", b"")}).state_dict("modle")
    assert caught.value.hint == "did you mean model?"


def test_submit_refuses_what_cannot_be_meant_before_it_starts_anything() -> None:
    with pytest.raises(InputError, match="no option is named 'node'"):
        jupyter_aios.submit("x = 1\n", node=2)
    with pytest.raises(InputError, match="only functions take kwargs"):
        jupyter_aios.submit("x = 1\n", kwargs={"a": 1})
    with pytest.raises(InputError, match="cannot be read"):
        jupyter_aios.submit("nowhere/train.py")


def test_the_public_names_are_there_and_no_others() -> None:
    for name in jupyter_aios.__all__:
        assert getattr(jupyter_aios, name) is not None
    assert dir(jupyter_aios) == sorted(jupyter_aios.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = jupyter_aios.nope
