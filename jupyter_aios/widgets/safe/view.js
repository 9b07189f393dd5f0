// ------------------------------------------------------------------ the view, and its messages
// The protocol stands at the head of view.py. Nothing here changes anything: it shows, and asks anew.

const WAITING_MS = 800;
const SILENCE_MS = 10000;

class View extends SeatedView {
  constructor(model) {
    super(model);
    this.root.classList.add("aios-safe");
    this.root.setAttribute("aria-label", "secrets and rights");
    this.chip = element("span", "aios-safe-chip");
    this.line = element("span", "aios-safe-line");
    this.about = element("div", "aios-safe-about");
    this.readAt = element("span", "aios-safe-quiet");
    this.readAt.setAttribute("role", "status");
    this.again = button("Refresh", "read it anew", () => this.refresh());
    this.top = element("div", "aios-safe-top");
    this.top.append(this.chip, this.line, this.readAt, this.again);
    this.trouble = element("div", "aios-safe-trouble");
    this.trouble.setAttribute("role", "alert");
    this.trouble.hidden = true;
    this.panes = [new SecretsPane(), new MembersPane(), new DenialsPane()];
    this.found = element("span", "aios-safe-found");
    this.found.setAttribute("role", "status");
    this.input = document.createElement("input");
    Object.assign(this.input, { type: "search", placeholder: "filter: a name", spellcheck: false });
    this.input.className = "aios-safe-filter";
    this.input.setAttribute("aria-label", "filter the rows");
    this.input.addEventListener("input", () => this.filter());
    this.tabs = new Tabs("secrets and rights", this.panes, (pane) => this.choose(pane));
    this.bar = element("div", "aios-safe-bar-of-tabs");
    this.bar.append(this.tabs.list, this.found, this.input);
    this.board = element("div");
    this.board.append(this.about, this.bar, ...this.panes.map((pane) => pane.element));
    this.board.hidden = true;
    this.again.hidden = true;
    this.waiting = setTimeout(() => setText(this.line, "Waiting for the kernel…"), WAITING_MS);
    this.root.append(this.top, this.trouble, this.board);
  }

  // ---------------------------------------------------------------- messages of the kernel

  receive(message) {
    if (message.to && message.to !== this.id && message.to !== "*") return;
    if (message.type === "snapshot") this.take(message);
    else if (message.type === "failed") this.warn(message.text, message.hint);
  }

  take(message) {
    this.number = message.number;
    clearTimeout(this.waiting);
    this.settle();
    const { vault } = message;
    this.board.hidden = this.again.hidden = false;
    this.chip.dataset.state = vault.kind;
    setText(this.chip, vault.chip);
    // A unit stays with its number.
    setText(this.line, vault.line.replace(/(\d) (d|h|min|s)\b/g, "$1\u00a0$2"));
    setText(this.readAt, `read at ${message.read_at}`);
    this.about.replaceChildren(element("span", "", [message.heading, ...vault.facts].join(" · ")), ...vault.commands.map(typed));
    for (const pane of this.panes) pane.take(message);
    this.tabs.count();
    this.filter();
    Object.assign(this.root.dataset, { state: vault.kind, number: message.number, synced: "true" });
  }

  // ---------------------------------------------------------------- asking anew

  refresh() {
    if (this.isAsking) return;
    this.isAsking = true;
    this.again.setAttribute("aria-disabled", "true"); // it keeps the focus
    this.silence = setTimeout(() => this.setGone(), SILENCE_MS);
    this.send({ type: "refresh" });
  }

  settle() {
    clearTimeout(this.silence);
    this.isAsking = false;
    this.again.removeAttribute("aria-disabled");
    this.trouble.hidden = true;
  }

  warn(text, hint) {
    this.settle();
    this.trouble.hidden = false;
    this.trouble.replaceChildren(element("b", "", text), element("div", "aios-safe-quiet", hint));
  }

  setGone() {
    this.warn("No answer from the kernel, which is busy or gone.", "%aios secret list shows it anew");
  }

  // ---------------------------------------------------------------- what is shown of it

  choose(pane) {
    this.root.dataset.tab = pane.title;
    this.filter();
  }

  filter() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = this.panes.map((pane) => pane.sheet.filter(words));
    const at = this.panes.findIndex((pane) => !pane.element.hidden);
    setText(this.found, words.length ? `${counts[at]} of ${this.panes[at].count}` : "");
  }

  themeChanged() {}

  // ---------------------------------------------------------------- where it is shown

  mount(parent) {
    if (this.root.parentNode !== parent) parent.append(this.root);
  }

  close() {
    super.close();
    clearTimeout(this.waiting);
    clearTimeout(this.silence);
  }
}
