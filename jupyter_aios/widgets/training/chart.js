// ------------------------------------------------------------------ one chart: a canvas, a legend
// A drawing reads the pyramids, so its cost goes with the pixels. All charts of a board draw in one
// animation frame, and only when something that they show has changed.

class Chart {
  constructor(board, group) {
    this.board = board;
    this.group = group;
    this.curves = [];
    this.isLog = false;
    this.isVisible = true;
    this.element = element("div", "aios-chart");
    const top = element("div", "aios-chart-top");
    this.legend = element("div", "aios-legend");
    this.logButton = button("log", `logarithmic scale for ${group}`, () => {
      this.isLog = !this.isLog;
      this.logButton.setAttribute("aria-pressed", this.isLog);
      this.changed();
    });
    this.logButton.classList.add("aios-log");
    this.logButton.setAttribute("aria-pressed", "false");
    top.append(this.legend, this.logButton);
    this.stage = element("div", "aios-stage");
    this.canvas = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.overlay.className = "aios-overlay";
    this.overlay.tabIndex = 0;
    this.overlay.setAttribute("role", "img");
    this.stage.append(this.canvas, this.overlay);
    this.element.append(top, this.stage);
    listenToPointer(this);
  }

  get axis() {
    return this.curves.length ? this.curves[0].axis : "step";
  }

  // A learning rate is what it is; an average of it would be a wrong one.
  get isSmooth() {
    return this.board.weight > 0 && this.group !== "lr";
  }

  shown() {
    return this.curves.filter((curve) => curve.count && !this.board.hidden.has(curve.key));
  }

  changed() {
    this.isStale = true;
    this.board.schedule();
  }

  // The legend's entries are made once; what they say changes.
  describe() {
    for (const curve of this.curves) {
      let entry = curve.entry;
      if (!entry) {
        entry = curve.entry = button("", "", () => {
          const hidden = this.board.hidden;
          hidden.has(curve.key) ? hidden.delete(curve.key) : hidden.add(curve.key);
          this.describe();
          this.changed();
        });
        entry.classList.add("aios-entry");
        const swatch = element("span", "aios-swatch");
        swatch.style.background = `var(--aios-c${curve.colour})`;
        curve.label = element("span", "aios-entry-name");
        curve.newest = element("span", "aios-entry-value");
        entry.append(swatch, curve.label, curve.newest);
        this.legend.append(entry);
      }
      const isShown = !this.board.hidden.has(curve.key);
      entry.setAttribute("aria-pressed", isShown);
      setText(curve.label, curve.how ? `≈ ${curve.name}` : curve.name);
      curve.label.classList.toggle("aios-inferred", Boolean(curve.how));
      setText(curve.newest, curve.count ? formatNumber(curve.mean[curve.count - 1]) : "");
      const band = curve.hasBand ? "; mean over the ranks, from the lowest to the highest" : "";
      entry.title = (curve.how ? `inferred: ${curve.how}` : "as it was logged") + band;
      entry.setAttribute("aria-label", `${isShown ? "hide" : "show"} ${curve.name}; ${entry.title}`);
    }
    const names = this.curves.map((curve) => curve.name).join(", ");
    this.overlay.setAttribute("aria-label", `curve of ${names}; arrows move, plus and minus zoom`);
  }

  resize() {
    const width = this.stage.clientWidth;
    const height = this.stage.clientHeight;
    const ratio = window.devicePixelRatio || 1;
    if (width === this.width && height === this.height && ratio === this.ratio) return;
    Object.assign(this, { width, height, ratio, isStale: true });
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = Math.max(Math.round(width * ratio), 1);
      canvas.height = Math.max(Math.round(height * ratio), 1);
    }
  }

  // How steps and values lie on the canvas.
  scale() {
    const [first, last] = this.board.range(this.axis);
    const width = Math.max(this.width - LEFT - RIGHT, 1);
    const height = Math.max(this.height - TOP - BOTTOM, 1);
    const ax = width / (last - first || 1);
    const [bottom, top] = this.extent(first, last);
    const ay = -height / (top - bottom || 1);
    return {
      first, last, width, height, bottom, top,
      ax, bx: LEFT - first * ax, ay, by: TOP + height - bottom * ay,
    };
  }

  extent(first, last) {
    let low = NaN;
    let high = NaN;
    const rank = this.board.rank;
    for (const curve of this.shown()) {
      for (const one of [curve, rank !== null && curve.ofRank].filter(Boolean)) {
        const begin = Math.max(one.index(first) - 1, 0);
        const end = Math.min(one.index(last) + 1, one.count);
        const [least] = one.pyramids.low.range(one.low, begin, end);
        const [, most] = one.pyramids.high.range(one.high, begin, end);
        low = lesser(low, this.isLog && !(least > 0) ? this.leastPositive(one, begin, end) : least);
        high = greater(high, most);
        if (!this.isSmooth) continue;
        const [lowest, highest] = one.pyramids.smooth.range(one.smooth, begin, end);
        if (lowest > 0 || !this.isLog) low = lesser(low, lowest);
        high = greater(high, highest);
      }
    }
    if (this.isLog) {
      low = Math.log10(low);
      high = Math.log10(high);
    }
    if (!(low <= high)) return [0, 1];
    const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low - pad, high + pad];
  }

  leastPositive(curve, begin, end) {
    let least = NaN;
    const every = Math.max(1, Math.floor((end - begin) / 5000));
    for (let i = begin; i < end; i += every) {
      if (curve.mean[i] > 0) least = lesser(least, curve.mean[i]);
    }
    return least;
  }

  draw(colours) {
    this.isStale = false;
    const context = this.canvas.getContext("2d");
    const scale = (this.drawn = this.scale());
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.drawAxes(context, scale, colours);
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP - 2, scale.width, scale.height + 4);
    context.clip();
    const shown = this.shown();
    for (const curve of shown) {
      if (curve.hasBand) this.drawBand(context, scale, curve, colours.curves[curve.colour]);
    }
    for (const curve of shown) this.drawCurve(context, scale, curve, colours);
    this.drawMarks(context, scale, colours);
    context.restore();
    this.drawHover(colours);
  }

  drawAxes(context, scale, colours) {
    context.font = `10px ${colours.font}`;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const most = Math.max(3, Math.floor(scale.height / 26));
    const ticks = (this.isLog ? logTicks : niceTicks)(scale.bottom, scale.top, most);
    for (const tick of ticks) {
      const y = Math.round(scale.ay * tick + scale.by) + 0.5;
      if (y < TOP - 1 || y > TOP + scale.height + 1) continue;
      context.strokeStyle = colours.grid;
      context.globalAlpha = 0.7;
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(LEFT + scale.width, y);
      context.stroke();
      context.globalAlpha = 1;
      context.fillStyle = colours.label;
      const value = this.isLog ? Math.pow(10, tick) : Math.abs(tick) < 1e-12 ? 0 : tick;
      context.fillText(formatNumber(value), LEFT - 6, y);
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    const across = Math.max(2, Math.floor(scale.width / 80));
    for (const tick of niceTicks(scale.first, scale.last, across)) {
      if (tick % 1) continue;
      const text = formatStep(tick);
      const half = context.measureText(text).width / 2;
      const x = Math.min(scale.ax * tick + scale.bx, this.width - half - 1);
      context.fillText(text, x, TOP + scale.height + 7);
    }
  }

  drawBand(context, scale, curve, colour) {
    context.fillStyle = colour;
    context.globalAlpha = 0.18;
    if (!this.fillColumns(context, scale, curve, "low", "high", 0)) {
      context.beginPath();
      this.trace(context, scale, curve, "high", 1);
      this.trace(context, scale, curve, "low", -1);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  drawCurve(context, scale, curve, colours) {
    const rank = this.board.rank !== null ? curve.ofRank : null;
    const { isSmooth } = this;
    context.lineJoin = "bevel";
    context.strokeStyle = colours.curves[curve.colour];
    context.fillStyle = context.strokeStyle;
    const stroke = (one, name, width, alpha) => {
      context.lineWidth = width;
      context.globalAlpha = alpha;
      if (!this.fillColumns(context, scale, one, name, name, width)) {
        context.beginPath();
        this.trace(context, scale, one, name, 0);
        context.stroke();
      }
      context.globalAlpha = 1;
    };
    if (isSmooth) stroke(curve, "mean", 1, 0.3);
    stroke(curve, isSmooth ? "smooth" : "mean", 1.5, rank ? 0.35 : 1);
    if (rank && rank.count) stroke(rank, isSmooth ? "smooth" : "mean", 1.5, 1);
    if (curve.count === 1) {
      const y = this.y(scale, curve.mean[0]);
      context.fillStyle = context.strokeStyle;
      context.beginPath();
      context.arc(scale.ax * curve.steps[0] + scale.bx, y, 2.5, 0, 7);
      context.fill();
    }
  }

  y(scale, value) {
    return scale.ay * (this.isLog ? Math.log10(value) : value) + scale.by;
  }

  // The indices of a curve that lie in the range, with one more on either side.
  visible(scale, curve) {
    const begin = Math.max(curve.index(scale.first) - 1, 0);
    return [begin, Math.min(curve.index(scale.last) + 1, curve.count)];
  }

  // Adds the visible part to the path. Direction 0 is a line; 1 and -1 are the upper and the lower
  // edge of the band.
  trace(context, scale, curve, name, direction) {
    const [begin, end] = this.visible(scale, curve);
    const { steps } = curve;
    const values = curve[name];
    let isDown = direction === -1;
    const to = (i) => {
      const y = this.y(scale, values[i]);
      if (y > -1e300 && y < 1e300) {
        const x = scale.ax * steps[i] + scale.bx;
        isDown ? context.lineTo(x, y) : context.moveTo(x, y);
        isDown = true;
      } else if (!direction) isDown = false;
    };
    if (direction === -1) for (let i = end - 1; i >= begin; i--) to(i);
    else for (let i = begin; i < end; i++) to(i);
  }

  // Where many points share a pixel: fills each column of pixels from the lowest to the highest
  // value in it. Rectangles on whole pixels cost the processor a tenth of a jagged path, and the
  // picture is the same. Returns whether it did.
  fillColumns(context, scale, curve, bottom, top, thickness) {
    const [begin, end] = this.visible(scale, curve);
    const perPixel = (end - begin) / scale.width;
    if (perPixel <= 2) return false;
    // One or two stretches a pixel.
    const power = Math.ceil(Math.log2(perPixel)) - 1;
    const { low } = curve.pyramids[bottom].levels[power - 1];
    const { high } = curve.pyramids[top].levels[power - 1];
    const half = 1 << (power - 1);
    const last = (end - 1) >> power;
    let column = NaN;
    let least = NaN;
    let most = NaN;
    let before = [NaN, NaN];
    const fill = () => {
      if (!(least <= most)) return;
      // A line goes on from the column before; comparisons with NaN are false.
      const from = before[1] < least ? before[1] : least;
      const to = before[0] > most ? before[0] : most;
      const upper = this.y(scale, to);
      const lower = this.isLog && from <= 0 ? TOP + scale.height : this.y(scale, from);
      const height = lower - upper;
      if (!(height >= 0 && height < 1e9)) return;
      const extra = Math.max(thickness - height, 0);
      context.fillRect(column, upper - extra / 2, 1, height + extra);
      before = [least, most];
    };
    for (let i = begin >> power; i <= last; i++) {
      const x = Math.round(scale.ax * curve.steps[Math.min((i << power) + half, curve.count - 1)] + scale.bx);
      if (x !== column) {
        fill();
        column = x;
        least = most = NaN;
      }
      least = lesser(least, low[i]);
      most = greater(most, high[i]);
    }
    fill();
    return true;
  }

  // Where an attempt began again, and where a value was no number.
  drawMarks(context, scale, colours) {
    context.textAlign = "left";
    context.textBaseline = "top";
    for (const { attempt, step } of this.axis === "step" ? this.board.restarts : []) {
      if (step === null || step < scale.first || step > scale.last) continue;
      const x = Math.round(scale.ax * step + scale.bx) + 0.5;
      context.strokeStyle = context.fillStyle = colours.label;
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(x, TOP);
      context.lineTo(x, TOP + scale.height);
      context.stroke();
      context.setLineDash([]);
      context.fillText(`attempt ${attempt}`, x + 4, TOP);
    }
    context.strokeStyle = colours.error;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const curve of this.shown()) {
      for (const step of curve.broken) {
        const x = scale.ax * step + scale.bx;
        const y = TOP + 6;
        context.moveTo(x - 3, y - 3);
        context.lineTo(x + 3, y + 3);
        context.moveTo(x + 3, y - 3);
        context.lineTo(x - 3, y + 3);
      }
    }
    context.stroke();
  }

  // The crosshair and the dots lie on a canvas of their own: moving the mouse redraws no curve.
  drawHover(colours) {
    const { step, axis } = this.board.hover;
    const scale = this.drawn;
    const isThere =
      scale && step !== null && axis === this.axis && step >= scale.first && step <= scale.last;
    // A canvas that was touched is composed anew, though nothing is on it.
    if (!isThere && !this.hasHover) return;
    this.hasHover = isThere;
    const context = this.overlay.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (!isThere) return;
    const x = Math.round(scale.ax * step + scale.bx) + 0.5;
    context.strokeStyle = colours.label;
    context.lineWidth = 1;
    context.globalAlpha = 0.6;
    context.beginPath();
    context.moveTo(x, TOP);
    context.lineTo(x, TOP + scale.height);
    context.stroke();
    context.globalAlpha = 1;
    for (const curve of this.shown()) {
      const at = curve.nearest(step);
      const value = this.isSmooth ? curve.smooth[at] : curve.mean[at];
      const y = this.y(scale, value);
      if (!Number.isFinite(y)) continue;
      context.fillStyle = colours.curves[curve.colour];
      context.beginPath();
      context.arc(scale.ax * curve.steps[at] + scale.bx, y, 3, 0, 7);
      context.fill();
    }
    const range = this.board.selection;
    if (range && range.chart === this) {
      context.fillStyle = colours.label;
      context.globalAlpha = 0.2;
      const [left, right] = [range.from, range.to].sort((a, b) => a - b);
      context.fillRect(left, TOP, right - left, scale.height);
      context.globalAlpha = 1;
    }
  }
}
