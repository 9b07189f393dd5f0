// ------------------------------------------------------------------ the view, and its messages
// The protocol stands at the head of view.py. A page keeps one view per model and moves it: into
// the widget's output while the job runs, and into the picture's place when that has replaced it.

const SILENCE_MS = 5000;
class View extends SeatedView {
  constructor(model) {
    super(model);
    this.rank = null;
    this.head = new Head(() => this.stop());
    this.board = new Board((key, low, high) => this.send({ type: "detail", key, low, high }));
    this.output = new Output((rank) => this.chooseRank(rank));
    this.root.append(this.head.element, this.board.element, this.output.element);
    this.listening = setInterval(() => this.ask(), SILENCE_MS);
  }

  setGone() {
    this.head.setGone(true);
  }

  themeChanged() {
    this.board.themeChanged();
  }

  // A kernel that has answered before, and does not any more, is gone, or busy in its way.
  ask() {
    const silence = performance.now() - this.heardAt;
    if (!this.head.head?.is_ticking || silence < SILENCE_MS) return;
    if (this.hasAnswered && silence > 2.5 * SILENCE_MS) this.head.setGone(true);
    this.send({ type: "ping" });
  }

  // ---------------------------------------------------------------- messages of the kernel

  receive(message, buffers) {
    this.heardAt = performance.now();
    this.head.setGone(false);
    if (message.to && message.to !== this.id && message.to !== "*") return;
    this.hasAnswered ||= message.to === this.id;
    if (message.type === "snapshot") this.takeAll(message, buffers);
    else if (message.type === "news") this.takeNews(message, buffers);
    else if (message.type === "detail") this.takeDetail(message, buffers);
    else if (message.type === "rank") this.takeRank(message, buffers);
    // The last news of a job has none after it that would show the gap.
    else if (message.type === "pong" && this.number >= 0 && message.number > this.number) this.catchUp();
  }

  takeAll(message, buffers) {
    if (message.to === "*" && this.number >= 0) return;
    this.number = message.number;
    this.board.clear();
    this.output.clear();
    this.take(message, buffers);
    this.root.dataset.synced = "true";
  }

  takeNews(message, buffers) {
    if (this.number < 0 || message.number <= this.number) return;
    if (message.number !== this.number + 1) {
      this.catchUp();
      return;
    }
    this.number = message.number;
    this.take(message, buffers);
  }

  // Something was lost on the way: all of it again.
  catchUp() {
    this.number = -1;
    this.root.dataset.synced = "false";
    this.greet();
  }

  take({ type, head, curves, lines, skipped, partials, banners }, buffers) {
    this.output.setRanks(head.ranks);
    this.output.wholeLog = head.logs;
    this.head.show(head);
    this.head.warn(banners);
    this.board.restarts = head.restarts;
    for (const piece of unpack(curves, buffers)) this.board.take(piece);
    if (curves.length) this.board.schedule();
    this.output.take(lines, skipped, partials);
    if (type === "snapshot") this.output.isCut ||= head.lines > lines.length;
    if (this.rank !== null && curves.length) this.askForRank();
    const { dataset } = this.root;
    dataset.state = head.state;
    dataset.step = head.step;
    dataset.lines = head.lines;
    dataset.curves = this.board.curves.size;
    dataset.points = [...this.board.curves.values()].reduce((sum, curve) => sum + curve.count, 0);
    if (head.is_over) this.root.classList.add("aios-over");
  }

  takeDetail({ curves, low, high }, buffers) {
    for (const piece of unpack(curves, buffers)) {
      const curve = this.board.curves.get(piece.key);
      if (!curve) continue;
      curve.refine(low, high, piece);
      this.board.charts.get(curve.group).changed();
    }
  }

  // ---------------------------------------------------------------- one rank

  chooseRank(rank) {
    this.rank = rank;
    this.board.showRank(rank, []);
    if (rank !== null) this.send({ type: "rank", rank });
  }

  // At most once a second: it is a look from the side.
  askForRank() {
    if (this.asking) return;
    this.asking = setTimeout(() => {
      this.asking = 0;
      if (this.rank !== null) this.send({ type: "rank", rank: this.rank });
    }, 1000);
  }

  takeRank({ rank, curves }, buffers) {
    if (rank === this.rank) this.board.showRank(rank, unpack(curves, buffers));
  }

  // ---------------------------------------------------------------- stop

  // While this view's cell runs, some kernels read no message: the interrupt of the server's REST
  // interface is what they hear. The message after it ends the job where the cell only lets go.
  async stop() {
    const { stop } = this.head;
    stop.disabled = true;
    setText(stop, "Stopping…");
    let said = "";
    if (this.model.get("blocking")) said = await interruptKernel(this.model.get("kernel_id"));
    this.send({ type: "stop" });
    if (said) stop.title = `${said}; the kernel's own stop button ends the cell too`;
    setTimeout(() => {
      stop.disabled = false;
      setText(stop, "Stop");
    }, 10000);
  }

  // ---------------------------------------------------------------- where it is shown

  mount(parent) {
    if (this.root.parentNode !== parent) parent.append(this.root);
    this.head.tick();
    this.board.layOut();
    this.output.schedule();
  }

  close() {
    super.close();
    clearInterval(this.listening);
    this.head.close();
    this.board.close();
    this.output.close();
  }
}

// Curves come as descriptions, and their numbers in buffers: steps, then means, and where ranks
// differ lows and highs.
function unpack(curves, buffers) {
  const numbers = (view, Type) =>
    new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  return curves.map((curve) => {
    const [steps, means, lows, highs] = curve.buffers.map((at, i) =>
      numbers(buffers[at], i ? Float32Array : Float64Array),
    );
    return { ...curve, steps, means, lows: lows || means, highs: highs || means };
  });
}

// Returns "" or why the kernel could not be interrupted.
async function interruptKernel(kernelId) {
  const told = document.getElementById("jupyter-config-data");
  if (!told || !kernelId) return "this page has no server to ask";
  try {
    const config = JSON.parse(told.textContent);
    const headers = { "Content-Type": "application/json" };
    const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
    if (token) headers["X-XSRFToken"] = token[1];
    if (config.token) headers.Authorization = `token ${config.token}`;
    const base = new URL(config.baseUrl || "/", document.location.href);
    const url = new URL(`api/kernels/${encodeURIComponent(kernelId)}/interrupt`, base);
    const reply = await fetch(url, { method: "POST", headers, credentials: "same-origin" });
    return reply.ok ? "" : `the server said ${reply.status}`;
  } catch (error) {
    return `the server could not be asked: ${error.message}`;
  }
}
