"""The widget without a browser: its messages, how it is fed, and what a saved notebook keeps."""

from __future__ import annotations

import base64
import html
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import pytest

from jupyter_aios.core.events import EventKind
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import UnavailableError
from jupyter_aios.widgets.text.view import FollowInterrupt
from jupyter_aios.widgets.training import following, static
from jupyter_aios.widgets.training.model import TrainingModel
from jupyter_aios.widgets.training.view import TrainingView
from tests.fake_client import FakeClient, job, output, record
from tests.launching import eventually

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job
    from jupyter_aios.core.events import Event

RUNNING = job(nodes=2)
DONE = replace(
    RUNNING, state=JobState.SUCCEEDED, reason="all 2 ranks ended well", allocation=None,
    ended_at=1015.0,
)  # fmt: skip
DEMO = """\
%%aios_train --nodes 2 --name demo
import os, jupyter_aios as aios
for step in range(20):
    aios.log(step=step, loss=1 / (step + 1))
print("<b>from rank", os.environ["RANK"], "</b>")
"""
EXECUTE = Path(__file__).parents[2] / "example_notebooks" / "execute.py"


class View(TrainingView):
    """Keeps what would go to the page."""

    def __init__(self, model: TrainingModel, **rest: Any) -> None:
        self.sent: list[tuple[dict[str, Any], list[Any]]] = []
        super().__init__(model, **rest)

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        json.dumps(content)
        self.sent.append((content, [bytes(b) for b in buffers or []]))

    def say(self, kind: str, **rest: Any) -> tuple[dict[str, Any], list[Any]]:
        """Do what a page does that says something; return the last answer."""
        self._handle_custom_msg({"type": kind, "view": "me", **rest}, [])
        return self.sent[-1] if self.sent else ({}, [])


def losses(steps: int, ranks: int = 2) -> list[Event]:
    return [
        record(EventKind.METRICS, rank, step=step, metrics={"loss": step + float(rank)})
        for step in range(steps)
        for rank in range(ranks)
    ]


def view_of(*events: Event, the_job: Job = RUNNING, **rest: Any) -> View:
    view = View(TrainingModel(the_job), **rest)
    view.model.feed(events)
    return view


def numbers(message: tuple[dict[str, Any], list[Any]], curve: int = 0) -> list[list[float]]:
    content, buffers = message
    at = content["curves"][curve]["buffers"]
    return [np.frombuffer(buffers[i], "<f4" if k else "<f8").tolist() for k, i in enumerate(at)]


# ------------------------------------------------------------------------------------ messages


def test_numbers_travel_as_buffers_and_never_in_the_widgets_state() -> None:
    view = view_of(*losses(3))
    view.publish()
    (message,) = view.sent
    assert message[0]["type"] == "news"
    assert numbers(message) == [[0, 1, 2], [0.5, 1.5, 2.5], [0, 1, 2], [1, 2, 3]]
    state = view.get_state()
    small = {key: value for key, value in state.items() if key not in {"_esm", "_css"}}
    assert len(json.dumps(small, default=str)) < 1000


def test_a_single_rank_sends_no_band() -> None:
    view = view_of(*losses(2, ranks=1), the_job=job())
    view.publish()
    assert numbers(view.sent[0]) == [[0, 1], [0, 1]]


def test_news_are_numbered_and_a_snapshot_names_the_last_one() -> None:
    view = view_of(output("a\n"))
    view.publish()
    view.model.feed([output("b\n")])
    view.publish()
    view.publish()
    assert [content["number"] for content, _ in view.sent] == [1, 2]
    content, _ = view.say("hello", can_move=True)
    assert (content["type"], content["to"], content["number"]) == ("snapshot", "me", 2)
    assert [text for _, _, text in content["lines"]] == ["a", "b"]


def test_hello_gets_everything_though_nothing_was_published_before() -> None:
    view = view_of(*losses(3))
    assert numbers(view.say("hello"))[0] == [0, 1, 2]


def test_a_huge_curve_comes_thinned_and_a_stretch_of_it_in_full() -> None:
    view = view_of(*losses(9000, ranks=1), the_job=job())
    snapshot = view.say("hello")
    assert snapshot[0]["curves"][0]["is_thinned"]
    assert 1000 < len(numbers(snapshot)[0]) <= 4002
    detail = view.say("detail", key=0, low=10, high=20)
    assert detail[0]["to"] == "me"
    assert numbers(detail)[0] == list(range(10, 21))


def test_one_rank_can_be_asked_for() -> None:
    view = view_of(*losses(2))
    content, buffers = view.say("rank", rank=1)
    assert content["rank"] == 1
    assert numbers((content, buffers)) == [[0, 1], [1, 2]]


def test_nonsense_of_a_page_is_harmless() -> None:
    view = view_of(*losses(2))
    view.say("detail", key=99, low=0, high=1)
    view.say("rank", rank=99)
    count = len(view.sent)
    view.say("what")
    assert len(view.sent) == count


def test_stop_ends_the_job_and_a_fault_of_it_is_shown() -> None:
    asked: list[str] = []
    view = view_of(cancel=lambda: asked.append("cancel"))
    view.say("stop")
    assert asked == ["cancel"]

    def fail() -> None:
        raise UnavailableError("no controller")

    broken = view_of(cancel=fail)
    content, _ = broken.say("stop")
    assert content["lines"] == [[None, "note", "the job could not be stopped: no controller"]]
    assert not view_of().say("hello")[0]["head"]["can_stop"]


def test_a_page_that_cannot_say_hello_is_told_everything_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 5000.0
    monkeypatch.setattr("time.time", lambda: now)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    view = view_of(output("a\n"))
    view.show()
    view.publish()
    assert [content["type"] for content, _ in view.sent] == ["news"]
    now += 1.0
    view.publish()
    assert view.sent[-1][0]["to"] == "*"
    view.say("hello")
    count = len(view.sent)
    now += 60.0
    view.publish()
    assert len(view.sent) == count


# ------------------------------------------------------------------------------------ following


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], bool]]:
    """Give what was displayed, with whether it was an update."""
    shown: list[tuple[dict[str, Any], bool]] = []

    def display(data: dict[str, Any], *, raw: bool, display_id: str, update: bool = False) -> None:
        assert raw
        assert display_id
        shown.append((data, update))

    monkeypatch.setattr("IPython.display.display", display)
    return shown


WIDGET = "application/vnd.jupyter.widget-view+json"


def test_a_followed_job_is_a_widget_and_then_a_picture(
    displayed: list[tuple[dict[str, Any], bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient(
        jobs_here=[DONE],
        replies=[(RUNNING, [*losses(5), output("one\n", 1)]), (DONE, [output("tail")]), (DONE, [])],
    )
    assert following.follow(client, RUNNING).state is JobState.SUCCEEDED
    (first, is_update), *_, (last, _) = displayed
    assert not is_update
    assert WIDGET in first
    assert set(last) == {"text/plain", "text/html", "image/png"}
    assert last["text/plain"].splitlines()[1:] == ["[1] one", "[0] tail"]
    assert capsys.readouterr().out == ""


def test_an_interrupt_cancels_and_waits_for_the_end(
    displayed: list[tuple[dict[str, Any], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = replace(DONE, state=JobState.CANCELLED, reason="cancelled")
    client = FakeClient(jobs_here=[RUNNING])
    client.on_cancel = lambda: client.jobs_here.insert(0, cancelled)
    interrupts = [KeyboardInterrupt()]
    original = threading.Event.wait

    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        if timeout == following.LOOK_S and interrupts:
            raise interrupts.pop()
        return original(self, timeout)

    monkeypatch.setattr(threading.Event, "wait", wait)
    with pytest.raises(FollowInterrupt, match="mnist is cancelled"):
        following.follow(client, RUNNING)
    assert ("cancel", RUNNING.id) in client.asked
    assert WIDGET not in displayed[-1][0]


def test_a_controller_that_is_lost_ends_the_wait_and_is_told_in_the_view(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    client = FakeClient(
        jobs_here=[RUNNING], replies=[(RUNNING, []), UnavailableError("no controller answers")]
    )
    with pytest.raises(UnavailableError, match="no controller answers"):
        following.follow(client, RUNNING)
    assert "text/html" in displayed[-1][0]


def test_a_view_that_cannot_be_drawn_ends_the_wait_with_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: TrainingModel) -> bytes:
        raise ValueError("cannot be drawn")

    monkeypatch.setattr(static, "picture", broken)
    client = FakeClient(jobs_here=[DONE], replies=[(RUNNING, losses(3)), (DONE, [])])
    view = View(TrainingModel(RUNNING))
    view.show()
    feeder = following.Feeder(client, RUNNING, view)
    feeder.start()
    eventually(lambda: not feeder.is_running, "nobody waits any more", 10)
    with pytest.raises(ValueError, match="cannot be drawn"):
        feeder.wait()


def test_a_view_of_a_job_follows_it_in_the_background(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    client = FakeClient(jobs_here=[DONE], replies=[(RUNNING, losses(3)), (DONE, [])])
    view = following.view_of(client, RUNNING)
    view._ipython_display_()
    eventually(lambda: view._settled is not None, "it has settled")  # noqa: SLF001 - no page here
    assert view.model.job.state is JobState.SUCCEEDED
    eventually(lambda: "text/html" in displayed[-1][0], "the picture is displayed")


def test_kept_ranks_release_the_cell_and_the_view_goes_on() -> None:
    idle = record(EventKind.AGENT, state="idle")
    client = FakeClient(jobs_here=[RUNNING], replies=[(RUNNING, [idle]), (RUNNING, [])])
    view = View(TrainingModel(RUNNING))
    feeder = following.Feeder(client, RUNNING, view)
    feeder.start()
    assert feeder.wait().state is JobState.RUNNING
    client.jobs_here[0] = DONE
    eventually(lambda: view.model.job.state.is_terminal, "it goes on to the end")


def test_a_page_that_cannot_move_the_view_keeps_the_widget(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    view = view_of(*losses(3))
    view.show()
    view.settle()
    assert WIDGET not in displayed[-1][0]
    view.say("hello", can_move=False)
    assert {WIDGET, "text/html"} <= set(displayed[-1][0])


# ---------------------------------------------------------------------------- saved notebooks


def test_the_saved_page_escapes_what_ranks_print_and_drops_colours() -> None:
    view = view_of(output("\x1b[31m<script>alert(1)</script>\x1b[0m &\n", 1))
    page = static.page(view.model, 1010.0, "place")
    assert "<script" not in page
    assert "[1] &lt;script&gt;alert(1)&lt;/script&gt; &amp;" in page
    assert "\x1b" not in page
    assert "%aios attach mnist shows how it goes on" in page


def test_the_picture_is_small_transparent_and_the_same_in_the_page() -> None:
    import io

    from PIL import Image

    view = view_of(*losses(5000), record(EventKind.METRICS, step=1, metrics={"lr": 0.1, "f1": 0.5}))
    data = static.bundle(view.model, 1010.0, "place")
    png = base64.b64decode(data["image/png"])
    assert len(png) < 150_000
    assert data["image/png"] in data["text/html"]
    image = Image.open(io.BytesIO(png))
    assert image.getpixel((0, 0))[3] == 0  # type: ignore[index] # RGBA
    assert image.width > 1000


def test_without_curves_there_is_no_picture() -> None:
    assert set(static.bundle(view_of().model, 1010.0, "p")) == {"text/plain", "text/html"}


def test_a_metric_s_name_is_no_formula() -> None:
    costs = record(EventKind.METRICS, step=1, metrics={r"$\frac$ of $x_$": 1.0})
    assert static.picture(view_of(costs).model).startswith(b"\x89PNG")


def test_a_value_that_is_no_number_does_not_break_the_picture() -> None:
    broken = record(EventKind.METRICS, step=9, metrics={"loss": "nan", "only": "inf"})
    assert static.picture(view_of(*losses(3), broken).model).startswith(b"\x89PNG")


def test_make_demo_reads_along_and_the_copy_shows_itself_without_a_kernel(
    aios_home: Path, tmp_path: Path
) -> None:
    assert aios_home
    sources = ("%load_ext jupyter_aios", DEMO)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "demo.ipynb")
    done = subprocess.run(
        [sys.executable, EXECUTE, tmp_path / "demo.ipynb"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in range(2):
        assert f"[{rank}] <b>from rank {rank} </b>\n" in done.stdout
    assert "demo · succeeded · " in done.stdout
    executed = Path(done.stdout.rstrip().rpartition(" ")[2])
    notebook = nbformat.read(executed, as_version=4)
    assert "widgets" not in notebook.metadata
    (shown, _) = notebook.cells[1].outputs
    assert set(shown.data) == {"text/plain", "text/html", "image/png"}
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    assert re.search(r'<img[^>]+src="data:image/png;base64,', page)
    assert html.escape("<b>from rank 0 </b>") in page
    assert "<b>from rank" not in page
