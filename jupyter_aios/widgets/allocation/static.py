"""What a saved notebook keeps of the view: a picture of the map, a page and plain text.

The picture has no ground of its own and middle tones, so that it can be read on a light page and on
a dark one.
"""

from __future__ import annotations

import base64
import html
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_aios.core.units import MILLI
from jupyter_aios.widgets.allocation import text, words
from jupyter_aios.widgets.allocation.model import ANSWER
from jupyter_aios.widgets.tones import COLOURS, GREY, STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jupyter_aios.widgets.allocation.model import AllocationModel

MOST_TILES = 240
"""With more nodes, each is one cell."""
MOST_JOBS, MOST_LETTERS = 10, 22
MOST_NAMES = 60
"""Of so many nodes the names can be read."""
_WIDTH_IN, _MOST_HEIGHT_IN = 9.0, 6.0
_TILE_WIDTH, _GAP, _LANE, _TITLE = 1.0, 0.14, 0.11, 0.19
_PRE = "overflow:auto;margin:6px 0;font:12px/1.4 monospace"
_OTHERS = "#80808090"
_EMPTY = "#80808028"

Rectangle = tuple[float, float, float, float, str]
"""Left, top, width, height and colour."""


def bundle(model: AllocationModel, place: str) -> dict[str, Any]:
    """Return the view as a display's data; `place` is where a page that still has it puts it."""
    png = base64.b64encode(picture(model)).decode()
    return {
        "text/plain": text.text(model),
        "image/png": png,
        "text/html": page(model, place, png),
    }


def page(model: AllocationModel, place: str, png: str) -> str:
    """Return the view as HTML without scripts; every text in it is escaped."""
    found = model.allocation
    colour = STATES.get(found.status, GREY)
    status = f"{found.status} · {words.headline(found)}"
    about = " ".join(filter(None, (words.meaning(found), words.later(found))))
    image = (
        f'<img style="width:900px;max-width:100%;height:auto"'
        f' alt="map of {len(model.problem.nodes)} nodes" src="data:image/png;base64,{png}"/>'
    )
    parts = [
        f'<div class="aios-place-{html.escape(place)}">',
        f'<div style="border-left:3px solid {colour};padding-left:8px">{html.escape(status)}',
        f'<div style="opacity:0.7">{html.escape(about)}</div></div>',
        image,
    ]
    if rest := text.text(model).partition("\n\n")[2]:
        parts.append(f'<pre style="{_PRE}">{html.escape(rest)}</pre>')
    return "\n".join([*parts, "</div>"])


def picture(model: AllocationModel) -> bytes:
    """Return the map as PNG."""
    buffer = io.BytesIO()
    figure(model).savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()


def figure(model: AllocationModel) -> Figure:
    """Return the map, and the policies that it is compared with, as a matplotlib figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    is_small = len(model.problem.nodes) <= MOST_TILES
    height = _tiles_height(model) + 0.3 if is_small else 3.4
    rows = len(model.comparison) + 1 if model.comparison else 0
    below = 0.45 + 0.24 * rows if rows else 0.0
    drawn = Figure(figsize=(_WIDTH_IN, height + below), dpi=140, layout="constrained")
    drawn.patch.set_alpha(0)
    FigureCanvasAgg(drawn)
    parts = drawn.add_gridspec(
        2 if rows else 1, 1, height_ratios=[height, below][: 2 if rows else 1]
    )
    axes = drawn.add_subplot(parts[0])
    (_draw_tiles if is_small else _draw_cells)(axes, model)
    if is_small:
        _name_jobs(drawn, model)
    if rows:
        _draw_policies(drawn.add_subplot(parts[1]), model)
    return drawn


# ------------------------------------------------------------------------------------- tiles


def _columns(model: AllocationModel) -> int:
    count, (_, height) = max(len(model.problem.nodes), 1), _tile_size(model)
    wide = math.sqrt(count * (height + _GAP) / (_TILE_WIDTH + _GAP) * 2.2)
    return max(min(count, round(wide)), min(count, 6))


def _tile_size(model: AllocationModel) -> tuple[float, float]:
    return _TILE_WIDTH, _title(model) + (_device_rows(model)[0] + 2) * _LANE + 0.04


def _title(model: AllocationModel) -> float:
    return _TITLE if len(model.problem.nodes) <= MOST_NAMES else 0.0


def _device_rows(model: AllocationModel) -> tuple[int, int]:
    """Return into how many rows and columns the devices of a tile are put."""
    most = int(model.problem.nodes.device_count.max(initial=0))
    columns = 1 if most <= 4 else 2  # noqa: PLR2004 - a tile stays as wide as high
    return math.ceil(most / columns), columns


def _tiles_height(model: AllocationModel) -> float:
    width, height = _tile_size(model)
    columns = _columns(model)
    rows = math.ceil(max(len(model.problem.nodes), 1) / columns)
    unit = min(_WIDTH_IN / (columns * (width + _GAP)), 1.9)
    return min(max(rows * (height + _GAP) * unit + 0.3, 1.2), _MOST_HEIGHT_IN)


def _draw_tiles(axes: Axes, model: AllocationModel) -> None:
    from matplotlib.collections import PolyCollection

    columns, (width, height) = _columns(model), _tile_size(model)
    rectangles: list[Rectangle] = []
    nodes = model.problem.nodes
    for node, name in enumerate(nodes.names):
        left = node % columns * (width + _GAP)
        top = node // columns * (height + _GAP)
        rectangles += _tile(model, node, left, top)
        if len(nodes) <= MOST_NAMES:
            told = f"{name} (drained)" if nodes.is_drained[node] else str(name)
            most = max(int(150 / columns), 5)
            told = (told if len(told) <= most else f"{told[: most - 1]}…").replace("$", r"\$")
            size = min(7.5, 60 / columns + 2)
            axes.text(left, top + _TITLE - 0.05, told, color=GREY, fontsize=size, clip_on=True)
    corners = [
        ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))
        for x, y, wide, high, _ in rectangles
    ]
    axes.add_collection(
        PolyCollection(corners, facecolors=[r[4] for r in rectangles], linewidths=0)
    )
    rows = math.ceil(max(len(nodes), 1) / columns)
    axes.set_xlim(-_GAP / 2, columns * (width + _GAP) - _GAP / 2)
    axes.set_ylim(rows * (height + _GAP), -_GAP / 2)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _tile(model: AllocationModel, node: int, left: float, top: float) -> Iterator[Rectangle]:
    """Yield what is drawn of one node: a lane per device, one for CPU, one for memory."""
    problem, found = model.problem, model.allocation
    nodes, tasks = problem.nodes, problem.tasks
    mine = np.flatnonzero(found.assignment == node).tolist()
    rows, columns = _device_rows(model)
    width = (_TILE_WIDTH - 0.04 * (columns - 1)) / columns
    for device in range(int(nodes.device_count[node])):
        x = left + device // rows * (width + 0.04)
        y = top + _title(model) + device % rows * _LANE
        parts = [(MILLI - int(nodes.devices[node, device]), _OTHERS)]
        parts += [
            (int(tasks.milli[i]), _colour(model, i))
            for i in mine
            if int(found.devices[i]) >> device & 1
        ]
        yield from _lane(x, y, (width, _LANE * 0.8), parts, MILLI)
    for column in (0, 1):
        whole = int(nodes.capacity[node, column])
        if not whole:
            continue
        y = top + _title(model) + (rows + column) * _LANE + 0.04
        parts = [(whole - int(nodes.free[node, column]), _OTHERS)]
        parts += [(int(tasks.demand[i, column]), _colour(model, i)) for i in mine]
        thick = _LANE * (0.45 if nodes.device_count[node] else 0.8)
        yield from _lane(left, y, (_TILE_WIDTH, thick), parts, whole)


def _lane(
    x: float, y: float, size: tuple[float, float], parts: list[tuple[int, str]], whole: int
) -> Iterator[Rectangle]:
    width, height = size
    yield x, y, width, height, _EMPTY
    for amount, colour in parts:
        wide = width * amount / whole
        if wide > 0:
            # A hair between two tasks of one colour.
            yield x, y, max(wide - 0.008, wide * 0.8), height, colour
        x += wide


def _colour(model: AllocationModel, task: int) -> str:
    return COLOURS[int(model.job_ranks[model.problem.tasks.job[task]]) % len(COLOURS)]


def _name_jobs(figure: Figure, model: AllocationModel) -> None:
    """Say which colour is which job, where each has its own."""
    from matplotlib.patches import Patch

    jobs = np.unique(model.problem.tasks.job)
    if not 0 < len(jobs) <= MOST_JOBS:
        return
    order = jobs[np.argsort(model.job_ranks[jobs])].tolist()
    keys = [
        Patch(color=COLOURS[int(model.job_ranks[job]) % len(COLOURS)], label=_short(name))
        for job, name in ((job, model.job_names[job]) for job in order)
    ]
    keys.append(Patch(color=_OTHERS, label="in use by others"))
    figure.legend(
        handles=keys, loc="outside upper left", ncols=6, fontsize=8, frameon=False,
        labelcolor=GREY, handlelength=1.0, columnspacing=1.4,
    )  # fmt: skip


def _short(name: str) -> str:
    # A leading underscore would hide it, and dollars would make it a formula.
    shown = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
    return f" {shown}".replace("$", r"\$")


# ------------------------------------------------------------------------------------- cells


def _draw_cells(axes: Axes, model: AllocationModel) -> None:
    """Draw each node as a cell: how much of its GPUs (without GPUs, of its CPUs) is in use."""
    shares = np.where(np.isnan(model.loads[:, 2]), model.loads[:, 0], model.loads[:, 2])
    from matplotlib.colors import LinearSegmentedColormap

    columns = math.ceil(math.sqrt(len(shares) * 2.6))
    rows = math.ceil(len(shares) / columns)
    cells = np.full(rows * columns, np.nan)
    cells[: len(shares)] = shares
    image = axes.imshow(
        cells.reshape(rows, columns), vmin=0, vmax=1, aspect="auto", interpolation="nearest",
        cmap=LinearSegmentedColormap.from_list("load", (_EMPTY, COLOURS[0])),
    )  # fmt: skip
    axes.set_axis_off()
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01)
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.ax.tick_params(colors=GREY, labelsize=8)
    bar.outline.set_edgecolor(GREY)
    title = f"{len(shares):,} nodes; how much of each one's GPUs (or CPUs) is in use"
    axes.set_title(title, color=GREY, fontsize=8, loc="left")


def _draw_policies(axes: Axes, model: AllocationModel) -> None:
    shown = [(ANSWER, model.allocation), *model.comparison]
    values = [other.levels[0].value for _, other in shown]
    places = range(len(shown), 0, -1)
    axes.barh(places, values, height=0.62, color=[COLOURS[0], *[GREY] * len(model.comparison)])
    level = model.allocation.levels[0]
    # To the right of the bound's line too, which would cross them.
    ends = max([*values, level.bound or 0])
    for place, (_, other) in zip(places, shown, strict=True):
        said = words.amount(level.name, other.levels[0].value)
        axes.text(ends, place, f"  {said}", color=GREY, fontsize=8, va="center")
    if level.bound is not None:
        axes.axvline(level.bound, color=GREY, lw=1, ls="--")
        axes.text(level.bound, len(shown) + 0.55, "bound", color=GREY, fontsize=7, ha="center")
    axes.set_xlim(0, max([*values, level.bound or 0, 1]) * 1.16)
    axes.set_yticks(
        list(places), labels=[name.replace("$", r"\$") for name, _ in shown], color=GREY, fontsize=8
    )
    axes.set_xticks([])
    axes.set_title(level.name, color=GREY, fontsize=8, loc="left")
    axes.patch.set_alpha(0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
