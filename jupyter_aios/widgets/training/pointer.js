// ------------------------------------------------------------------ mouse and keys in a chart
// Drag moves, Shift and drag selects, the wheel zooms (with Ctrl, or after a click into the chart:
// a page is scrolled by the wheel too), a double click shows all again.
function listenToPointer(chart) {
  const { overlay, board } = chart;
  const place = (event) => event.clientX - overlay.getBoundingClientRect().left;
  const stepAt = (x) => (x - chart.drawn.bx) / chart.drawn.ax;
  let drag = null;

  overlay.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !chart.drawn) return;
    overlay.setPointerCapture(event.pointerId);
    const x = place(event);
    drag = { x, range: board.range(chart.axis), ax: chart.drawn.ax };
    if (event.shiftKey) board.selection = { chart, from: x, to: x };
    overlay.focus({ preventScroll: true });
    event.preventDefault();
  });
  overlay.addEventListener("pointermove", (event) => {
    if (!chart.drawn) return;
    const x = place(event);
    if (board.selection) board.selection.to = x;
    else if (drag) {
      const by = (drag.x - x) / drag.ax;
      board.show(chart.axis, drag.range[0] + by, drag.range[1] + by);
    }
    const isInside = x >= LEFT && x <= chart.width - RIGHT;
    board.point(isInside ? stepAt(x) : null, chart, event);
  });
  const release = () => {
    const range = board.selection;
    board.selection = drag = null;
    if (range && Math.abs(range.to - range.from) > 4) {
      const [left, right] = [stepAt(range.from), stepAt(range.to)].sort((a, b) => a - b);
      board.show(chart.axis, left, right);
    }
    board.schedule();
  };
  overlay.addEventListener("pointerup", release);
  overlay.addEventListener("pointercancel", release);
  overlay.addEventListener("pointerleave", () => board.point(null, chart));
  overlay.addEventListener("dblclick", () => board.showAll());
  overlay.addEventListener(
    "wheel",
    (event) => {
      const isMeant = event.ctrlKey || event.metaKey || event.shiftKey;
      if (!chart.drawn || !(isMeant || document.activeElement === overlay)) return;
      event.preventDefault();
      const turned = event.deltaY || event.deltaX;
      board.zoom(chart.axis, Math.exp(Math.max(-1, Math.min(1, turned / 300))), stepAt(place(event)));
    },
    { passive: false },
  );
  overlay.onKey = (key) => {
    const [first, last] = board.range(chart.axis);
    const by = (last - first) / 10;
    if (key === "ArrowLeft") board.show(chart.axis, first - by, last - by);
    else if (key === "ArrowRight") board.show(chart.axis, first + by, last + by);
    else if (key === "+" || key === "=") board.zoom(chart.axis, 0.7, (first + last) / 2);
    else if (key === "-") board.zoom(chart.axis, 1 / 0.7, (first + last) / 2);
    else if (key === "Home" || key === "0") board.showAll();
    else return false;
    return true;
  };
}
