"""Frame times of the training view in a real JupyterLab, in Chromium, while it is panned.

The view holds 100,000 points in 8 curves of 2 ranks and gets 1,000 lines of output a second, fed by
a thread of the kernel. The same mouse over a page without a view is the peer: what this machine can
do at all. Also: from Shift+Enter to the first curve, and the longest frame while a job prints
100 MB.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks._measure import Report, arguments, own_home
from tests.browser.lab import CHROMIUM, Desk, Lab, browser

if TYPE_CHECKING:
    from tests.browser.lab import Sheet

POINTS = 100_000
FLOOD_LINES = 1_000_000
FEED = """\
import math, random, threading, time
from jupyter_aios.core.entities import *
from jupyter_aios.core.events import Event, EventKind
from jupyter_aios.core.states import JobState
from jupyter_aios.widgets.training.model import TrainingModel
from jupyter_aios.widgets.training.view import TrainingView

NAMES = ("loss", "val/loss", "aux/loss", "l2/loss", "lr", "accuracy", "grad_norm", "entropy")
STEPS = {points} // len(NAMES)
spec = JobSpec(
    name="pan", code=Code(CodeKind.CELL, ()), resources=Resources(), nodes=2, ranks_per_node=1,
    interpreter="python", cwd="/",
)
job = Job(JobId("pan"), UserId("me"), spec, JobState.RUNNING, time.time())
view = TrainingView(TrainingModel(job), limit=2 * STEPS)
random.seed(0)

def curves(rank, begin, end):
    steps = list(range(begin, end))
    series = [
        dict(name=name, how="", steps=steps,
             values=[math.exp(-s / 5000) + k + random.random() / 5 for s in steps])
        for k, name in enumerate(NAMES)
    ]
    data = dict(series=series)
    return Event(1, f"1/rank-000{{rank}}.events", 0, time.time(), EventKind.CURVE, rank, data=data)

def printed(rank, number):
    text = "".join(f"line {{number + i}} of rank {{rank}}, loss 0.1234\\n" for i in range(50))
    return Event(1, f"1/rank-000{{rank}}.output", 0, time.time(), EventKind.STDOUT, rank, text)

is_over = False

def feed():
    number, step = 0, STEPS
    while not is_over:
        begun = time.monotonic()
        with view.lock:
            view.model.feed([printed(rank, number) for rank in (0, 1)])
            view.model.feed([curves(rank, step, step + 5) for rank in (0, 1)])
        view.publish()
        number, step = number + 50, step + 5
        time.sleep(max(0.1 - (time.monotonic() - begun), 0))

with view.lock:
    view.model.feed([curves(rank, 0, STEPS) for rank in (0, 1)])
view
"""
FLOOD = f"""\
%%aios_train --name flood
for number in range({FLOOD_LINES}):
    print(f"{{number:099d}}")
"""
DATA = (
    "import torch\nfrom torch import nn\ninputs, targets = torch.randn(64, 20), torch.randn(64, 1)"
)
FIRST = """\
%%aios_train --nodes 2 --name first
import time
from torch.nn.parallel import DistributedDataParallel
torch.distributed.init_process_group()
model = DistributedDataParallel(nn.Linear(20, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(300):
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.005)
"""
RECORD = """\
() => {
  const frames = (window.aiosFrames = []);
  let before = performance.now();
  const take = () => {
    const now = performance.now();
    frames.push(now - before);
    before = now;
    if (window.aiosFrames === frames) requestAnimationFrame(take);
  };
  requestAnimationFrame(take);
}
"""
RECORDED = "() => { const frames = window.aiosFrames; window.aiosFrames = null; return frames; }"
CURVE_AFTER_KEY = """\
() => addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || !event.shiftKey) return;
  const begun = performance.now();
  const old = new Set(document.querySelectorAll('.aios'));
  window.aiosFirst = null;
  const look = () => {
    const found = [...document.querySelectorAll('.aios')].find((view) => !old.has(view));
    if (found && Number(found.dataset.points) > 1) window.aiosFirst = performance.now() - begun;
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}, true)
"""


def frames_ms(sheet: Sheet, place: Any, seconds: float) -> list[float]:  # noqa: ANN401 - a locator
    """Return the intervals between frames while the mouse drags over `place`, to and fro."""
    box = place.bounding_box()
    middle, height = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = sheet.page.mouse
    mouse.move(middle, height)
    mouse.down()
    sheet.page.evaluate(RECORD)
    end, at = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        at += 1
        # A triangle of 200 pixels, four at a time.
        mouse.move(middle + abs((4 * at) % 400 - 200) - 100, height)
    frames: list[float] = sheet.page.evaluate(RECORDED)
    mouse.up()
    return frames[1:]


def percentile(values: list[float], part: float) -> float:
    """Return a percentile by the nearest rank."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def panned(sheet: Sheet, seconds: float) -> tuple[list[float], list[float]]:
    """Return frame times over the view while it gets output, and over a page without one."""
    sheet.finish(0)
    peer = frames_ms(sheet, sheet.cell(0), seconds)
    view = sheet.finish(1).locator(".aios")
    sheet.page.wait_for_function(
        "(least) => Number(document.querySelector('.aios')?.dataset.points) >= least",
        arg=POINTS // 8 * 8,
    )
    sheet.finish(2)
    chart = view.locator(".aios-overlay").first
    chart.scroll_into_view_if_needed()
    chart.click()
    for _ in range(5):
        sheet.page.keyboard.press("+")
    sheet.painted()
    ours = frames_ms(sheet, chart, seconds)
    sheet.finish(3)
    return ours, peer


def flooded(sheet: Sheet) -> dict[str, float]:
    """Return the longest frame while a job prints 100 MB, and how long that took."""
    sheet.page.evaluate(RECORD)
    begun = time.monotonic()
    sheet.run(4)
    # The job is over before the kernel has read all that it printed.
    sheet.page.wait_for_function(
        "(least) => [...document.querySelectorAll('.aios')]"
        ".some((view) => Number(view.dataset.lines) >= least)",
        arg=FLOOD_LINES,
        timeout=120_000,
    )
    frames: list[float] = sheet.page.evaluate(RECORDED)
    return {
        "longest_ms": round(max(frames[1:]), 1),
        "p95_ms": round(percentile(frames[1:], 0.95), 1),
        "seconds": round(time.monotonic() - begun, 1),
    }


def first_curves(sheet: Sheet, times: int) -> list[float]:
    """Return the seconds from Shift+Enter to a curve, in a cell whose data is there."""
    sheet.finish(5)
    sheet.finish(6)
    sheet.page.evaluate(CURVE_AFTER_KEY)
    found = []
    for _ in range(times):
        sheet.finish(6)
        found.append(sheet.page.evaluate("() => window.aiosFirst") / 1000)
    return found


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("view", "ms", "lower", options.json)
    if CHROMIUM is None:
        sys.exit("Chromium is not installed: apt-get install chromium fonts-dejavu-core")
    cells = [
        "%load_ext jupyter_aios\n%aios",
        FEED.format(points=POINTS),
        "threading.Thread(target=feed, daemon=True).start()",
        "is_over = True",
        FLOOD,
        DATA,
        FIRST,
    ]
    with own_home() as home, contextlib.closing(Lab(home)) as lab, browser() as chromium:
        sheet = Desk(chromium, lab).sheet("bench.ipynb", *cells)
        ours, peer = panned(sheet, 5 if options.quick else 20)
        flood = flooded(sheet)
        firsts = first_curves(sheet, 3 if options.quick else 9)
        assert not sheet.complaints(), sheet.complaints()
    figures = {
        "p95_ms": round(percentile(ours, 0.95), 1),
        "median_ms": round(statistics.median(ours), 1),
        "longest_ms": round(max(ours), 1),
        "n": len(ours),
        "without_view_p95_ms": round(percentile(peer, 0.95), 1),
    }
    report.line(f"{'panning, p95 of frames':<28} {figures['p95_ms']:>8} ms   n={len(ours)}")
    report.line(f"{'the same without a view':<28} {figures['without_view_p95_ms']:>8} ms")
    report.line(f"{'longest while panning':<28} {figures['longest_ms']:>8} ms")
    report.line(
        f"{'longest, 100 MB of output':<28} {flood['longest_ms']:>8} ms   "
        f"p95 {flood['p95_ms']} ms, {flood['seconds']} s"
    )
    report.line(
        f"{'Shift+Enter to a curve':<28} {statistics.median(firsts):>8.2f} s    n={len(firsts)}"
        f"   {min(firsts):.2f} to {max(firsts):.2f}"
    )
    report.extra["flood"] = flood
    report.extra["first_curve_s"] = round(statistics.median(firsts), 3)
    report.finish(figures)


if __name__ == "__main__":
    main()
