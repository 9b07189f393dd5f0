"""What the training view shows of events: curves over ranks, lines, the head, banners."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.entities import Attempt, Failure
from jupyter_aios.core.events import Event, EventKind
from jupyter_aios.core.states import JobState
from jupyter_aios.widgets.training.model import TrainingModel
from jupyter_aios.widgets.training.series import HOLD_S, Series
from jupyter_aios.widgets.training.tails import BATCH_LINES, RANK_LINES
from tests.fake_client import job, output

if TYPE_CHECKING:
    from jupyter_aios.widgets.training.curves import Curve

NOW = 2000.0
LATER = NOW + HOLD_S


def told(
    kind: EventKind, rank: int | None = 0, at: float = 0.0, attempt: int = 1, /, **data: Any
) -> Event:
    return Event(attempt, "stream", 0, at, kind, rank, "", data)


def logged(step: int, rank: int = 0, attempt: int = 1, at: float = 0.0, **metrics: Any) -> Event:
    return told(EventKind.METRICS, rank, at, attempt, step=step, metrics=metrics)


def seen(name: str, steps: list[int], values: list[Any], rank: int = 0, at: float = 0.0) -> Event:
    one = {"name": name, "how": "backward() at line 3", "steps": steps, "values": values}
    return told(EventKind.CURVE, rank, at, series=[one])


def model_of(ranks: int, *events: Event) -> TrainingModel:
    model = TrainingModel(job(nodes=ranks))
    model.feed(events)
    return model


class Page:
    """Keeps curves as a page does: drops from the first new step on, and appends."""

    def __init__(self) -> None:
        self.curves: dict[int, list[tuple[float, float, float, float]]] = {}

    def take(self, curves: list[Curve]) -> None:
        for curve in curves:
            rows = list(zip(curve.points.steps, curve.points.means, curve.points.lows,
                            curve.points.highs, strict=True))  # fmt: skip
            if rows:
                kept = [row for row in self.curves.get(curve.key, []) if row[0] < rows[0][0]]
                self.curves[curve.key] = kept + rows


def rows_of(model: TrainingModel) -> list[tuple[float, float, float, float]]:
    page = Page()
    page.take(model.snapshot(LATER).curves)
    return page.curves.get(0, [])


def news_of(model: TrainingModel, now: float = LATER) -> list[Curve]:
    update = model.news(now)
    return update.curves if update else []


# ------------------------------------------------------------------------------------- curves


def test_a_point_is_the_mean_the_lowest_and_the_highest_over_the_ranks() -> None:
    model = model_of(3, *(logged(1, rank, loss=value) for rank, value in enumerate((1, 2, 6))))
    model.news(NOW)
    assert rows_of(model) == [(1, 3, 1, 6)]


def test_a_point_waits_for_the_ranks_and_then_is_shown_as_it_is() -> None:
    model = model_of(2, logged(1, loss=1.0), logged(1, 1, loss=3.0), logged(2, loss=5.0))
    (first,) = news_of(model, NOW)
    assert list(first.points.steps) == [1]
    assert model.curves.is_holding()
    assert not news_of(model, NOW + HOLD_S / 2)
    (second,) = news_of(model, LATER)
    assert list(second.points.means) == [5]
    assert not model.curves.is_holding()


def test_a_value_that_comes_late_changes_the_point() -> None:
    model = model_of(2, logged(1, loss=1.0), logged(2, loss=1.0))
    page = Page()
    model.news(NOW)
    page.take(news_of(model))
    assert page.curves[0] == [(1, 1, 1, 1), (2, 1, 1, 1)]
    model.feed([logged(1, 1, loss=3.0)])
    page.take(news_of(model, LATER + HOLD_S))
    page.take(news_of(model, LATER + 3 * HOLD_S))
    assert page.curves[0] == [(1, 2, 1, 3), (2, 1, 1, 1)]


def test_a_metric_of_rank_0_alone_is_not_waited_for() -> None:
    model = model_of(2, logged(1, accuracy=0.5))
    model.news(NOW)
    model.news(LATER)
    model.feed([logged(2, accuracy=0.6)])
    (curve,) = news_of(model, LATER + 0.01)
    assert list(curve.points.steps) == [2]


def test_a_step_that_is_logged_again_is_replaced() -> None:
    model = model_of(1, logged(1, loss=1.0), logged(2, loss=9.0), logged(2, loss=4.0))
    model.news(NOW)
    assert rows_of(model) == [(1, 1, 1, 1), (2, 4, 4, 4)]


def test_a_loop_without_an_optimizer_counts_its_logs() -> None:
    model = model_of(1, *(logged(0, score=float(n)) for n in range(5)))
    model.news(NOW)
    (curve,) = model.snapshot(NOW).curves
    assert curve.axis == "log"
    assert list(curve.points.steps) == [0, 1, 2, 3, 4]
    assert list(curve.points.means) == [0, 1, 2, 3, 4]


def test_one_more_log_at_the_end_does_not_change_the_axis() -> None:
    model = model_of(1, *(logged(n, loss=1.0) for n in range(9)), logged(8, loss=0.5))
    model.news(NOW)
    (curve,) = model.snapshot(NOW).curves
    assert curve.axis == "step"
    assert len(curve.points) == 9


def test_a_restart_replaces_what_was_undone() -> None:
    model = model_of(1, *(logged(n, loss=1.0) for n in range(10)))
    page = Page()
    page.take(news_of(model))
    model.feed([logged(n, attempt=2, loss=2.0) for n in (4, 5)])
    page.take(news_of(model))
    assert [row[:2] for row in page.curves[0]] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert model.head(NOW)["restarts"] == [{"attempt": 2, "step": 4}]


def test_what_is_inferred_and_what_is_logged_are_two_curves() -> None:
    model = model_of(1, logged(1, loss=1.0), seen("loss", [1, 2], [1.0, 0.5]))
    model.news(NOW)
    assert [(c.name, c.how, c.group) for c in model.snapshot(NOW).curves] == [
        ("loss", "", "loss"), ("loss", "backward() at line 3", "loss"),
    ]  # fmt: skip


def test_losses_share_a_chart_and_come_first() -> None:
    model = model_of(
        1, logged(1, accuracy=0.5, lr=0.1), seen("samples/s", [1], [9.0]), seen("errD", [1], [1.0])
    )
    assert [series.name for series in model.curves.ordered()] == [
        "errD", "lr", "samples/s", "accuracy",
    ]  # fmt: skip


def test_a_value_that_is_no_number_is_kept_as_such() -> None:
    model = model_of(2, logged(1, loss="nan"), logged(1, 1, loss=2.0), logged(2, loss="inf"))
    model.news(NOW)
    model.news(LATER)
    (first, second) = rows_of(model)
    assert math.isnan(first[1])
    assert first[2:] == (2, 2)
    assert second[1] == math.inf


def test_one_rank_can_be_looked_at() -> None:
    model = model_of(2, logged(1, loss=1.0), logged(1, 1, loss=3.0))
    (curve,) = model.curves.of_rank(1)
    assert list(curve.points.means) == [3]
    assert model.curves.of_rank(7) == []


def test_of_many_points_the_extremes_are_told() -> None:
    series = Series("loss")
    for step in range(100_000):
        series.add(0, step, 100.0 if step == 54_321 else 1.0 + step % 7)
    points = series.points(4000)
    assert len(points) <= 4002
    assert 54_321 in points.steps
    assert (points.steps[0], points.steps[-1]) == (0, 99_999)
    assert set(points.steps) <= set(map(float, range(100_000)))


def test_a_stretch_of_a_long_curve_can_be_had_in_full() -> None:
    model = model_of(1, seen("loss", list(range(9000)), [1.0] * 9000))
    model.news(NOW)
    (thin,) = model.snapshot(NOW).curves
    assert thin.is_thinned
    (full,) = model.curves.between(0, 100, 200, 1000)
    assert list(full.points.steps) == list(range(100, 201))
    assert model.curves.between(5, 0, 1, 10) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(-9, 9), st.booleans()),
        max_size=60,
    )
)
def test_a_page_that_takes_the_news_has_what_a_snapshot_says(
    values: list[tuple[int, int, int, bool]],
) -> None:
    model, page, now = model_of(3), Page(), NOW
    for rank, step, value, is_told in values:
        # `seen`: what is inferred never changes its axis.
        model.feed([seen("loss", [step], [float(value)], rank)])
        if is_told:
            now += 0.1
            page.take(news_of(model, now))
    model.feed([], replace(model.job, state=JobState.SUCCEEDED, allocation=None))
    page.take(news_of(model, now))
    whole = Page()
    whole.take(model.snapshot(now).curves)
    assert page.curves == whole.curves
    newest = {(rank, step): value for rank, step, value, _ in values}
    for point, mean, low, high in whole.curves.get(0, []):
        here = [value for (_, at), value in newest.items() if at == point]
        assert (low, high) == (min(here), max(here))
        assert mean == pytest.approx(sum(here) / len(here), abs=1e-6)


# ------------------------------------------------------------------------------------- lines


def test_lines_know_their_rank_and_bars_stay_open() -> None:
    model = model_of(2, output("one\n", 1), output("half", 0), output("\r 50%", 1))
    update = model.news(NOW)
    assert update
    assert [(line.rank, line.text) for line in update.lines] == [(1, "one")]
    assert update.partials == {"0": "half", "1": "50%"}
    model.finish()
    assert [line.text for line in model.snapshot(NOW).lines] == ["one", " 50%", "half"]


def test_a_flood_is_told_by_its_end_and_how_much_went_by() -> None:
    model = model_of(1, *(output(f"{n}\n") for n in range(20_000)))
    update = model.news(NOW)
    assert update
    assert len(update.lines) == BATCH_LINES
    assert update.lines[-1].text == "19999"
    assert update.skipped == 20_000 - BATCH_LINES
    kept = model.snapshot(NOW).lines
    assert [line.text for line in kept] == [str(n) for n in range(20_000 - RANK_LINES, 20_000)]


def test_a_hundred_megabytes_take_a_few() -> None:
    model = model_of(64)
    line = "x" * 1900 + "\n"
    for n in range(6000):
        model.feed([output(line, n % 64)])
    assert sum(len(kept.text) for kept in model.snapshot(NOW).lines) < 4_000_000
    update = model.news(NOW)
    assert update
    assert sum(len(fresh.text) for fresh in update.lines) <= 200_000


def test_notices_tracebacks_and_cells_are_lines_of_their_own_kind() -> None:
    model = model_of(
        2,
        told(EventKind.NOTICE, None, text="gloo is used"),
        told(EventKind.ERROR, 1, kind="ValueError", message="bad", traceback="Traceback\n  bad"),
        told(EventKind.CELL, 0, number=1, state="interrupted"),
    )
    model.feed([output("before it\n", 1)])
    model.finish()
    assert [(line.rank, line.kind, line.text) for line in model.snapshot(NOW).lines] == [
        (None, "note", "notice: gloo is used"),
        (0, "note", "[0] interrupted"),
        (1, "", "before it"),  # which the agent had still to read when the rank failed
        (1, "error", "Traceback"),
        (1, "error", "  bad"),
    ]


# ------------------------------------------------------------------------------------- the head


def test_the_head_says_how_far_the_job_is_and_how_long_it_will_take() -> None:
    model = model_of(
        1,
        told(EventKind.PROGRESS, total=100, how="10 epochs x 10 batches"),
        *(told(EventKind.STEP, 0, float(n), step=10 * n) for n in range(1, 5)),
        seen("samples/s", [40], [320.0], at=4.0),
    )
    head = model.head(NOW)
    assert (head["state"], head["step"], head["total"]) == ("running", 40, 100)
    assert head["how_total"] == "10 epochs x 10 batches"
    assert head["left_s"] == pytest.approx(6.0)
    model.feed([told(EventKind.VERDICT, None, state="hang", text="rank 1 is stopped")])
    assert model.head(NOW)["left_s"] is None
    assert head["samples_per_s"] == 320


def test_steps_of_the_optimizers_say_more_than_steps_of_logs() -> None:
    model = model_of(1, logged(64_000, loss=1.0), told(EventKind.STEP, step=3))
    assert model.head(NOW)["step"] == 3
    model.feed([logged(128_000, loss=1.0)])
    assert model.head(NOW)["step"] == 3


def test_samples_per_second_are_those_of_all_ranks() -> None:
    model = model_of(2, seen("samples/s", [1], [100.0], 0), seen("samples/s", [1], [50.0], 1))
    assert model.head(NOW)["samples_per_s"] == 150


def test_the_reason_is_shown_while_a_job_waits_and_when_it_is_over() -> None:
    waiting = job(JobState.QUEUED, reason="2 nodes wanted, 1 free")
    assert TrainingModel(waiting).head(NOW)["reason"] == "2 nodes wanted, 1 free"
    assert TrainingModel(job(reason="running on v0")).head(NOW)["reason"] == ""
    failure = Failure(1, "ValueError", "bad\nhint: be good")
    over = job(JobState.FAILED, reason="rank 1 raised", ended_at=1010.0)
    attempt = Attempt(over.id, 1, 0.0, failure=failure)
    head = TrainingModel(replace(over, attempts=(attempt,))).head(NOW)
    assert (head["reason"], head["hint"], head["is_over"]) == ("rank 1 raised", "be good", True)


def test_kept_ranks_without_a_cell_are_kept() -> None:
    model = model_of(1, told(EventKind.AGENT, None, state="idle"))
    assert model.head(NOW)["state"] == "kept"
    model.feed([told(EventKind.AGENT, None, state="busy")])
    assert model.head(NOW)["state"] == "running"


def test_a_verdict_is_a_banner_until_it_is_over() -> None:
    hang = {"state": "hang", "rank": 2, "kind": "collective", "text": "rank 2 waits", "hint": "try"}
    model = TrainingModel(job(nodes=4))
    model.feed([Event(1, "s", 0, 0.0, EventKind.VERDICT, None, "", hang)])
    assert model.banners() == [{"kind": "hang", "rank": 2, "text": "rank 2 waits", "hint": "try"}]
    model.feed([Event(1, "s", 0, 0.0, EventKind.VERDICT, None, "", hang | {"state": "over"})])
    assert model.banners() == []


def test_time_that_goes_by_is_no_news() -> None:
    model = model_of(1)
    assert model.news(NOW)
    assert model.news(NOW + 5) is None
    model.feed([output("a bar 10%")])
    update = model.news(NOW + 6)
    assert update
    assert update.partials == {"0": "a bar 10%"}


def test_as_text_it_is_the_status_and_the_last_lines() -> None:
    model = model_of(2, *(output(f"{n}\n", n % 2) for n in range(5)), logged(7, loss=0.25))
    status, *lines = model.text(1010.0, 2).splitlines()
    assert status == "mnist · running · 2 ranks on v0, v1 · 5.0 s · step 7 · loss 0.25"
    assert lines == ["[1] 3", "[0] 4"]
