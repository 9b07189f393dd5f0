"""What a saved notebook keeps of a view: a picture of the curves, a page and plain text.

The picture has no ground of its own and middle tones, so that it can be read on a light page and on
a dark one.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from typing import TYPE_CHECKING, Any

from jupyter_aios.widgets.tones import COLOURS, GREY, STATES
from jupyter_aios.widgets.training.curves import group_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jupyter_aios.widgets.training.model import TrainingModel
    from jupyter_aios.widgets.training.series import Series

LAST_LINES = 20
_POINTS = 1200
_CHARTS = 6
_ANSI = re.compile(
    r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f]"
)
_PRE = "overflow:auto;margin:6px 0;font:12px/1.4 monospace"


def bundle(model: TrainingModel, now: float, place: str) -> dict[str, Any]:
    """Return the view as a display's data; `place` is where a page that still has it puts it."""
    text = plain(model.text(now, LAST_LINES))
    data: dict[str, Any] = {"text/plain": text}
    png = picture(model)
    if png:
        data["image/png"] = base64.b64encode(png).decode()
    data["text/html"] = page(model, now, place, data.get("image/png", ""))
    return data


def plain(text: str) -> str:
    """Return the text without colours and other orders to a terminal."""
    return _ANSI.sub("", text)


def page(model: TrainingModel, now: float, place: str, png: str = "") -> str:
    """Return the view as HTML without scripts; every text in it is escaped."""
    head = model.head(now)
    status, _, lines = plain(model.text(now, LAST_LINES)).partition("\n")
    colour = STATES.get(head["state"], GREY)
    parts = [
        f'<div class="aios-place-{html.escape(place)}">',
        f'<div style="border-left:3px solid {colour};padding-left:8px">{html.escape(status)}</div>',
    ]
    if not head["is_over"]:
        told = f"as it was when this was saved; {head['attach']} shows how it goes on"
        parts.append(f'<div style="opacity:0.7"><em>{html.escape(told)}</em></div>')
    if png:
        names = ", ".join(one.label for one in model.curves.ordered())
        parts.append(
            f'<img style="width:900px;max-width:100%;height:auto"'
            f' alt="curves: {html.escape(names)}" src="data:image/png;base64,{png}"/>'
        )
    if lines:
        parts.append(f'<pre style="{_PRE}">{html.escape(lines)}</pre>')
    return "\n".join([*parts, "</div>"])


def picture(model: TrainingModel) -> bytes:
    """Return the curves as PNG, or nothing where there are none."""
    groups: dict[str, list[Series]] = {}
    for series in model.curves.ordered():
        if len(series.steps):
            groups.setdefault(group_of(series), []).append(series)
    if not groups:
        return b""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(groups.values())[:_CHARTS]
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(9.0, 2.5 * rows), dpi=140, layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasAgg(figure)
    for place, members in enumerate(shown):
        _draw(figure.add_subplot(rows, columns, place + 1), members, 0 if place == 0 else place)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()


def _draw(axes: Axes, members: list[Series], first_colour: int) -> None:
    for at, series in enumerate(members):
        points = series.points(_POINTS)
        colour = COLOURS[(first_colour + at) % len(COLOURS)]
        label = f"≈ {series.label}" if series.how else series.label
        marker = "o" if len(points) == 1 else ""
        axes.plot(
            points.steps, points.means, color=colour, lw=1.3, marker=marker, ms=3, label=label
        )
        if points.lows != points.highs:
            axes.fill_between(
                points.steps, points.lows, points.highs, color=colour, alpha=0.2, lw=0
            )
    axes.patch.set_alpha(0)
    axes.tick_params(colors=GREY, labelsize=8)
    axes.set_xlabel(members[0].axis, color=GREY, fontsize=8)
    axes.grid(color=GREY, alpha=0.25, lw=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(GREY)
    legend = axes.legend(fontsize=8, frameon=False, labelcolor=GREY, loc="best")
    legend.get_frame().set_alpha(0)
    for text in legend.get_texts():
        text.set_parse_math(False)  # people's names, in which two dollars are no formula
