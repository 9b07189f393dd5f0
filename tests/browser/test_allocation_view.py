"""The allocation view as people meet it: JupyterLab, Chromium, mouse and keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Desk, Sheet

# One worker: JupyterLab is shared.
pytestmark = pytest.mark.xdist_group("browser")

SETUP = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from jupyter_aios.widgets.allocation.view import AllocationView
from tests.widgets.allocations import *
"""
SHOW = """\
problem = cluster({tasks}, {nodes}, in_force={in_force})
view = AllocationView(answered(problem), comparison=compared(problem), explain=explain(problem))
view
"""
# Parts of the view that are wider than their place, but for those that scroll on purpose.
OVERFLOWING = """\
() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output, .aios, .aios *')]
  .filter((node) => node.clientWidth && node.scrollWidth > node.clientWidth + 1
    && getComputedStyle(node).textOverflow !== 'ellipsis' && node.tagName !== 'INPUT')
  .map((node) => `${node.className}: ${node.scrollWidth} > ${node.clientWidth}`)
"""
COLOURS = """\
(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const found = new Set();
  for (let k = 0; k < data.length; k += 4) {
    found.add(data[k] << 16 | data[k + 1] << 8 | data[k + 2]);
  }
  return [...found];
}
"""


def begin(
    desk: Desk, name: str, tasks: int, nodes: int, *, theme: str = "light", in_force: float = 0.0
) -> tuple[Sheet, Locator]:
    """Open a notebook with an allocation; the view has gone into the picture's place."""
    show = SHOW.format(tasks=tasks, nodes=nodes, in_force=in_force)
    sheet = desk.sheet(f"{name}.ipynb", SETUP, show, theme=theme)
    sheet.finish(0)
    view = sheet.finish(1).locator(".jp-RenderedHTMLCommon .aios[data-synced=true]")
    view.wait_for()
    view.scroll_into_view_if_needed()
    view.locator(".aios-map[data-whole=true]").wait_for()
    return sheet, view


def canvas(view: Locator) -> Locator:
    return view.locator(".aios-map canvas")


def colours(view: Locator) -> set[int]:
    """Return the colours that are on the map now."""
    view.locator(".aios-map[data-whole=true]").wait_for()
    return set(canvas(view).evaluate(COLOURS))


def middle(view: Locator) -> tuple[float, float]:
    """Return the middle of the map on the page."""
    box = canvas(view).bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def detail(view: Locator) -> str | None:
    return view.locator(".aios-map").get_attribute("data-detail")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_fits_follows_the_theme_and_is_a_picture_without_a_kernel(
    desk: Desk, theme: str
) -> None:
    sheet, view = begin(desk, f"map-{theme}", 40, 6, theme=theme, in_force=0.5)
    expect(view.locator(".aios-headline")).to_have_text(
        re.compile(r"\d+ of 40 tasks placed · priority [\d,]+ of at most [\d,]+ \(gap .*proven\)")
    )
    expect(view.locator(".aios-chip")).to_have_text("feasible")
    expect(view.locator(".aios-about-line")).to_contain_text("Bound and gap are about priority")
    ground = 0xFFFFFF if theme == "light" else 0x111111
    assert ground in colours(view)
    assert len(colours(view)) > 8
    for width in (600, 1000, 1400):
        sheet.page.set_viewport_size({"width": width, "height": 900})
        sheet.painted()
        sheet.shot(f"allocation-{theme}-{width}")
        assert sheet.page.evaluate(OVERFLOWING) == [], f"{width} px"
    assert sheet.complaints() == []
    sheet.save()
    sheet.end_kernel()
    sheet.reload()
    picture = sheet.output(1).locator("img")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("(image) => image.naturalWidth") > 0
    expect(sheet.output(1)).to_contain_text("of 40 tasks placed")
    expect(sheet.output(1)).to_contain_text("<b>")  # what the explanation holds, as text
    sheet.shot(f"allocation-{theme}-reopened")


def test_a_click_explains_a_task_that_is_left_out_and_lists_who_is_on_a_node(desk: Desk) -> None:
    sheet, view = begin(desk, "explain", 40, 6)
    view.locator(".aios-left-chip").first.click()
    panel = view.locator(".aios-panel")
    expect(panel).to_contain_text("left out")
    expect(panel.locator(".aios-why")).to_have_text(
        re.compile(r"<b>.+</b>: \d nodes could hold it")
    )
    assert panel.locator(".aios-why b").count() == 0
    view.page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    # Without a mouse: from node to node, and from a node to its tasks.
    canvas(view).focus()
    sheet.page.keyboard.press("PageDown")
    expect(panel.locator(".aios-panel-title")).to_have_text("node-0000")
    expect(panel).to_contain_text("free GPUs")
    sheet.page.keyboard.press("PageDown")
    expect(panel.locator(".aios-panel-title")).to_have_text("node-0001")
    expect(panel).to_contain_text("virtual: a part of a machine")
    task = panel.locator(".aios-link").first
    name = task.locator(".aios-link-name").inner_text()
    task.focus()
    sheet.page.keyboard.press("Enter")
    expect(panel.locator(".aios-panel-title")).to_have_text(name)
    expect(panel.locator(".aios-why")).to_contain_text("could hold it")
    sheet.shot("allocation-explained")
    assert sheet.complaints() == []


def test_zoom_pan_and_hover_change_what_is_in_sight(desk: Desk) -> None:
    sheet, view = begin(desk, "zoom", 1000, 90)
    assert detail(view) == "bars"
    whole = canvas(view).screenshot()
    canvas(view).focus()
    for _ in range(5):
        sheet.page.keyboard.press("+")
    expect(view.locator(".aios-map")).to_have_attribute("data-detail", "names")
    view.locator(".aios-map[data-whole=true]").wait_for()
    zoomed = canvas(view).screenshot()
    assert zoomed != whole
    sheet.page.keyboard.press("ArrowRight")
    sheet.painted()
    assert canvas(view).screenshot() != zoomed
    x, y = middle(view)
    tip = view.locator(".aios-tip")
    for step in range(40):  # the middle may lie between two nodes
        sheet.page.mouse.move(x + 4 * step, y + 2 * step)
        if tip.is_visible():
            break
    expect(tip).to_contain_text("node-")
    sheet.page.mouse.move(x, y)
    sheet.page.mouse.down()
    sheet.page.mouse.move(x - 90, y - 60, steps=4)
    sheet.page.mouse.up()
    expect(tip).to_be_hidden()
    expect(view.locator(".aios-panel")).to_be_hidden()  # a drag is no click
    view.get_by_role("button", name="show the whole map").click()
    expect(view.locator(".aios-map")).to_have_attribute("data-detail", "bars")
    assert sheet.complaints() == []


def test_the_filter_fades_what_is_not_meant_and_counts_what_is(desk: Desk) -> None:
    sheet, view = begin(desk, "filter", 40, 6)
    field = view.get_by_label("filter tasks and nodes")
    before = colours(view)
    field.fill("model:T4")
    expect(view.locator(".aios-found")).to_have_text(re.compile(r"\d+ tasks?, 1 node"))
    assert colours(view) != before
    field.fill("unplaced")
    left = view.locator(".aios-left-title").inner_text().split()[0]
    expect(view.locator(".aios-found")).to_have_text(re.compile(rf"{left} tasks, 0 nodes"))
    field.fill("no such name")
    expect(view.locator(".aios-found")).to_have_text("0 tasks, 0 nodes")
    field.fill("user:ada node:node-0000")
    expect(view.locator(".aios-found")).to_have_text(re.compile(r"\d+ tasks?, 0 nodes"))
    field.fill("")
    expect(view.locator(".aios-found")).to_have_text("")
    assert colours(view) == before
    view.get_by_label("colour tasks by").select_option("priority")
    expect(view.locator(".aios-map-legend")).to_contain_text("priority 5")
    assert colours(view) != before
    assert sheet.complaints() == []


def test_before_and_after_moves_and_other_policies_are_shown(desk: Desk) -> None:
    sheet, view = begin(desk, "moves", 60, 8, in_force=0.6)
    after = canvas(view).screenshot()
    view.get_by_role("button", name="show what was in force").click()
    expect(view).to_have_attribute("data-shown", "before")
    sheet.painted()
    assert canvas(view).screenshot() != after
    moves = view.get_by_role("button", name="list what moves")
    count = int(moves.inner_text().split()[0])
    moves.click()
    expect(view.locator(".aios-panel .aios-link")).to_have_count(count)
    expect(view.locator(".aios-panel")).to_contain_text(re.compile("→|stopped|other devices"))
    sheet.shot("allocation-moves")
    thumbs = view.locator(".aios-thumb")
    expect(thumbs).to_have_count(4)
    expect(thumbs.nth(1)).to_contain_text(re.compile(r"random[\d,]+ · gap [\d.]+\s%"))
    thumbs.nth(1).click()
    expect(view).to_have_attribute("data-shown", "random")
    expect(thumbs.nth(1)).to_have_attribute("aria-pressed", "true")
    assert sheet.complaints() == []


def test_views_share_a_box_and_a_name_is_never_markup(desk: Desk) -> None:
    named = """\
from dataclasses import replace
import ipywidgets
problem = cluster(40, 6)
wrong = "<img src=x onerror=\\"document.title='owned'\\">"
tasks = replace(problem.tasks, names=[wrong] * 40, job_names=(wrong,) * 40)
problem = replace(problem, tasks=tasks)
found = AllocationView(answered(problem), explain=lambda task: wrong)
ipywidgets.HBox([found, AllocationView(answered(problem))])
"""
    sheet = desk.sheet("boxes.ipynb", SETUP, named)
    sheet.finish(0)
    views = sheet.finish(1).locator(".aios[data-synced=true]")
    expect(views).to_have_count(2)
    views.first.locator(".aios-left-chip").first.click()
    expect(views.first.locator(".aios-why")).to_contain_text("onerror")
    views.first.locator(".aios-map[data-whole=true]").wait_for()
    sheet.painted()
    assert sheet.page.evaluate(OVERFLOWING) == []
    assert "owned" not in sheet.page.title()
    assert sheet.complaints() == []
