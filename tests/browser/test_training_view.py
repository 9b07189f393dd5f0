"""The training view as people meet it: JupyterLab, Chromium, real jobs on real ranks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from jupyter_aios.core.states import JobState
from tests.launching import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Desk, Sheet

# One worker: JupyterLab and the home with its warm process are shared.
pytestmark = pytest.mark.xdist_group("browser")

HEAD = "%load_ext jupyter_aios\n%aios"
DATA = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
inputs = torch.randn(4000, 20)
targets = (inputs @ torch.randn(20, 1)).relu()
"""
# As in the quickstart, only smaller.
QUICK = """\
%%aios_train --nodes 2 --name {name}
import time
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group()
model = DistributedDataParallel(nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 1)))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
sampler = DistributedSampler(TensorDataset(inputs, targets))
loader = DataLoader(sampler.dataset, batch_size=20, sampler=sampler)
print("\\x1b[31mred\\x1b[0m <script>document.title = 'owned'</script>")
for epoch in range(5):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(0.002)
    print(f"epoch {{epoch}}  loss {{loss.item():.3f}}")
"""
# Goes on until a file says that it is enough; the ranks do not wait for each other.
LONG = """\
%%aios_train --nodes 2 --name {name} --pull model {options}
import pathlib, time
model = nn.Linear(20, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
print("the first line")
while not pathlib.Path("{name}.enough").exists():
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.02)
print("the last line")
"""
OVERFLOWING = """\
() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output, .jp-Notebook .aios')]
  .filter((node) => node.scrollWidth > node.clientWidth + 1)
  .map((node) => `${node.className}: ${node.scrollWidth} > ${node.clientWidth}`)
"""


def view_in(output: Locator, state: str = "") -> Locator:
    """Return the view that a cell shows, once it is there (in this state)."""
    output.locator(f".aios[data-state={state}]" if state else ".aios").wait_for()
    return output.locator(".aios")


def has_steps(view: Locator, least: int) -> None:
    """Return once the view shows so many steps and a curve."""
    view.page.wait_for_function(
        "([node, least]) => Number(node.dataset.step) >= least && Number(node.dataset.points) > 1",
        arg=[view.element_handle(), least],
    )


def lines(view: Locator) -> Locator:
    """Return the lines of output that are in sight."""
    return view.locator(".aios-line")


def is_drawn(view: Locator) -> None:
    """Return once the first chart has something on it; out of sight, nothing is drawn."""
    canvas = view.locator(".aios-stage canvas").first
    canvas.scroll_into_view_if_needed()
    view.page.wait_for_function(
        "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.some((value) => value)",
        arg=canvas.element_handle(),
    )


def fits(sheet: Sheet) -> None:
    """Return where nothing is wider than its place, in a narrow window and in a wide one."""
    for width in (600, 1400):
        sheet.page.set_viewport_size({"width": width, "height": 900})
        sheet.shot(f"{sheet.name}-{width}")
        sheet.painted()
        assert sheet.page.evaluate(OVERFLOWING) == [], f"{width} px"


def begin(desk: Desk, name: str, *cells: str, theme: str = "light") -> Sheet:
    """Open a notebook whose first two cells have run: the magics, and the data."""
    sheet = desk.sheet(f"{name}.ipynb", HEAD, DATA, *cells, theme=theme)
    sheet.finish(0)
    sheet.finish(1)
    return sheet


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_cell_is_alive_while_it_trains_and_keeps_what_it_showed(desk: Desk, theme: str) -> None:
    name = f"quick-{theme}"
    sheet = begin(desk, name, QUICK.format(name=name), theme=theme)
    sheet.run(2)
    view = view_in(sheet.output(2), "running")
    has_steps(view, 20)
    is_drawn(view)
    expect(sheet.cell(2).locator(".jp-InputPrompt").first).to_have_text("[*]:")
    expect(view.locator(".aios-facts")).to_contain_text(re.compile(r"step \d+ of 500"))
    expect(view.locator(".aios-facts")).to_contain_text(re.compile(r"[\d,.]+ samples/s"))
    expect(view.locator(".aios-facts")).to_contain_text(re.compile(r"s left"))
    sheet.shot(f"{name}-running")
    view.get_by_role("tab", name="1").click()
    expect(lines(view).first).to_have_text("red <script>document.title = 'owned'</script>")
    red = lines(view).first.locator("span").first
    assert red.evaluate("(node) => node.style.color") == "var(--aios-red)"
    assert "owned" not in sheet.page.title()
    sheet.shot(f"{name}-rank")
    view_in(sheet.done(2), "succeeded")
    fits(sheet)
    sheet.shot(f"{name}-succeeded")
    sheet.save()
    sheet.end_kernel()
    sheet.reload()
    picture = sheet.output(2).locator("img")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("(image) => image.naturalWidth") > 0
    expect(sheet.output(2)).to_contain_text("<script>document.title = 'owned'</script>")
    assert "owned" not in sheet.page.title()
    sheet.shot(f"{name}-reopened")
    assert sheet.complaints() == []


def test_stop_ends_the_job_while_its_cell_blocks_and_a_fault_shows_its_traceback(
    desk: Desk,
) -> None:
    fault = "%%aios_train --nodes 2 --name fault\nimport os\n1 / int(os.environ['RANK'])"
    sheet = begin(desk, "stop", LONG.format(name="stop", options=""), "6 * 7", fault)
    sheet.run(2)
    view = view_in(sheet.output(2), "running")
    has_steps(view, 5)
    view.get_by_role("button", name="Stop the job").click()
    eventually(lambda: desk.client.job("stop").state is JobState.CANCELLED, "it is cancelled")
    view_in(sheet.done(2), "cancelled")
    expect(sheet.finish(3)).to_contain_text("42")
    sheet.shot("stop-cancelled")
    output = sheet.finish(4)
    expect(view_in(output, "failed")).to_contain_text("ZeroDivisionError")
    sheet.shot("stop-failed")
    fits(sheet)
    assert sheet.complaints() == []


def test_after_a_restart_of_the_kernel_attach_refills_the_view_and_pull_loads_the_weights(
    desk: Desk,
) -> None:
    sheet = begin(
        desk,
        "again",
        LONG.format(name="again", options=""),
        "%load_ext jupyter_aios\n%aios attach again",
        "from torch import nn\nmodel = nn.Linear(20, 1)\n%aios pull again",
    )
    sheet.run(2)
    first = view_in(sheet.output(2), "running")
    has_steps(first, 20)
    before = int(first.get_attribute("data-points") or 0)
    sheet.restart()
    sheet.run(3)
    view = view_in(sheet.output(3), "running")
    has_steps(view, 20)
    assert int(view.get_attribute("data-points") or 0) >= before
    expect(lines(view).first).to_contain_text("the first line")
    is_drawn(view)
    (desk.lab.notebooks / "again.enough").touch()
    view_in(sheet.output(3), "succeeded")
    expect(sheet.finish(4)).to_contain_text("model: 2 weights loaded")
    sheet.shot("again-pulled")
    assert sheet.complaints() == []


def test_a_reloaded_page_and_a_second_browser_show_what_the_first_one_did(desk: Desk) -> None:
    sheet = begin(
        desk,
        "twice",
        LONG.format(name="twice", options="--detach"),
        "import ipywidgets\njob = _\nipywidgets.HBox([job.view(), job.view()])",
        "job.view()",
    )
    sheet.finish(2)
    boxed = sheet.finish(3).locator(".aios")
    expect(boxed).to_have_count(2)
    for view in boxed.all():
        has_steps(view, 20)
    fits(sheet)
    sheet.shot("twice-boxes")
    has_steps(view_in(sheet.finish(4)), 30)
    sheet.save()
    sheet.reload()
    has_steps(view_in(sheet.output(4), "running"), 30)
    expect(lines(view_in(sheet.output(4))).first).to_contain_text("the first line")
    sheet.shot("twice-reloaded")
    other = desk.open("twice.ipynb", theme="dark")
    seen = view_in(other.output(4), "running")
    has_steps(seen, 30)
    is_drawn(seen)
    expect(lines(seen).first).to_contain_text("the first line")
    (desk.lab.notebooks / "twice.enough").touch()
    for one in (sheet, other):
        expect(lines(view_in(one.output(4), "succeeded")).last).to_contain_text("the last line")
    other.shot("twice-other")
    assert sheet.complaints() == other.complaints() == []


# A view by hand, whose last news gets lost as on a server that drops messages under load.
LOST = """\
import time
from jupyter_aios.core.entities import *
from jupyter_aios.core.events import Event, EventKind
from jupyter_aios.core.states import JobState
from jupyter_aios.widgets.training.model import TrainingModel
from jupyter_aios.widgets.training.view import TrainingView

spec = JobSpec(
    name="lost", code=Code(CodeKind.CELL, ()), resources=Resources(), nodes=1, ranks_per_node=1,
    interpreter="python", cwd="/",
)
job = Job(JobId("lost"), UserId("me"), spec, JobState.RUNNING, time.time())
view = TrainingView(TrainingModel(job))

def say(text):
    line = Event(1, "1/rank-0000.output", 0, time.time(), EventKind.STDOUT, 0, text)
    with view.lock:
        view.model.feed([line])
    view.publish()

view
"""
LOSE = """\
send, view.send = view.send, lambda *_, **__: None
say("the last line\\n")
view.send = send
"""


def test_the_last_message_is_made_up_for_when_it_was_lost(desk: Desk) -> None:
    sheet = desk.sheet("lost.ipynb", HEAD, LOST, 'say("the first line\\n")', LOSE)
    sheet.finish(0)
    sheet.finish(1)
    sheet.finish(2)
    view = sheet.output(1).locator(".aios[data-synced=true]")
    expect(lines(view).last).to_have_text("the first line")
    sheet.finish(3)
    expect(lines(view).last).to_have_text("the last line", timeout=20_000)
    assert sheet.complaints() == []
