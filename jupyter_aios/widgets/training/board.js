// ------------------------------------------------------------------ all charts of a job
// Charts of one axis show the same steps. With nothing zoomed they show all; a range that touches
// the newest step moves along with it.

const FIRST_CHARTS = 7;
const ORDER = ["loss", "lr", "samples/s"];

class Board {
  constructor(ask) {
    this.ask = ask; // asks the kernel for more points of a range
    this.curves = new Map();
    this.charts = new Map();
    this.hidden = new Set();
    this.ranges = {};
    this.restarts = [];
    this.hover = { step: null, axis: "step" };
    this.selection = null;
    this.weight = 0;
    this.rank = null;
    this.isExpanded = false;
    this.element = element("div", "aios-board");
    this.element.hidden = true;
    this.grid = element("div", "aios-grid");
    this.tools = element("div", "aios-tools");
    this.tip = element("div", "aios-tip");
    this.tip.hidden = true;
    this.makeTools();
    this.element.append(this.tools, this.grid, this.tip);
    this.visible = new IntersectionObserver((entries) => {
      this.isVisible = entries[entries.length - 1].isIntersecting;
      if (this.isVisible) this.schedule();
    });
    this.isVisible = true;
    this.visible.observe(this.element);
    this.sizes = new ResizeObserver(() => this.layOut());
    this.sizes.observe(this.element);
  }

  makeTools() {
    const label = element("label", "aios-smooth");
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: 99, value: 0 });
    slider.setAttribute("aria-label", "smoothing");
    const value = element("span", "aios-smooth-value", "off");
    slider.addEventListener("input", () => {
      this.weight = Number(slider.value) / 100;
      setText(value, this.weight ? this.weight.toFixed(2) : "off");
      for (const curve of this.curves.values()) this.smooth(curve);
      this.redraw();
    });
    label.append("smooth", slider, value);
    this.reset = button("show all", "show all steps (double click in a chart)", () => this.showAll());
    this.reset.hidden = true;
    this.more = button("", "", () => {
      this.isExpanded = !this.isExpanded;
      this.layOut();
    });
    this.more.hidden = true;
    this.note = element("span", "aios-note");
    this.tools.append(label, this.reset, this.more, this.note);
  }

  smooth(curve) {
    curve.smoothWith(this.weight);
    if (curve.ofRank) curve.ofRank.smoothWith(this.weight);
  }

  clear() {
    for (const curve of this.curves.values()) curve.count = 0;
  }

  // Takes a piece of a curve as the kernel sent it.
  take(piece) {
    let curve = this.curves.get(piece.key);
    const isNew = !curve;
    if (isNew) {
      curve = new Curve(piece.key);
      this.curves.set(piece.key, curve);
    }
    const axis = curve.axis;
    curve.describe(piece);
    if (!isNew && axis !== curve.axis) curve.count = 0;
    curve.weight = this.weight;
    curve.take(piece);
    curve.isThinned ||= piece.is_thinned;
    if (isNew) this.place(curve);
    const chart = this.charts.get(curve.group);
    chart.isStale = chart.hasNews = true;
  }

  place(curve) {
    let chart = this.charts.get(curve.group);
    if (!chart) {
      chart = new Chart(this, curve.group);
      this.charts.set(curve.group, chart);
    }
    chart.curves.push(curve);
    // One chart's curves differ in colour; charts begin with different ones.
    const taken = chart.curves.length - 1;
    const begins = [...this.charts.keys()].indexOf(curve.group);
    curve.colour = ((curve.group === "loss" ? 0 : begins) + taken) % 10;
    this.layOut();
  }

  ordered() {
    const rank = (group) => (ORDER.includes(group) ? ORDER.indexOf(group) : ORDER.length);
    return [...this.charts.values()].sort((a, b) => rank(a.group) - rank(b.group));
  }

  layOut() {
    const charts = this.ordered();
    this.element.hidden = charts.length === 0;
    const width = this.element.clientWidth;
    const shown = this.isExpanded ? charts : charts.slice(0, FIRST_CHARTS);
    const besides = shown.length - 1;
    const columns = width < 520 ? 1 : Math.min(width < 860 ? 2 : 3, 1 + Math.ceil(besides / 2));
    this.grid.style.gridTemplateColumns =
      columns === 1 ? "minmax(0,1fr)" : `minmax(0,${columns === 2 ? 1.7 : 2}fr)${" minmax(0,1fr)".repeat(columns - 1)}`;
    shown.forEach((chart, index) => {
      const isFirst = index === 0;
      const isTall = columns > 1 && (isFirst || besides === 1);
      const rows = columns === 3 ? Math.max(Math.ceil(besides / 2), 2) : 2;
      chart.element.style.gridRow = isTall ? `span ${rows}` : "";
      chart.element.classList.toggle("aios-first", isFirst && columns === 1);
      if (this.grid.children[index] !== chart.element) {
        this.grid.insertBefore(chart.element, this.grid.children[index] || null);
      }
    });
    while (this.grid.children.length > shown.length) this.grid.lastChild.remove();
    this.grid.classList.toggle("aios-alone", besides === 0);
    const rest = charts.length - FIRST_CHARTS;
    this.more.hidden = rest <= 0;
    const text = this.isExpanded ? "fewer charts" : `${rest} more chart${rest > 1 ? "s" : ""}`;
    setText(this.more, text);
    this.more.setAttribute("aria-label", text);
    this.redraw();
  }

  // ---------------------------------------------------------------- which steps are shown

  whole(axis) {
    let first = Infinity;
    let last = -Infinity;
    for (const curve of this.curves.values()) {
      if (curve.axis !== axis || !curve.count) continue;
      first = Math.min(first, curve.steps[0]);
      last = Math.max(last, curve.steps[curve.count - 1]);
    }
    return first <= last ? [first, last > first ? last : first + 1] : [0, 1];
  }

  range(axis) {
    const [first, last] = this.whole(axis);
    const range = this.ranges[axis];
    if (!range) return [first, last];
    return range.isAtEnd ? [last - range.last + range.first, last] : [range.first, range.last];
  }

  show(axis, first, last) {
    const [least, most] = this.whole(axis);
    const width = Math.max(last - first, Math.min(4, most - least));
    if (width >= most - least) delete this.ranges[axis];
    else {
      const begin = Math.min(Math.max(first, least), most - width);
      this.ranges[axis] = { first: begin, last: begin + width, isAtEnd: begin + width >= most };
      this.askForMore(axis);
    }
    this.reset.hidden = !Object.keys(this.ranges).length;
    this.redraw(axis);
  }

  showAll() {
    this.ranges = {};
    this.reset.hidden = true;
    this.redraw();
  }

  zoom(axis, factor, around) {
    const [first, last] = this.range(axis);
    this.show(axis, around - (around - first) * factor, around + (last - around) * factor);
  }

  askForMore(axis) {
    clearTimeout(this.asking);
    this.asking = setTimeout(() => {
      const [first, last] = this.range(axis);
      for (const chart of this.charts.values()) {
        for (const curve of chart.axis === axis ? chart.shown() : []) {
          const count = curve.index(last) - curve.index(first);
          if (curve.isThinned && count < 2 * (chart.width || 300)) this.ask(curve.key, first, last);
        }
      }
    }, 150);
  }

  // ---------------------------------------------------------------- drawing

  redraw(axis) {
    for (const chart of this.charts.values()) chart.isStale ||= !axis || chart.axis === axis;
    this.schedule();
  }

  schedule() {
    if (this.frame || !this.isVisible) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.element.isConnected) return;
    const colours = (this.colours ||= readColours(this.element));
    for (const chart of this.charts.values()) {
      if (!chart.element.isConnected) continue;
      chart.resize();
      if (chart.width < LEFT + RIGHT || chart.height < TOP + BOTTOM) continue;
      if (chart.isStale) {
        // Words change with the points, not with what is shown of them.
        if (chart.hasNews) chart.describe();
        chart.hasNews = false;
        chart.draw(colours);
      } else if (this.isPointing) chart.drawHover(colours);
    }
    this.isPointing = false;
  }

  themeChanged() {
    this.colours = null;
    this.redraw();
  }

  // ---------------------------------------------------------------- what is under the mouse

  point(step, chart, event) {
    this.hover = { step, axis: chart.axis };
    this.isPointing = true;
    this.schedule();
    if (step === null || !chart.shown().length) {
      this.tip.hidden = true;
      return;
    }
    this.tip.replaceChildren(...this.tipLines(step, chart));
    this.tip.hidden = false;
    const box = this.element.getBoundingClientRect();
    const x = event.clientX - box.left;
    const width = this.tip.offsetWidth;
    const left = x + 14 + width > box.width ? Math.max(x - width - 14, 0) : x + 14;
    const top = chart.stage.getBoundingClientRect().top - box.top + TOP;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  tipLines(step, chart) {
    const shown = chart.shown();
    const [nearest] = shown
      .map((curve) => curve.steps[curve.nearest(step)])
      .sort((a, b) => Math.abs(a - step) - Math.abs(b - step));
    const lines = [element("div", "aios-tip-step", `${chart.axis} ${formatStep(nearest)}`)];
    for (const curve of shown) {
      const at = curve.nearest(step);
      const line = element("div", "aios-tip-line");
      const swatch = element("span", "aios-swatch");
      swatch.style.background = `var(--aios-c${curve.colour})`;
      const value = curve.broken.includes(curve.steps[at]) ? "not a number" : formatNumber(curve.mean[at]);
      line.append(swatch, element("span", "aios-tip-name", curve.how ? `≈ ${curve.name}` : curve.name));
      line.append(element("b", "", value));
      if (chart.isSmooth) line.append(element("span", "", `smooth ${formatNumber(curve.smooth[at])}`));
      if (curve.hasBand) {
        const band = `${formatNumber(curve.low[at])} to ${formatNumber(curve.high[at])}`;
        line.append(element("span", "aios-tip-band", band));
      }
      if (this.rank !== null && curve.ofRank?.count) {
        const own = curve.ofRank.mean[curve.ofRank.nearest(step)];
        line.append(element("span", "", `rank ${this.rank}: ${formatNumber(own)}`));
      }
      if (curve.steps[at] !== nearest) line.append(element("span", "", `at ${formatStep(curve.steps[at])}`));
      lines.push(line);
    }
    return lines;
  }

  // ---------------------------------------------------------------- one rank's own curves

  showRank(rank, pieces) {
    this.rank = rank;
    for (const curve of this.curves.values()) curve.ofRank = null;
    for (const piece of pieces) {
      const curve = this.curves.get(piece.key);
      if (!curve) continue;
      curve.ofRank = new Curve(piece.key);
      curve.ofRank.weight = this.weight;
      curve.ofRank.take(piece);
    }
    setText(this.note, rank === null || !pieces.length ? "" : `rank ${rank} over the mean of all`);
    this.redraw();
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.visible.disconnect();
    this.sizes.disconnect();
  }
}

function readColours(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    curves: Array.from({ length: 10 }, (_, i) => read(`--aios-c${i}`)),
    grid: read("--aios-line"),
    label: read("--aios-ink-2"),
    error: read("--aios-red"),
    font: style.fontFamily,
  };
}
