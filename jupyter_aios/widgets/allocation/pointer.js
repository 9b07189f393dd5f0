// ------------------------------------------------------------------ mouse, fingers and keys
// Drag moves, two fingers or the wheel zoom (with Ctrl, or after a click into the map: a page is
// scrolled by the wheel too), a click picks, a double click zooms in.

const CLICK_PX = 4;

function listenToMap(map) {
  const { canvas } = map;
  const fingers = new Map();
  let drag = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [[ax, ay], [bx, by]] = [...fingers.values()];
    return { distance: Math.hypot(ax - bx, ay - by), x: (ax + bx) / 2, y: (ay + by) / 2 };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    const [x, y] = place(event);
    drag = fingers.size === 1 ? { x, y, fromX: x, fromY: y, isClick: true } : { ...spread(), isPinch: true };
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, [x, y]);
    if (drag?.isPinch && fingers.size === 2) {
      const now = spread();
      map.pan(drag.x - now.x, drag.y - now.y);
      map.zoom(now.distance / Math.max(drag.distance, 1), now.x, now.y);
      Object.assign(drag, now);
    } else if (drag && !drag.isPinch) {
      if (Math.hypot(x - drag.fromX, y - drag.fromY) > CLICK_PX) drag.isClick = false;
      if (!drag.isClick) {
        map.pan(drag.x - x, drag.y - y);
        canvas.classList.add("aios-dragged");
        map.point(null);
      }
      Object.assign(drag, { x, y });
    } else if (!fingers.size) map.point(map.at(x, y), event);
  });
  const release = (event) => {
    fingers.delete(event.pointerId);
    canvas.classList.remove("aios-dragged");
    const wasClick = drag?.isClick && event.type === "pointerup";
    drag = null;
    if (wasClick) map.onPick(map.at(...place(event)));
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => map.point(null));
  canvas.addEventListener("dblclick", (event) => map.zoom(2, ...place(event)));
  canvas.addEventListener(
    "wheel",
    (event) => {
      const isMeant = event.ctrlKey || event.metaKey || document.activeElement === canvas;
      if (!isMeant) return;
      event.preventDefault();
      const turned = Math.max(-300, Math.min(300, event.deltaY || event.deltaX)) * (event.deltaMode ? 30 : 1);
      map.zoom(Math.exp(-Math.max(-0.7, Math.min(0.7, turned / (event.ctrlKey ? 120 : 300)))), ...place(event));
    },
    { passive: false },
  );
  canvas.onKey = (key) => {
    const [wide, high] = [map.width / 8, map.height / 8];
    if (key === "ArrowLeft") map.pan(-wide, 0);
    else if (key === "ArrowRight") map.pan(wide, 0);
    else if (key === "ArrowUp") map.pan(0, -high);
    else if (key === "ArrowDown") map.pan(0, high);
    else if (key === "+" || key === "=") map.zoom(1.4);
    else if (key === "-") map.zoom(1 / 1.4);
    else if (key === "Home" || key === "0") map.fit();
    else if (key === "PageDown") map.onStep(1);
    else if (key === "PageUp") map.onStep(-1);
    else if (key === "Enter" || key === " ") map.onStep(0);
    else return false;
    return true;
  };
}
