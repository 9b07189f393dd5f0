from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.entities import Attempt, Failure, Job, JobId, Transition
from jupyter_aios.core.events import Event, EventKind
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import TrainingError
from jupyter_aios.widgets.text.screen import (
    NotebookScreen,
    PipeScreen,
    TerminalScreen,
    choose_screen,
    fitted,
)
from jupyter_aios.widgets.text.table import Table, Text
from jupyter_aios.widgets.text.transcript import MAX_LINES, Bounded, Transcript, last_state
from jupyter_aios.widgets.text.view import FollowInterrupt, follow, raise_failure
from tests.fake_client import FakeClient, job, output, record


@dataclass
class FakeScreen:
    lines: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    is_closed: bool = False

    def write(self, lines: list[str]) -> None:
        self.lines += lines

    def status(self, text: str, *, is_news: bool = False) -> None:
        if is_news or not self.states:
            self.states.append(text)

    def close(self) -> None:
        self.is_closed = True


RUNNING = job(nodes=2)
DONE = replace(
    RUNNING, state=JobState.SUCCEEDED, reason="all 2 ranks ended well", allocation=None,
    ended_at=1015.0,
)  # fmt: skip


def shown(*replies: tuple[Job, list[Event]]) -> FakeScreen:
    screen = FakeScreen()
    follow(FakeClient(jobs_here=[DONE], replies=list(replies)), RUNNING, screen)
    assert screen.is_closed
    return screen


# ------------------------------------------------------------------------------- the transcript


def test_pieces_of_a_line_are_joined_and_each_line_names_its_rank() -> None:
    events = [output("a", 0), output("x\n", 1), output("b\nc", 0), output("\n", 0)]
    assert Transcript(has_prefix=True).lines(events) == ["[1] x", "[0] ab", "[0] c"]


def test_stdout_and_stderr_of_a_rank_do_not_mix_within_a_line() -> None:
    events = [output("out "), output("err\n", kind=EventKind.STDERR), output("put\n")]
    assert Transcript().lines(events) == ["err", "out put"]


def test_a_progress_bar_is_its_last_state() -> None:
    transcript = Transcript()
    events = [output(f"\r {n}%", kind=EventKind.STDERR) for n in (10, 50, 90)]
    assert transcript.lines(events) == []
    assert transcript.progress == "90%"
    assert transcript.lines([output("\r100%\n", kind=EventKind.STDERR)]) == ["100%"]
    assert transcript.progress == ""


def test_a_return_before_the_newline_in_another_event_is_no_empty_line() -> None:
    assert Transcript().lines([output("abc\r"), output("\ndef\r\n")]) == ["abc", "def"]


@given(st.lists(st.text("ab\r\n", max_size=6), max_size=12))
def test_lines_do_not_depend_on_how_output_was_cut(pieces: list[str]) -> None:
    def lines(parts: list[str]) -> list[str]:
        transcript = Transcript()
        return transcript.lines([output(part) for part in parts]) + transcript.rest()

    assert lines(pieces) == lines(["".join(pieces)])


@given(st.lists(st.text("abc", max_size=5), max_size=30))
def test_without_returns_every_line_is_there_once(lines: list[str]) -> None:
    events = [output(f"{line}\n") for line in lines]
    assert Transcript().lines(events) == lines


def test_a_bar_that_runs_forever_takes_no_memory() -> None:
    transcript = Transcript()
    for n in range(2000):
        transcript.lines([output(f"\r{n:>1000}")])
    assert sum(map(len, transcript._partial.values())) < 5000  # noqa: SLF001 - memory is inside


def test_a_line_of_megabytes_is_cut() -> None:
    (line,) = Transcript().lines([output("x" * 10**6 + "\n")])
    assert len(line) < 3000
    assert line.endswith("… (1000000 characters)")


def test_steps_and_metrics_are_remembered_until_the_next_attempt() -> None:
    transcript = Transcript()
    transcript.lines(
        [
            record(EventKind.STEP, rank=1, step=9),
            record(EventKind.METRICS, step=8, metrics={"loss": 0.5}),
            record(EventKind.METRICS, rank=1, step=8, metrics={"loss": 7.0}),
        ]
    )
    assert (transcript.step, transcript.metrics) == (9, {"loss": 0.5})
    transcript.lines([output("again\n", attempt=2)])
    assert (transcript.step, transcript.metrics) == (0, {})


def test_what_an_attempt_left_unfinished_is_shown_before_the_next() -> None:
    events = [output("half"), output("whole\n", attempt=2)]
    assert Transcript().lines(events) == ["half", "whole"]


def test_one_rank_can_be_picked() -> None:
    events = [output("a\n", 0), output("b\n", 1), record(EventKind.NOTICE, text="n")]
    assert Transcript(only_rank=1).lines(events) == ["b"]


@pytest.mark.parametrize(
    ("line", "state"),
    [("a\rb", "b"), ("a\r", "a"), ("\r\r", ""), ("x\x1b[A\rdone", "done"), ("plain", "plain")],
)
def test_the_last_state_is_what_a_terminal_shows(line: str, state: str) -> None:
    assert last_state(line) == state


def test_a_flood_is_thinned_and_says_where_the_rest_is() -> None:
    bounded = Bounded("%aios logs mnist")
    lines = bounded.admit([str(n) for n in range(10_000)])
    assert lines[:MAX_LINES] == [str(n) for n in range(MAX_LINES)]
    assert "%aios logs mnist" in lines[MAX_LINES]
    assert len(lines) == MAX_LINES + 1 + (10_000 - MAX_LINES) // 100
    bounded.admit(["the end"])
    assert bounded.end()[-1] == "the end"


# ------------------------------------------------------------------------------------- the view


def test_a_job_is_followed_from_its_first_line_to_its_end() -> None:
    queued = replace(RUNNING, state=JobState.QUEUED, allocation=None, reason="waits for 2 nodes")
    metrics = record(EventKind.METRICS, step=120, metrics={"loss": 0.31234})
    screen = shown(
        (queued, []), (RUNNING, [output("one\n", 1), metrics]), (DONE, [output("two\n", 0)]),
        (DONE, [output("tail", 0)]), (DONE, []),
    )  # fmt: skip
    assert screen.lines == ["[1] one", "[0] two", "[0] tail"]
    assert "queued" in screen.states[0]
    assert "waits for 2 nodes" in screen.states[0]
    assert "2 ranks on v0, v1" in screen.states[1]
    assert "step 120 · loss 0.3123" in screen.states[1]
    assert screen.states[-1].startswith("mnist · succeeded · 10 s")


def test_a_restart_is_announced_with_its_reason() -> None:
    second = replace(RUNNING, attempt=2)
    screen = FakeScreen()
    reason = "attempt 1 failed: rank 1 was killed; restarting from step 16"
    client = FakeClient(
        jobs_here=[DONE],
        replies=[(RUNNING, [output("a\n")]), (second, [output("b\n", attempt=2)]), (DONE, [])],
        history_here=[
            Transition(JobId("x"), JobState.RUNNING, JobState.QUEUED, 1.0, 1, reason),
        ],
    )
    follow(client, RUNNING, screen)
    assert screen.lines == ["[0] a", f"attempt 2: {reason}", "[0] b"]


def test_notices_and_stalls_are_told() -> None:
    stalled = replace(RUNNING, is_stalled=True)
    screen = shown(
        (RUNNING, [record(EventKind.NOTICE, text="gloo is used")]), (stalled, []), (DONE, [])
    )
    assert screen.lines == ["notice: gloo is used"]


def test_an_interrupt_cancels_and_shows_the_end() -> None:
    cancelled = replace(DONE, state=JobState.CANCELLED, reason="cancelled")
    screen = FakeScreen()
    client = FakeClient(
        jobs_here=[RUNNING],
        replies=[KeyboardInterrupt(), (RUNNING, [output("last\n")]), (cancelled, [])],
    )
    with pytest.raises(FollowInterrupt) as caught:
        follow(client, RUNNING, screen)
    assert ("cancel", RUNNING.id) in client.asked
    assert "[0] last" in screen.lines
    assert caught.value._render_traceback_() == [
        "Interrupted: mnist is cancelled", "hint: %aios logs mnist",
    ]  # fmt: skip
    assert screen.is_closed


def test_the_state_is_not_given_as_its_own_reason() -> None:
    cancelled = replace(DONE, state=JobState.CANCELLED, reason="cancelled")
    assert shown((RUNNING, []), (cancelled, [])).states[-1] == "mnist · cancelled · 10 s"


def test_a_second_interrupt_does_not_wait() -> None:
    client = FakeClient(jobs_here=[RUNNING], replies=[KeyboardInterrupt(), KeyboardInterrupt()])
    with pytest.raises(FollowInterrupt, match="mnist is being cancelled"):
        follow(client, RUNNING, FakeScreen())


def test_detaching_leaves_the_job_and_says_how_to_come_back() -> None:
    client = FakeClient(jobs_here=[RUNNING], replies=[KeyboardInterrupt()])
    with pytest.raises(FollowInterrupt) as caught:
        follow(client, RUNNING, FakeScreen(), on_interrupt="detach")
    assert client.asked == []
    assert "%aios attach mnist" in caught.value.hint


def test_an_interrupt_while_lines_are_written_loses_none() -> None:
    class Interrupted(FakeScreen):
        def write(self, lines: list[str]) -> None:
            if lines and not self.lines:
                self.lines.append("interrupted here")
                raise KeyboardInterrupt
            super().write(lines)

    screen = Interrupted()
    client = FakeClient(jobs_here=[DONE], replies=[(RUNNING, [output("one\n")]), (DONE, [])])
    with pytest.raises(FollowInterrupt):
        follow(client, RUNNING, screen)
    assert "[0] one" in screen.lines


def failed(failure: Failure | None, reason: str) -> Job:
    attempts = (Attempt(DONE.id, 1, 0.0, failure=failure),) if failure else ()
    return replace(DONE, state=JobState.FAILED, reason=reason, attempts=attempts)


def test_a_failure_is_raised_once_with_the_first_traceback() -> None:
    failure = Failure(1, "ValueError", "bad\nhint: be good", "Traceback\nValueError: bad")
    with pytest.raises(TrainingError) as caught:
        raise_failure(failed(failure, "rank 1 raised ValueError: bad"))
    assert caught.value._render_traceback_() == [
        "TrainingError: mnist failed: rank 1 raised ValueError: bad\nTraceback\nValueError: bad",
        "hint: be good",
    ]


def test_a_job_that_did_not_fail_raises_nothing() -> None:
    raise_failure(DONE)
    with pytest.raises(TrainingError, match="no reason is known"):
        raise_failure(failed(None, ""))


# ----------------------------------------------------------------------------------- the screens


def test_a_notebook_updates_one_output_and_appends_lines() -> None:
    calls: list[tuple[str, bool, str]] = []

    def display(data: dict[str, str], *, raw: bool, display_id: str, update: bool) -> None:
        assert raw
        calls.append((data["text/plain"], update, display_id))

    out = io.StringIO()
    screen = NotebookScreen(display, out)
    screen.status("queued")
    screen.write(["a", "b"])
    screen.status("throttled")
    screen.status("running", is_news=True)
    screen.status("running", is_news=True)
    screen.close()
    assert [(text, update) for text, update, _ in calls] == [("queued", False), ("running", True)]
    assert len({display_id for _, _, display_id in calls}) == 1
    assert out.getvalue() == "a\nb\n"


def test_a_terminal_redraws_its_last_line() -> None:
    out = io.StringIO()
    screen = TerminalScreen(out)
    screen.status("s" * 200)
    screen.write(["line"])
    screen.close()
    assert "\r\x1b[Kline\n" + "s" * 78 + "…" in out.getvalue()
    assert out.getvalue().endswith("\n")


def test_a_file_gets_plain_lines_and_a_rare_status() -> None:
    out = io.StringIO()
    screen = PipeScreen(out)
    screen.status("queued 0 s", is_news=True)
    screen.status("queued 1 s")
    screen.write(["line"])
    screen.status("running", is_news=True)
    assert out.getvalue() == "queued 0 s\nline\nrunning\n"


def test_a_file_is_no_terminal() -> None:
    assert isinstance(choose_screen(io.StringIO()), PipeScreen)


@given(st.text(max_size=40), st.integers(1, 20))
def test_fitted_text_fits(text: str, width: int) -> None:
    cut = fitted(text, width)
    assert fitted(cut, width) == cut
    assert cut == text or cut.endswith("…")


# ------------------------------------------------------------------------------------ the tables


def test_tables_leave_out_empty_columns_and_say_when_they_are_empty() -> None:
    event = Event(1, "stream", 0, 0.0, EventKind.STDOUT, text="a\nb")
    columns = (("STREAM", "stream"), ("TEXT", "text"), ("RANK", "data"))
    table = Table((replace(event, data=None),), columns[:2])
    assert repr(table) == "STREAM  TEXT\nstream  a b"
    assert len(table) == 1
    assert repr(Table((), columns, "no jobs yet")) == "no jobs yet"
    assert repr(Text("a\nb")) == "a\nb"
