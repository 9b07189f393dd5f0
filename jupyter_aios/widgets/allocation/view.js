// ------------------------------------------------------------------ the view, and its messages
// The protocol stands at the head of view.py.

const KEYS = "Arrow keys move, plus and minus zoom, 0 fits, page up and down go from node to node.";
const WAITING_MS = 800;
const STATUSES = { optimal: "optimal", feasible: "feasible", infeasible: "infeasible", undecided: "undecided" };

class View extends SeatedView {
  constructor(model) {
    super(model);
    this.root.classList.add("aios-allocation");
    this.root.setAttribute("aria-label", "allocation");
    this.chip = element("span", "aios-chip");
    this.line = element("span", "aios-headline");
    this.about = element("div", "aios-about-line");
    const title = element("div", "aios-title");
    title.append(this.chip, this.line);
    this.map = new AllocationMap({
      hovered: (place, event) => this.tipAt(place, event),
      picked: (place) => this.pick(place),
      zoomed: () => this.legendLater(),
      first: () => this.dress(this.tools.colour.value),
    });
    this.map.onStep = (by) => this.step(by);
    this.tools = new Tools({
      colour: (mode) => this.dress(mode),
      filter: (text) => this.filter(text),
      time: (which) => this.choose(which === "before" ? this.scene.before : this.scene.answer),
      moves: () => this.listMoves(),
      zoom: (factor) => this.map.zoom(factor),
      fit: () => this.map.fit(),
    });
    this.legend = new Legend();
    this.panel = new Panel({
      ask: (task) => this.send({ type: "explain", task }),
      pick: (place, isFar) => this.pick(place, isFar),
      closed: () => this.unpick(),
    });
    this.left = new LeftOut((task) => this.pick({ node: -1, task }));
    this.compare = new Comparison((placement) => this.choose(placement));
    this.tip = element("div", "aios-tip");
    this.tip.hidden = true;
    this.stage = element("div", "aios-map-row");
    this.stage.append(this.map.element, this.panel.element);
    this.board = element("div", "aios-board");
    this.board.append(this.tools.element, this.stage, this.legend.element, this.tip);
    this.board.hidden = true;
    this.waiting = setTimeout(() => setText(this.line, "Waiting for the kernel…"), WAITING_MS);
    this.root.append(title, this.about, this.board, this.left.element, this.compare.element);
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.panel.element.hidden) this.unpick();
    });
  }

  setGone() {
    this.isGone = true;
  }

  // ---------------------------------------------------------------- messages of the kernel

  receive(message, buffers) {
    if (message.to && message.to !== this.id && message.to !== "*") return;
    if (message.type === "snapshot") this.takeAll(message, buffers);
    else if (message.type === "explained") this.panel.explained(message.task, message.text);
  }

  takeAll(message, buffers) {
    this.number = message.number;
    clearTimeout(this.waiting);
    this.board.hidden = false;
    const { head } = message;
    this.scene = new Scene(message, buffers);
    this.canExplain = message.can_explain;
    this.chip.dataset.state = head.status;
    setText(this.chip, STATUSES[head.status] || head.status);
    // A unit stays with its number.
    setText(this.line, head.line.replace(/ (s|%)(?=[ ,)]|$)/g, "\u00a0$1"));
    setText(this.about, [head.meaning, head.later].filter(Boolean).join(" "));
    const { dataset } = this.root;
    Object.assign(dataset, { state: head.status, tasks: head.tasks, nodes: this.scene.nodes.count });
    const map = `map of ${plural(this.scene.nodes.count, "node")}: ${head.line}`;
    this.map.canvas.setAttribute("aria-label", `${map}. ${KEYS}`);
    this.tools.take(this.scene);
    this.left.take(head.unplaced, message.groups, message.group_count);
    this.compare.take(this.scene);
    this.panel.hide();
    this.map.take(this.scene);
    this.dress(this.tools.colour.value);
    this.choose(this.scene.answer);
    dataset.synced = "true";
  }

  // ---------------------------------------------------------------- how it looks

  // Colours are those of the page: they can be read only where the view is in it.
  dress(mode) {
    if (!this.scene || !this.root.isConnected) return;
    this.map.dress(mode);
    this.left.dress(this.map.painter.tones);
    this.showLegend();
    this.drawThumbs();
  }

  drawThumbs() {
    // Without the filter of the map.
    const { theme, tones } = this.map.painter;
    this.compare.draw(new Painter(this.scene, theme, tones), window.devicePixelRatio || 1);
  }

  showLegend() {
    if (!this.map.painter || !this.map.layout) return;
    const { theme, tones } = this.map.painter;
    this.detail = detailAt(this.map.camera.scale);
    this.legend.show(this.detail, tones, theme, this.scene);
  }

  legendLater() {
    if (this.map.layout && this.map.painter && this.detail !== detailAt(this.map.camera.scale)) this.showLegend();
  }

  themeChanged() {
    if (this.scene) this.dress(this.tools.colour.value);
  }

  filter(text) {
    const found = readFilter(text, this.scene, this.map.placement);
    this.map.filter(found);
    setText(this.tools.found, found ? `${plural(found.taskCount, "task")}, ${plural(found.nodeCount, "node")}` : "");
    this.root.dataset.found = found ? found.taskCount : "";
  }

  // ---------------------------------------------------------------- what is shown of it

  choose(placement) {
    this.map.show(placement);
    this.tools.mark(placement);
    this.compare.mark(placement);
    this.root.dataset.shown = placement.name;
    if (this.tools.input.value) this.filter(this.tools.input.value);
    if (this.map.selected) this.describe(this.map.selected);
  }

  listMoves() {
    const isOpen = this.map.showsMoves;
    this.unpick();
    if (isOpen) return;
    this.map.showsMoves = true;
    this.tools.moves.setAttribute("aria-pressed", "true");
    this.panel.showMoves(this.scene);
    this.map.resize(!this.map.isWhole());
  }

  pick(place, isFar = false) {
    if (!place) {
      this.unpick();
      return;
    }
    this.tip.hidden = true;
    this.map.select(place);
    this.describe(place);
    this.map.resize(true);
    const node = place.task >= 0 ? this.map.placement.node[place.task] : place.node;
    if (isFar && node >= 0) this.map.reveal(node);
  }

  describe(place) {
    const { placement } = this.map;
    if (place.task >= 0) this.panel.showTask(this.scene, placement, place.task, this.canExplain);
    else if (place.node >= 0) this.panel.showNode(this.scene, placement, place.node);
  }

  unpick() {
    this.map.select(null);
    this.map.showsMoves = false;
    this.tools.moves.setAttribute("aria-pressed", "false");
    this.panel.hide();
    this.map.resize(!this.map.isWhole());
  }

  // The next node that the filter means, or (0) the one in the middle.
  step(by) {
    const { layout, bright, camera, selected, width, height } = this.map;
    const { painter, placement } = this.map;
    const isMeant = (node) => !bright || painter.hasBright(placement, node);
    const order = layout.rows.flatMap((row) => row.nodes).filter(isMeant);
    if (!order.length) return;
    const at = selected ? order.indexOf(selected.node) : -1;
    let node = order[(at + by + order.length) % order.length];
    if (!by || at < 0) {
      const [x, y] = [camera.x + width / camera.scale / 2, camera.y + height / camera.scale / 2];
      const away = (j) => Math.hypot(layout.left[j] + TILE / 2 - x, layout.top[j] + layout.heights[j] / 2 - y);
      node = by ? order[0] : order.reduce((best, j) => (away(j) < away(best) ? j : best));
    }
    this.pick({ node, task: -1 }, true);
  }

  tipAt(place, event, isSame) {
    if (!place || !event) {
      this.tip.hidden = true;
      return;
    }
    if (!isSame) {
      const lines = describePlace(this.scene, this.map.placement, place);
      const row = (kind, text) => (kind === "b" ? element("b", "aios-tip-row", text) : element("div", `aios-tip-row ${kind}`, text));
      const rows = lines.map(([kind, text]) => row(kind, text));
      this.tip.replaceChildren(...rows);
    }
    this.tip.hidden = false;
    const box = this.board.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const { offsetWidth: wide, offsetHeight: high } = this.tip;
    const left = x + 14 + wide > box.width ? Math.max(x - wide - 14, 0) : x + 14;
    const top = y + 16 + high > box.height ? Math.max(y - high - 12, 0) : y + 16;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  // ---------------------------------------------------------------- where it is shown

  mount(parent) {
    if (this.root.parentNode !== parent) parent.append(this.root);
    if (!this.scene) return;
    this.map.resize();
    if (this.map.painter) this.map.draw();
    else this.dress(this.tools.colour.value);
  }

  close() {
    super.close();
    clearTimeout(this.waiting);
    this.map.close();
    this.compare.close();
  }
}
