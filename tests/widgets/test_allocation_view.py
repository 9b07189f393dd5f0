"""The allocation widget without a browser: its messages, and what a saved notebook keeps."""

from __future__ import annotations

import base64
import json
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from jupyter_aios.errors import CapacityError, UnknownNameError
from jupyter_aios.widgets.allocation.view import AllocationView
from tests.widgets.allocations import answered, cluster, compared, explain

WIDGET = "application/vnd.jupyter.widget-view+json"
PROBLEM = cluster(40, 6, in_force=0.5)


class View(AllocationView):
    """Keeps what would go to the page."""

    def __init__(self, *args: Any, **rest: Any) -> None:
        self.sent: list[tuple[dict[str, Any], list[Any]]] = []
        super().__init__(*args, **rest)

    def send(self, content: dict[str, Any], buffers: list[Any] | None = None) -> None:
        json.dumps(content)
        self.sent.append((content, [bytes(b) for b in buffers or []]))

    def say(self, kind: str, **rest: Any) -> dict[str, Any]:
        """Do what a page does that says something; return the last answer."""
        self._handle_custom_msg({"type": kind, "view": "me", **rest}, [])
        return self.sent[-1][0] if self.sent else {}


def view(**rest: Any) -> View:
    return View(answered(PROBLEM), **({"explain": explain(PROBLEM)} | rest))


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


def test_numbers_travel_as_buffers_and_never_in_the_widgets_state() -> None:
    shown = view()
    assert shown.say("hello", can_move=True)["type"] == "snapshot"
    assert sum(map(len, shown.sent[0][1])) > 2000
    state = shown.get_state()
    small = {key: value for key, value in state.items() if key not in {"_esm", "_css"}}
    assert len(json.dumps(small, default=str)) < 1000


def test_each_view_that_says_hello_gets_everything() -> None:
    shown = view(comparison=compared(PROBLEM))
    first, second = shown.say("hello", can_move=True), shown.say("hello", can_move=True)
    assert first == second
    assert first["to"] == "me"
    kinds = [one["kind"] for one in first["placements"]]
    assert kinds == ["answer", "before", "policy", "policy", "policy"]


def test_an_explanation_is_asked_for_once_and_told_to_who_asked() -> None:
    asked: list[int] = []

    def say(task: int) -> str:
        asked.append(task)
        return f"task {task} is too large"

    shown = view(explain=say)
    for _ in range(2):
        assert shown.say("explain", task=3) == {
            "type": "explained", "to": "me", "task": 3, "text": "task 3 is too large",
        }  # fmt: skip
    assert asked == [3]


def test_an_explanation_that_fails_is_told_and_breaks_nothing() -> None:
    def fail(task: int) -> str:
        if task:
            raise CapacityError("nothing is that large", hint="ask for less")
        raise ZeroDivisionError

    shown = view(explain=fail)
    assert shown.say("explain", task=1)["text"] == "nothing is that large\nhint: ask for less"
    assert "ZeroDivisionError" in shown.say("explain", task=0)["text"]


def test_without_anybody_who_explains_nothing_is_said() -> None:
    shown = view(explain=None)
    assert not shown.say("hello", can_move=True)["can_explain"]
    assert shown.say("explain", task=1)["text"] == ""


@pytest.mark.parametrize("task", [-1, 40, "1", None, 1.5, [1]])
def test_nonsense_of_a_page_is_harmless(task: object) -> None:
    shown = view()
    shown.say("explain", task=task)
    shown.say("what")
    assert shown.sent == []


def test_a_ping_is_answered() -> None:
    assert view().say("ping") == {"type": "pong", "to": "me"}


def test_the_output_is_a_widget_and_then_a_picture(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    shown = view()
    shown._ipython_display_()
    first, is_update = displayed[-1]
    assert not is_update
    assert WIDGET in first
    assert first["text/plain"] == str(shown.text())
    shown.say("seated")
    settled, is_update = displayed[-1]
    assert is_update
    assert set(settled) == {"text/plain", "text/html", "image/png"}
    assert base64.b64decode(settled["image/png"]).startswith(b"\x89PNG")
    assert settled["image/png"] in settled["text/html"]
    assert f"aios-place-{shown.place}" in settled["text/html"]
    count = len(displayed)
    shown.say("seated")
    assert len(displayed) == count
    shown.show()
    assert WIDGET not in displayed[-1][0]


def test_a_page_that_cannot_move_the_view_keeps_the_widget(
    displayed: list[tuple[dict[str, Any], bool]],
) -> None:
    shown = view()
    shown.show()
    shown.say("seated")
    shown.say("hello", can_move=False)
    assert {WIDGET, "text/html"} <= set(displayed[-1][0])


def test_the_view_gives_a_figure_tables_and_text() -> None:
    shown = view(comparison=compared(PROBLEM))
    assert len(shown.figure().axes) == 2
    assert len(shown.table()) == 40
    assert [row.name for row in shown.table("nodes")] == list(PROBLEM.nodes.names)
    assert repr(shown.text()) == str(shown.text())
    with pytest.raises(UnknownNameError, match="did you mean nodes"):
        shown.table("node")


def test_a_notebook_that_a_program_runs_keeps_the_picture() -> None:
    cells = ["%load_ext jupyter_aios", "%%aios_allocate\nr: [3, 5, 2]\nc: [6, 4]"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells])
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    data = notebook.cells[1].outputs[0]["data"]
    assert data["image/png"]
    assert "infeasible" in data["text/html"]
    assert "infeasible" in data["text/plain"]
