"""Frame times of the allocation view in a real JupyterLab, in Chromium, while it is panned.

10,000 tasks on 1,213 nodes and 100,000 on 12,000, zoomed in so far that devices and tasks can be
told apart. The same mouse over a page without a view is the peer: what this machine can do at all.
Also: how long the data take from the end of the cell to the first picture, and a zoom by the wheel.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from benchmarks._measure import Report, arguments, own_home
from benchmarks.view import RECORD, RECORDED, frames_ms, percentile
from tests.browser.lab import CHROMIUM, Desk, Lab, browser

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab import Sheet

SIZES = ((10_000, 1_213, 17.0), (100_000, 12_000, 50.0))
"""Tasks, nodes, and the goal for the p95 of frames in milliseconds."""
SETUP = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from jupyter_aios.widgets.allocation.view import AllocationView
from tests.widgets.allocations import allocation, cluster
"""
MAKE = "view = AllocationView(allocation(cluster({tasks}, {nodes}), parts={nodes} // 1000))"
IS_DRAWN = "() => document.querySelector('.aios[data-synced=true] .aios-map[data-whole=true]')"
AFTER_KEY = """\
() => addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !event.shiftKey) return;
  const begun = performance.now();
  window.aiosFirst = null;
  const look = () => {
    const map = document.querySelector('.aios[data-synced=true] .aios-map[data-whole=true]');
    if (map) window.aiosFirst = performance.now() - begun;
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}, true)
"""


def detail(view: Locator) -> str:
    """Return what the map shows of a node: `cells`, `bars` or `names`."""
    return view.locator(".aios-map").get_attribute("data-detail") or ""


def zoom_until(sheet: Sheet, view: Locator, wanted: str) -> None:
    """Press + in the map until it shows so much of a node."""
    for _ in range(40):
        if detail(view) == wanted:
            return
        sheet.page.keyboard.press("+")
        sheet.painted()
    sys.exit(f"the map never showed {wanted}")


def zoomed_ms(sheet: Sheet, map_: Locator, turns: int) -> list[float]:
    """Return the intervals between frames while the wheel zooms in and out."""
    box = map_.bounding_box()
    assert box
    mouse = sheet.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    sheet.page.evaluate(RECORD)
    for turn in range(turns):
        mouse.wheel(0, -60 if turn // 10 % 2 else 60)
    frames: list[float] = sheet.page.evaluate(RECORDED)
    return frames[1:]


def measure(desk: Desk, tasks: int, nodes: int, seconds: float) -> dict[str, float]:
    """Return the figures of one size."""
    cells = [SETUP, MAKE.format(tasks=tasks, nodes=nodes), "view"]
    sheet = desk.sheet(f"allocation-{tasks}.ipynb", *cells)
    sheet.finish(0)
    peer = frames_ms(sheet, sheet.cell(0), seconds)
    sheet.run(1)
    prompt = sheet.cell(1).locator(".jp-InputPrompt").first
    expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=180_000)
    sheet.page.evaluate(AFTER_KEY)
    view = sheet.finish(2).locator(".aios")
    sheet.page.wait_for_function(IS_DRAWN, timeout=60_000)
    first_ms: float = sheet.page.evaluate("() => window.aiosFirst")
    # Into the place of the picture; before that it would be moved under the mouse.
    sheet.page.locator(".jp-RenderedHTMLCommon .aios").wait_for()
    assert view.get_attribute("data-tasks") == str(tasks)
    map_ = view.locator(".aios-map canvas")
    map_.scroll_into_view_if_needed()
    map_.click(position={"x": 5, "y": 5})
    found = panned(sheet, map_, "whole", seconds)
    for wanted in ("bars", "names"):
        zoom_until(sheet, view, wanted)
        sheet.page.wait_for_function(IS_DRAWN)
        found |= panned(sheet, map_, wanted, seconds)
    zooming = zoomed_ms(sheet, map_, 60)
    assert not sheet.complaints(), sheet.complaints()
    sheet.page.context.close()
    desk.sheets.remove(sheet)
    return {
        **found,
        "zoom_p95_ms": round(percentile(zooming, 0.95), 1),
        "peer_p95_ms": round(percentile(peer, 0.95), 1),
        "peer_median_ms": round(statistics.median(peer), 1),
        "first_s": round(first_ms / 1000, 2),
    }


def panned(sheet: Sheet, map_: Locator, name: str, seconds: float) -> dict[str, float]:
    """Return the figures of frames while the map is dragged, and of the script of each."""
    map_.evaluate("(map) => { const all = (map.times = []); map.onDrawn = (ms) => all.push(ms); }")
    frames = frames_ms(sheet, map_, seconds)
    drawing: list[float] = map_.evaluate("(map) => { map.onDrawn = null; return map.times; }")
    assert len(drawing) > 10, "dragging draws nothing"
    return {
        f"{name}_script_p95_ms": round(percentile(drawing, 0.95), 1),
        f"{name}_p95_ms": round(percentile(frames, 0.95), 1),
        f"{name}_median_ms": round(statistics.median(frames), 1),
        f"{name}_longest_ms": round(max(frames), 1),
        f"{name}_n": len(frames),
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("allocation_view", "ms", "lower", options.json)
    if CHROMIUM is None:
        sys.exit("Chromium is not installed: apt-get install chromium fonts-dejavu-core")
    sizes = SIZES[:1] if options.quick else SIZES
    found: dict[str, Any] = {}
    with own_home() as home, contextlib.closing(Lab(home)) as lab, browser() as chromium:
        desk = Desk(chromium, lab)
        for tasks, nodes, goal in sizes:
            begun = time.monotonic()
            figures = measure(desk, tasks, nodes, 4 if options.quick else 12)
            found[str(tasks)] = figures
            report.line(f"{tasks:,} tasks on {nodes:,} nodes   goal p95 ≤ {goal:.0f} ms")
            for what, key in (
                ("panning, bars", "bars"), ("panning, names", "names"), ("the whole map", "whole"),
            ):  # fmt: skip
                report.line(
                    f"  {what:<26} p95 {figures[f'{key}_p95_ms']:>6} ms   median"
                    f" {figures[f'{key}_median_ms']:>6} ms   longest"
                    f" {figures[f'{key}_longest_ms']:>6} ms   its script p95"
                    f" {figures[f'{key}_script_p95_ms']:>5} ms   n={figures[f'{key}_n']}"
                )
            report.line(f"  {'zooming by the wheel':<26} p95 {figures['zoom_p95_ms']:>6} ms")
            report.line(
                f"  {'a page without a view':<26} p95 {figures['peer_p95_ms']:>6} ms   median"
                f" {figures['peer_median_ms']:>6} ms"
            )
            report.line(
                f"  {'Shift+Enter to the map':<26} {figures['first_s']:>10} s"
                f"   ({time.monotonic() - begun:.0f} s in all)"
            )
    report.extra["sizes"] = found
    first = found[str(sizes[0][0])]
    worst = max(first["bars_p95_ms"], first["names_p95_ms"], first["whole_p95_ms"])
    report.finish({"ours": worst, "peer": first["peer_p95_ms"]})


if __name__ == "__main__":
    main()
