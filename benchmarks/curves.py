"""What capturing curves costs a training step of about a millisecond on the CPU, in pairs.

One rank of a real job trains in short blocks, with capture and without it in turn, and measures
its own processor time, so that load that comes and goes matters little; the figure is the median of
the pairs' ratios. The writing of points, twice a second, is timed by itself and added. Taking
capture away gives back what it replaced, as `--no-autolog` would have left it.
"""

from __future__ import annotations

import os
import statistics

from benchmarks._measure import Report, arguments, kernel, marked, own_home

CELL = """\
import time
import torch
from torch import nn
from jupyter_aios.training import context

model = nn.Sequential(nn.Linear(256, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batch = torch.randn(64, 256)

def block(steps):
    begun, wall = time.thread_time(), time.perf_counter()
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
    return (time.thread_time() - begun) / steps * 1e3, (time.perf_counter() - wall) / steps * 1e3

capture = context._current.capture.capture
patches = capture.patches
flush, writing, steps_on = capture.flush, 0.0, 0

def timed_flush(**options):
    global writing
    begun = time.thread_time()
    flush(**options)
    writing += time.thread_time() - begun

block(1000)
assert capture.recorder.has_points, "nothing was captured"
capture.flush = timed_flush
for pair in range(PAIRS):
    # Whichever comes first meets the other's caches.
    for is_on in (True, False) if pair % 2 else (False, True):
        patches.undo()
        if is_on:
            patches.redo()
            steps_on += STEPS + 5
        block(5)
        cpu, wall = block(STEPS)
        print("CPU_ON" if is_on else "CPU_OFF", f"{cpu:.6f}")
        print("WALL_ON" if is_on else "WALL_OFF", f"{wall:.6f}")
print("WRITING", f"{writing / steps_on * 1e3:.6f}", flush=True)
"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("curves", "ms", "lower", options.json)
    os.environ["OMP_NUM_THREADS"] = "1"
    code = CELL.replace("PAIRS", "100" if options.quick else "400")
    code = code.replace("STEPS", "50").replace("WIDTH", "768")
    with own_home(), kernel() as notebook:
        notebook.run("%load_ext jupyter_aios")
        printed = notebook.run(f"%%aios_train --nproc-per-node 1 --view text\n{code}")
    writing = marked(printed, "WRITING")[0]
    # A block is too short to meet the writing often, so each gets its share.
    ours = [cpu + writing for cpu in marked(printed, "CPU_ON")]
    peer = marked(printed, "CPU_OFF")
    figures = report.pair("a step, on / off, CPU time", ours, peer)
    cost_us = statistics.median(a - b for a, b in zip(ours, peer, strict=True)) * 1e3
    report.extra["wall"] = report.pair(
        "the same, wall clock", marked(printed, "WALL_ON"), marked(printed, "WALL_OFF")
    )
    report.line(f"that is {cost_us:.1f} µs a step, of which writing {writing * 1e3:.1f} µs")
    report.extra |= {"cost_us": round(cost_us, 2), "writing_us": round(writing * 1e3, 2)}
    report.finish(figures)


if __name__ == "__main__":
    main()
