// ------------------------------------------------------------------ the map
// Knows what is in sight and what is under the mouse. What was drawn is copied; only the marks of
// what is pointed at, selected or moved are drawn in each frame.

const MOST_ZOOM = 6;
const ZOOM_ENDS_MS = 140;
const USUAL_HEIGHT = 440;
const LEAST_HEIGHT = 140;
const MOST_FIT = 2;
const MARGIN_PX = 4;

class AllocationMap {
  constructor({ hovered, picked, zoomed, first }) {
    Object.assign(this, { onHover: hovered, onPick: picked, onZoom: zoomed, onFirst: first });
    this.element = element("div", "aios-stage aios-map");
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.element.append(this.canvas);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.camera = { x: 0, y: 0, scale: 1 }; // the map's left top corner in sight, in tile units
    this.width = this.height = 0;
    this.hover = this.selected = null;
    this.showsMoves = false;
    this.drawn = 0;
    this.chunks = new Chunks((context, scale, x, y, width, height) =>
      this.painter.paint(context, this.layout, this.placement, scale, this.ratio, x, y, width, height),
    );
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.element);
    this.sight = new IntersectionObserver((entries) => {
      this.isInSight = entries[entries.length - 1].isIntersecting;
      if (this.isInSight) this.schedule();
    });
    this.sight.observe(this.element);
    this.isInSight = true;
    listenToMap(this);
  }

  take(scene) {
    this.scene = scene;
    this.placement = scene.answer;
    this.bright = null;
    this.hover = this.selected = null;
    this.layout = null;
    this.resize();
  }

  // ---------------------------------------------------------------- how it looks

  dress(mode) {
    this.mode = mode;
    this.theme = readTheme(this.element);
    this.painter = new Painter(this.scene, this.theme, new Tones(this.scene, mode, this.theme));
    this.applyFilter();
  }

  filter(bright) {
    this.bright = bright;
    this.applyFilter();
  }

  applyFilter() {
    this.painter.brightTasks = this.bright?.tasks || null;
    this.painter.brightNodes = this.bright?.nodes || null;
    this.redraw();
  }

  show(placement) {
    this.placement = placement;
    this.redraw();
  }

  redraw() {
    this.chunks.clear();
    this.schedule();
  }

  // ---------------------------------------------------------------- what is in sight

  // With `keepsCamera` what is in sight stays where it is: something opened beside the map.
  resize(keepsCamera = false) {
    if (!this.layout) this.chooseHeight();
    const width = this.element.clientWidth;
    const height = this.element.clientHeight;
    const ratio = window.devicePixelRatio || 1;
    if (!this.scene || !width || !height) return;
    const isNew = width !== this.width || height !== this.height || ratio !== this.ratio || !this.layout;
    if (!isNew) return;
    const wasWhole = this.isWhole();
    this.width = width;
    this.height = height;
    this.ratio = ratio;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    if (keepsCamera && this.layout) this.keepInSight();
    else if (wasWhole) {
      this.layout = new Layout(this.scene, width, height);
      this.chunks.clear();
      this.fit();
    } else this.clamp();
    // A canvas of another size is empty: what is put off to the next frame would be seen to flicker.
    if (this.painter) this.draw();
    else this.onFirst();
  }

  // Few nodes need less room; a person may have made it larger.
  chooseHeight() {
    const row = this.element.parentElement;
    const width = this.element.clientWidth;
    if (!this.scene || !row || !width) return;
    const layout = new Layout(this.scene, width, USUAL_HEIGHT);
    const wanted = layout.height * Math.min(width / layout.width, USUAL_HEIGHT / layout.height, MOST_FIT);
    row.style.setProperty("--aios-map-height", `${Math.max(Math.ceil(wanted) + 2 * MARGIN_PX + 2, LEAST_HEIGHT)}px`);
  }

  // Moves as little as is needed for what is selected to be seen.
  keepInSight() {
    const { camera, layout, selected } = this;
    const node = selected?.task >= 0 ? this.placement.node[selected.task] : selected?.node;
    if (!(node >= 0)) return this.clamp();
    const right = camera.x + this.width / camera.scale;
    camera.x += Math.max(layout.left[node] + TILE + SPACE - right, 0);
  }

  fitScale() {
    const [width, height] = [this.width - 2 * MARGIN_PX, this.height - 2 * MARGIN_PX];
    return Math.max(Math.min(width / this.layout.width, height / this.layout.height, MOST_FIT), 1e-3);
  }

  isWhole() {
    return !this.layout || this.camera.scale <= this.fitScale() * 1.001;
  }

  fit() {
    this.camera.scale = this.fitScale();
    this.camera.x = this.camera.y = 0;
    this.clamp();
    this.zoomedNow();
  }

  // What is smaller than the view stands in its middle; what is larger fills it.
  clamp() {
    const { camera, layout } = this;
    const place = (at, length, room) => (length <= room ? (length - room) / 2 : Math.min(Math.max(at, 0), length - room));
    camera.x = place(camera.x, layout.width, this.width / camera.scale);
    camera.y = place(camera.y, layout.height, this.height / camera.scale);
  }

  pan(byX, byY) {
    this.camera.x += byX / this.camera.scale;
    this.camera.y += byY / this.camera.scale;
    this.clamp();
    this.schedule();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const { camera } = this;
    const least = this.fitScale();
    const scale = Math.min(Math.max(camera.scale * factor, least), Math.max(MOST_ZOOM, least));
    if (scale === camera.scale) return;
    camera.x += x / camera.scale - x / scale;
    camera.y += y / camera.scale - y / scale;
    camera.scale = scale;
    this.clamp();
    this.zoomedNow();
  }

  zoomedNow() {
    this.zoomedAt = performance.now();
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.schedule(), ZOOM_ENDS_MS + 10);
    this.onZoom(detailAt(this.camera.scale));
    this.schedule();
  }

  // Brings a node into the middle, large enough for its names.
  reveal(node) {
    const { camera, layout } = this;
    if (detailAt(camera.scale) !== "names") camera.scale = Math.max((NAMES_PX * 1.6) / TILE, this.fitScale());
    camera.x = layout.left[node] + TILE / 2 - this.width / camera.scale / 2;
    camera.y = layout.top[node] + layout.heights[node] / 2 - this.height / camera.scale / 2;
    this.clamp();
    this.zoomedNow();
  }

  // ---------------------------------------------------------------- what is under a point

  at(pageX, pageY) {
    if (!this.layout) return null;
    const x = this.camera.x + pageX / this.camera.scale;
    const y = this.camera.y + pageY / this.camera.scale;
    const node = this.layout.nodeAt(x, y);
    if (node < 0) return null;
    const found = { node, task: -1, device: -1, kind: "" };
    const detail = detailAt(this.camera.scale);
    if (detail === "cells") return found;
    const [innerX, innerY] = [x - this.layout.left[node], y - this.layout.top[node]];
    eachLane(this.scene, node, detail, (kind, number, left, top, width, height) => {
      if (innerX < left || innerX > left + width || innerY < top - 1 || innerY > top + height + 1) return;
      const share = (innerX - left) / width;
      found.kind = kind;
      if (kind === "device") found.device = number;
      eachPart(this.scene, this.placement, node, kind, number, (task, from, to) => {
        if (share >= from && share < to) {
          found.task = task;
          found.isOthers = task < 0;
        }
      });
    });
    return found;
  }

  point(place, event) {
    const isSame = ["node", "task", "device", "kind"].every((key) => place?.[key] === this.hover?.[key]);
    this.hover = place;
    if (!isSame) this.schedule();
    this.onHover(place, event, isSame);
  }

  select(place) {
    this.selected = place;
    this.schedule();
  }

  // ---------------------------------------------------------------- drawing

  schedule() {
    if (this.frame || !this.isInSight) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.painter || !this.layout || !this.element.isConnected || !this.width) return;
    const begun = performance.now();
    const { context, ratio, camera, layout } = this;
    const scale = camera.scale * ratio;
    const [x, y] = [Math.round(camera.x * scale), Math.round(camera.y * scale)];
    const { width, height } = this.canvas;
    const limits = { width: Math.ceil(layout.width * scale), height: Math.ceil(layout.height * scale) };
    this.chunks.keep = this.fitScale() * ratio;
    const isZooming = performance.now() - (this.zoomedAt || 0) < ZOOM_ENDS_MS && this.chunks.levels.size > 0;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.theme.groundText;
    context.fillRect(0, 0, width, height);
    const isDone = this.chunks.draw(context, scale, x, y, width, height, limits, isZooming);
    drawMarks(this, context, scale, x, y);
    this.drawn++;
    if (!isDone && !isZooming) this.schedule();
    else if (isDone) this.drawAhead(scale, x, y, width, height, limits);
    this.element.dataset.detail = detailAt(camera.scale);
    this.element.dataset.whole = isDone;
    this.canvas.onDrawn?.(performance.now() - begun); // who measures listens here
  }

  drawAhead(scale, x, y, width, height, limits) {
    clearTimeout(this.ahead);
    this.ahead = setTimeout(() => {
      if (this.frame || this.camera.scale * this.ratio !== scale) return;
      if (this.chunks.makeAhead(scale, x, y, width, height, limits)) this.drawAhead(scale, x, y, width, height, limits);
    }, 30);
  }

  close() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.ahead);
    clearTimeout(this.settling);
    this.sizes.disconnect();
    this.sight.disconnect();
  }
}
